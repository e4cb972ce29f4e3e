"""How many bits of a tokenizer's ids buy how much of the motion, beside plain coders at the same bits.

Tokenizers that take the same part of the stored windows (points of the grid, frames) are judged on the same
numbers, together with plain coders of that part. Letters: B windows, T frames, N points, d ids of a window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.inputs import from_tracks, moves_px
from amplify_motion_tokenizer.data.interpolation import interpolate_time
from amplify_motion_tokenizer.errors import CheckpointError, TrackFileError
from amplify_motion_tokenizer.evaluation import plain_coders
from amplify_motion_tokenizer.evaluation.code_length import coded_bits, digit_use
from amplify_motion_tokenizer.evaluation.grid_windows import GridWindows, WindowSource
from amplify_motion_tokenizer.evaluation.metrics import CodeUsage, code_usage, count_codes
from amplify_motion_tokenizer.evaluation.rate_distortion import Distortion, distortion
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.displacement.tokenizer import DisplacementTokenizer

Part = tuple[int, int, bool]
"""What a tokenizer takes of stored windows: points on a side of the grid, frames, and whether the camera's
motion, too."""

PLAIN_BITS = math.log2(math.prod(plain_coders.LEVELS))
"""Bits of an id of a plain coder."""

LIKELIEST = "likeliest class"
"""Said of tracks of the most likely velocity class, instead of the mean over the distribution."""

NO_MOTION, SIMILARITY, PCA, DCT = "no motion", "one similarity", "PCA", "DCT"
"""What plain coders are called; the similarity is one of the whole frame at each step, not rounded."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """How the ids of all windows are used."""

    coded_bits: float
    """As ``code_length.coded_bits``."""
    codes: CodeUsage
    digits: Tensor
    """(d, K), as ``code_length.digit_use``."""


@dataclass(kw_only=True)
class Row:
    """One coder at one rate."""

    name: str
    plain: bool
    """Whether it is there for comparison."""
    ids: int | None = None
    """Ids of a window that are told; None where nothing is rounded to ids."""
    bits: float | None = None
    """Nominal bits of a window: ids times log2 of the true codebook size; None where nothing is rounded."""
    reading: str = ""
    """Which of several tracks that the codes stand for; empty where there is one, or the mean."""
    total: Distortion = field(default_factory=Distortion)
    kinds: dict[str, Distortion] = field(default_factory=dict)
    """The distortion of the windows of each kind of scene."""
    held_out: Distortion | None = None
    """Of the points that the encoder took for lost; None where the tokenizer does not fill these."""
    use: Use | None = None
    """None for coders without ids."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Coders that are judged on the same windows."""

    source: WindowSource
    grid: int
    """Points on a side of the grid that they code."""
    frames: int
    """Frames that they code."""
    camera: bool
    """Whether they code the camera's motion, too; else it was taken out (``data.camera``)."""
    rows: list[Row]

    @property
    def windows(self) -> int:
        """Number of windows."""
        return self.rows[0].total.windows


class Coded(NamedTuple):
    """What a coder makes of some windows at one of its rates."""

    xy_px: Tensor
    """(B, T, N, 2)."""
    held_out_xy_px: Tensor | None = None
    """The same where every second point was hidden from the encoder; None where it does not fill these."""


class _Plain:
    """A plain coder without ids that can be counted."""

    def __init__(self, name: str, coder: plain_coders.Coder, ids: int | None, bits: float | None) -> None:
        self._coder = coder
        self.rows = [Row(name=name, plain=True, ids=ids, bits=bits)]

    def code(self, windows: GridWindows) -> list[Coded]:
        """What each of ``rows`` makes of the windows."""
        return [Coded(self._coder(windows.tracks_xy_px, windows.seen, windows.sizes))]

    def finish(self) -> None:
        """There are no ids to look at."""


class _Tokenizer:
    """A tokenizer at each number of ids that is a code, and by each reading of its codes."""

    def __init__(self, name: str, model: MotionTokenizer, ids: Sequence[int], plain: bool = False) -> None:
        self._model = model
        self._ids: list[Tensor] = []
        self._readings = [""] if _says_velocities(model) else ["", LIKELIEST]
        bits = math.log2(model.codebook_size)
        self.rows = [
            Row(name=name, plain=plain, ids=count, bits=bits * count, reading=reading)
            for count in ids
            for reading in self._readings
        ]

    def code(self, windows: GridWindows) -> list[Coded]:
        """What each of ``rows`` makes of the windows; their ids are kept."""
        codes, ids = self._encoded(windows)
        self._ids.append(ids)
        decoded = self._decoded(codes, windows)
        if not self._model.config.input_kind.fills_lost:
            return [Coded(tracks) for tracks in decoded]
        shown = windows.visibility.masked_fill(held_out_points(windows), 0.0)
        held_out = self._decoded(self._encoded(windows._replace(visibility=shown))[0], windows)
        return [Coded(*tracks) for tracks in zip(decoded, held_out, strict=True)]

    def finish(self) -> None:
        """Fills in what is told of the ids of all windows."""
        ids, config = torch.cat(self._ids), self._model.config
        levels, size = config.model.fsq_levels, config.codebook_size
        for row in self.rows:
            told = ids[:, : row.ids]
            counts = count_codes(told, torch.ones_like(told, dtype=torch.bool), size)
            row.use = Use(
                coded_bits=coded_bits(told, levels),
                codes=code_usage(counts, size),
                digits=digit_use(told, levels),
            )

    def _encoded(self, windows: GridWindows) -> tuple[Tensor, Tensor]:
        config = self._model.config
        velocities = from_tracks(windows.views(config.tracking.query_order), config, truth=False).velocities
        codes, ids = self._model.quantize(self._model.encode(velocities.to(self._model.device)))
        return codes, ids.cpu()

    def _decoded(self, codes: Tensor, windows: GridWindows) -> list[Tensor]:
        config, frames = self._model.config, windows.tracks_xy_px.shape[1]
        start = windows.views(config.tracking.query_order)[0].tracks_xy_px[:, :1]
        decoded = []
        for row in self.rows:
            velocities = self._model.reconstruct(codes[:, : row.ids], likeliest=row.reading == LIKELIEST)
            moves = moves_px(
                velocities.cpu().view(len(codes), -1, config.num_points, 2), windows.size, config
            )
            tracks = interpolate_time(
                torch.cat([start, start + moves.cumsum(dim=1)], dim=1), frames, "linear"
            )
            # Points in the order of the model, back to row by row: the order turns into itself.
            xy_px, order = windows._replace(tracks_xy_px=tracks), config.tracking.query_order
            decoded.append(xy_px.views(order)[0].tracks_xy_px)
        return decoded


def evaluate_tokenizers(
    models: Mapping[str, MotionTokenizer], sources: Sequence[WindowSource]
) -> list[Section]:
    """Judges tokenizers and plain coders on each source, in as many sections as parts of it are taken.

    Args:
        models: tokenizers by name, in evaluation mode.
        sources: windows; all are read once.

    Raises:
        CheckpointError: a tokenizer takes several views, or images.
        TrackFileError: a tokenizer takes more points or frames than a source has, a file is bad, or there is
            no window without padding.
    """
    for name, model in models.items():
        _check_usable(name, model.config)
        for source in sources:
            source.check_fits(model.config, name)
    parts: dict[Part, dict[str, MotionTokenizer]] = {}
    for name, model in models.items():
        data = model.config.data
        part = data.grid_size, model.config.tracked_length, data.camera == "keep"
        parts.setdefault(part, {})[name] = model
    fitted = {part: plain_coders.made_up_components(*part[:2]) for part in parts}
    return [section for source in sources for section in _sections(source, parts, fitted)]


def held_out_points(windows: GridWindows) -> Tensor:
    """(N,) bool: every second point, as the black squares of a chessboard."""
    side = math.isqrt(windows.visibility.shape[2])
    rows = torch.arange(side)
    return ((rows[:, None] + rows) % 2 == 1).flatten()


def prefixes(model: MotionTokenizer) -> list[int]:
    """Numbers of ids at which a tokenizer is judged: 2, 4, 8 ... and all, where the first ids are a code."""
    every = model.num_codes
    if not isinstance(model, DisplacementTokenizer):
        return [every]
    return [*(2**power for power in range(1, every.bit_length()) if 2**power < every), every]


def _says_velocities(model: MotionTokenizer) -> bool:
    """Whether codes stand for velocities, not for a distribution over classes of them."""
    return isinstance(model, DisplacementTokenizer)


def _check_usable(name: str, config: Config) -> None:
    if len(config.data.views) > 1 or config.conditioned:
        takes = "images besides tracks" if config.conditioned else f"{len(config.data.views)} views"
        raise CheckpointError(
            f"{name}: takes {takes} (data.views, model.amplify.vision.encoder); evaluate tokenizer is for "
            "tokenizers of one view that take tracks alone"
        )


def _sections(
    source: WindowSource,
    parts: Mapping[Part, Mapping[str, MotionTokenizer]],
    fitted: Mapping[Part, plain_coders.Components],
) -> Iterator[Section]:
    coders = {part: _coders(models, part, fitted[part]) for part, models in parts.items()}
    with torch.no_grad():
        for windows in source.chunks():
            for (grid, frames, camera), of_part in coders.items():
                cut = windows.part(grid, frames)
                cut = cut if camera else cut.without_camera()
                for coder in of_part:
                    _judge(coder, cut)
    for (grid, frames, camera), of_part in coders.items():
        rows = [row for coder in of_part for row in coder.rows]
        if not rows[0].total.windows:
            raise TrackFileError(
                f"{source.name}: all of its windows have padding or begin with lost points, expected others"
            )
        for coder in of_part:
            coder.finish()
        yield Section(source=source, grid=grid, frames=frames, camera=camera, rows=rows)


def _judge(coder: _Plain | _Tokenizer, windows: GridWindows) -> None:
    truth, seen, sizes = windows.tracks_xy_px, windows.seen, windows.sizes
    for row, made in zip(coder.rows, coder.code(windows), strict=True):
        found = distortion(truth, made.xy_px, seen, sizes)
        row.total = row.total.plus(found)
        if windows.kind is not None:
            row.kinds[windows.kind] = row.kinds.get(windows.kind, Distortion()).plus(found)
        if made.held_out_xy_px is not None:
            hidden = distortion(truth, made.held_out_xy_px, seen & held_out_points(windows), sizes)
            row.held_out = hidden if row.held_out is None else row.held_out.plus(hidden)


def _coders(
    models: Mapping[str, MotionTokenizer], part: Part, fitted: plain_coders.Components
) -> list[_Plain | _Tokenizer]:
    """Plain coders of a part of the windows, then its tokenizers."""
    tokenizers = [_Tokenizer(name, model, prefixes(model)) for name, model in models.items()]
    bits = [row.bits for coder in tokenizers for row in coder.rows if row.bits is not None]
    ids = sorted({max(1, round(count / PLAIN_BITS)) for count in bits})
    plain: list[_Plain | _Tokenizer] = [
        _Plain(NO_MOTION, plain_coders.no_motion, 0, 0.0),
        _Plain(SIMILARITY, plain_coders.global_similarity, None, None),
    ]
    plain += [_Plain(PCA, plain_coders.PcaCoder(fitted, count), count, count * PLAIN_BITS) for count in ids]
    if not any(model.config.model.name == "transform" for model in models.values()):
        plain.append(_Tokenizer(DCT, _dct(*part[:2], max(ids)), ids, plain=True))
    return [*plain, *tokenizers]


def _dct(grid: int, frames: int, ids: int) -> MotionTokenizer:
    """The transform tokenizer of a grid and a number of frames."""
    data = {"grid_size": grid, "sequence_length": frames, "reference_size": {"shorter": 240}}
    data["static_filter"] = {"enable": False}
    model = {"name": "transform", "fsq_levels": list(plain_coders.LEVELS), "encoder_sequence_len": ids}
    return build_model(config_from_dict({"data": data, "model": model}, "of the DCT coder")).eval()
