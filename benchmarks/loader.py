"""Windows a second that training's loader delivers, beside loaders that open a file for each window.

    python -m benchmarks.loader [--model keypoint] [--windows 2048] [--batch-size 64] [--clips 16]

Writes track files of every form (tracking.store), a pack of them and velocity files to a temporary folder and
reads each once before it is timed, so that all come from the page cache. The references are written plainly,
one window at a time, and read the files of float32:

- "HDF5 per window": as AMPLIFY's data set does, open the clip's file, read the window's tracks, turn, rescale
  and normalise them, collate. Nothing else: AMPLIFY's training step makes velocities and labels itself.
- "the same, with labels": the visibility too, and the velocities, labels and mask that ours delivers.
- ".pt per window": as the keypoint reproduction's data set does, load the window's velocities, make labels
  and mask, collate.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.config.tracks import Store
from amplify_motion_tokenizer.data.dataset import Batch, WindowDataset, make_loader
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.data.sampler import EpochSampler
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.trackers.rounding import rounded
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.tracks.pack_writing import write_pack
from amplify_motion_tokenizer.tracks.record import ClipRecord
from amplify_motion_tokenizer.tracks.stored import positions
from benchmarks.support.measuring import positive

ROUNDS = 5
SIZE = (480, 640)
REFERENCE = (240, 320)
STORES: tuple[Store, ...] = get_args(Store)

Item = tuple[Tensor, ...]


def write_clips(folder: Path, clips: int, windows: int, config: Config) -> None:
    """Track files of random walks from the query grid, the same ones in each form of ``tracking.store``."""
    rng = np.random.default_rng(0)
    shape = (windows, config.tracked_length, config.num_points)
    queries = query_grid(config.tracking.query_order, config.data.grid_size, SIZE)
    for number in range(clips):
        moves = rng.normal(0, 2, (*shape, 2)).cumsum(axis=1)
        tracks = (queries + moves - moves[:, :1]).astype(np.float32)
        seen = rng.random(shape, np.float32)
        pairs = enumerate(zip(tracks, seen, strict=True))
        made = [rounded(WindowTracks(row, row / 20, *pair)) for row, pair in pairs]
        for store in STORES:
            path = folder / store / f"clip{number:04d}.hdf5"
            with TrackFileWriter(path, record_of(config), SIZE, store) as writer:
                for window in made:
                    writer.append(window)
                writer.finish(windows + config.tracked_length - 1, 0)


def record_of(config: Config) -> ClipRecord:
    return ClipRecord(
        settings=track_settings(config), tracker="none", reader="none", fps=20.0, source_fps=20.0,
        source_height=SIZE[0], source_width=SIZE[1], source_name="clip.mp4", source_bytes=1,
    )  # fmt: skip


def read_window(path: Path, row: int, *names: str) -> list[np.ndarray]:
    """One window of each data set, from a file that is opened for it."""
    with h5py.File(path, "r") as file:
        return [file[f"root/default/{name}"][[row]][0] for name in names]


def in_reference_px(tracks: np.ndarray) -> np.ndarray:
    """Known positions (T, N, 2), (row, col), in pixels of the reference size."""
    positions = np.nan_to_num(tracks[..., [1, 0]], nan=0.0, posinf=0.0, neginf=0.0)
    for axis in range(2):
        positions[..., axis] *= REFERENCE[axis] / SIZE[axis]
    return positions


def normalised(tracks: np.ndarray) -> np.ndarray:
    """Positions (T, N, 2), (row, col), of the reference size's [-1, 1]."""
    positions = in_reference_px(tracks)
    for axis, side in enumerate(REFERENCE):
        positions[..., axis] = (positions[..., axis] - side / 2) / (side / 2)
    return positions.clip(-1, 1)


def static_mask(velocities: Tensor, visibility: Tensor | None, config: Config) -> Tensor:
    """(t, N) bool from (t, N, 2) W-normalised velocities and visibility (T, N)."""
    own = config.data.static_filter
    score = torch.quantile(torch.linalg.vector_norm(velocities, dim=-1), 0.95, dim=0)
    keep = score >= own.threshold
    if int(keep.sum()) < own.min_keep:
        keep = torch.zeros_like(keep).scatter(0, score.topk(own.min_keep).indices, True)
    mask = keep.expand(velocities.shape[:2])
    if visibility is None:
        return mask
    seen = visibility >= config.data.min_visibility
    return mask & seen[1:] & seen[:-1]


def keypoint_labels(velocities: Tensor, width: int) -> Tensor:
    half = (width - 1) / 2
    cells = (velocities * half + half).round().long().clamp(0, width - 1)
    return cells[..., 1] * width + cells[..., 0]


def keypoint_window(path: Path, row: int, config: Config) -> Item:
    tracks, visibility = read_window(path, row, "tracks", "vis")
    width = config.model.decoder_window_size
    moves = torch.from_numpy(np.diff(in_reference_px(tracks), axis=0))[..., [1, 0]]
    velocities = (moves / ((width - 1) / 2)).clamp(-1, 1)
    labels = keypoint_labels(velocities, width)
    return velocities, labels, static_mask(velocities, torch.from_numpy(visibility), config)


def amplify_window(path: Path, row: int, config: Config) -> Item:
    tracks, visibility = read_window(path, row, "tracks", "vis")
    positions = torch.from_numpy(normalised(tracks))
    velocities, (rows, cols) = positions.diff(dim=0), config.class_grid
    half = torch.tensor(REFERENCE) / 2
    whole = (positions * half + half).clamp(torch.zeros(2), torch.tensor(REFERENCE) - 1).round()
    reach = torch.tensor([rows // 2, cols // 2])
    cells = (whole.diff(dim=0).clamp(-reach, reach) + reach).long()
    wnorm = (velocities * half / ((config.model.decoder_window_size - 1) / 2)).clamp(-1, 1)
    mask = static_mask(wnorm, torch.from_numpy(visibility), config)
    return velocities[None], (cells[..., 0] * cols + cells[..., 1])[None], mask[None]


def velocity_window(path: Path, config: Config) -> Item:
    velocities = torch.load(path, weights_only=True)
    return velocities, keypoint_labels(velocities, config.model.decoder_window_size), static_mask(
        velocities, None, config
    )  # fmt: skip


def one_by_one(item: Callable[[int], object], batches: EpochSampler) -> Iterator[object]:
    for indices in batches:
        yield default_collate([item(index) for index in indices])


def write_velocities(tracks: WindowDataset, folder: Path) -> None:
    folder.mkdir()
    for index in range(len(tracks)):
        torch.save(tracks[index].inputs.velocities.clone(), folder / f"{index:06d}.pt")


def rates(
    loaders: Mapping[str, Callable[[], Iterator[object]]], windows: int
) -> dict[str, tuple[float, float]]:
    """Windows per second of wall time and of CPU time: the quickest of ROUNDS passes after a first one.

    The loaders take turns, so that a slower minute of the machine is one for all of them.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    for _ in range(1 + ROUNDS):
        for name, make in loaders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in make():
                pass
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    quickest = {name: map(min, zip(*passes[1:], strict=True)) for name, passes in seconds.items()}
    return {name: (windows / wall, windows / cpu) for name, (wall, cpu) in quickest.items()}


def loaded(data: WindowDataset, order: EpochSampler) -> Iterator[object]:
    return iter(make_loader(data, order, 0, pin_memory=False))


def share_that_differs(ours: Batch, item: Callable[[int], object]) -> dict[str, float]:
    """Of labels and mask against the reference's, on one batch."""
    _, labels, mask = default_collate([item(index) for index in ours.indices.tolist()])
    return {
        "labels": float((labels != ours.inputs.labels).float().mean()),
        "mask": float((mask != ours.inputs.mask).float().mean()),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("keypoint", "amplify"), default="keypoint")
    parser.add_argument("--windows", type=positive, default=2048)
    parser.add_argument("--clips", type=positive, default=16, help="files that the windows are in")
    parser.add_argument("--batch-size", type=positive, default=64)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    config = config_from_dict({"model": {"name": args.model}, "data": {"reference_size": REFERENCE}}, "here")
    each = -(-args.windows // args.clips)
    windows = each * args.clips
    order = EpochSampler(windows, args.batch_size)
    labelled = {"keypoint": keypoint_window, "amplify": amplify_window}[args.model]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clips(folder, args.clips, each, config)
        write_pack(positions(find_tracks(folder / "float32")), folder / "pack")
        stored = {
            part: WindowDataset(load_clips(folder / part, config), config, truth=False)
            for part in (*STORES, "pack")
        }
        paths = sorted((folder / "float32").glob("*.hdf5"))

        def plain(index: int) -> np.ndarray:
            return normalised(*read_window(paths[index // each], index % each, "tracks"))

        def same(index: int) -> Item:
            return labelled(paths[index // each], index % each, config)

        loaders: dict[str, Callable[[], Iterator[object]]] = {
            "HDF5 per window": lambda: one_by_one(plain, order),
            "the same, with labels": lambda: one_by_one(same, order),
        }
        for part, data in stored.items():
            loaders[f"ours, {part}"] = partial(loaded, data, order)
        if args.model == "keypoint":
            write_velocities(stored["int16"], folder / "velocities")
            loaders[".pt per window"] = lambda: one_by_one(
                lambda index: velocity_window(folder / "velocities" / f"{index:06d}.pt", config), order
            )
        speeds = rates(loaders, windows)
        print(f"{args.model}, {windows} windows of {config.num_points} points, one process, one thread")
        print(f"  {'':24}  windows/s   per CPU second   ours is faster by: {', '.join(stored)}")
        for name, (wall, cpu) in speeds.items():
            times = "".join(f"{speeds[f'ours, {own}'][1] / cpu:10.1f} x" for own in stored)
            print(f"  {name:24} {wall:10.0f} {cpu:16.0f} {times}")
        some = range(min(64, windows))
        first, packed = stored["int16"].batch(some), stored["pack"].batch(some).inputs
        print(f"  differ from the reference's, share: {share_that_differs(first, same)}")
        off = float((first.inputs.velocities - packed.velocities).abs().max())
        changed = float((first.inputs.labels != packed.labels).float().mean())
        print(f"  pack against files: velocities at most {off:.1e} apart, {changed:.2%} of labels differ")


if __name__ == "__main__":
    main()
