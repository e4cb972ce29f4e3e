"""Settings that no longer exist, and what took their place: files that name them are still read.

Checkpoints, track files and resolved configs written before hold all of them. A value that is the constant
of today, or that another setting can say, is taken over; any other is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from amplify_motion_tokenizer.config.convert import show
from amplify_motion_tokenizer.config.keys import SETTINGS, decides, settings_hash
from amplify_motion_tokenizer.config.schema import Config
from amplify_motion_tokenizer.errors import TokenizerError, TrackFileError


class Constant(NamedTuple):
    """A setting that has one value now."""

    value: Any
    decides: str
    """A word of ``settings.DECIDES``."""


CONSTANTS = {
    "tracking.gate.resize_shorter": Constant(48, "tracks"),
    "tracking.gate.pixel_threshold": Constant(0.02, "tracks"),
    "tracking.gate.min_mean_difference": Constant(0.01, "tracks"),
    "tracking.gate.min_active_share": Constant(0.001, "tracks"),
    "tracking.flow.preset": Constant("ultrafast", "tracks"),
    "tracking.flow.finest_scale": Constant(2, "tracks"),
    "tracking.flow.refine": Constant(True, "tracks"),
    "tracking.cotracker.hub_repo": Constant("facebookresearch/co-tracker", "tracks"),
    "tracking.cotracker.hub_ref": Constant("82e02e8029753ad4ef13cf06be7f4fc5facdda4d", "tracks"),
    "loss.alpha_other": Constant(1.0, "weights"),
    "loss.radial_strength": Constant(0.0, "weights"),
    "loss.radial_power": Constant(1.0, "run"),  # acts where the strength is not 0, which is told
    "loss.usage.temperature": Constant(1.0, "weights"),
    "loss.usage.sample_entropy": Constant(1.0, "weights"),
    "training.separate_optimizer": Constant(False, "run"),
    "training.keep_epochs": Constant(None, "run"),
    "training.collapse.after_steps": Constant(1000, "run"),
    "training.collapse.min_unique_codes": Constant(2, "run"),
    "training.collapse.min_entropy": Constant(0.1, "run"),
}

MOVED = {
    "loss.min_visibility": "data.min_visibility",
    "loss.min_visible_share": "data.min_visible_share",
}
"""Old key to the key of today that takes the same values."""

DERIVED: dict[str, tuple[Callable[[Config], int], str]] = {
    "data.num_points": (lambda config: config.num_points, "data.grid_size^2"),
    "model.num_classes": (lambda config: config.num_classes, "rows x columns of the velocity classes"),
    "model.codebook_size": (lambda config: config.codebook_size, "the product of model.fsq_levels"),
}
"""Old keys of numbers that follow from settings, to the function that tells one and the words for it."""

FLAGS = {"data.tracks_dir": "--input of train", "training.output_dir": "--output of train"}
"""Old keys of folders, and the flags that give the folders now."""

ADDED = {
    "video.below_target_fps": "keep",
    "video.fps": None,
    "tracking.pad_end": "none",
    "video.shots": "off",
    "data.camera": "keep",
    "tracking.store": "float32",
}
"""Settings of tracks and velocities that were added later, in that order, with the values that act as if
there were none."""

_NOMINAL, _LEVELS = "model.nominal_codebook_size", "model.fsq_levels"
_SHORTER, _FIT, _TARGET, _SIZE = "video.resize_shorter", "video.fit", "video.target_size", "video.size"

KEYS = {*CONSTANTS, *MOVED, *DERIVED, *FLAGS, _NOMINAL, _SHORTER, _FIT, _TARGET}
"""Every dotted key that no longer exists."""

SECTIONS = {key.rpartition(".")[0] for key in KEYS}


class Translated(NamedTuple):
    """The settings of an older file, in keys of today."""

    now: dict[str, Any]
    """Today's dotted keys."""
    other: dict[str, Any]
    """Old keys with values that no setting of today can express."""
    derived: dict[str, Any]
    """Old keys of numbers (``DERIVED``) that must be what follows from the settings."""


def translate(flat: Mapping[str, Any]) -> Translated:
    """Dotted keys with plain values, of today and gone, as keys of today.

    Args:
        flat: all of a config, or the part of it that a file holds.
    """
    now = {key: value for key, value in flat.items() if key not in KEYS}
    gone = {key: value for key, value in flat.items() if key in KEYS}
    for key, moved in MOVED.items():
        if key in gone:
            now.setdefault(moved, gone[key])
    other = {key: value for key, value in gone.items() if key in CONSTANTS and value != CONSTANTS[key].value}
    if gone.get(_NOMINAL) is not None and _LEVELS not in flat:  # written with the levels that it stood for
        other[_NOMINAL] = gone[_NOMINAL]
    if {_SHORTER, _FIT, _TARGET}.intersection(gone) and _SIZE not in now:
        fit, target = gone.get(_FIT, "shorter"), gone.get(_TARGET)
        if fit != ("shorter" if target is None else "letterbox"):
            other |= {key: gone[key] for key in (_FIT, _TARGET) if key in gone}
        elif target is not None:
            now[_SIZE] = target
        elif _SHORTER in gone:
            now[_SIZE] = None if gone[_SHORTER] is None else {"shorter": gone[_SHORTER]}
    derived = {key: value for key, value in gone.items() if key in DERIVED and value is not None}
    return Translated(now, other, derived)


def today_of(key: str) -> str:
    """The key that a value of the gone ``key`` goes to; the key itself where there is none."""
    return _SIZE if key in (_SHORTER, _FIT, _TARGET) else MOVED.get(key, key)


def what_took_its_place(key: str) -> str:
    """What a user who names the gone ``key`` must know."""
    if key in CONSTANTS:
        return f"is no setting any more: it is {show(CONSTANTS[key].value)} always"
    if key in MOVED:
        return f"is {MOVED[key]} now"
    if key in DERIVED:
        return f"is no setting: it follows from others, as {DERIVED[key][1]}"
    if key in FLAGS:
        return f"is no setting any more: give {FLAGS[key]}"
    if key == _NOMINAL:
        return "is no setting any more: give model.fsq_levels, [8, 8, 6, 5] for 2048"
    return "is video.size now: {shorter: 480}, [height, width] for a letterbox, or null"


def settings_now(
    stored: dict[str, Any], source: str, error: type[TokenizerError] = TrackFileError
) -> dict[str, Any]:
    """``track_settings`` as a file holds them, in keys of today.

    A gone key with another value than today's constant stays, so that such tracks equal no others.

    Args:
        stored: dotted keys, as the file holds them.
        source: what to call the file.
        error: what to raise.

    Raises:
        TokenizerError: ``error``; a key is no setting that tracks could have been made with, as those of
            training: a file that is opened tells how it was made, and decides nothing else.
    """
    for key in stored:
        if key not in KEYS and not _makes_tracks(key):
            raise error(
                f"{source}: its settings hold {str(key):.60}, which is no setting that decides tracks; "
                "expected the keys of video, tracking and data that do; remake it, or take this key out"
            )
    found = translate(stored)
    # Of velocities only files of velocities tell.
    told = {"tracks": "video.target_fps" in stored, "velocities": "data.reference_size" in stored}
    added = {
        key: value for key, value in ADDED.items() if any(told[word] and decides(key, word) for word in told)
    }
    return added | found.now | found.other


def _makes_tracks(key: str) -> bool:
    """Whether a file of tracks or of velocities may say what the setting was; data.views is among them."""
    own = SETTINGS.get(key)
    if own is None or own.local:
        return False
    views = own.section == "data" and decides(key, "codes")
    return views or decides(key, "tracks", "velocities", "window")


def known_hashes(settings: dict[str, Any]) -> set[str]:
    """The hashes under which files made with ``settings`` are known: today's, and those of older files.

    Files that were made before a setting of ``ADDED`` came do not record it, and have its value there.
    """
    known = {settings_hash(settings), settings_hash(_as_before(settings))}
    earlier = dict(settings)
    for key, value in reversed(ADDED.items()):
        if earlier.pop(key, value) != value:
            break
        known.add(settings_hash(earlier))
    return known


def _as_before(settings: dict[str, Any]) -> dict[str, Any]:
    """``settings`` with the keys that older files wrote, before some were removed."""
    before = {key: value for key, value in settings.items() if key not in ADDED or value != ADDED[key]}
    if _SIZE in settings:
        size = before.pop(_SIZE)
        is_box = isinstance(size, list)
        shorter = size["shorter"] if isinstance(size, dict) else 480 if is_box else None
        before |= {_SHORTER: shorter, _FIT: "letterbox" if is_box else "shorter"}
        before[_TARGET] = size if is_box else None
    sections = {key.rpartition(".")[0] for key in settings}
    constants = {key: constant.value for key, constant in CONSTANTS.items()}
    return before | {key: value for key, value in constants.items() if key.rpartition(".")[0] in sections}
