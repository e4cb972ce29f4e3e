"""The example that joins LIBERO's demos with their codes, run on demos made here."""

import runpy
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import tokenize_folder
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.scenes import render_clip
from tests.support.checkpoints import save_native
from tests.support.run_scripts import REPO, TINY

FRAMES = {"demo_0": 40, "demo_1": 24}


@pytest.fixture
def libero(tmp_path: Path) -> Path:
    """Two demos of a task: agentview_rgb stored upside down, and actions that tell their timestep."""
    folder = tmp_path / "libero"
    (folder / "libero_10").mkdir(parents=True)
    with h5py.File(folder / "libero_10/TASK_demo.hdf5", "w") as file:
        for seed, (demo, count) in enumerate(FRAMES.items()):
            images = np.stack(list(render_clip("pan", seed, (48, 48), count)[0]))
            file[f"data/{demo}/obs/agentview_rgb"] = images[:, ::-1]
            file[f"data/{demo}/actions"] = np.arange(count)[:, None] + np.zeros(7)
    return folder


@pytest.fixture
def codes(libero: Path, tmp_path: Path) -> Path:
    sections: dict[str, Any] = {
        "video": {"source": "libero", "size": None, "target_fps": 20},
        "tracking": {**TINY["tracking"], "window_stride": 1, "view_files": {"default": "agentview_rgb"}},
    }
    config = config_from_dict({**TINY, **sections}, "here")
    save_native(tmp_path / "tiny.pth", config)
    done = tokenize_folder(libero, tmp_path / "codes", load_checkpoint(tmp_path / "tiny.pth"), config)
    assert (done.done, done.failed) == (2, 0)
    return tmp_path / "codes"


def test_batches_hold_frame_action_and_next_codes_of_one_timestep(libero: Path, codes: Path) -> None:
    example = runpy.run_path(str(REPO / "examples/libero_policy_data.py"))
    seen = set()
    for batch in example["batches"](libero, codes, horizon=2, batch_size=16):
        for row, clip in enumerate(batch["clip"]):
            timestep, demo = int(batch["timestep"][row]), clip.rsplit("/", 1)[1]
            seen.add((demo, timestep))
            assert batch["action"][row].tolist() == [timestep] * 7
            # T = 6: windows begin at every frame but the last five.
            begins = [frame <= FRAMES[demo] - 6 for frame in (timestep, timestep + 16)]
            assert batch["mask"][row].tolist() == begins
            if timestep == 3:
                with h5py.File(libero / "libero_10/TASK_demo.hdf5") as file:
                    image = file[f"data/{demo}/obs/agentview_rgb"][3]
                assert np.array_equal(batch["frame"][row].numpy()[::-1], image)
        assert batch["ids"].shape[1:] == (2, 3)
        assert torch.equal(batch["ids"][~batch["mask"]], torch.zeros_like(batch["ids"][~batch["mask"]]))
    assert seen == {(demo, frame) for demo, count in FRAMES.items() for frame in range(count)}


def test_the_example_runs_as_a_script(
    libero: Path, codes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = REPO / "examples/libero_policy_data.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    # The folder of the suite serves as LIBERO's, too.
    monkeypatch.setattr(sys, "argv", [str(path), str(libero / "libero_10"), str(codes)])
    runpy.run_path(str(path), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "'frame': (32, 48, 48, 3), 'action': (32, 7), 'ids': (32, 2, 3), 'mask': (32, 2)" in lines[0]
