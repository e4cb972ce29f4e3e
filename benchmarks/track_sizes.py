"""Forms of tracks on disk: bytes of a window, error, and how fast they are written and read.

    python -m benchmarks.track_sizes [--input FOLDER] [--frames 32]

Tracks rendered clips of 480x640, one of each kind, and the clips of --input, with the default config and
windows at every frame, and writes them in each form with a window a chunk. The first rows are what
tracking.store may be, read by training's loader; the others are forms that were tried, read window by window
through HDF5. Both are relative to float32 read the same way. Errors are against the tracker's own numbers,
before they are rounded. Times are CPU seconds of one process, the quickest of three, from the page cache.

The last lines tell what rounding changes: of the labels of velocity classes, and of the ids of the codec.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args
from unittest.mock import patch

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.codes.tracks import encode_tracks
from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.config.tracks import Store
from amplify_motion_tokenizer.data.inputs import from_tracks
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.scenes.kinds import KINDS
from amplify_motion_tokenizer.scenes.writing import write_clips
from amplify_motion_tokenizer.trackers import make_tracker
from amplify_motion_tokenizer.trackers.rounding import LEVELS, STEPS_PX, levels_of, rounded, step_px
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile, TrackFileWriter
from amplify_motion_tokenizer.tracks.record import ClipRecord
from amplify_motion_tokenizer.tracks.stored import ViewArrays
from amplify_motion_tokenizer.video.sources import find_clips, tracked_views
from benchmarks.support.measuring import positive

Arrays = dict[str, NDArray[Any]]
STORES: tuple[Store, ...] = get_args(Store)


class Windows(NamedTuple):
    """Windows of one clip: positions (S, T, N, 2), confidences (S, T, N), (height, width) of its frames."""

    tracks: NDArray[np.float32]
    seen: NDArray[np.float32]
    size: tuple[int, int]


class Form(NamedTuple):
    """A form of windows as data sets, and the filters of each."""

    encode: Callable[[Windows], Arrays]
    decode: Callable[[Arrays], NDArray[Any]]
    """Positions of the first windows that were read."""
    filters: dict[str, Any]


def tracked(folder: Path, config: Config) -> Iterator[Windows]:
    """The clips of a folder, as the tracker has them."""
    tracker = make_tracker(config)
    with patch("amplify_motion_tokenizer.trackers.tracked_clip.rounded", lambda window: window):
        for clip in find_clips(folder, config, tracked_views(folder, config)):
            with TrackedClip(clip, config, tracker) as views:
                windows = [window for (window,) in views]
            tracks, seen = (
                np.stack([getattr(window, name) for window in windows])
                for name in ("tracks_xy_px", "visibility")
            )
            yield Windows(tracks, seen, views.sizes[0])


def as_windows(clip: Windows) -> list[WindowTracks]:
    pairs = enumerate(zip(clip.tracks, clip.seen, strict=True))
    return [WindowTracks(row, row / 20, tracks, seen) for row, (tracks, seen) in pairs]


def in_levels(clip: Windows) -> NDArray[np.uint8]:
    return levels_of(clip.seen).astype(np.uint8)


def forms() -> dict[str, Form]:
    """What was tried beside ``tracking.store``."""
    gzip = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    lzf = {"compression": "lzf", "shuffle": True}

    def plain(filters: dict[str, Any], step: float | None = None, dtype: type = np.float32) -> Form:
        def encode(clip: Windows) -> Arrays:
            tracks = clip.tracks if step is None else np.rint(clip.tracks / step) * step
            seen = clip.seen if step is None else in_levels(clip) / np.float32(LEVELS)
            return {"tracks": tracks.astype(dtype), "vis": seen.astype(dtype)}

        return Form(encode, lambda read: read["tracks"].astype(np.float32), filters)

    def whole(filters: dict[str, Any], in_time: bool) -> Form:
        def encode(clip: Windows) -> Arrays:
            moves = clip.tracks[:, 1:] - clip.tracks[:, :1]
            step = step_px(moves) or STEPS_PX[-1]
            counts = np.rint(moves / step).astype(np.int16)
            if in_time:
                counts[:, 1:] = np.diff(counts, axis=1)
            first = {"first": clip.tracks[:1, 0], "first_step": np.array([step], np.float32)}
            return first | {"moves": counts, "vis": in_levels(clip)}

        def decode(read: Arrays) -> NDArray[Any]:
            moves = read["moves"].cumsum(axis=1, dtype=np.int16) if in_time else read["moves"]
            tracks = np.empty((len(moves), moves.shape[1] + 1, *moves.shape[2:]), np.float32)
            tracks[:, :1] = read["first"]
            tracks[:, 1:] = moves * read["first_step"] + read["first"]
            np.divide(read["vis"], np.float32(LEVELS))
            return tracks

        return Form(encode, decode, filters)

    return {
        "float32": plain({}),
        "float16": plain({}, dtype=np.float16),
        "float32, shuffle, gzip": plain(gzip),
        "float32 in 1/64 px, shuffle, lzf": plain(lzf, 1 / 64),
        "float32 in 1/64 px, shuffle, gzip": plain(gzip, 1 / 64),
        "int16, shuffle, lzf": whole(lzf, in_time=False),
        "int16, shuffle, gzip": whole(gzip, in_time=False),
        "int16 from frame to frame, shuffle, lzf": whole(lzf, in_time=True),
        "int16 from frame to frame, shuffle, gzip": whole(gzip, in_time=True),
    }


class Measured(NamedTuple):
    """Of one form: bytes and seconds over all clips of each set, and the largest error in pixels."""

    kilobytes: list[float]
    error: float
    written: float
    read: float


def quickest(work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(3):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def measured_store(store: Store, sets: Sequence[Sequence[Windows]], folder: Path, config: Config) -> Measured:
    kilobytes, errors, written, read = [], [0.0], 0.0, 0.0
    for number, clips in enumerate(sets):
        total = 0
        for place, clip in enumerate(clips):
            path = folder / f"{store}{number}_{place}.hdf5"
            windows = [rounded(window) for window in as_windows(clip)]
            record = ClipRecord(
                settings=track_settings(config), tracker="flow", reader="", fps=20.0, source_fps=20.0,
                source_height=None, source_width=None, source_name="", source_bytes=1,
            )  # fmt: skip

            def write(path: Path = path, clip: Windows = clip, windows: list[WindowTracks] = windows) -> None:
                with TrackFileWriter(path, record, clip.size, store) as writer:  # noqa: B023
                    for window in windows:
                        writer.append(window)
                    writer.finish(len(windows) + 15, 0)

            written += quickest(write)
            file = TrackFile(path)
            rows = np.arange(file.num_windows)
            into, reader = ViewArrays.empty(len(rows), file.length, file.num_points), file.reader()
            reader.read_into(rows, [into], rows)
            read += quickest(lambda: reader.read_into(rows, [into], rows))  # noqa: B023
            errors.append(float(np.abs(into.tracks_xy_px - clip.tracks).max()))
            total += path.stat().st_size
        kilobytes.append(total / 1000 / max(1, sum(len(clip.tracks) for clip in clips)))
    return Measured(kilobytes, max(errors), written, read)


def measured_form(form: Form, sets: Sequence[Sequence[Windows]], folder: Path) -> Measured:
    kilobytes, errors, written, read = [], [0.0], 0.0, 0.0
    for clips in sets:
        total = 0
        for clip in clips:
            path = folder / "tried.hdf5"

            def write(path: Path = path, clip: Windows = clip) -> None:
                with h5py.File(path, "w") as file:
                    for name, data in form.encode(clip).items():
                        chunked = (
                            {"chunks": (1, *data.shape[1:]), **form.filters}
                            if not name.startswith("first")
                            else {}
                        )
                        file.create_dataset(name, data=data, **chunked)

            written += quickest(write)
            with h5py.File(path) as file:

                def read_windows(file: h5py.File = file, count: int = len(clip.tracks)) -> NDArray[Any]:
                    first = {name: file[name][:] for name in file if name.startswith("first")}
                    names = [name for name in file if name not in first]
                    one = ({name: file[name][row : row + 1] for name in names} for row in range(count))
                    return np.concatenate([form.decode(first | window) for window in one])

                read += quickest(read_windows)
                errors.append(float(np.abs(read_windows() - clip.tracks).max()))
            total += path.stat().st_size
        kilobytes.append(total / 1000 / max(1, sum(len(clip.tracks) for clip in clips)))
    return Measured(kilobytes, max(errors), written, read)


def table(rows: Mapping[str, Measured], base: Measured, float32_mb: float) -> None:
    for name, row in rows.items():
        sizes = "".join(f"{size:9.1f}" for size in row.kilobytes)
        print(f"{name:42}{sizes}{row.error:10.4f}{float32_mb / row.written:10.0f}{base.read / row.read:8.2f}")


def changes(clips: Sequence[Windows], config: Config) -> None:
    """Prints what rounding changes of labels and ids."""
    codec = load_tokenizer("codec", "cpu")
    labels, ids = [0, 0], [0, 0]
    steps = []
    for clip in clips:
        made = [rounded(window) for window in as_windows(clip)]
        near = Windows(
            np.stack([window.tracks_xy_px for window in made]),
            np.stack([window.visibility for window in made]), clip.size,
        )  # fmt: skip
        found, counting = [], None
        for each in (clip, near):
            view = ViewTracks(torch.from_numpy(each.tracks), torch.from_numpy(each.seen), each.size)
            inputs = from_tracks([view], config)
            counting = inputs.mask if counting is None else counting
            found.append((inputs.labels[counting], encode_tracks(codec, each.tracks, each.seen, each.size)))
        for counts, (before, after) in zip((labels, ids), zip(*found, strict=True), strict=True):
            counts[0] += int((before != after).sum())
            counts[1] += before.numel()
        steps.append(np.linalg.norm(np.diff(clip.tracks, axis=1), axis=-1).reshape(-1))
    every = np.concatenate(steps)
    print(f"moves of a step: median {np.median(every):.2f} px, mean {every.mean():.2f} px")
    print(f"rounding changes {labels[0] / labels[1]:.4%} of labels, {ids[0] / ids[1]:.3%} of the codec's ids")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, help="clips to measure besides rendered ones")
    parser.add_argument("--frames", type=positive, default=32, help="of a rendered clip")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    config = config_from_dict({}, "here")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clips(folder / "clips", len(KINDS), 0, (480, 640), args.frames, 20.0)
        named = {"rendered": list(tracked(folder / "clips", config))}
        if args.input is not None:
            named["real"] = list(tracked(args.input, config))
        sets = list(named.values())
        counts = {kind: sum(len(clip.tracks) for clip in clips) for kind, clips in named.items()}
        print(f"windows of 16 frames and 400 points: {counts}")
        print(
            f"{'KB a window:':42}{''.join(f'{kind:>9}' for kind in named)}  error px  write MB/s  read alone"
        )
        float32_mb = sum(clip.tracks.nbytes + clip.seen.nbytes for clips in sets for clip in clips) / 1e6
        stores = {str(store): measured_store(store, sets, folder, config) for store in STORES}
        table(stores, stores["float32"], float32_mb)
        tried = {form: measured_form(how, sets, folder) for form, how in forms().items()}
        table({f"tried: {form}": row for form, row in tried.items()}, tried["float32"], float32_mb)
        for kind, clips in named.items():
            print(f"{kind}: ", end="")
            changes(clips, config)


if __name__ == "__main__":
    main()
