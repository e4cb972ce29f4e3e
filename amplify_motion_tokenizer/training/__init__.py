"""The run and its loop: a step, validation, checkpoints, logs."""
