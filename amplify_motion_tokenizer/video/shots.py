"""Hard cuts and dissolves, told by pictures that show nothing of what pictures before them showed.

Two pictures are compared by how well their patterns correlate where optical flow lays one over the other, in
small grey copies: 0.6 and more while a shot lasts, whatever its light or its camera does, and 0.4 at most for
two shots. A hard cut shows between neighbours. Over a dissolve neighbours stay alike: there a picture is
laid, by the flow of all steps in between, over each of those that come up to ``SPAN`` later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.video.clips import RGB, Part
from amplify_motion_tokenizer.video.pixels import bilinear, resized_size
from amplify_motion_tokenizer.video.timing import Picture

ROWS = 64
"""Shorter side in pixels of the copies that are compared."""
OTHER = 0.45
"""Similarity, as a share of what neighbours have, below which two pictures show different shots."""
AGAIN = 0.6
"""Similarity from which a picture shows again what was there before something hid it."""
SPAN = 24
"""Pictures between two that are compared for a dissolve."""
EVERY = 4
"""Of so many pictures one is compared with all that follow within ``SPAN``."""
BACK = 8
"""A shot that is back within so many pictures was not cut, but hidden by a flash, a glitch or a passer-by."""
HELD = SPAN + BACK
"""Pictures that are held until it is known whether one of them begins a shot."""

_BOX = (9, 9)  # neighbourhood in which patterns are correlated
_NOISE = 4.0  # variance in levels^2 that counts half
_FLAT = 5  # levels within which a row or column at the edge is a bar
_LEAST = 0.02  # share of the copy that must have a pattern for a comparison to say something
_OVERLAP = 0.1  # share of a picture's pattern that must lie in the other one
_USUAL = 12  # neighbours that tell what is usual
_STEADY = 3  # of them, needed before a cut is told

Floats = NDArray[np.float32]


class _Look(NamedTuple):
    """A picture as it is compared: arrays (h, w)."""

    gray: NDArray[np.uint8]
    values: Floats
    """``gray``, as numbers to reckon with."""
    mean: Floats
    variance: Floats
    inner: Floats
    """1 where it is no black bar, nor near one, else 0."""

    @property
    def blank(self) -> bool:
        """Whether it shows hardly anything, as the black between two fades."""
        return float((_weight(self.variance) * self.inner).mean()) < _LEAST


def _look(rgb: RGB) -> _Look:
    size = resized_size((rgb.shape[0], rgb.shape[1]), ROWS)
    copy = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA)
    gray = np.asarray(cv2.cvtColor(copy, cv2.COLOR_RGB2GRAY), np.uint8)
    values = gray.astype(np.float32)
    return _Look(gray, values, *_moments(values), _inner(gray))


def _moments(values: Floats) -> tuple[Floats, Floats]:
    mean = np.asarray(cv2.blur(values, _BOX), np.float32)
    return mean, np.maximum(cv2.blur(values * values, _BOX) - mean * mean, 0)


def _weight(variance: Floats) -> Floats:
    return variance / (variance + _NOISE)


def _inner(gray: NDArray[np.uint8]) -> Floats:
    """0 in flat rows and columns at the edges, and as near to them as their border is felt."""
    inner = np.ones(gray.shape, np.float32)
    for axis, view in ((1, inner), (0, inner.T)):
        flat = np.ptp(gray, axis=axis) < _FLAT
        if flat.all():
            return np.zeros(gray.shape, np.float32)
        first, last = int(np.argmin(flat)), int(np.argmin(flat[::-1]))
        reach = _BOX[0] // 2 + 1
        if first:
            view[: first + reach] = 0
        if last:
            view[len(view) - last - reach :] = 0
    return inner


class _Compared:
    """Compares pictures of one size."""

    def __init__(self, shape: tuple[int, int]) -> None:
        height, width = shape
        self.still = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        self._hann = cv2.createHanningWindow((width, height), cv2.CV_32F)

    def flow(self, first: _Look, second: _Look, shift_xy: Sequence[float] = (0, 0)) -> Floats:
        """(h, w, 2), (x, y) in pixels from ``first`` to ``second``, looked for around one shift of all."""
        begin = np.tile(np.array(shift_xy, np.float32), (*first.gray.shape, 1))
        dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)  # one used again may differ
        dis.setFinestScale(0)
        return np.asarray(dis.calc(first.gray, second.gray, begin), np.float32)

    def similarity(self, first: _Look, second: _Look, places: Floats) -> float:
        """How alike ``second`` at ``places`` (h, w, 2), (x, y), is to ``first``: 1 the same, 0 unrelated.

        Only where both have a place in the picture and one a pattern; nan where that is hardly anywhere.
        """
        height, width = first.gray.shape
        x, y = places[..., 0], places[..., 1]
        inner = first.inner * second.inner * ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))
        values = bilinear(second.values, x, y)
        mean, variance = _moments(values)
        covariance = cv2.blur(first.values * values, _BOX) - first.mean * mean
        alike = covariance / (np.sqrt(first.variance * variance) + _NOISE)
        weight = _weight(np.maximum(first.variance, variance)) * inner
        least = max(_LEAST * weight.size, _OVERLAP * float((_weight(first.variance) * first.inner).sum()))
        return float((alike * inner).sum() / weight.sum()) if weight.sum() >= least else float("nan")

    def direct(self, first: _Look, second: _Look) -> float:
        """Their similarity by the flow from one to the other, around no shift or around that of the whole."""
        whole, _ = cv2.phaseCorrelate(first.values, second.values, self._hann)
        found = [
            self.similarity(first, second, np.add(self.still, self.flow(first, second, shift)))
            for shift in ((0.0, 0.0), whole)
        ]
        return max((each for each in found if not np.isnan(each)), default=float("nan"))


@dataclass(eq=False)
class _Reference:
    """A picture that is followed to later ones."""

    look: _Look
    number: int
    places: Floats
    """(h, w, 2), (x, y): where its pixels are in the latest picture."""
    similarities: list[float] = field(default_factory=list)
    """To each later picture."""


class _Neighbours(NamedTuple):
    """Two pictures in a row, compared before it was known what is usual."""

    first: _Look
    second: _Look
    number: int
    """Of the second."""
    alike: float


class Cut(NamedTuple):
    """Where another shot begins."""

    number: int
    """Of its first picture; of a dissolve the first that shows more of it than of the shot before."""
    cut: str
    """Which kind of cut it is, in words."""


@dataclass
class _Candidate:
    """What is a cut unless the shot before it comes back."""

    told: int
    """Number of the picture at which it was told: the first of the shot, if it is a hard cut."""
    before: _Look
    """A picture of the shot before."""
    after: _Look
    """The latest picture, until another cut."""
    dissolved: _Reference | None = None
    """The picture of the shot before as it was followed into a dissolve; None for a hard cut."""


class ShotFinder:
    """Finds cuts in pictures of one ``size`` (height, width), given one by one.

    A cut is known ``HELD`` pictures after its own at the latest. Nothing is told of pictures that show
    hardly anything: those after them are compared with those before.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._count = 0
        self._compared = _Compared(resized_size(size, ROWS))
        self._last: _Look | None = None
        self._recent: deque[tuple[int, _Look]] = deque(maxlen=SPAN + BACK + 1)
        self._references: list[_Reference] = []
        self._candidates: list[_Candidate] = []
        self._usual: deque[float] = deque(maxlen=_USUAL)
        self._early: list[_Neighbours] = []

    def add(self, rgb: RGB) -> list[Cut]:
        """Cuts that are sure now that ``rgb`` (H, W, 3) has come."""
        look, number = _look(rgb), self._count
        self._count += 1
        if not look.blank:
            if self._is_back(look):
                self._references = []
            elif self._last is not None:
                self._compare(self._last, look, number)
            if number % EVERY == 0 or not self._references:
                self._references.append(_Reference(look, number, self._compared.still))
            if self._candidates:
                self._candidates[-1].after = look
            self._last = look
            self._recent.append((number, look))
        return self._cuts(sum(number - each.told >= BACK for each in self._candidates))

    def end(self) -> list[Cut]:
        """The cuts that are left when no picture comes any more."""
        return self._cuts(len(self._candidates))

    def _cuts(self, count: int) -> list[Cut]:
        """The first ``count`` candidates, which are none any more."""
        sure, self._candidates = self._candidates[:count], self._candidates[count:]
        return [
            Cut(each.told, "a hard cut to another shot")
            if each.dissolved is None
            else Cut(self._middle(each, each.dissolved), "a dissolve into another shot")
            for each in sure
        ]

    def _is_back(self, look: _Look) -> bool:
        """Whether a shot before a candidate goes on; neither it nor one after it was a cut then."""
        for index, each in enumerate(self._candidates):
            if self._compared.direct(each.before, look) > AGAIN:
                del self._candidates[index:]
                return True
        return False

    def _compare(self, last: _Look, look: _Look, number: int) -> None:
        compared = self._compared
        flow = compared.flow(last, look)
        alike = compared.similarity(last, look, compared.still + flow)
        low = self._low()
        if not np.isnan(alike):
            self._usual.append(alike)
        if alike < low and compared.direct(last, look) < low:
            self._references = []
            self._tell(_Candidate(number, last, look), number - 1)
            return
        if low < 0:
            self._early.append(_Neighbours(last, look, number, alike))
            self._tell_early(look)
        self._references = [each for each in self._references if number - each.number <= SPAN]
        for each in self._references:
            each.places = each.places + bilinear(flow, each.places[..., 0], each.places[..., 1])
            each.similarities.append(compared.similarity(each.look, look, each.places))
        for each in list(self._references):
            if each.similarities[-1] < low and compared.direct(each.look, look) < low:
                # One that is unlike the next picture, too, is broken, or the first, coarse one of a stream.
                broken = each.similarities[0] < AGAIN / OTHER * low
                if not broken and self._tell(_Candidate(number, each.look, look, each), each.number):
                    self._references = []
                    return
                self._references.remove(each)

    def _low(self) -> float:
        """Similarity below which two pictures show different shots; negative in the first few pictures.

        By the low end of what neighbours have, as every other picture may be a mere repetition.
        """
        return OTHER * float(np.quantile(self._usual, 0.25)) if len(self._usual) >= _STEADY else -1.0

    def _tell_early(self, look: _Look) -> None:
        """Tells a cut before the latest picture, ``look``, once as many have come as tell what is usual."""
        if len(self._usual) < _STEADY:
            return
        early, self._early = self._early, []
        low, direct = OTHER * float(np.median(self._usual)), self._compared.direct
        for first, second, number, alike in early:
            if alike < low and direct(first, second) < low and not direct(first, look) > AGAIN:
                self._references = [each for each in self._references if each.number >= number]
                self._candidates.append(_Candidate(number, first, look))
                self._usual.remove(alike)

    def _tell(self, found: _Candidate, number: int) -> bool:
        """Takes a candidate, unless its picture was there already, before number ``number``."""
        earlier = (seen for at, seen in self._recent if number - BACK <= at < number)
        if any(self._compared.direct(seen, found.after) > AGAIN for seen in earlier):
            return False
        self._candidates.append(found)
        return True

    def _middle(self, found: _Candidate, before: _Reference) -> int:
        """The first picture of a dissolve that is more like the shot after it than like the one before."""
        inside = [(number, look) for number, look in self._recent if before.number < number < found.told]
        direct = self._compared.direct
        for (number, look), followed in zip(inside, before.similarities, strict=False):
            if direct(look, found.after) > np.fmax(followed, direct(before.look, look)):
                return number
        return found.told


def in_shots(
    pictures: Iterable[Picture], fit: Callable[[RGB], RGB], before: Sequence[Part], parts: list[Part]
) -> Iterator[Picture]:
    """The pictures of a clip, with parts that end where a shot does, too.

    Up to ``HELD`` pictures are held, as ``fit`` makes them.

    Args:
        pictures: in parts.
        fit: makes of a picture (H, W, 3) what is passed on of it.
        before: the parts that ``pictures`` tells of, each there when its first picture is.
        parts: gets each part when its first picture is passed on.
    """
    held: deque[Picture] = deque()
    starts: dict[int, Part] = {}
    finder: ShotFinder | None = None
    part, first = -1, 0

    def passed(most: int) -> Iterator[Picture]:
        while len(held) > most:
            picture = held.popleft()
            if picture.number in starts:
                parts.append(starts.pop(picture.number))
            yield picture._replace(part=len(parts) - 1)

    def begin(cuts: Iterable[Cut]) -> None:
        for number, why in cuts:
            begins = next(each for each in held if each.number == first + number)
            starts[begins.number] = Part(begins.number, begins.time_s, before[part].size, why)

    for picture in pictures:
        if finder is None or picture.part != part:
            begin([] if finder is None else finder.end())
            yield from passed(0)
            part, first = picture.part, picture.number
            starts[first] = before[part]
            finder = ShotFinder((picture.rgb.shape[0], picture.rgb.shape[1]))
        cuts = finder.add(picture.rgb)
        held.append(picture._replace(rgb=fit(picture.rgb)))
        begin(cuts)
        yield from passed(HELD)
    begin([] if finder is None else finder.end())
    yield from passed(0)
