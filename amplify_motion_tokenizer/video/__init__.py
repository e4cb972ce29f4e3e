"""Video files to frames: what a clip is, decoders, sizes and times, image sequences, LIBERO's demos."""
