"""Raw videos to point tracks to discrete motion codes.

>>> tokenizer = load_tokenizer("best.pth")
>>> indices = tokenizer.tokenize(velocities)  # (B, t, N, 2) W-normalised -> (B, d) code ids

Public are the names in ``__all__``, which help() documents below. The modules and folders that it lists as
the package's contents are not: their names may change until version 1.0. The folders, in the order in which
they import each other: config, video, jobs, trackers, tracks, scenes, data, models, evaluation, training,
codes, commands.
"""

from typing import TYPE_CHECKING, Any

from amplify_motion_tokenizer.version import __version__

if TYPE_CHECKING:
    from amplify_motion_tokenizer.codes.inference import tokenize_folder
    from amplify_motion_tokenizer.codes.reading import read_codes
    from amplify_motion_tokenizer.codes.tracks import decode_tracks, encode_tracks
    from amplify_motion_tokenizer.config import Config
    from amplify_motion_tokenizer.data.dataset import WindowDataset
    from amplify_motion_tokenizer.data.loading import load_clips
    from amplify_motion_tokenizer.models import MotionTokenizer, TokenizerOutput, build_model
    from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
    from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
    from amplify_motion_tokenizer.training.run import train

__all__ = [
    "Config",
    "MotionTokenizer",
    "TokenizerOutput",
    "WindowDataset",
    "__version__",
    "build_model",
    "decode_tracks",
    "encode_tracks",
    "load_checkpoint",
    "load_clips",
    "load_tokenizer",
    "preprocess_folder",
    "read_codes",
    "tokenize_folder",
    "train",
]

_HOMES = {
    "Config": "config",
    "MotionTokenizer": "models",
    "TokenizerOutput": "models",
    "WindowDataset": "data.dataset",
    "build_model": "models",
    "decode_tracks": "codes.tracks",
    "encode_tracks": "codes.tracks",
    "load_checkpoint": "models.checkpoint",
    "load_clips": "data.loading",
    "load_tokenizer": "models.checkpoint",
    "preprocess_folder": "tracks.preprocessing",
    "read_codes": "codes.reading",
    "tokenize_folder": "codes.inference",
    "train": "training.run",
}


def __getattr__(name: str) -> Any:
    # On first use, so that --help and config errors need not wait for torch.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
