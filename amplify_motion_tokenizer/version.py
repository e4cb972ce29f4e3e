"""The version of the package and of the libraries that results depend on, which outputs record."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

__version__ = "0.2.0"

_VERSIONED = ("torch", "vector-quantize-pytorch", "accelerate", "numpy", "h5py", "opencv-python-headless")


@cache
def versions() -> dict[str, str]:
    """Versions of this package and of the libraries that results depend on, where installed."""
    import importlib.metadata  # here, as every command reads the version, and few these

    found = {"amplify-motion-tokenizer": __version__}
    for name in _VERSIONED:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
