"""Tracks to batches: loading, model input, masks, augmentation, the order of windows."""
