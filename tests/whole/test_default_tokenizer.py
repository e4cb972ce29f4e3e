"""infer without a checkpoint: the shipped tokenizer, and the same ids as in Python."""

import json
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, encode_tracks, load_tokenizer
from tests.support.run_scripts import INFER, PREPROCESS, REPO, Run, render

STRIDE = 8


@pytest.fixture(scope="module")
def made(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, its codes by the command line and its tracks."""
    folder = tmp_path_factory.mktemp("default")
    render(folder / "pan.mp4", "pan", 0)
    line = ["--input", folder / "pan.mp4", "--tracking.window_stride", STRIDE]
    assert run(INFER, *line, "--output", folder / "codes").status == 0
    done = run(PREPROCESS, *line, "--output", folder / "tracks", "--config", REPO / "configs/transform.yaml")
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="module")
def written(made: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((made / "codes" / "pan.json").read_text(encoding="utf-8"))
    return content


def check_windows(codes: MotionCodes, written: dict[str, Any]) -> None:
    assert codes.ids.tolist() == written["codes"]
    assert codes.starts.tolist() == written["start_frames"] == [0, 8]
    assert codes.seconds[:, 0].tolist() == pytest.approx(written["start_seconds"])
    assert codes.seconds[:, 1].tolist() == pytest.approx([15 / 20, 23 / 20])
    assert codes.valid_steps.tolist() == written["valid_steps"]
    assert codes.visible_share.min() > 0.5
    assert (codes.motion_energy > 0).all()


def test_codes_without_a_checkpoint_are_those_of_the_shipped_tokenizer(
    made: Path, written: dict[str, Any]
) -> None:
    with h5py.File(made / "tracks" / "pan.hdf5") as file:
        view = file["root/default"]
        size = int(view.attrs["height"]), int(view.attrs["width"])
        tracks, visibility = view["tracks"][:], view["vis"][:]
    tokenizer = load_tokenizer("default", device="cpu", settings={"tracking.window_stride": STRIDE})
    ids = encode_tracks(tokenizer, tracks, visibility, size)
    assert torch.equal(ids, torch.tensor(written["codes"]))
    assert written["meta"]["model"] == "codec"
    check_windows(tokenizer.encode_tracks(tracks, visibility, size=size, fps=20), written)


def test_a_video_and_its_frames_have_the_codes_of_the_command_line(
    made: Path, written: dict[str, Any]
) -> None:
    tokenizer = load_tokenizer("default", settings={"tracking.window_stride": STRIDE}, device="cpu")
    codes = tokenizer.encode_video(made / "pan.mp4")
    check_windows(codes, written)
    assert (codes.clip, codes.source) == ("pan", "pan.mp4")
    assert codes.source_frames.tolist() == [[0, 15], [8, 23]]
    same = set(written["meta"]) - {"saved"}
    assert {key: codes.meta[key] for key in same} == {key: written["meta"][key] for key in same}

    with av.open(made / "pan.mp4") as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    again = tokenizer.encode_frames(frames, fps=20)
    check_windows(again, written)
    assert again.source_frames.tolist() == codes.source_frames.tolist()
    assert again.source is None
    assert torch.equal(again.motion_energy, codes.motion_energy)
    # At half the rate there are as many windows as at 20 fps, of every frame twice as long.
    with pytest.warns(UserWarning, match="has 10 fps, below"):
        slow = tokenizer.encode_frames(torch.from_numpy(frames), fps=10)
    assert slow.seconds[:, 1].tolist() == pytest.approx([1.5, 2.3])
