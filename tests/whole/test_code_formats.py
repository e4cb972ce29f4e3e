"""infer --formats: every format holds the codes of the run, and what an earlier run wrote stays true."""

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import read_codes, write_codes
from tests.support.run_scripts import CLIPS, REPO, STARTS, Run, Work, files_below, infer

needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow")


@needs_pyarrow
def test_every_format_holds_the_same_codes(run: Run, work: Work, tmp_path: Path) -> None:
    formats = "json,jsonl,parquet,npz,safetensors,reproduction"
    codes = tmp_path / "codes"
    result = infer(run, work, codes, "--formats", formats, "--save", "latents", source=work.tracks)
    assert result.status == 0, result.err
    wanted = read_codes(codes / "codes.jsonl")
    assert sorted(wanted) == sorted(CLIPS)
    for ending in (".parquet", ".json", ".npz", ".safetensors", ".codes.json"):
        for name in CLIPS:
            path = codes / "codes.parquet" if ending == ".parquet" else codes / f"{name}{ending}"
            found = read_codes(path)[name]
            assert torch.equal(found.ids, wanted[name].ids)
            assert found.starts.tolist() == STARTS
            assert torch.equal(found.seconds, wanted[name].seconds)
            assert torch.equal(found.motion_energy, wanted[name].motion_energy)
            assert dict(found.meta) == dict(wanted[name].meta)
            assert (found.latents is None) == ending.endswith("json")
    before = files_below(codes, "*.npz")
    again = infer(run, work, codes, "--formats", formats, "--save", "latents", source=work.tracks)
    assert "4 skipped" in again.out
    assert files_below(codes, "*.npz") == before
    # Without --formats what is there is still kept true: a clip that is made again, and the tables.
    (codes / "pan.json").unlink()
    (codes / "codes.parquet").write_bytes(b"old")
    assert "1 done (5 windows), 3 skipped" in infer(run, work, codes, source=work.tracks).out
    assert files_below(codes, "pan.npz")["pan.npz"][0] > before["pan.npz"][0]
    assert len(read_codes(codes / "codes.parquet")) == 4


@needs_pyarrow
def test_the_examples_of_the_docs_run(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (REPO / "docs/formats.md").read_text(encoding="utf-8").replace('"cat", 30', '"pan", 10')
    first, *others = re.findall(r"```python\n(.*?)```", text.replace('"cat"', '"pan"'), re.DOTALL)
    shutil.copytree(work.codes, tmp_path / "my/codes")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(first, names)
    (tmp_path / "codes").mkdir()
    write_codes("codes/codes.parquet", [read_codes("my/codes.parquet")["pan"]])
    names = {"actions": np.zeros((30, 7))}
    exec(others[-2], names)  # pyarrow alone
    exec(others[-1], names)
    assert names["batch"]["action"].shape == (5, 7)
    assert names["batch"]["ids"].shape == (5, 2, 3)


def test_vectors_saved_beside_json_are_read(work: Work) -> None:
    found = read_codes(work.codes, latents=True)
    arrays = torch.load(work.codes / "pan.pt", weights_only=True)
    assert torch.equal(found["pan"].latents, arrays["latent_tokens"])
    assert read_codes(work.codes)["pan"].latents is None


def test_codes_without_json(run: Run, work: Work, tmp_path: Path) -> None:
    codes = tmp_path / "codes"
    result = infer(run, work, codes, "--formats", "npz", source=work.tracks)
    assert result.status == 0, result.err
    assert {path.suffix for path in codes.rglob("*") if path.is_file()} == {".npz", ".jsonl", ".yaml"}
    assert not (codes / "codes.jsonl").exists()
    found = read_codes(codes)
    assert found["pan"].ids.tolist() == json.loads((work.codes / "pan.json").read_text())["codes"]
    other = shutil.copytree(codes, tmp_path / "cut")
    whole = (other / "pan.npz").read_bytes()
    (other / "pan.npz").write_bytes(whole[: len(whole) // 2])
    assert (
        "1 done (5 windows), 3 skipped" in infer(run, work, other, "--formats", "npz", source=work.tracks).out
    )
    assert (other / "pan.npz").read_bytes() == whole


def test_wrong_formats_are_told_before_anything_is_written(run: Run, work: Work, tmp_path: Path) -> None:
    for formats, message in {
        "json,xml": "--formats: 'xml' is no format; allowed: json, jsonl, parquet, npz",
        "jsonl": "name one of json, npz, safetensors, reproduction too",
    }.items():
        assert message in infer(run, work, tmp_path / "codes", "--formats", formats).error
    assert not (tmp_path / "codes").exists()
