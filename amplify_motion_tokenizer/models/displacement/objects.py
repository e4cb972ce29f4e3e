"""Windows told as objects: outlines out of a book, each with a motion of its own, before a camera.

Waves ring around what has an edge. Here one id names an outline, out of as many as there are ids, and the
next two say how what lies in it moves. Outlines are looked for greedily, as matching pursuit does: each is
the one that takes most off what those before it left, and all motions are fitted again after each.

Letters: B windows, t steps, N points of a grid of g on a side, K digits of an id, O outlines of the book,
k waves over time, R fields that are fitted together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from amplify_motion_tokenizer.models.displacement.digits import (
    Digits,
    digits_of_whole,
    share_out,
    whole_of_digits,
)
from amplify_motion_tokenizer.models.displacement.tokenizer import companded, expanded
from amplify_motion_tokenizer.models.displacement.waves import Waves

IDS_OF_OBJECT = 3
"""Ids of an object: its outline, and two of its motion."""

_ELLIPSES = (
    # Places on a side, long and short half-axes in half-sides of the frame, directions.
    (20, 0.1, 0.1, 1), (14, 0.16, 0.16, 1), (12, 0.28, 0.1, 4), (9, 0.25, 0.25, 1), (8, 0.45, 0.16, 4),
    (9, 0.32, 0.32, 1), (7, 0.4, 0.4, 1), (6, 0.7, 0.25, 4), (6, 0.5, 0.5, 1), (5, 0.63, 0.63, 1),
    (4, 1.1, 0.4, 4),
)  # fmt: skip
_EDGES, _EDGE_PLACES = 16, (-0.6, -0.2, 0.2, 0.6)
"""Directions of the straight edges behind which all of the frame is an outline, and where they run."""

_OBJECT_WAVES, _CAMERA_WAVES, _SOUGHT_WAVES = 4, 8, 2
"""Waves over time of an object's motion, of the camera's, and by which outlines are looked for."""

_RIDGE = 1e-4
"""What keeps the fit of fields apart that are nearly alike."""


class Outlines(nn.Module):
    """The book of outlines on a grid, by formula: ellipses of many sizes, and half frames.

    Args:
        side: g.
        most: O at most, the size of the codebook that names them.
    """

    def __init__(self, side: int, most: int) -> None:
        super().__init__()
        masks = torch.stack(_ellipses(side) + _half_frames(side))
        masks = masks[masks.any(dim=1)]
        if len(masks) > most:
            masks = masks[torch.linspace(0, len(masks) - 1, most).round().long()]
        unit = masks / masks.norm(dim=1, keepdim=True)
        x = (torch.arange(side) * 2 + 1) / side - 1
        camera = torch.stack([torch.ones(side**2), x.repeat(side), x.repeat_interleave(side)])
        camera = camera / camera.norm(dim=1, keepdim=True).clamp(min=1e-6)
        for name, fields in {"unit": unit, "camera": camera}.items():
            self.register_buffer(name, fields, persistent=False)
        # What any two of the fields have in common: (3 + O, O).
        self.register_buffer("_common", torch.cat([camera, unit]) @ unit.mT, persistent=False)

    def alike(self, motion: Tensor) -> Tensor:
        """(B, 2 k, O): what the first waves over time of motion (B, k, 2, N) have in common with outlines."""
        return motion[:, :_SOUGHT_WAVES].flatten(1, 2) @ self.get_buffer("unit").mT

    def pursue(self, motion: Tensor, alike: Tensor, number: int, with_camera: bool) -> Tensor:
        """(B, number) outlines that together leave little of motion (B, k, 2, N), the greatest first."""
        sought = motion[:, :_SOUGHT_WAVES].flatten(1, 2)
        left, found = alike, torch.zeros(len(motion), 0, dtype=torch.int64, device=motion.device)
        for turn in range(number + 1):
            if with_camera or turn:
                fields = self.fields(found, with_camera)
                coefficients = fitted(sought, fields)
                rows = self._rows(found, with_camera)
                left = alike - coefficients @ self.get_buffer("_common")[rows]
            if turn < number:
                gained = left.square().sum(dim=1).scatter(1, found, -1.0)
                found = torch.cat([found, gained.argmax(dim=1, keepdim=True)], dim=1)
        return found

    def fields(self, outlines: Tensor, with_camera: bool) -> Tensor:
        """(B, R, N): the camera's three fields, if it moves, and the named outlines (B, R')."""
        camera = self.get_buffer("camera")[: 3 * with_camera].expand(len(outlines), -1, -1)
        return torch.cat([camera, self.get_buffer("unit")[outlines]], dim=1)

    def _rows(self, outlines: Tensor, with_camera: bool) -> Tensor:
        camera = torch.arange(3 * with_camera, device=outlines.device).expand(len(outlines), -1)
        return torch.cat([camera, outlines + 3], dim=1)


class Objects(nn.Module):
    """Codes of a window as a camera, which may stand, and objects; all ids after the first one.

    Args:
        outlines: the book.
        levels: of an id's digits.
        ids: how many.
        camera_ids: those of them, the first ones, that tell an affine camera.
        steps: t.
    """

    def __init__(
        self, outlines: Outlines, levels: Sequence[int], ids: int, camera_ids: int, steps: int
    ) -> None:
        super().__init__()
        self.levels, self.ids, self.camera_ids = tuple(levels), ids, camera_ids
        # Not a module of this one: the book is shared.
        self._books = (outlines,)
        self.number = max(0, (ids - camera_ids) // IDS_OF_OBJECT)
        self.waves = min(_CAMERA_WAVES, steps), min(_OBJECT_WAVES, steps)
        falls = [1 / (1 + 1.2 * torch.arange(count, dtype=torch.float64)) for count in self.waves]
        of_field = torch.tensor([0.6, 0.35, 0.35], dtype=torch.float64)
        # Over waves, axes and fields: (k, 2, 3), and of each object (k, 2).
        camera = falls[0][:, None, None].expand(-1, 2, 3) * of_field
        of_object = [falls[1][:, None].expand(-1, 2) * 0.45 * 0.8**rank for rank in range(self.number)]
        self._camera = _Numbers(camera.flatten(), levels, camera_ids)
        self._motions = nn.ModuleList(
            _Numbers(each.flatten(), levels, IDS_OF_OBJECT - 1) for each in of_object
        )

    def _motion_of(self, rank: int) -> _Numbers:
        numbers = self._motions[rank]
        assert isinstance(numbers, _Numbers)
        return numbers

    @property
    def _book(self) -> Outlines:
        return self._books[0]

    def digits(self, motion: Tensor, alike: Tensor) -> Tensor:
        """Whole digits (B, ids, K) of motion (B, k, 2, N) that ``motion_of`` gave, divided by the gain.

        Args:
            motion: of B windows.
            alike: ``Outlines.alike`` of it.
        """
        batch, with_camera = len(motion), self.camera_ids > 0
        flat = motion.flatten(1, 2)
        found = self._book.pursue(motion, alike, self.number, with_camera)
        digits = motion.new_zeros(batch, self.ids, len(self.levels))
        fields = self._book.fields(found, with_camera)
        if with_camera:
            coefficients = fitted(flat, fields)[..., :3].reshape(batch, -1)
            digits[:, : self.camera_ids] = self._camera.digits(coefficients)
            flat = flat - self._camera_motion(digits).flatten(1, 2)
            fields = fields[:, 3:]
        flat = flat[:, : 2 * self.waves[1]]
        for rank in range(self.number):
            first = self.camera_ids + IDS_OF_OBJECT * rank
            own = fitted(flat, fields[:, rank:])[..., 0]
            digits[:, first] = digits_of_whole(found[:, rank], self.levels)
            motion_ids = slice(first + 1, first + IDS_OF_OBJECT)
            digits[:, motion_ids] = self._motion_of(rank).digits(own)
            told = self._motion_of(rank).told(digits[:, motion_ids])
            flat = flat - told[..., None] * fields[:, rank, None]
        return digits

    def motion(self, digits: Tensor, ids: Tensor) -> Tensor:
        """Motion (B, k, 2, N), as ``digits`` takes it, of the first ``ids`` (B,) of digits (B, d', K)."""
        batch, count = digits.shape[:2]
        full = digits.new_zeros(batch, self.ids, len(self.levels))
        full[:, :count] = digits
        total = self._camera_motion(full, ids)
        for rank in range(self.number):
            first = self.camera_ids + IDS_OF_OBJECT * rank
            outline = whole_of_digits(full[:, first], self.levels).clamp(
                max=len(self._book.get_buffer("unit")) - 1
            )
            told = self._motion_of(rank).told(full[:, first + 1 : first + IDS_OF_OBJECT], ids - first - 1)
            field = self._book.get_buffer("unit")[outline]
            moved = told.view(batch, -1, 2, 1) * field[:, None, None]
            total[:, : self.waves[1]] += moved * (ids > first + 1).view(-1, 1, 1, 1)
        return total

    def _camera_motion(self, digits: Tensor, ids: Tensor | None = None) -> Tensor:
        """(B, k, 2, N) of the camera alone."""
        fields = self._book.get_buffer("camera")
        if not self.camera_ids:
            return digits.new_zeros(len(digits), self.waves[0], 2, fields.shape[1])
        told = self._camera.told(digits[:, : self.camera_ids], ids)
        return told.view(len(digits), self.waves[0], 2, 3) @ fields


class _Numbers(nn.Module):
    """Coefficients of known deviations as the digits of some ids."""

    def __init__(self, deviations: Tensor, levels: Sequence[int], ids: int) -> None:
        super().__init__()
        plan = share_out(deviations, list(levels) * ids).tolist()
        self._cells = Digits(plan, levels)
        told = torch.tensor(self._cells.quantities, dtype=torch.int64)
        self._count = len(deviations)
        self.register_buffer("_told", told, persistent=False)
        self.register_buffer("_deviations", deviations[told].float(), persistent=False)

    def digits(self, coefficients: Tensor) -> Tensor:
        """Whole digits (B, ids, K) of coefficients (B, n)."""
        numbers = companded(coefficients[:, self.get_buffer("_told")], self.get_buffer("_deviations"))
        return self._cells.of_numbers(numbers).floor()

    def told(self, digits: Tensor, ids: Tensor | None = None) -> Tensor:
        """Coefficients (B, n) that the first ``ids`` (B,), or all, of whole digits (B, ids, K) tell."""
        numbers = torch.stack(
            [self._cells.numbers(digits[:, :count]) for count in range(digits.shape[1] + 1)]
        )
        count = torch.full((len(digits),), digits.shape[1], device=digits.device) if ids is None else ids
        rows = torch.arange(len(digits), device=digits.device)
        chosen = numbers[count.clamp(0, digits.shape[1]), rows]
        coefficients = digits.new_zeros(len(digits), self._count)
        coefficients[:, self.get_buffer("_told")] = expanded(chosen, self.get_buffer("_deviations"))
        return coefficients


def fitted(motion: Tensor, fields: Tensor) -> Tensor:
    """Coefficients (B, r, R) of fields (B, R, N) by least squares, to motion (B, r, N)."""
    alike = fields @ fields.mT + _RIDGE * torch.eye(fields.shape[1], device=fields.device)
    coefficients: Tensor = torch.linalg.solve(alike, fields @ motion.mT)
    return coefficients.mT


def motion_of(displacements: Tensor, waves: Waves) -> Tensor:
    """(B, k, 2, N): displacements (B, t, N, 2) by waves over time, divided by sqrt(t N)."""
    over_time = waves.over_time()[:, :_CAMERA_WAVES]
    scale = math.sqrt(displacements.shape[2]) * waves.steps
    return torch.einsum("tk,btna->bkan", over_time, displacements) / scale


def displacements_of(motion: Tensor, waves: Waves) -> Tensor:
    """Displacements (B, t, N, 2), where ``waves`` are told, of motion (B, k, 2, N)."""
    over_time, whole = waves.over_time()[:, : motion.shape[1]], math.isqrt(motion.shape[-1])
    rows = waves.rows
    some = motion.view(*motion.shape[:3], whole, whole)[..., rows, :][..., rows].flatten(-2)
    return torch.einsum("tk,bkan->btna", over_time, some) * whole


def _ellipses(side: int) -> list[Tensor]:
    places = (torch.arange(side) * 2 + 1) / side - 1
    y, x = torch.meshgrid(places, places, indexing="ij")
    masks = []
    for count, long, short, directions in _ELLIPSES:
        end = 1 - 0.35 * short
        middles = torch.linspace(-end, end, count).tolist()
        for direction in range(directions):
            cos, sin = math.cos(math.pi * direction / directions), math.sin(math.pi * direction / directions)
            for row in middles:
                for column in middles:
                    along = ((x - column) * cos + (y - row) * sin) / long
                    across = ((y - row) * cos - (x - column) * sin) / short
                    masks.append((along.square() + across.square() <= 1).float().flatten())
    return masks


def _half_frames(side: int) -> list[Tensor]:
    places = (torch.arange(side) * 2 + 1) / side - 1
    y, x = torch.meshgrid(places, places, indexing="ij")
    angles = [2 * math.pi * edge / _EDGES for edge in range(_EDGES)]
    return [
        (x * math.cos(angle) + y * math.sin(angle) > place).float().flatten()
        for angle in angles
        for place in _EDGE_PLACES
    ]
