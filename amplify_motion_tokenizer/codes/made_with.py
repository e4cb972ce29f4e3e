"""The tokenizer that codes were made with, found by its hash."""

from __future__ import annotations

from pathlib import Path

from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer, load_tokenizer
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.models.shipped import DEFAULT, names, place_of
from amplify_motion_tokenizer.models.torch_files import file_hash


def tokenizer_of(codes: MotionCodeSet, checkpoint: str | Path | None = None) -> Tokenizer:
    """The tokenizer that made ``codes``: of ``checkpoint``, or the shipped one that has their hash.

    Args:
        codes: of one run.
        checkpoint: file or shipped name; None where the codes are of a shipped tokenizer.

    Raises:
        UsageError: there are no codes, or they were made with another tokenizer, or with one that is not
            shipped and not given.
        CheckpointError: ``checkpoint`` cannot be read.
    """
    first = next(iter(codes.values()), None)
    if first is None:
        raise UsageError(f"{codes.path}: holds the codes of no clip; run inference on clips that move")
    made_with, digest = first.meta.get("checkpoint"), first.meta.get("checkpoint_sha256")
    wanted = f"{made_with} (SHA-256 {str(digest)[:8]}...)"
    if checkpoint is None:
        shipped = shipped_with(digest)
        if shipped is None:
            raise UsageError(
                f"{codes.path}: was made with {wanted}, which is not a shipped tokenizer; give that file as "
                "--checkpoint"
            )
        return load_tokenizer(shipped)
    tokenizer = load_tokenizer(checkpoint)
    found = file_hash(place_of(checkpoint))
    if digest is not None and found != digest:
        raise UsageError(
            f"{codes.path}: was made with {wanted}, and --checkpoint {checkpoint} is another file "
            f"({found[:8]}...); give the one that made the codes"
        )
    return tokenizer


def shipped_with(digest: str | None) -> str | None:
    """Name of the shipped tokenizer whose file has that SHA-256; None where there is none."""
    found = [name for name in names() if name != DEFAULT and file_hash(place_of(name)) == digest]
    return found[0] if found else None
