"""Live video: pipes, what is dropped and what waits, and what is said when it breaks off."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from amplify_motion_tokenizer import scenes
from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.errors import UsageError, VideoError
from amplify_motion_tokenizer.video import live as live_module
from amplify_motion_tokenizer.video.clips import Frame
from amplify_motion_tokenizer.video.live import QUEUED, LiveVideo, open_live
from amplify_motion_tokenizer.video.live_places import LivePlace, live_place
from amplify_motion_tokenizer.video.reading import open_video
from benchmarks.support.sending import send, y4m
from tests.support.processes import until
from tests.support.render_clips import write_clip

SIZE = (48, 64)


@contextmanager
def sent(folder: Path, content: bytes) -> Iterator[str]:
    """A named pipe through which ``content`` comes."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    sender = threading.Thread(target=send, args=(pipe, content), daemon=True)
    sender.start()
    yield str(pipe)
    sender.join(timeout=10)
    assert not sender.is_alive()


def same(one: list[Frame], other: list[Frame]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.rgb, b.rgb)
        and abs(a.time_s - b.time_s) < 1e-9
        and (a.source_frame, a.part, a.tick) == (b.source_frame, b.part, b.tick)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(
    ("fps", "ending", "codec"),
    [
        (20, "mkv", "ffv1"),
        (30, "mkv", "libx264"),
        (25, "ts", "mpeg2video"),
        (10, "ts", "libx264"),
    ],
)
def test_the_same_frames_as_of_the_file(tmp_path: Path, fps: int, ending: str, codec: str) -> None:
    video, _ = scenes.render_clip("pan", 0, SIZE, 50)
    path = write_clip(tmp_path / f"clip.{ending}", video, fps, codec=codec)
    config = VideoConfig(target_fps=20)
    with open_video(path, config) as clip:
        expected = list(clip)
    with sent(tmp_path, path.read_bytes()) as pipe, open_live(pipe, config) as live:
        found = list(live.video)
        assert live.video.info.fps == clip.info.fps
        assert (live.dropped, live.lost, live.video.live) == (0, 0, True)
    assert len(expected) > 30 and same(found, expected)


def test_a_frame_comes_before_the_next_is_sent(tmp_path: Path) -> None:
    """At the source's own rate, from the picture on that ends the half second which tells the rate."""
    video, _ = scenes.render_clip("pan", 0, SIZE, 20)
    parts = y4m(video, fps=20)
    os.mkfifo(tmp_path / "pipe")
    opened: list[LiveVideo] = []
    opening = threading.Thread(
        target=lambda: opened.append(open_live(str(tmp_path / "pipe"), VideoConfig(target_fps=20)))
    )
    opening.start()
    pipe = os.open(tmp_path / "pipe", os.O_WRONLY)
    os.write(pipe, b"".join(parts[:11]))
    opening.join(timeout=10)
    with opened[0] as live:
        frames = iter(live.video)
        for number in range(11):
            assert next(frames).source_frame == number
        for number in range(11, 20):
            os.write(pipe, parts[number])
            assert next(frames).source_frame == number
        os.close(pipe)
        assert list(frames) == []


def test_a_pipe_waits_and_a_camera_drops_its_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, _ = scenes.render_clip("pan", 0, SIZE, 60)
    write_clip(tmp_path / "clip.mkv", video, codec="ffv1")
    place = live_place(str(tmp_path / "clip.mkv"))
    config = VideoConfig(target_fps=20)
    with LiveVideo(place, config) as live:
        assert [frame.source_frame for frame in live.video] == list(range(60))
    with LiveVideo(place._replace(waits=False), config) as live:
        live._reader.join(timeout=10)  # nobody takes anything meanwhile
        frames = list(live.video)
    assert live.dropped == 60 - QUEUED
    # What is left covers its time: seconds count from the first picture that is left.
    assert len(frames) == QUEUED
    with open_video(tmp_path / "clip.mkv", config) as clip:
        last = list(clip)[-1]
    assert np.array_equal(frames[-1].rgb, last.rgb)


def test_a_source_without_an_end_holds_little_and_goes_when_it_is_closed() -> None:
    """FFmpeg's test picture stands for a camera: it comes by an interface, and does not wait."""
    place = LivePlace("testsrc=size=64x48:rate=20", "a camera", "camera0", waits=False, format="lavfi")
    with LiveVideo(place, VideoConfig(target_fps=20)) as live:
        frames = iter(live.video)
        assert next(frames).source_size == SIZE
        until(lambda: live.dropped > 50)
        assert len(live._queue._items) <= QUEUED
        times = [next(frames).time_s for _ in range(4)]
        assert all(later > earlier for earlier, later in pairwise(times))
    live._reader.join(timeout=10)
    assert not live._reader.is_alive()


def test_a_camera_without_times_has_those_of_arrival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, _ = scenes.render_clip("pan", 0, SIZE, 30)
    path = write_clip(tmp_path / "clip.h264", video, options={"bf": "0"})
    arrivals = iter(np.arange(1000, 2000) / 10)
    monkeypatch.setattr(live_module, "QUEUED", 99)
    monkeypatch.setattr(live_module.time, "monotonic", lambda: next(arrivals))
    with LiveVideo(live_place(str(path))._replace(waits=False), VideoConfig(target_fps=20)) as live:
        sources = [frame.source_frame for frame in live.video]
    # Ten a second arrive, and twenty ticks a second show each twice.
    assert sources == [number for number in range(30) for _ in range(2)]


def test_pictures_of_another_size_begin_a_part(tmp_path: Path) -> None:
    one, _ = scenes.render_clip("pan", 0, SIZE, 12)
    two, _ = scenes.render_clip("pan", 1, (64, 48), 12)
    content = b""
    for name, frames in (("one", one), ("two", two)):
        content += write_clip(tmp_path / f"{name}.ts", frames, codec="mpeg2video").read_bytes()
    with sent(tmp_path, content) as pipe, open_live(pipe, VideoConfig(target_fps=20)) as live:
        frames = list(live.video)
    assert {frame.source_size for frame in frames} == {SIZE, (64, 48)}
    assert "another size" in live.video.parts[-1].cut


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read"), (b"no video\n" * 400, "cannot be read as a video while it comes")],
)
def test_what_is_no_video(tmp_path: Path, content: bytes, message: str) -> None:
    with sent(tmp_path, content) as pipe, pytest.raises(VideoError, match=f"pipe: {message}"):
        open_live(pipe, VideoConfig())


def test_damaged_pictures_are_counted(tmp_path: Path) -> None:
    video, _ = scenes.render_clip("pan", 0, SIZE, 40)
    content = bytearray(write_clip(tmp_path / "clip.ts", video).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 188 * 6] = bytes(188 * 6)
    with sent(tmp_path, bytes(content)) as pipe, open_live(pipe, VideoConfig(target_fps=20)) as live:
        frames = list(live.video)
    assert live.lost > 0 and len(frames) > 20


@contextmanager
def server(content: bytes, stated: int) -> Iterator[str]:
    """Host and port that send ``content``, of ``stated`` bytes, to whoever shows a password."""

    class Sender(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "Authorization" not in self.headers:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(stated))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Sender) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{http.server_port}"
        http.shutdown()


def test_a_dropped_connection_is_told_without_the_password(tmp_path: Path) -> None:
    video, _ = scenes.render_clip("pan", 0, SIZE, 60)
    write_clip(tmp_path / "clip.mkv", video, codec="ffv1")
    content = (tmp_path / "clip.mkv").read_bytes()
    with server(content[: len(content) // 2], len(content)) as host:
        url = f"http://me:secret@{host}/yard/cam.mkv?pwd=secret"
        assert live_place(url).name == "cam"
        taken: list[Frame] = []
        with open_live(url, VideoConfig(target_fps=20)) as live, pytest.raises(VideoError) as told:
            taken.extend(live.video)
        assert str(told.value).startswith(f"{host}/yard/cam.mkv: broke off (")
        assert "secret" not in str(told.value) + str(live.video.info)
        with pytest.raises(VideoError) as refused:
            open_live(url.replace("me:secret@", ""), VideoConfig())
        assert "401" in str(refused.value) and "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing/here.mkv", "found nothing there; expected a camera's number"),
        (".", "found a folder there"),
        ("rtsp://me:secret@", r"--follow rtsp://...: is no URL with a host"),
        ("rtsp://me:secret@[x/", r"--follow rtsp://...: is no URL with a host"),
    ],
)
def test_places_that_cannot_be(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as told:
        live_place(source)
    assert "secret" not in str(told.value)


def test_places() -> None:
    place = live_place("rtsp://me:secret@cam.local:554/yard/1?user=me&pwd=secret")
    assert (place.label, place.name, place.waits) == ("cam.local:554/yard/1", "1", False)
    assert place.patience_s is not None and place.options == {"rtsp_transport": "tcp"}
    assert live_place("http://cam.local").waits
    assert not live_place("/dev/video3").waits
    assert live_place("/dev/video3").format == "v4l2"


def test_a_list_of_files_is_not_followed(tmp_path: Path) -> None:
    video, _ = scenes.render_clip("pan", 0, SIZE, 3)
    write_clip(tmp_path / "private.mkv", video, codec="ffv1")
    listed = b"ffconcat version 1.0\nfile private.mkv\n"
    (tmp_path / "list.mkv").write_bytes(listed)
    with pytest.raises(VideoError, match=r"is a list of other files \(concat\), which is not followed"):
        open_live(str(tmp_path / "list.mkv"), VideoConfig())


def test_depth_is_refused(tmp_path: Path) -> None:
    video, _ = scenes.render_clip("pan", 0, SIZE, 3)
    write_clip(tmp_path / "deep.mkv", video, codec="ffv1", pix_fmt="gray16le")
    with pytest.raises(VideoError, match="gray16le, whose range of levels is known only at its end"):
        open_live(str(tmp_path / "deep.mkv"), VideoConfig())
