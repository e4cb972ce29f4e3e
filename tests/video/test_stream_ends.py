"""Streams that state no length: a cut within a packet is told, and whole streams raise no alarm."""

import io
import random
from pathlib import Path

import pytest

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video.faults import check_file
from amplify_motion_tokenizer.video.stream_ends import ends_within_packet
from tests.support.render_clips import numbered_frames, write_clip

STREAMS = {
    "h264.ts": "libx264", "mpeg2.ts": "mpeg2video", "mpeg4.ts": "mpeg4", "disc.m2ts": "libx264",
    "mpeg2.mpg": "mpeg2video", "mpeg1.mpg": "mpeg1video", "dvd.vob": "mpeg2video", "h264.mts": "libx264",
}  # fmt: skip


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("streams")
    frames = list(numbered_frames(40))
    return {
        name: write_clip(folder / name, iter(frames), 25, codec=codec).read_bytes()
        for name, codec in STREAMS.items()
    }


def is_cut(content: bytes) -> bool:
    return ends_within_packet(io.BytesIO(content), len(content), content[:512])


@pytest.mark.parametrize("name", STREAMS)
def test_a_whole_stream_raises_no_alarm_and_one_that_is_cut_does(
    name: str, streams: dict[str, bytes], tmp_path: Path
) -> None:
    content, rng = streams[name], random.Random(name)
    assert not is_cut(content)
    assert not is_cut(content + b"noise, not a packet")
    assert not is_cut(content + bytes(1000))
    cuts = [rng.randrange(len(content) // 3, len(content)) for _ in range(200)]
    told = sum(is_cut(content[:cut]) for cut in cuts)
    assert told >= 190  # the others happen to lie between packets, or in a header
    (tmp_path / name).write_bytes(content[: len(content) // 188 * 188 - 77])
    with pytest.raises(VideoError, match="is cut short"):
        check_file(tmp_path / name)


def test_streams_that_are_joined_or_begin_anywhere_raise_no_alarm(streams: dict[str, bytes]) -> None:
    ts, mpg = streams["h264.ts"], streams["mpeg2.mpg"]
    assert not is_cut(ts[188 * 3 :] + ts)
    assert not is_cut(mpg + mpg)
    assert not is_cut(mpg * 60)  # longer than what is looked at
    assert is_cut((mpg * 60)[:-500])


def test_other_files_are_not_judged() -> None:
    for content in (b"", b"G" * 100, b"\0\0\1\xba", bytes(5000), b"\0\0\1\xba" * 1000, b"RIFF" + bytes(5000)):
        assert not is_cut(content)
