"""A clip that was replaced is not taken for done, also where the other has as many bytes."""

import errno
import os
import shutil
from pathlib import Path

import h5py
import pytest

from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.evaluation.draw import draw_tracked
from amplify_motion_tokenizer.evaluation.drawn_view import Style
from amplify_motion_tokenizer.jobs.fingerprint import fingerprint, is_made_of
from amplify_motion_tokenizer.scenes import render_clip
from tests.support.render_clips import write_clip as encode_clip
from tests.support.run_scripts import Run, Work, infer, preprocess

BLOCK = 1 << 16


def write_avi(path: Path, seed: int) -> Path:
    """Uncompressed, so all clips of a size have as many bytes."""
    path.parent.mkdir(exist_ok=True)
    return encode_clip(path, render_clip("pan", seed, (96, 128), 15)[0], fps=10, codec="rawvideo")


@pytest.mark.parametrize("command", [preprocess, infer])
def test_another_clip_of_as_many_bytes_is_done_anew(run: Run, work: Work, tmp_path: Path, command) -> None:
    videos, output = tmp_path / "videos", tmp_path / "out"
    clip = write_avi(videos / "a.avi", 1)
    assert "1 done" in command(run, work, output, source=videos).out
    shutil.copy(clip, tmp_path / "same.avi")
    (tmp_path / "same.avi").replace(clip)
    assert "1 skipped" in command(run, work, output, source=videos).out, "a copy is another file, not a clip"
    size = clip.stat().st_size
    assert write_avi(clip, 2).stat().st_size == size
    if command is preprocess:
        summary = draw_tracked(output, videos, tmp_path / "drawn", Style())
        assert summary.failed == 1
        assert "as it is" in (tmp_path / "drawn/manifest.jsonl").read_text(encoding="utf-8")
    assert "1 done" in command(run, work, output, source=videos).out
    assert "1 skipped" in command(run, work, output, source=videos).out


def test_tracks_made_before_there_were_fingerprints_count_by_size(
    run: Run, work: Work, tmp_path: Path
) -> None:
    tracks = shutil.copytree(work.tracks, tmp_path / "tracks")
    for path in tracks.rglob("*.hdf5"):
        with h5py.File(path, "a") as file:
            del file["root"].attrs["source_fingerprint"]
    assert "4 skipped" in preprocess(run, work, tracks).out


def unreadable(path: Path, *_: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_fingerprint_tells_contents_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(100))
    large.write_bytes(bytes(90 * BLOCK))
    record = {"source_bytes": 100 + 90 * BLOCK, "source_fingerprint": fingerprint([small, large])}
    assert is_made_of(record, [large, small, large])
    for path, place in ((small, 50), (large, 0), (large, 90 * BLOCK - 1), (large, 89 * BLOCK // 3)):
        before = path.read_bytes()
        path.write_bytes(before[:place] + b"x" + before[place + 1 :])
        assert not is_made_of(record, [small, large]), place
        path.write_bytes(before)
    with monkeypatch.context() as patch:  # as for a file without the right to read it, which root has
        patch.setattr(Path, "open", unreadable)
        assert not is_made_of(record, [small, large])
        with pytest.raises(VideoError, match=r"(small|large): cannot be read \(Permission denied\)"):
            fingerprint([small, large])
    small.unlink()
    assert not is_made_of(record, [small, large])
    assert is_made_of({"source_bytes": 90 * BLOCK}, [large])
