"""Benchmarks are read by people, not by the suite: here they only have to run, on little."""

import math

import codebook
import pytest
from run_scripts import Work


def test_codebook_trains_each_variant_with_each_seed(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    keypoint = "keypoint"
    amplify = "amplify --model.name amplify --model.num_layers 2 --data.reference_size [48,64]"
    arguments = ["--tracks", work.tracks, "--config", work.config, "--steps", 2, "--seeds", 0, 1]
    codebook.main([*map(str, arguments), "--variant", keypoint, "--variant", amplify])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    names = [row[0] for row in rows if len(row) == len(codebook.SHOWN) + 1][1:]
    assert names == [
        "keypoint, seed 0", "keypoint, seed 1", "**keypoint**",
        "amplify, seed 0", "amplify, seed 1", "**amplify**",
    ]  # fmt: skip
    figures = [[float(value) for value in row[1:]] for row in rows if row[0] in names]
    assert all(math.isfinite(value) for row in figures for value in row)
    assert [row[list(codebook.SHOWN).index("steps")] for row in figures] == [2.0] * 6
