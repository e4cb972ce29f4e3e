"""Codes back to track files and drawings: what they hold, who reads them, and what is refused."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import (
    MotionCodes,
    WindowDataset,
    decode_tracks,
    load_clips,
    load_tokenizer,
    read_codes,
)
from amplify_motion_tokenizer.codes.code_strip import code_colours
from amplify_motion_tokenizer.codes.decode_folder import decode_folder
from amplify_motion_tokenizer.codes.inference import tokenize_folder
from amplify_motion_tokenizer.codes.overrides import overridden
from amplify_motion_tokenizer.codes.reading import write_codes
from amplify_motion_tokenizer.commands.decode import main
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation.draw import draw_tracked
from amplify_motion_tokenizer.evaluation.drawn_view import Style
from amplify_motion_tokenizer.jobs.output_folders import kind_of
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.scenes import render_clip, write_clip
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from tests.support.checkpoints import KEYPOINT, changed, save_native
from tests.support.run_scripts import manifest_of

STRIDE, FRAMES = 4, 26
THIN = Style(every=5, trail=2)
SETTINGS = {"tracking.window_stride": STRIDE, "tracking.num_workers": 1}


@dataclasses.dataclass(frozen=True)
class Made:
    """A clip that pans and one in a subfolder that zooms, with their tracks, and codes of the codec."""

    folder: Path
    config: Config

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    @property
    def tracks(self) -> Path:
        return self.folder / "tracks"

    @property
    def codes(self) -> Path:
        return self.folder / "codes"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("decode")
    for seed, (name, kind) in enumerate({"pan": "pan", "sub/zoom": "zoom"}.items()):
        path = folder / "videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, render_clip(kind, seed, (96, 128), FRAMES)[0], 20)
    checkpoint = load_checkpoint("default")
    config = overridden(checkpoint, SETTINGS)
    made = Made(folder, config)
    assert preprocess_folder(made.videos, made.tracks, config).failed == 0
    assert tokenize_folder(made.videos, made.codes, checkpoint, config, formats=("json", "npz")).failed == 0
    return made


def read_mp4(path: Path) -> tuple[np.ndarray, float]:
    with av.open(str(path)) as file:
        rate = file.streams.video[0].average_rate
        assert rate is not None
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]), float(rate)


def arrays_of(path: Path, view: str = "default") -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: data[:] for name, data in file["root"][view].items()}


def test_the_track_file_holds_the_tracks_of_the_codes(made: Made, tmp_path: Path) -> None:
    summary = decode_folder(made.codes, tmp_path / "out", load_checkpoint("default"))
    assert (summary.done, summary.failed, summary.windows) == (2, 0, 6)
    assert {path.suffix for path in (tmp_path / "out").rglob("*.*")} == {".hdf5", ".jsonl", ".yaml"}
    codes = read_codes(made.codes)["pan"]
    tracks, visible = load_tokenizer("default", device="cpu").decode(codes)
    found, true = arrays_of(tmp_path / "out" / "pan.hdf5"), arrays_of(made.tracks / "pan.hdf5")
    np.testing.assert_allclose(found["tracks"], tracks.numpy(), atol=1e-4)
    assert (found["vis"] == visible.numpy()).all()
    for name in ("start_frame", "start_time", "step_seconds", "valid_steps"):
        np.testing.assert_allclose(found[name], true[name], err_msg=name)
    assert (found["source_frame"][:, [0, -1]] == true["source_frame"][:, [0, -1]]).all()
    assert (found["source_frame"][:, 1:-1] == -1).all()
    # The codes kept most of the motion that the tracker saw.
    seen = (true["vis"] >= 0.5)[..., None]
    error = np.abs(found["tracks"] - true["tracks"])[np.broadcast_to(seen, true["tracks"].shape)].mean()
    moved = np.abs(true["tracks"] - true["tracks"][:, :1])[np.broadcast_to(seen, true["tracks"].shape)].mean()
    assert error < 0.4 * moved


def test_whatever_reads_tracks_reads_decoded_ones(made: Made, tmp_path: Path) -> None:
    checkpoint = load_checkpoint("default")
    decode_folder(made.codes, tmp_path / "out", checkpoint, made.videos, None, THIN)
    data = WindowDataset(load_clips(tmp_path / "out", made.config), made.config)
    assert len(data) == 6
    assert data.batch([0]).inputs.velocities.isfinite().all()
    assert draw_tracked(tmp_path / "out", made.videos, tmp_path / "drawn", THIN).failed == 0
    # The drawings beside them are no videos to track, and no command mixes its files with them.
    again = tokenize_folder(tmp_path / "out", tmp_path / "codes", checkpoint, checkpoint.config)
    assert (again.failed, again.windows) == (0, 6)
    assert kind_of(tmp_path / "out") == "decoded codes"
    with pytest.raises(UsageError, match="holds decoded codes, among which tracks would get mixed up"):
        preprocess_folder(made.videos, tmp_path / "out", made.config)


def test_the_video_has_true_and_decoded_tracks_and_the_codes(made: Made, tmp_path: Path) -> None:
    checkpoint = load_checkpoint("default")
    beside = tmp_path / "beside"
    assert decode_folder(made.codes, beside, checkpoint, made.videos, made.tracks, THIN).failed == 0
    frames, fps = read_mp4(beside / "pan.mp4")
    assert (len(frames), fps) == (FRAMES, 20)
    # Two pictures of 640 x 480 with 6 px between; the source has 128 x 96.
    assert frames.shape[2] == 2 * 640 + 6
    assert (beside / "sub" / "zoom.mp4").is_file()
    ids = read_codes(made.codes)["pan"].ids.numpy()
    columns = [round((frame + 0.5) * 1286 / FRAMES) for frame in (1, 5, 9)]
    last = code_colours(ids)[:, -1].astype(int)
    bottom = frames.shape[1] - 6  # in the last of 16 rows of 12 px
    # Far from the white line, windows have the colours of their last id over 4 frames each.
    assert np.abs(frames[20, bottom, columns].astype(int) - last).max() < 60
    assert frames[20, bottom, round(14.5 * 1286 / FRAMES)].max() < 70  # no window begins here
    # The cells above, of 45 px, have the ids of the window that is drawn, which began at frame 0.
    cells = frames[
        10, frames.shape[1] - 16 * 12 - 6 - 6 - 45 + 4, [round(i * 1286 / 16) + 6 for i in range(16)]
    ]
    assert np.abs(cells.astype(int) - code_colours(ids)[0]).max() < 60
    assert np.abs(frames[2, 100:480, :640].astype(int) - frames[2, 100:480, 646:]).mean() < 20
    alone = tmp_path / "alone"
    assert decode_folder(made.codes / "pan.json", alone, checkpoint, made.videos, None, THIN).failed == 0
    assert read_mp4(alone / "pan.mp4")[0].shape[2] == 640
    # Codes that are decoded without their video leave no drawing of others.
    decode_folder(made.codes / "pan.npz", alone, checkpoint)
    assert not (alone / "pan.mp4").exists()


def test_codes_of_stored_tracks_are_drawn_too(made: Made, tmp_path: Path) -> None:
    checkpoint = load_checkpoint("default")
    assert tokenize_folder(made.tracks, tmp_path / "codes", checkpoint, made.config).failed == 0
    summary = decode_folder(tmp_path / "codes", tmp_path / "out", checkpoint, made.videos, made.tracks, THIN)
    assert (summary.done, summary.failed) == (2, 0)
    assert len(read_mp4(tmp_path / "out" / "pan.mp4")[0]) == FRAMES
    assert draw_tracked(tmp_path / "out", made.videos, tmp_path / "drawn", THIN).failed == 0


def codes_beside(made: Made, folder: Path, **meta: Any) -> Path:
    """The codes of one clip in a lone file, with other ``meta``."""
    codes = read_codes(made.codes)["pan"]
    write_codes(folder / "pan.jsonl", dataclasses.replace(codes, meta={**codes.meta, **meta}))
    return folder / "pan.jsonl"


def test_each_size_of_the_pictures_has_its_file(tmp_path: Path) -> None:
    tokenizer = load_tokenizer("transform", device="cpu")
    moves = torch.zeros(2, 16, 400, 2).cumsum(dim=1)
    seen = torch.ones(2, 16, 400)
    grid = torch.cartesian_prod(torch.arange(20) * 12.0 + 6, torch.arange(20) * 16.0 + 8).flip(-1)
    codes = tokenizer.encode_tracks(grid + moves, seen, size=(240, 320), fps=20, starts=[0, 30], clip="call")
    meta = {**codes.meta, "size_changes": [{"start_frame": 30, "tracked_size": [320, 240]}]}
    write_codes(tmp_path / "call.jsonl", dataclasses.replace(codes, meta=meta))
    assert decode_folder(tmp_path / "call.jsonl", tmp_path / "out", load_checkpoint("transform")).done == 1
    for name, size, start in (("call", (240, 320), 0), ("call.size2", (320, 240), 30)):
        with h5py.File(tmp_path / "out" / f"{name}.hdf5") as file:
            view = file["root/default"]
            assert (view.attrs["height"], view.attrs["width"]) == size
            assert view["start_frame"][:].tolist() == [start]
            assert size[1] - 20 < view["tracks"][0, 0, :, 0].max() < size[1]


def test_views_and_true_horizons_are_written_as_they_were_tracked(tmp_path: Path) -> None:
    """Of several views there is a drawing each; tracked windows may be longer than the model's."""
    views = {"left": "{clip}/left.mp4", "right": "{clip}/right.mp4"}
    config = changed(
        KEYPOINT,
        model__name="amplify",
        model__amplify__mlp_dim=12,
        data__views=["left", "right"],
        data__reference_size=[48, 64],
        data__static_filter__enable=False,
        data__true_horizon=11,
        tracking__view_files=views,
    )
    (tmp_path / "in" / "one").mkdir(parents=True)
    for seed, name in enumerate(views):
        frames, _ = render_clip("pan", seed, (48, 64), 40)
        write_clip(tmp_path / "in" / "one" / f"{name}.mp4", frames, 20)
    save_native(tmp_path / "c.pth", config)
    checkpoint = load_checkpoint(tmp_path / "c.pth")
    assert tokenize_folder(tmp_path / "in", tmp_path / "codes", checkpoint, config).failed == 0
    assert decode_folder(tmp_path / "codes", tmp_path / "out", checkpoint, tmp_path / "in").failed == 0
    codes = read_codes(tmp_path / "codes")["one"]
    tracks, _ = load_tokenizer(tmp_path / "c.pth", device="cpu").decode(codes)
    for number, view in enumerate(views):
        found = arrays_of(tmp_path / "out" / "one.hdf5", view)["tracks"]
        assert found.shape == (len(codes), 11, 9, 2)
        np.testing.assert_allclose(found[:, ::2], tracks[:, number], atol=1e-4)
        between = (found[:, :-2:2] + found[:, 2::2]) / 2
        np.testing.assert_allclose(found[:, 1::2], between, atol=1e-3)
        assert len(read_mp4(tmp_path / "out" / "one" / f"{view}.mp4")[0]) == 20


def test_codes_of_another_checkpoint_are_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds codes of codec\.safetensors .* expected transform"):
        decode_folder(made.codes, tmp_path / "out", load_checkpoint("transform"))
    lone = codes_beside(made, tmp_path, checkpoint_sha256="00", checkpoint="best.pth")
    with pytest.raises(UsageError, match=r"holds codes of best\.pth \(SHA-256 00\.\.\.\), expected codec"):
        main(["--codes", str(lone), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_first_ids_alone_are_decoded_where_they_are_a_code(made: Made, tmp_path: Path) -> None:
    codes, checkpoint = read_codes(made.codes)["pan"], load_checkpoint("default")
    write_codes(tmp_path / "pan.jsonl", dataclasses.replace(codes, ids=codes.ids[:, :4]))
    assert (
        decode_folder(tmp_path / "pan.jsonl", tmp_path / "out", checkpoint, made.videos, None, THIN).done == 1
    )
    tracks = decode_tracks(load_tokenizer("default", device="cpu"), codes.ids[:, :4], (240, 320))
    np.testing.assert_allclose(arrays_of(tmp_path / "out" / "pan.hdf5")["tracks"], tracks, atol=1e-3)
    write_codes(tmp_path / "pan.jsonl", dataclasses.replace(codes, ids=codes.ids.repeat(1, 2)))
    with pytest.raises(UsageError, match="has 32 ids a window, expected 16"):
        decode_folder(tmp_path / "pan.jsonl", tmp_path / "out", checkpoint)


def test_bad_input_is_told_in_a_line(made: Made, tmp_path: Path) -> None:
    checkpoint, out = load_checkpoint("default"), tmp_path / "out"
    lone = codes_beside(made, tmp_path, config_hash="of others")
    with pytest.raises(UsageError, match="tracked with other settings than codec.safetensors has"):
        decode_folder(lone, out, checkpoint)
    (tmp_path / "other").mkdir()
    shutil.copy(made.videos / "pan.mp4", tmp_path / "other" / "name.mp4")
    with pytest.raises(UsageError, match=r"none of its clips has codes in .* \(clips: name; codes: pan"):
        decode_folder(made.codes, out, checkpoint, tmp_path / "other")
    shutil.copy(made.tracks / "pan.hdf5", tmp_path / "other" / "name.hdf5")
    with pytest.raises(TrackFileError, match=r"tracks of none of the clips in .* \(tracks: name; codes: pan"):
        decode_folder(made.codes, out, checkpoint, made.videos, tmp_path / "other")
    with pytest.raises(UsageError, match="lies in the input"):
        decode_folder(made.codes, made.videos / "out", checkpoint, made.videos)
    with pytest.raises(UsageError, match="would be written over by a drawing"):
        decode_folder(made.codes / "pan.json", made.videos, checkpoint, made.videos / "pan.mp4")
    with pytest.raises(UsageError, match="holds codes, among which decoded codes would get mixed up"):
        decode_folder(made.codes, made.codes, checkpoint)
    with pytest.raises(UsageError, match="give these with --input, too"):
        main(["--codes", str(made.codes), "--output", str(out), "--tracks", str(made.tracks)])
    with pytest.raises(UsageError, match="--every is 0"):
        main(["--codes", str(made.codes), "--output", str(out), "--every", "0"])
    (tmp_path / "cut.json").write_text((made.codes / "pan.json").read_text()[:900])
    with pytest.raises(UsageError, match="is damaged or of another version"):
        decode_folder(tmp_path / "cut.json", out, checkpoint)


def test_a_clip_that_fails_stops_no_other(made: Made, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(made.videos, videos)
    write_clip(videos / "pan.mp4", render_clip("pan", 9, (96, 128), FRAMES)[0], 20)
    summary = decode_folder(made.codes, tmp_path / "out", load_checkpoint("default"), videos, None, THIN)
    assert (summary.done, summary.failed) == (1, 1)
    failed = manifest_of(tmp_path / "out")["pan"]
    assert failed["stage"] == "files"
    assert "is not the video that its codes were made of" in failed["error"]
    assert (tmp_path / "out" / "sub" / "zoom.mp4").is_file()
    # Of the size of their frames codes of velocities say nothing.
    unknown = codes_beside(made, tmp_path, tracked_size=None)
    assert decode_folder(unknown, tmp_path / "unknown", load_checkpoint("default")).failed == 1
    assert "do not say the size" in manifest_of(tmp_path / "unknown")["pan"]["error"]


def test_a_clip_without_windows_is_an_empty_file(made: Made, tmp_path: Path) -> None:
    codes = read_codes(made.codes)["pan"]
    columns = {
        each.name: getattr(codes, each.name)[:0]
        for each in dataclasses.fields(MotionCodes)
        if each.name not in ("clip", "meta") and getattr(codes, each.name) is not None
    }
    write_codes(tmp_path / "pan.jsonl", MotionCodes(**columns, clip="pan", meta=codes.meta))
    summary = decode_folder(tmp_path / "pan.jsonl", tmp_path / "out", load_checkpoint("default"), made.videos)
    assert (summary.done, summary.windows) == (1, 0)
    assert arrays_of(tmp_path / "out" / "pan.hdf5")["tracks"].shape == (0, 16, 400, 2)
    assert len(read_mp4(tmp_path / "out" / "pan.mp4")[0]) == FRAMES
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text())["windows"] == 0
