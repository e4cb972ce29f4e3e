"""Raw videos to point tracks to discrete motion codes.

>>> tokenizer = load_tokenizer("best.pth")
>>> indices = tokenizer.tokenize(velocities)  # (B, t, N, 2) W-normalised -> (B, d) code ids
"""

from typing import TYPE_CHECKING, Any

from amplify_motion_tokenizer.version import __version__

if TYPE_CHECKING:
    from amplify_motion_tokenizer.models import MotionTokenizer, TokenizerOutput, build_model
    from amplify_motion_tokenizer.models.checkpoint import load_tokenizer

__all__ = ["MotionTokenizer", "TokenizerOutput", "__version__", "build_model", "load_tokenizer"]

_HOMES = {
    "load_tokenizer": "checkpoint",
    "build_model": "models",
    "MotionTokenizer": "models",
    "TokenizerOutput": "models",
}


def __getattr__(name: str) -> Any:
    # On first use, so that --help and config errors need not wait for torch.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
