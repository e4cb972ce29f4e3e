"""What the README shows in Python runs as it stands there."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.scenes import render_clip, write_clip
from tests.support.run_scripts import REPO, Work


def test_the_example_gives_the_codes_of_inference(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (REPO / "README.md").read_text(encoding="utf-8").split("## In Python")[1]
    code, _ = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(work.folder)
    names: dict[str, Any] = {}
    exec(code.replace("my/", ""), names)
    config = names["tokenizer"].config
    assert names["velocities"].shape == (1, *names["tokenizer"].input_shape)
    assert names["logits"].shape == (1, config.num_steps, config.num_points, config.num_classes)
    first = next(iter(load_clips(work.tracks, config)))
    codes = json.loads((work.folder / f"codes/{first}.json").read_text(encoding="utf-8"))["codes"]
    assert names["indices"].tolist() == codes[:1]


def test_the_example_with_tracks_in_memory_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (REPO / "README.md").read_text(encoding="utf-8").split("## In Python")[1]
    _, code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    still = torch.from_numpy(query_grid("row_major", 20, (480, 640))).expand(2, 16, -1, -1)
    frames = list(render_clip("pan", 0, (48, 64), 20)[0])
    write_clip(tmp_path / "clip.mp4", frames, 20)
    names: dict[str, Any] = {"tracks_xy_px": still, "visibility": torch.ones(2, 16, 400)}
    names["frames"] = np.stack(frames)
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    assert names["codes"].ids.shape == (2, 16)
    torch.testing.assert_close(names["tracks"], still, atol=1, rtol=0)
    torch.testing.assert_close(names["coarse"], still, atol=1, rtol=0)
    assert names["digits"].shape == (2, 16, 4)
