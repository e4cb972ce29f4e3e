"""Codes of live video: the same as of the file, one line for each window, and how it ends."""

import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, load_tokenizer, read_codes, scenes
from amplify_motion_tokenizer.codes import following
from amplify_motion_tokenizer.codes.following import follow
from amplify_motion_tokenizer.codes.overrides import overridden
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import UsageError, VideoError
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_checkpoint
from amplify_motion_tokenizer.trackers import make_tracker
from amplify_motion_tokenizer.trackers.tracked_clip import TrackedClip
from amplify_motion_tokenizer.video.live import open_live
from amplify_motion_tokenizer.video.reading import open_video
from benchmarks.support.sending import send, y4m
from tests.support.processes import until
from tests.support.render_clips import join_packets, write_clip, write_moving

SETTINGS = {
    "tracking.window_stride": 4,
    "tracking.num_workers": 1,
    "video.threads": 1,
    "video.size": {"shorter": 48},
}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint("default")


def configured(checkpoint: Checkpoint, **more: Any) -> Config:
    return overridden(checkpoint, SETTINGS | more)


def followed(source: Path, checkpoint: Checkpoint, config: Config, output: Path) -> int:
    with output.open("wb", buffering=0) as file:
        return follow(str(source), checkpoint, config, file.write)


def codes_in(path: Path) -> MotionCodes:
    (codes,) = read_codes(path).values()
    return codes


def piped(folder: Path, content: bytes) -> tuple[Path, threading.Thread]:
    os.mkfifo(folder / "pipe")
    sender = threading.Thread(target=send, args=(folder / "pipe", content), daemon=True)
    sender.start()
    return folder / "pipe", sender


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"video.target_fps": 12.0},
        {"tracking.pad_end": "repeat_last", "tracking.window_stride": 5},
        {"tracking.gate.enable": True},
        {"video.shots": "auto", "video.size": [64, 96]},
    ],
    ids=["plain", "resampled", "padded", "gated", "shots"],
)
def test_the_same_codes_as_of_the_file(tmp_path: Path, checkpoint: Checkpoint, more: dict[str, Any]) -> None:
    moving = list(scenes.render_clip("mixed", 0, (48, 64), 34)[0])
    other = list(scenes.render_clip("pan", 5, (48, 64), 24)[0])
    clip = write_clip(tmp_path / "clip.mkv", [*moving, *[moving[-1]] * 24, *other], 20)
    settings = SETTINGS | more
    expected = load_tokenizer("default", settings=settings).encode_video(clip)
    pipe, sender = piped(tmp_path, clip.read_bytes())
    assert followed(pipe, checkpoint, overridden(checkpoint, settings), tmp_path / "live.jsonl") == 0
    sender.join(timeout=10)
    found = codes_in(tmp_path / "live.jsonl")
    assert len(found) > 5
    for column in (
        "ids",
        "starts",
        "source_frames",
        "valid_steps",
        "motion_energy",
        "visible_share",
        "parts",
    ):
        assert torch.equal(getattr(found, column), getattr(expected, column)), column
    torch.testing.assert_close(found.seconds, expected.seconds)
    alike = {"config_hash", "checkpoint_sha256", "fps", "source_fps", "tracked_size", "num_frames", "parts"}
    assert {key: found.meta[key] for key in alike} == {key: expected.meta[key] for key in alike}
    assert found.meta["windows_dropped"] == expected.meta["windows_dropped"]
    assert found.meta["ended"] == "the video's end"
    if "video.shots" in more:
        assert len(found.meta["parts"]) > 1
    if "tracking.gate.enable" in more:
        assert found.meta["windows_dropped"] > 0


def test_a_window_is_written_before_the_next_frame_is_sent(tmp_path: Path, checkpoint: Checkpoint) -> None:
    parts = y4m(scenes.render_clip("mixed", 0, (48, 64), 28)[0], fps=20)
    os.mkfifo(tmp_path / "pipe")
    lines: list[dict[str, Any]] = []
    written = threading.Semaphore(0)
    seen: list[int] = []

    def write(line: bytes) -> None:
        assert line.endswith(b"\n") and line.count(b"\n") == 1
        lines.append(json.loads(line))
        if "ids" in lines[-1]:
            written.release()

    def sends() -> None:
        pipe = os.open(tmp_path / "pipe", os.O_WRONLY)
        for number, part in enumerate(parts):
            os.write(pipe, part)
            if number >= 15 and (number - 15) % 4 == 0 and written.acquire(timeout=20):
                seen.append(number)
        os.close(pipe)

    sender = threading.Thread(target=sends, daemon=True)
    sender.start()
    assert follow(str(tmp_path / "pipe"), checkpoint, configured(checkpoint), write) == 0
    sender.join(timeout=10)
    assert seen == [15, 19, 23, 27]
    assert [line["end_source_frame"] for line in lines if "ids" in line] == seen


def test_pictures_that_change_their_size(tmp_path: Path, checkpoint: Checkpoint) -> None:
    wide = write_moving(tmp_path / "wide.mkv", (48, 64), 20, 20)
    high = write_moving(tmp_path / "high.mkv", (64, 48), 20, 20)
    call = join_packets(tmp_path / "call.mkv", wide, high, fps=20)
    expected = load_tokenizer("default", settings=SETTINGS).encode_video(call)
    pipe, _ = piped(tmp_path, call.read_bytes())
    assert followed(pipe, checkpoint, configured(checkpoint), tmp_path / "live.jsonl") == 0
    found = codes_in(tmp_path / "live.jsonl")
    assert found.meta["tracked_size"] == [48, 64]
    assert [change["tracked_size"] for change in found.meta["size_changes"]] == [[64, 48]]
    assert found.meta["size_changes"] == expected.meta["size_changes"]
    assert torch.equal(found.ids, expected.ids) and torch.equal(found.starts, expected.starts)


def test_ctrl_c_while_frames_come_leaves_whole_lines(tmp_path: Path, checkpoint: Checkpoint) -> None:
    parts = y4m(scenes.render_clip("mixed", 0, (48, 64), 30)[0], fps=20)
    os.mkfifo(tmp_path / "pipe")
    output = tmp_path / "live.jsonl"

    def sends() -> None:
        pipe = os.open(tmp_path / "pipe", os.O_WRONLY)
        os.write(pipe, b"".join(parts))
        until(lambda: output.exists() and b'"start_frame": 12' in output.read_bytes())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        ended.wait(timeout=20)
        os.close(pipe)

    ended = threading.Event()
    threading.Thread(target=sends, daemon=True).start()
    try:
        assert followed(tmp_path / "pipe", checkpoint, configured(checkpoint), output) == 130
    finally:
        ended.set()
    assert codes_in(output).meta["ended"] == "interrupted"
    assert codes_in(output).starts.tolist() == [0, 4, 8, 12]


def test_ctrl_c_while_a_pipe_is_not_opened(tmp_path: Path, checkpoint: Checkpoint) -> None:
    os.mkfifo(tmp_path / "pipe")

    def interrupt() -> None:
        until(lambda: "live_video" in [thread.name for thread in threading.enumerate()])
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        followed(tmp_path / "pipe", checkpoint, configured(checkpoint), tmp_path / "live.jsonl")
    assert (tmp_path / "live.jsonl").read_bytes() == b""
    os.close(os.open(tmp_path / "pipe", os.O_RDWR))  # lets go of the thread that waits for it


def test_a_video_that_breaks_off_or_is_damaged(
    tmp_path: Path, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, _ = scenes.render_clip("mixed", 0, (48, 64), 40)
    clip = write_clip(tmp_path / "clip.mkv", video, codec="ffv1")
    live_of = following.open_live

    def breaking(source: str, config: Any) -> Any:
        live = live_of(source, config)
        frames = list(live.video)

        def some() -> Any:
            yield from frames[:25]
            raise VideoError("the yard: broke off (Input/output error)")

        live.video._frames = some()
        return live

    with monkeypatch.context() as patch:
        patch.setattr(following, "open_live", breaking)
        assert followed(clip, checkpoint, configured(checkpoint), tmp_path / "broken.jsonl") == 3
    codes = codes_in(tmp_path / "broken.jsonl")
    assert codes.meta["ended"] == "the yard: broke off (Input/output error)"
    assert codes.starts.tolist() == [0, 4, 8]
    assert "the yard: broke off (Input/output error); 3 windows before that are written" in caplog.text
    short = write_clip(tmp_path / "short.mkv", video[:5], codec="ffv1")
    with pytest.raises(VideoError, match="has 5 frames at 20 fps, expected at least 16"):
        followed(short, checkpoint, configured(checkpoint), tmp_path / "short.jsonl")
    content = bytearray(write_clip(tmp_path / "clip.ts", video).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 188 * 6] = bytes(188 * 6)
    (tmp_path / "damaged.ts").write_bytes(content)
    assert followed(tmp_path / "damaged.ts", checkpoint, configured(checkpoint), tmp_path / "d.jsonl") == 3
    assert codes_in(tmp_path / "d.jsonl").meta["pictures_lost"] > 0
    assert "pictures came damaged; windows around them may tell of motion" in caplog.text


def test_first_frames_come_along(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """Models on images are given each window's first frame."""
    clip = write_clip(tmp_path / "clip.mkv", scenes.render_clip("mixed", 0, (48, 64), 30)[0], codec="ffv1")
    config = configured(checkpoint)
    config = dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, first_frames=16))
    tracker = make_tracker(config)
    with open_video(clip, config.video) as video, TrackedClip({"default": video}, config, tracker) as tracked:
        expected = [window.first_frame for (window,) in tracked]
    with open_live(str(clip), config.video) as live:
        found = [window.first_frame for (window,) in TrackedClip({"default": live.video}, config, tracker)]
    assert len(found) == 4
    for one, other in zip(found, expected, strict=True):
        assert one is not None and one.shape == (16, 16, 3) and np.array_equal(one, other)


def test_several_views_are_refused(checkpoint: Checkpoint) -> None:
    config = configured(checkpoint)
    two = dataclasses.replace(config, data=dataclasses.replace(config.data, views=("front", "wrist")))
    with pytest.raises(
        UsageError, match="takes a video of one view, and the tokenizer takes 2 .front, wrist"
    ):
        follow("-", checkpoint, two, np.array)
    files = configured(checkpoint, **{"tracking.view_files": {"default": "{clip}/a.mp4"}})
    with pytest.raises(UsageError, match=r"--follow takes one video, and tracking.view_files"):
        follow("-", checkpoint, files, np.array)
