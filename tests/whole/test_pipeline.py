"""One path from video to codes: preprocessing and training see what inference sees, bit for bit."""

import dataclasses
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from amplify_motion_tokenizer.codes import encoding
from amplify_motion_tokenizer.codes.inference import encode_windows
from amplify_motion_tokenizer.config import Config, settings_hash, track_settings
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.loading import config_from_dict, load_yaml
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import TrackerError, VideoError
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.scenes import render_clip
from amplify_motion_tokenizer.trackers import make_tracker
from amplify_motion_tokenizer.trackers.flow import FlowTracker
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks import preprocessing
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.formats import FORMATS
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.clips import Clip, Frame, ViewSource
from tests.support.render_clips import write_clip

MOVING, STILL = 23, 25
"""Frames of the clip before and after it stops, at 20 fps; the tiny config reads every second one."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one clip, in a subfolder, that moves and then stands still."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "sub").mkdir()
    moving, _ = render_clip("mixed", 3, (96, 128), MOVING)
    write_clip(folder / "sub" / "stops.mp4", [*moving, *[moving[-1]] * STILL])
    return folder


@pytest.fixture
def clip(videos: Path) -> Path:
    return videos / "sub" / "stops.mp4"


@pytest.fixture
def tokenizer(tiny: Config) -> MotionTokenizer:
    """An untrained model whose latents are spread over the codebook."""
    torch.manual_seed(0)
    model = build_model(tiny).eval()
    with torch.no_grad():
        model.quantizer.project_in.weight.mul_(3)
        model.encoder_output_projection.weight.mul_(5)
    return model


def with_tracking(config: Config, gate: bool = False, **values: Any) -> Config:
    tracking = dataclasses.replace(config.tracking, **values)
    tracking = dataclasses.replace(tracking, gate=dataclasses.replace(tracking.gate, enable=gate))
    return validate(dataclasses.replace(config, tracking=tracking))


def with_video(config: Config, **values: Any) -> Config:
    return dataclasses.replace(config, video=dataclasses.replace(config.video, **values))


def clip_of(path: Path) -> Clip:
    return Clip(path.stem, {"default": ViewSource(path)})


@dataclasses.dataclass
class Encoded:
    """What inference made of one clip."""

    velocities: Tensor
    codes: Tensor
    starts: list[int]
    seconds: list[float]
    windows_dropped: int


def encode(clip: Path, config: Config, model: MotionTokenizer, monkeypatch: pytest.MonkeyPatch) -> Encoded:
    """Inference's way, with the velocities that the model was given."""
    given: list[Tensor] = []
    real = encoding.encoder_input

    def recording(*arguments: Any) -> Any:
        given.append(real(*arguments).velocities)
        return real(*arguments)

    with monkeypatch.context() as patch, TrackedClip(clip_of(clip), config, make_tracker(config)) as tracked:
        patch.setattr(encoding, "encoder_input", recording)
        batches = list(encode_windows(tracked, tracked.sizes, model, config))
    return Encoded(
        torch.cat(given),
        torch.cat([batch["code_sequences"] for batch in batches]),
        torch.cat([batch["window_starts"] for batch in batches]).tolist(),
        torch.cat([batch["start_seconds"] for batch in batches]).tolist(),
        tracked.windows_dropped,
    )


def manifest_of(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["clip"]: record for record in map(json.loads, lines)}


def starts_on_disk(folder: Path, name: str, output_format: str) -> tuple[list[int], list[float]]:
    if output_format == "pt":
        index = json.loads((folder / f"{name}.windows.json").read_text(encoding="utf-8"))
        return index["start_frame"], index["start_time"]
    with h5py.File(folder / f"{name}.hdf5") as file:
        view = file["root/default"]
        return view["start_frame"][:].tolist(), view["start_time"][:].tolist()


@pytest.mark.parametrize("gate", [False, True], ids=["ungated", "gated"])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("output_format", FORMATS)
def test_training_and_inference_see_the_same(
    output_format: str,
    stride: int,
    gate: bool,
    tiny: Config,
    videos: Path,
    clip: Path,
    tokenizer: MotionTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_tracking(tiny, gate=gate, window_stride=stride)
    summary = preprocess_folder(videos, tmp_path, config, output_format)
    inferred = encode(clip, config, tokenizer, monkeypatch)

    # 24 frames at 10 fps, T = 6. From frame 11 on nothing moves.
    starts = list(range(0, 19, stride))
    kept = [start for start in starts if start < 11] if gate else starts
    assert inferred.starts == kept
    assert inferred.seconds == pytest.approx([start / 10 for start in kept])
    assert inferred.windows_dropped == len(starts) - len(kept)
    assert (summary.done, summary.windows) == (1, len(kept))
    record = manifest_of(tmp_path)["sub/stops"]
    assert (record["windows"], record["windows_dropped"]) == (len(kept), len(starts) - len(kept))
    assert record["frames"] == 24
    assert starts_on_disk(tmp_path, "sub/stops", output_format) == (inferred.starts, inferred.seconds)

    data = WindowDataset(load_clips(tmp_path, config), config)
    trained = data.batch(range(len(data))).inputs.velocities
    assert trained.shape == (len(kept), 5, 9, 2)
    assert torch.equal(trained, inferred.velocities)
    assert float(trained.abs().amax()) > 0.1
    assert len(inferred.codes.unique()) > 1
    assert torch.equal(tokenizer.tokenize(trained), inferred.codes)


def test_codes_do_not_depend_on_the_batch_size(
    tiny: Config, clip: Path, tokenizer: MotionTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """19 windows, in batches of which the last is short."""
    config = with_tracking(tiny, window_stride=1)
    few = dataclasses.replace(config, inference=dataclasses.replace(config.inference, batch_size=4))
    one, other = (encode(clip, each, tokenizer, monkeypatch) for each in (config, few))
    assert torch.equal(one.velocities, other.velocities)
    assert torch.equal(one.codes, other.codes)
    assert one.starts == other.starts == list(range(19))


def test_labels_and_latents_are_those_of_the_codes(
    tiny: Config, clip: Path, tokenizer: MotionTokenizer
) -> None:
    with TrackedClip(clip_of(clip), tiny, make_tracker(tiny)) as tracked:
        (batch,) = encode_windows(tracked, tracked.sizes, tokenizer, tiny, ["latents", "labels"])
    windows = len(range(0, 19, 2))
    assert batch["latent_tokens"].shape == (windows, 3, 16)
    assert batch["labels_per_point"].shape == (windows, 5, 9)
    with torch.inference_mode():
        logits = tokenizer.decode(batch["latent_tokens"])
        from_ids = tokenizer.decode_indices(batch["code_sequences"])
    assert torch.equal(batch["labels_per_point"].long(), logits.argmax(-1))
    torch.testing.assert_close(from_ids, logits)


def test_both_readers_give_the_same_tracks(tiny: Config, clip: Path) -> None:
    pytest.importorskip("decord")
    found = {}
    for reader in ("decord", "opencv"):
        config = with_video(tiny, reader=reader)
        with TrackedClip(clip_of(clip), config, make_tracker(config)) as tracked:
            assert tracked.info.reader == reader
            found[reader] = [window for (window,) in tracked]
    assert [w.start for w in found["decord"]] == [w.start for w in found["opencv"]] == [*range(0, 19, 2)]
    for one, other in zip(found["decord"], found["opencv"], strict=True):
        np.testing.assert_allclose(one.tracks_xy_px, other.tracks_xy_px, atol=0.02)


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_clip_shorter_than_a_window_fails_and_leaves_no_file(
    output_format: str, tiny: Config, tmp_path: Path
) -> None:
    frames, _ = render_clip("pan", 0, (48, 64), 8)
    (tmp_path / "videos").mkdir()
    path = write_clip(tmp_path / "videos" / "short.mp4", frames)
    with (
        TrackedClip(clip_of(path), tiny, make_tracker(tiny)) as tracked,
        pytest.raises(VideoError, match=r"short\.mp4: has 4 frames at 10 fps, expected at least 6"),
    ):
        list(tracked)
    summary = preprocess_folder(tmp_path / "videos", tmp_path / "out", tiny, output_format)
    assert (summary.failed, summary.exit_status) == (1, 3)
    record = manifest_of(tmp_path / "out")["short"]
    assert (record["status"], record["stage"]) == ("failed", "video")
    assert "short.mp4: has 4 frames" in record["error"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.jsonl", "config.yaml"}


def test_a_clip_of_exactly_one_window_is_enough(tiny: Config, tmp_path: Path) -> None:
    frames, _ = render_clip("pan", 0, (48, 64), 11)
    path = write_clip(tmp_path / "exact.mp4", frames)
    with TrackedClip(clip_of(path), tiny, make_tracker(tiny)) as tracked:
        assert [window.start for (window,) in tracked] == [0]
    assert tracked.num_frames == 6


class FailingTracker(FlowTracker):
    """Fails after two windows of each clip whose first query is tracked in a tall frame."""

    def track(self, windows: Any, queries_xy_px: Any) -> Iterator[WindowTracks]:
        for number, window in enumerate(super().track(windows, queries_xy_px)):
            if number == 2 and queries_xy_px[:, 1].max() > queries_xy_px[:, 0].max():
                raise TrackerError("the tracker lost its way")
            yield window


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_clip_that_fails_midway_leaves_nothing_to_train_on(
    output_format: str, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "videos").mkdir()
    for name, size in (("wide", (48, 64)), ("tall", (64, 48))):
        write_clip(tmp_path / "videos" / f"{name}.mp4", render_clip("pan", 0, size, 30)[0])
    with monkeypatch.context() as patch:
        patch.setattr(preprocessing, "make_tracker", lambda config: FailingTracker(config.tracking.flow))
        summary = preprocess_folder(tmp_path / "videos", tmp_path / "out", tiny, output_format)
    assert (summary.done, summary.failed) == (1, 1)
    record = manifest_of(tmp_path / "out")["tall"]
    error = f"{tmp_path / 'videos' / 'tall.mp4'}: the tracker lost its way"
    assert (record["stage"], record["error"]) == ("tracking", error)
    assert list(find_tracks(tmp_path / "out")) == ["wide"]
    again = preprocess_folder(tmp_path / "videos", tmp_path / "out", tiny, output_format)
    assert (again.done, again.skipped, again.failed) == (1, 1, 0)
    assert sorted(find_tracks(tmp_path / "out")) == ["tall", "wide"]


@pytest.mark.parametrize("output_format", FORMATS)
def test_a_clip_whose_windows_are_all_still_is_done(output_format: str, tiny: Config, tmp_path: Path) -> None:
    frames, _ = render_clip("still", 0, (48, 64), 30)
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / "still.mp4", frames)
    config = with_tracking(tiny, gate=True)
    for status, counts in (("done", (1, 0)), ("skipped", (0, 1))):
        summary = preprocess_folder(tmp_path / "videos", tmp_path / "out", config, output_format)
        assert (summary.done, summary.skipped) == counts
        record = manifest_of(tmp_path / "out")["still"]
        assert (record["status"], record["windows"], record["windows_dropped"]) == (status, 0, 5)


@pytest.mark.parametrize("stride", [1, 6])
def test_frames_held_do_not_grow_with_the_clip(
    stride: int, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_tracking(with_video(tiny, target_fps=None), window_stride=stride)
    frames, _ = render_clip("pan", 0, (48, 64), 24)
    peaks = []
    for times in (1, 5):
        path = write_clip(tmp_path / f"{times}.mp4", [*frames] * times)
        peaks.append(peak_of_live_frames(path, config, monkeypatch))
    assert peaks[0] == peaks[1] <= 2 * config.data.sequence_length + 1


def peak_of_live_frames(path: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> int:
    """The most frames in memory at once while the clip is tracked window by window."""
    handed_out: list[weakref.ref[Any]] = []
    alive: list[int] = []
    real = TrackedClip._frames

    def watched(self: TrackedClip) -> Iterator[tuple[Frame, ...]]:
        for row in real(self):
            handed_out.append(weakref.ref(row[0].rgb))
            alive.append(sum(reference() is not None for reference in handed_out))
            yield row

    with monkeypatch.context() as patch, TrackedClip(clip_of(path), config, make_tracker(config)) as tracked:
        patch.setattr(TrackedClip, "_frames", watched)
        windows = sum(1 for _ in tracked)
    assert windows == (len(alive) - config.data.sequence_length) // config.tracking.window_stride + 1
    return max(alive)


def test_windows_are_encoded_as_they_are_tracked(
    tiny: Config, clip: Path, tokenizer: MotionTokenizer
) -> None:
    """The first batch of codes comes before the second batch of windows is asked for."""
    config = with_tracking(tiny, window_stride=1)
    config = dataclasses.replace(config, inference=dataclasses.replace(config.inference, batch_size=4))
    taken: list[int] = []
    with TrackedClip(clip_of(clip), config, make_tracker(config)) as tracked:

        def watched() -> Iterator[tuple[WindowTracks, ...]]:
            for views in tracked:
                taken.append(views[0].start)
                yield views

        batches = encode_windows(watched(), tracked.sizes, tokenizer, config)
        assert next(batches)["window_starts"].tolist() == [0, 1, 2, 3] == taken
        # The tracker reads ahead by the frames of two windows at most.
        assert tracked.num_frames <= 4 + 2 * config.data.sequence_length
        assert next(batches)["window_starts"].tolist() == [4, 5, 6, 7]


def test_track_files_say_how_they_were_made(tiny: Config, videos: Path, tmp_path: Path) -> None:
    preprocess_folder(videos, tmp_path, tiny)
    settings = track_settings(tiny)
    with h5py.File(tmp_path / "sub/stops.hdf5") as file:
        facts, view = dict(file["root"].attrs), dict(file["root/default"].attrs)
    assert json.loads(facts["settings"]) == settings
    assert facts["config_hash"] == settings_hash(settings)
    assert (facts["fps"], facts["source_fps"], facts["num_frames"]) == (10.0, 20.0, 24)
    assert (facts["source_height"], facts["source_width"]) == (96, 128)
    assert (view["height"], view["width"]) == (48, 64)
    assert (facts["source_name"], facts["tracker"]) == ("stops.mp4", "flow")
    assert facts["source_bytes"] == (videos / "sub/stops.mp4").stat().st_size
    saved = config_from_dict(load_yaml(tmp_path / "config.yaml"), "in the test")
    assert saved == tiny
    assert settings_hash(track_settings(saved)) == facts["config_hash"]


def test_settings_of_speed_and_place_do_not_redo_tracks(tiny: Config, videos: Path, tmp_path: Path) -> None:
    preprocess_folder(videos, tmp_path, tiny)
    other = with_video(tiny, reader="opencv", threads=1)
    other = dataclasses.replace(
        other, data=dataclasses.replace(other.data, reference_size={"shorter": 96}, val_split=0.5)
    )
    assert settings_hash(track_settings(other)) == settings_hash(track_settings(tiny))
    assert preprocess_folder(videos, tmp_path, other).skipped == 1
    for changed in (with_tracking(tiny, window_stride=1), with_video(tiny, target_fps=5.0)):
        assert settings_hash(track_settings(changed)) != settings_hash(track_settings(tiny))


def test_another_source_under_the_same_name_is_tracked_again(tiny: Config, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    path = tmp_path / "videos" / "clip.mp4"
    write_clip(path, render_clip("pan", 0, (48, 64), 30)[0])
    assert preprocess_folder(path.parent, tmp_path / "out", tiny).done == 1
    write_clip(path, render_clip("zoom", 1, (48, 64), 40)[0])
    assert preprocess_folder(path.parent, tmp_path / "out", tiny).done == 1
    assert manifest_of(tmp_path / "out")["clip"]["frames"] == 20
