"""Raw videos to point tracks to discrete motion codes."""

__version__ = "0.1.0"
