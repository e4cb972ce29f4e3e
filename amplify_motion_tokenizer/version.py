"""The version of the package, which checkpoints and outputs record."""

__version__ = "0.2.0"
