"""Training: the run and its loop, an optimiser step, validation, checkpoints, logs."""
