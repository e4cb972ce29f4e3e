"""The tokenizer that codes were made with, found by its hash."""

from __future__ import annotations

from pathlib import Path

from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.codes.tokenizer import Tokenizer, load_tokenizer
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.evaluation.tokenizers import prefixes
from amplify_motion_tokenizer.models import MotionTokenizer
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
    wanted = f"{made_with} (SHA-256 {'not known' if digest is None else f'{digest[:8]}...'})"
    if checkpoint is None:
        shipped = shipped_with(digest)
        if shipped is None:
            raise UsageError(
                f"{codes.path}: was made with {wanted}, which is not a shipped tokenizer; give that file as "
                "--checkpoint"
            )
        checkpoint = shipped
    tokenizer = load_tokenizer(checkpoint)
    found = tokenizer.checkpoint_sha256
    if digest is not None and found != digest:
        raise UsageError(
            f"{codes.path}: was made with {wanted}, and --checkpoint {checkpoint} is another file "
            f"({found[:8]}...); give the one that made the codes"
        )
    check_fits(codes, tokenizer.model, str(checkpoint))
    return tokenizer


def check_fits(codes: MotionCodeSet, model: MotionTokenizer, name: str) -> None:
    """Raises UsageError for codes that no tokenizer of this kind makes: ids or windows are others.

    Args:
        codes: of one run, of one clip at least.
        model: that should have made them.
        name: what to call it.
    """
    first = next(iter(codes.values()))
    meta, own = first.meta, model.config
    if (meta["model"], meta["codebook_size"]) != (own.model.name, own.codebook_size):
        raise UsageError(
            f"{codes.path}: holds codes of a {meta['model']} model with {meta['codebook_size']} ids, "
            f"expected {own.model.name} with {own.codebook_size}, as {name} has; give --checkpoint the one "
            "that made them"
        )
    if meta["sequence_length"] != own.data.sequence_length:
        raise UsageError(
            f"{codes.path}: holds codes of windows of {meta['sequence_length']} frames, expected "
            f"{own.data.sequence_length}, as {name} has; give --checkpoint the one that made them"
        )
    found = max((each.ids.shape[1] for each in codes.values() if len(each)), default=model.num_codes)
    most = model.num_codes
    if found > most or (found < most and prefixes(model) == [most]):
        raise UsageError(f"{codes.path}: has {found} ids a window, expected {most}; run inference again")


def shipped_with(digest: str | None) -> str | None:
    """Name of the shipped tokenizer whose file has that SHA-256; None where there is none."""
    found = [name for name in names() if name != DEFAULT and file_hash(place_of(name)) == digest]
    return found[0] if found else None
