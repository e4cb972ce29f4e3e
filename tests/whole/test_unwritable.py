"""Outputs that cannot be written: of one clip, which then fails alone, or at all, which ends the run."""

import dataclasses
import errno
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from amplify_motion_tokenizer import files
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import FileNameError, UsageError
from amplify_motion_tokenizer.files import write_text
from amplify_motion_tokenizer.jobs.loop import run_clips
from amplify_motion_tokenizer.jobs.manifest import Manifest
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.clips import Clip, ViewSource
from tests.support.run_scripts import Run, Work, infer, manifest_of, preprocess, statuses
from tests.support.tracked import clip_record_of, random_windows

LONGEST, FOR_WINDOWS = "L" * 251, "M" * 241
"""With .mp4 as long as names can be; too long once _start000000.pt is added."""


@pytest.fixture
def videos(work: Work, tmp_path: Path) -> Path:
    """Two clips that can be written, and two or three that cannot."""
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    for name in (LONGEST, FOR_WINDOWS, "good", "sub/a", "zoom"):
        shutil.copy(work.videos / "pan.mp4", folder / f"{name}.mp4")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """With a file where the subfolder is to be."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").touch()
    return tmp_path / "out"


def check_alone(output: Path, failed: set[str]) -> None:
    found = {name for name, status in statuses(output).items() if status == "failed"}
    assert found == failed and len(manifest_of(output)) == 5
    records = manifest_of(output)
    assert {records[name]["stage"] for name in failed} == {"write"}
    assert "File name too long" in records[LONGEST]["error"] and ".tmp" not in records[LONGEST]["error"]
    assert f"({output / 'sub'} is a file)" in records["sub/a"]["error"]
    assert not list(output.rglob(".*"))


@pytest.mark.parametrize(
    ("more", "failed"),
    [
        ((), {LONGEST, "sub/a"}),
        (("--format", "pt", "--tracking.num_workers", 2), {LONGEST, FOR_WINDOWS, "sub/a"}),
    ],
)
def test_a_clip_whose_tracks_cannot_be_written_fails_alone(
    run: Run, work: Work, videos: Path, output: Path, more: tuple[Any, ...], failed: set[str]
) -> None:
    result = preprocess(run, work, output, *more, source=videos)
    assert result.status == 3, result.err
    assert f"{5 - len(failed)} done" in result.out
    check_alone(output, failed)
    (output / "sub").unlink()
    again = preprocess(run, work, output, *more, source=videos)
    assert f"1 done (5 windows), {5 - len(failed)} skipped, {len(failed) - 1} failed" in again.out


def test_a_clip_whose_codes_cannot_be_written_fails_alone(
    run: Run, work: Work, videos: Path, output: Path
) -> None:
    result = infer(run, work, output, "--save", "latents", source=videos)
    assert result.status == 3, result.err
    check_alone(output, {LONGEST, "sub/a"})
    assert len((output / "codes.jsonl").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_the_run_and_keeps_what_is_done(
    work: Work, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    config = dataclasses.replace(tiny, tracking=dataclasses.replace(tiny.tracking, num_workers=1))

    def full(path: Path) -> None:
        if path.suffix == ".hdf5" and list(tmp_path.glob("[!.]*.hdf5")):
            raise OSError(number, "it is full")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(
        UsageError, match=r"\.hdf5: cannot be written \(disk full: more than .* are free\)"
    ) as told:
        preprocess_folder(work.videos, tmp_path, config)
    assert not isinstance(told.value, FileNameError)
    assert list(statuses(tmp_path).values()) == ["done"]
    assert len(list(tmp_path.rglob("*.hdf5"))) == 1


def test_a_disk_that_fills_while_tracks_are_written_is_told(tiny: Config, tmp_path: Path) -> None:
    """HDF5 itself ends the process when it cannot close a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with (
            pytest.raises(UsageError, match=r"a\.hdf5: cannot be written \(File too large\)"),
            TrackFileWriter(tmp_path / "a.hdf5", clip_record_of(tiny), (48, 64)) as writer,
        ):
            for window in random_windows(tiny, 200, 0, (48, 64)):
                writer.append(window)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    clips = [Clip(name, {"default": ViewSource(tmp_path / f"{name}.mp4")}) for name in "ab"]
    output = tmp_path / "out"

    def replaced_by_a_file(clip: Clip) -> dict[str, Any]:
        output.touch()
        write_text(output / f"{clip.name}.txt", "")
        return {"windows": 0}

    with pytest.raises(UsageError, match=f"output folder {output} cannot be written"):
        run_clips(clips, Manifest(output / "manifest.jsonl"), lambda clip: False, replaced_by_a_file)


def test_a_folder_in_the_place_of_a_file_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with (
        pytest.raises(FileNameError, match=r"a\.txt: cannot be written \(a folder has that name\)"),
        files.atomic_path(tmp_path / "a.txt"),
    ):
        pytest.fail("nothing is to be made")
