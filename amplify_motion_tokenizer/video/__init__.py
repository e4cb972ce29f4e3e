"""Files to frames: what a clip is, decoders, sizes and times, LIBERO."""
