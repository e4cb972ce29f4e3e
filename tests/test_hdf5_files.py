"""HDF5 files whose parts lie in other files are refused, before any of these is opened."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from amplify_motion_tokenizer.errors import TrackFileError, VideoError
from amplify_motion_tokenizer.hdf5_files import open_hdf5
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from tests.support.run_scripts import INFER, Run

SHAPE = (2, 6, 9, 2)
NUMBERS = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)

Write = Callable[[h5py.Group, Path], None]


def external_link(view: h5py.Group, target: Path) -> None:
    view["tracks"] = h5py.ExternalLink(str(target), "tracks")


def external_group(view: h5py.Group, target: Path) -> None:
    view["tracks"] = NUMBERS
    view.parent["wrist"] = h5py.ExternalLink(str(target), "/")


def raw_storage(view: h5py.Group, target: Path) -> None:
    view.create_dataset("tracks", SHAPE, "f4", external=[(str(target), 0, NUMBERS.nbytes)])


def virtual(view: h5py.Group, target: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:] = h5py.VirtualSource(str(target), "tracks", SHAPE)
    view.create_virtual_dataset("tracks", layout)


@pytest.mark.parametrize("write", [external_link, external_group, raw_storage, virtual])
@pytest.mark.parametrize("kind", ["file", "pipe", "missing"])
def test_parts_in_other_files_are_refused(tmp_path: Path, write: Write, kind: str) -> None:
    target, path = tmp_path / "private", tmp_path / "clip.hdf5"
    if kind == "file":
        with h5py.File(target, "w") as private:
            private["tracks"] = NUMBERS
    elif kind == "pipe":
        os.mkfifo(target)  # opening it would wait for ever
    with h5py.File(path, "w") as file:
        write(file.create_group("root/default"), target)
    with pytest.raises(TrackFileError, match=r"clip\.hdf5: root/\w+(/tracks)? .*, which is not followed"):
        TrackFile(path)


def test_links_within_the_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "clip.hdf5", "w") as file:
        file["hidden/tracks"] = NUMBERS
        file.create_group("root")["default"] = h5py.SoftLink("/hidden")
    clip = TrackFile(tmp_path / "clip.hdf5", None)
    with clip.open() as file:
        np.testing.assert_array_equal(clip.read(file, [1])[0][0], NUMBERS[1:])


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "clip.hdf5"
    {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir}[kind](path)
    with pytest.raises(VideoError, match=r"clip\.hdf5: is no file with data in it .*; do this"):
        open_hdf5(path, VideoError, "do this")


def test_a_demo_that_leads_elsewhere_fails_alone(run: Run, tmp_path: Path) -> None:
    """LIBERO's files are opened alike."""
    private, folder = tmp_path / "private", tmp_path / "in/suite"
    folder.mkdir(parents=True)
    with h5py.File(private, "w") as file:
        file["images"] = np.zeros((8, 16, 16, 3), np.uint8)
    with h5py.File(folder / "task_demo.hdf5", "w") as file:
        demo = file.create_group("data/demo_0/obs")
        demo["agentview_rgb"] = h5py.ExternalLink(str(private), "images")
    with h5py.File(folder / "task_2_demo.hdf5", "w") as file:
        noise = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), np.uint8)
        file["data/demo_0/obs/agentview_rgb"] = noise
    arguments = ["--input", tmp_path / "in", "--output", tmp_path / "codes", "--video.source", "libero"]
    result = run(INFER, *arguments, "--data.views", "agentview")
    assert result.status == 3 and "Traceback" not in result.err
    assert "data/demo_0/obs/agentview_rgb is a link to another file, which is not followed" in result.err
