"""The kinds of input that models take, and which model takes which."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class InputKind:
    """A way from tracks to a model's input; ``data.inputs.INPUTS`` makes it."""

    name: str
    """The kind's name."""
    view_axis: bool
    """Whether input has the axis V, of any number of views; else it is of one view."""
    frame_size: bool
    """Whether positions are normalised by the frame, so that ``data.reference_size`` must be [H, W]."""
    velocity_files: bool
    """Whether it can be made of velocity files, which hold W-normalised velocities of one view alone."""
    one_size: bool = False
    """Whether ``data.reference_size`` must be given: the model's velocities are in sides of that frame."""
    fills_lost: bool = False
    """Whether points that are not seen move as their neighbours; else they are taken as the tracker says."""


WNORM = InputKind(name="wnorm", view_axis=False, frame_size=False, velocity_files=True)
"""Velocities (x, y), W-normalised: 1 is half the square of classes."""

FRAME = InputKind(name="frame", view_axis=True, frame_size=True, velocity_files=False)
"""Differences of positions (row, col) that are normalised by the frame, of every view."""

SIDES = InputKind(
    name="sides", view_axis=False, frame_size=False, velocity_files=False, one_size=True, fills_lost=True
)
"""Velocities (x, y) in shorter sides of the reference frame, of any size; lost points move as neighbours."""

MODEL_INPUTS: dict[str, InputKind] = {
    "keypoint": WNORM,
    "amplify": FRAME,
    "transform": SIDES,
    "codec": SIDES,
}
"""Value of ``model.name`` to the input that the model takes; ``models.MODELS`` has the same names."""


def names_with(ability: str) -> str:
    """The models whose input has ``ability``, a field of ``InputKind``: "amplify", or "a or b"."""
    return " or ".join(name for name, kind in MODEL_INPUTS.items() if getattr(kind, ability))
