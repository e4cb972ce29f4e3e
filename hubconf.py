"""``torch.hub.load(PATH, "motion_tokenizer", source="local")``: the tokenizers of this checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

dependencies = ["torch", "numpy", "safetensors", "h5py", "av", "cv2", "yaml"]


def motion_tokenizer(checkpoint: str | Path = "default", device: str = "auto", **options: Any) -> Any:
    """A ``Tokenizer``, as ``amplify_motion_tokenizer.load_tokenizer`` gives it.

    Args:
        checkpoint: a file, a folder, the name of a shipped tokenizer, or one on the Hugging Face Hub.
        device: auto, cpu, mps, cuda or cuda:N.
        options: others of ``load_tokenizer``.
    """
    from amplify_motion_tokenizer import load_tokenizer

    return load_tokenizer(checkpoint, device, **options)
