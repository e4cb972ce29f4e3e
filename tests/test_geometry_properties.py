"""Coordinates through the whole chain, for frames of any size: every way there has a way back.

Whole pixels are used where a result must be exact: they lie half a pixel from where labels round.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from amplify_motion_tokenizer.config import Config, DataConfig, ModelConfig, StaticFilterConfig
from amplify_motion_tokenizer.data.inputs import from_tracks
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.evaluation.reconstruction import predicted_tracks
from amplify_motion_tokenizer.geometry import (
    center_label,
    integrate_velocities,
    labels_from_rc_norm,
    labels_from_wnorm,
    px_from_labels,
    px_from_rc_norm,
    px_from_wnorm,
    query_grid,
    rc_norm_from_labels,
    rc_norm_from_px,
    rc_px_from_labels,
    reference_scale,
    remap,
    tracks_to_velocities,
    wnorm_from_px,
    wnorm_from_rc_norm,
)
from amplify_motion_tokenizer.letterbox import letterbox, letterbox_from_source_px

Size = tuple[int, int]

sides = st.integers(2, 2000)
sizes = st.tuples(sides, sides)
shorter = sides.map(lambda side: {"shorter": side})
references = st.one_of(sizes, shorter, st.none())
widths = st.integers(1, 20).map(lambda half: 2 * half + 1)
seeds = st.integers(0, 2**31)
quick = settings(max_examples=50, deadline=None)


def random(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def positions_in(size: Sequence[int], seed: int, *shape: int) -> Tensor:
    """(*shape, 2) positions inside a frame, (x, y) pixels."""
    return random(seed, *shape, 2) * torch.tensor([size[1], size[0]])


def whole_pixel_tracks(size: Size, seed: int, most: int, steps: int = 6, points: int = 5) -> Tensor:
    """(T, N, 2) whole (x, y) pixels inside a frame, that move by at most ``most`` on an axis in a step."""
    last = torch.tensor([size[1] - 1, size[0] - 1])
    positions = [positions_in(size, seed, points).long().clamp(max=last)]
    moves = ((random(seed + 1, steps, points, 2) * 2 - 1) * (most + 0.5)).round().clamp(-most, most)
    for move in moves.long():
        positions.append((positions[-1] + move).clamp(torch.zeros_like(last), last))
    return torch.stack(positions).float()


@quick
@given(sizes, st.integers(1, 12))
def test_grid_orders_are_transposes_inside_the_frame(size: Size, grid_size: int) -> None:
    row_major = query_grid("row_major", grid_size, size)
    uniform = query_grid("uniform", grid_size, size)
    square = (grid_size, grid_size, 2)
    np.testing.assert_array_equal(row_major.reshape(square), uniform.reshape(square).swapaxes(0, 1))
    assert (row_major > 0).all()
    assert (row_major < np.array([size[1], size[0]])).all()
    np.testing.assert_allclose(row_major.mean(axis=0), [size[1] / 2, size[0] / 2], rtol=1e-5)


@quick
@given(sizes, sizes, references, seeds)
def test_remap_of_a_remap_is_one_remap(
    size: Size, between: Size, reference: Size | dict[str, int] | None, seed: int
) -> None:
    xy_px = positions_in(size, seed, 7)
    if isinstance(reference, dict):
        # A common scale keeps the aspect ratio, so the step between must do so too.
        between = (size[0] * 3, size[1] * 3)
    if reference is None:
        assert torch.equal(remap(xy_px, size, reference), xy_px)
        reference = size
    twice = remap(remap(xy_px, size, between), between, reference)
    torch.testing.assert_close(twice, remap(xy_px, size, reference), rtol=1e-5, atol=1e-4)


@quick
@given(sizes, references, seeds)
def test_whole_numbers_are_remapped_as_the_same_reals(
    size: Size, reference: Size | dict[str, int] | None, seed: int
) -> None:
    xy_px = positions_in(size, seed, 7).long()
    assert torch.equal(remap(xy_px, size, reference), remap(xy_px.float(), size, reference))


@quick
@given(sizes, st.one_of(sizes, shorter), st.integers(2, 4), widths, seeds)
def test_velocities_do_not_depend_on_the_tracked_size(
    size: Size, reference: Size | dict[str, int], factor: int, width: int, seed: int
) -> None:
    tracks = positions_in(size, seed, 3, 5)
    larger = (size[0] * factor, size[1] * factor)
    # Within what float32 holds of a position, in pixels of the reference.
    far = max(tracks.max().item() * max(reference_scale(size, reference)), 1.0)
    torch.testing.assert_close(
        tracks_to_velocities(tracks, size, reference, width),
        tracks_to_velocities(tracks * factor, larger, reference, width),
        atol=1e-6 * far,
        rtol=0,
    )


@quick
@given(widths, seeds)
def test_px_to_wnorm_to_labels_and_back(width: int, seed: int) -> None:
    half = (width - 1) / 2
    velocity_xy_px = (random(seed, 64, 2) * 2 - 1) * half
    wnorm = wnorm_from_px(velocity_xy_px, width)
    torch.testing.assert_close(px_from_wnorm(wnorm, width), velocity_xy_px, atol=1e-5, rtol=1e-5)
    centres = px_from_labels(labels_from_wnorm(wnorm, width), width)
    assert (centres - velocity_xy_px).abs().max() <= 0.5 + 1e-5
    beyond = wnorm_from_px(velocity_xy_px * 3, width)
    torch.testing.assert_close(
        px_from_wnorm(beyond, width), (velocity_xy_px * 3).clamp(-half, half), atol=1e-5, rtol=1e-5
    )


@quick
@given(widths)
def test_every_label_is_its_own_centres_label(width: int) -> None:
    labels = torch.arange(width * width)
    assert torch.equal(labels_from_wnorm(wnorm_from_px(px_from_labels(labels, width), width), width), labels)
    assert px_from_labels(torch.tensor(center_label((width, width))), width).tolist() == [0, 0]


@quick
@given(widths, widths)
def test_both_orders_of_axes_are_the_same_classes(rows: int, cols: int) -> None:
    """A class is row by row for both models: (x, y) of one is (row, col) of the other, turned."""
    labels = torch.arange(rows * rows)
    assert torch.equal(rc_px_from_labels(labels, (rows, rows)).flip(-1), px_from_labels(labels, rows))
    assert rc_px_from_labels(torch.tensor(center_label((rows, cols))), (rows, cols)).tolist() == [0, 0]


@quick
@given(sizes, seeds)
def test_rc_norm_round_trip(size: Size, seed: int) -> None:
    rc_px = positions_in(size, seed, 16).flip(-1)
    back = px_from_rc_norm(rc_norm_from_px(rc_px, size), size)
    torch.testing.assert_close(back, rc_px, atol=1e-3, rtol=1e-5)


@quick
@given(sizes, widths, seeds)
def test_a_velocity_is_the_same_by_either_normalisation(size: Size, width: int, seed: int) -> None:
    tracks_xy_px = positions_in(size, seed, 4, 6)
    velocities_rc_norm = rc_norm_from_px(tracks_xy_px.flip(-1), size).diff(dim=0)
    by_frame = wnorm_from_rc_norm(velocities_rc_norm, size, width).flip(-1)
    by_width = tracks_to_velocities(tracks_xy_px, None, size, width)
    torch.testing.assert_close(by_frame, by_width, atol=2e-6 * max(size), rtol=0)


@quick
@given(widths, widths, sizes)
def test_every_amplify_label_is_its_own_moves_label(rows: int, cols: int, size: Size) -> None:
    size = (size[0] + rows, size[1] + cols)
    labels = torch.arange(rows * cols)
    start_px = torch.tensor(size).float().div(2).floor().expand(len(labels), 2)
    start = rc_norm_from_px(start_px, size)
    tracks = integrate_velocities(start, rc_norm_from_labels(labels, size, (rows, cols)).unsqueeze(0))
    assert torch.equal(labels_from_rc_norm(tracks, size, (rows, cols))[0], labels)


@quick
@given(sizes, widths, seeds)
def test_sums_of_velocities_are_the_tracks(size: Size, width: int, seed: int) -> None:
    tracks = whole_pixel_tracks(size, seed, most=width // 2)
    velocities = px_from_wnorm(tracks_to_velocities(tracks, None, size, width), width)
    torch.testing.assert_close(integrate_velocities(tracks[0], velocities), tracks, atol=1e-4, rtol=0)
    normalised = rc_norm_from_px(tracks.flip(-1), size)
    rebuilt = integrate_velocities(normalised[0], normalised.diff(dim=0))
    torch.testing.assert_close(px_from_rc_norm(rebuilt, size).flip(-1), tracks, atol=2e-6 * max(size), rtol=0)


@quick
@given(size=sizes, tracked=sizes, width=widths, seed=seeds)
def test_whole_pixels_through_labels_are_the_tracks_whatever_size_was_tracked(
    size: Size, tracked: Size, width: int, seed: int
) -> None:
    """Tracked pixels -> reference pixels -> either model's classes -> moves -> tracks, exactly."""
    grid = (width, width)
    tracks = whole_pixel_tracks(size, seed, most=width // 2)
    in_tracked_px = remap(tracks, size, tracked)
    keypoint = labels_from_wnorm(tracks_to_velocities(in_tracked_px, tracked, size, width), width)
    amplify = labels_from_rc_norm(
        rc_norm_from_px(remap(in_tracked_px, tracked, size).flip(-1), size), size, grid
    )
    assert torch.equal(keypoint, amplify)
    assert torch.equal(integrate_velocities(tracks[0], px_from_labels(keypoint, width)), tracks)
    rebuilt = integrate_velocities(
        rc_norm_from_px(tracks[0].flip(-1), size), rc_norm_from_labels(amplify, size, grid)
    )
    torch.testing.assert_close(px_from_rc_norm(rebuilt, size).flip(-1), tracks, atol=2e-6 * max(size), rtol=0)


@quick
@given(source=sizes, target=sizes, reference=sizes, seed=seeds)
def test_a_move_in_a_letterbox_is_the_sources_move(
    source: Size, target: Size, reference: Size, seed: int
) -> None:
    """Padding shifts positions and leaves moves alone, also after the remap to the reference size."""
    box = letterbox(source, target)
    in_source = positions_in(source, seed, 3, 4).double()
    in_box = torch.from_numpy(letterbox_from_source_px(in_source.numpy(), box))
    moves = in_source.diff(dim=0) * torch.tensor([box.scale_x, box.scale_y], dtype=torch.float64)
    torch.testing.assert_close(in_box.diff(dim=0), moves, atol=1e-9, rtol=0)
    torch.testing.assert_close(
        remap(in_box, target, reference).diff(dim=0), remap(moves, target, reference), atol=1e-6, rtol=0
    )


def config_of(name: str, reference: Size | None, width: int, frames: int, grid_size: int) -> Config:
    return Config(
        data=DataConfig(
            sequence_length=frames,
            grid_size=grid_size,
            reference_size=reference,
            static_filter=StaticFilterConfig(enable=False),
        ),
        model=ModelConfig(name=name, decoder_window_size=width),
    )


@pytest.mark.parametrize("name", ["keypoint", "amplify"])
@quick
@given(size=sizes, tracked=sizes, seed=seeds)
def test_true_labels_rebuild_the_tracks_of_a_batch(name: str, size: Size, tracked: Size, seed: int) -> None:
    """As training and validation go: ``from_tracks``, its labels as answers, ``predicted_tracks``."""
    width, steps, half = 15, 5, 7
    config = config_of(name, size, width, steps + 1, grid_size=2)
    # Any positions inside the last pixels' centres, with moves that the window of classes holds.
    start = positions_in([side - 1 for side in size], seed, 4)
    moves = (random(seed + 1, steps, 4, 2) * 2 - 1) * (half - 0.5)
    last = torch.tensor([size[1] - 1.0, size[0] - 1.0])
    tracks = [start]
    for move in moves:
        tracks.append((tracks[-1] + move).clamp(torch.zeros(2), last))
    truth = torch.stack(tracks)
    view = ViewTracks(remap(truth, size, tracked)[None], torch.ones(1, steps + 1, 4), tracked)
    inputs = from_tracks([view], config)
    rebuilt = predicted_tracks(inputs.labels, inputs, config.class_grid).reshape(steps + 1, 4, 2)
    off_px = (px_from_rc_norm(rebuilt, size).flip(-1) - truth).abs()
    # Keypoint labels round each move, and errors add up; amplify's round positions, so they do not.
    steps_so_far = torch.arange(steps + 1.0)[:, None, None]
    allowed = 0.5 * steps_so_far if name == "keypoint" else (steps_so_far > 0).float()
    assert (off_px <= allowed + 5e-6 * max(size)).all()


@quick
@given(size=sizes, factor=st.integers(2, 4), seed=seeds)
def test_without_a_reference_size_a_clips_own_pixels_count(size: Size, factor: int, seed: int) -> None:
    """The old behaviour: the same motion in a frame twice as large is twice the velocity."""
    config = config_of("keypoint", None, width=15, frames=3, grid_size=2)
    tracks = whole_pixel_tracks(size, seed, most=1, steps=2, points=4)
    larger = (size[0] * factor, size[1] * factor)
    visible = torch.ones(1, 3, 4)
    small, large, unknown = (
        from_tracks([ViewTracks(xy[None], visible, known)], config)
        for xy, known in ((tracks, size), (tracks * factor, larger), (tracks, None))
    )
    torch.testing.assert_close(small.velocities[0], tracks.diff(dim=0) / 7)
    torch.testing.assert_close(large.velocities, small.velocities * factor)
    assert torch.equal(unknown.velocities, small.velocities)
    # Where a frame ends is known, so that reconstructions of all clips compare.
    assert large.size_px.tolist() == [list(map(float, larger))]
    torch.testing.assert_close(large.tracks_rc_norm, small.tracks_rc_norm, atol=1e-5, rtol=0)
    assert unknown.tracks_rc_norm.isnan().all()
    remapped = dataclasses.replace(config, data=dataclasses.replace(config.data, reference_size=size))
    same = from_tracks([ViewTracks((tracks * factor)[None], visible, larger)], remapped)
    torch.testing.assert_close(same.velocities, small.velocities, atol=1e-5, rtol=0)
