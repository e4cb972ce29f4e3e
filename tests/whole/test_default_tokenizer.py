"""infer without a checkpoint: the shipped tokenizer, and the same ids as in Python."""

import json
from pathlib import Path

import h5py
import torch

from amplify_motion_tokenizer import encode_tracks, load_tokenizer
from tests.support.run_scripts import INFER, PREPROCESS, REPO, Run, render


def test_codes_without_a_checkpoint_are_those_of_the_shipped_tokenizer(run: Run, tmp_path: Path) -> None:
    render(tmp_path / "pan.mp4", "pan", 0)
    line = ["--input", tmp_path / "pan.mp4", "--tracking.window_stride", 8]
    assert run(INFER, *line, "--output", tmp_path / "codes").status == 0
    made = run(
        PREPROCESS, *line, "--output", tmp_path / "tracks", "--config", REPO / "configs/transform.yaml"
    )
    assert made.status == 0, made.error
    content = json.loads((tmp_path / "codes" / "pan.json").read_text(encoding="utf-8"))
    with h5py.File(tmp_path / "tracks" / "pan.hdf5") as file:
        view = file["root/default"]
        size = int(view.attrs["height"]), int(view.attrs["width"])
        ids = encode_tracks(load_tokenizer("default"), view["tracks"][:], view["vis"][:], size)
    assert torch.equal(ids, torch.tensor(content["codes"]))
    assert content["meta"]["model"] == "transform"
