"""Windows a second that training's loader delivers, beside loaders that open a file for each window.

    python benchmarks/loader.py [--model keypoint] [--windows 2048] [--batch-size 64]

Writes track files, a pack of them and velocity files to a temporary folder and reads each once before it is
timed, so that all come from the page cache. The references do what the two published systems do: open the
clip's HDF5 file for one window, or load one ``.pt`` file, make the model's input of it and collate.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.files import config_from_dict
from amplify_motion_tokenizer.dataset import EpochSampler, WindowDataset, load_clips, make_loader
from amplify_motion_tokenizer.inputs import ModelInput, ViewTracks, from_tracks, from_velocities
from amplify_motion_tokenizer.packed import write_pack
from amplify_motion_tokenizer.stores import find_tracks
from amplify_motion_tokenizer.track_files import TrackFile

CLIP_WINDOWS = 128
SIZE = (480, 640)


def write_clips(folder: Path, windows: int, config: Config) -> None:
    """Track files of random walks, 128 windows each."""
    rng = np.random.default_rng(0)
    shape = (CLIP_WINDOWS, config.tracked_length, config.num_points)
    folder.mkdir()
    for number in range(-(-windows // CLIP_WINDOWS)):
        start = rng.uniform(0, SIZE[0], (shape[0], 1, shape[2], 2))
        tracks = (start + rng.normal(0, 2, (*shape, 2)).cumsum(axis=1)).astype(np.float32)
        with h5py.File(folder / f"clip{number:03d}.hdf5", "w") as file:
            group = file.create_group("root/default")
            group.attrs.update(height=SIZE[0], width=SIZE[1])
            group.create_dataset("tracks", data=tracks, chunks=(1, *shape[1:], 2))
            group.create_dataset("vis", data=rng.random(shape, np.float32), chunks=(1, *shape[1:]))


def collate(items: list[ModelInput]) -> ModelInput:
    return ModelInput(*(torch.cat(column) for column in zip(*items, strict=True)))


def file_per_window(folder: Path, batches: EpochSampler, config: Config) -> Iterator[ModelInput]:
    """The clip's file is opened for every window."""
    paths = sorted(folder.glob("*.hdf5"))

    def item(index: int) -> ModelInput:
        with h5py.File(paths[index // CLIP_WINDOWS], "r", locking=False) as file:
            group, row = file["root/default"], index % CLIP_WINDOWS
            tracks, seen = (torch.from_numpy(group[name][row : row + 1]) for name in ("tracks", "vis"))
        return from_tracks([ViewTracks(tracks, seen, SIZE)], config)

    for indices in batches:
        yield collate([item(index) for index in indices])


def velocity_file_per_window(folder: Path, batches: EpochSampler, config: Config) -> Iterator[ModelInput]:
    """A ``.pt`` file of velocities is loaded for every window."""
    for indices in batches:
        windows = [torch.load(folder / f"{index:06d}.pt", weights_only=True) for index in indices]
        yield collate([from_velocities(window[None], config) for window in windows])


def write_velocities(tracks: WindowDataset, folder: Path) -> None:
    folder.mkdir()
    for index in range(len(tracks)):
        torch.save(tracks[index].inputs.velocities[0].clone(), folder / f"{index:06d}.pt")


def rate(make: Callable[[], Iterator[object]], windows: int) -> tuple[float, float]:
    """Windows per second of wall time and of CPU time, on the second pass."""
    for _ in make():
        pass
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in make():
        pass
    return windows / (time.perf_counter() - wall), windows / (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("keypoint", "amplify"), default="keypoint")
    parser.add_argument("--windows", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = config_from_dict({"model": {"name": args.model}, "data": {"reference_size": [240, 320]}}, "here")
    windows = -(-args.windows // CLIP_WINDOWS) * CLIP_WINDOWS
    order = EpochSampler(windows, args.batch_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clips(folder / "tracks", windows, config)
        found = find_tracks(folder / "tracks")
        write_pack({k: clip for k, clip in found.items() if isinstance(clip, TrackFile)}, folder / "pack")
        files, pack = (
            WindowDataset(load_clips(folder / part, config), config) for part in ("tracks", "pack")
        )
        loaders: dict[str, Callable[[], Iterator[object]]] = {
            "track file opened per window": lambda: file_per_window(folder / "tracks", order, config),
            "ours, track files": lambda: iter(make_loader(files, order, 0, pin_memory=False)),
            "ours, pack": lambda: iter(make_loader(pack, order, 0, pin_memory=False)),
        }
        if args.model == "keypoint":
            write_velocities(files, folder / "velocities")
            loaders["velocity file per window"] = lambda: velocity_file_per_window(
                folder / "velocities", order, config
            )
        rates = {name: rate(make, windows) for name, make in loaders.items()}
        reference = rates["track file opened per window"][1]
        print(f"{args.model}, {windows} windows of {config.num_points} points, one process, one thread")
        for name, (wall, cpu) in rates.items():
            print(f"  {name:30} {wall:8.0f} windows/s {cpu:8.0f} per CPU second  {cpu / reference:6.1f} x")
        first = files.__getitems__(range(64)).inputs
        packed = pack.__getitems__(range(64)).inputs
        off = float((first.velocities - packed.velocities).abs().max())
        changed = float((first.labels != packed.labels).float().mean())
        print(f"  pack against files: velocities at most {off:.1e} apart, {changed:.2%} of labels differ")


if __name__ == "__main__":
    main()
