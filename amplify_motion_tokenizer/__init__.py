"""Raw videos to point tracks to discrete motion codes.

>>> tokenizer = load_tokenizer("default")  # or a checkpoint, "best.pth"
>>> codes = tokenizer.encode_video("clip.mp4")  # MotionCodes: ids (windows, d), where each window is
>>> tracks, visible = tokenizer.decode(codes)  # (windows, T, N, 2), (x, y) pixels

Public are the names in ``__all__``, which help() documents below. The modules and folders that it lists as
the package's contents are not: their names may change until version 1.0. The folders, in the order in which
they import each other: config, video, jobs, trackers, tracks, scenes, data, models, evaluation, training,
codes, report, commands.
"""

from typing import TYPE_CHECKING, Any

from amplify_motion_tokenizer.version import __version__

if TYPE_CHECKING:
    from amplify_motion_tokenizer.codes.decoding import decode_tracks
    from amplify_motion_tokenizer.codes.inference import tokenize_folder
    from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
    from amplify_motion_tokenizer.codes.reading import MotionCodeSet, read_codes, write_codes
    from amplify_motion_tokenizer.codes.timesteps import MotionCodeDataset
    from amplify_motion_tokenizer.codes.tokenizer import Tokenizer, load_tokenizer
    from amplify_motion_tokenizer.codes.tracks import encode_tracks
    from amplify_motion_tokenizer.config import Config
    from amplify_motion_tokenizer.data.dataset import WindowDataset
    from amplify_motion_tokenizer.data.loading import load_clips
    from amplify_motion_tokenizer.models import MotionTokenizer, TokenizerOutput, build_model
    from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
    from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
    from amplify_motion_tokenizer.training.run import train

__all__ = [
    "Config",
    "MotionCodeDataset",
    "MotionCodeSet",
    "MotionCodes",
    "MotionTokenizer",
    "Tokenizer",
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
    "write_codes",
]

_HOMES = {
    "Config": "config",
    "MotionCodeDataset": "codes.timesteps",
    "MotionCodeSet": "codes.reading",
    "MotionCodes": "codes.motion_codes",
    "MotionTokenizer": "models",
    "Tokenizer": "codes.tokenizer",
    "TokenizerOutput": "models",
    "WindowDataset": "data.dataset",
    "build_model": "models",
    "decode_tracks": "codes.decoding",
    "encode_tracks": "codes.tracks",
    "load_checkpoint": "models.checkpoint",
    "load_clips": "data.loading",
    "load_tokenizer": "codes.tokenizer",
    "preprocess_folder": "tracks.preprocessing",
    "read_codes": "codes.reading",
    "tokenize_folder": "codes.inference",
    "train": "training.run",
    "write_codes": "codes.reading",
}


def __getattr__(name: str) -> Any:
    # On first use, so that --help and config errors need not wait for torch.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
