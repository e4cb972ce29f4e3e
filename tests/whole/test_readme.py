"""What the README shows in Python runs as it stands there."""

import json
import re
from typing import Any

import pytest

from amplify_motion_tokenizer.data.loading import load_clips
from tests.support.run_scripts import REPO, Work


def test_the_example_gives_the_codes_of_inference(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (REPO / "README.md").read_text(encoding="utf-8").split("## In Python")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(work.folder)
    names: dict[str, Any] = {}
    exec(code.replace("my/", ""), names)
    config = names["tokenizer"].config
    assert names["velocities"].shape == (1, *names["tokenizer"].input_shape)
    assert names["logits"].shape == (1, config.num_steps, config.num_points, config.num_classes)
    first = next(iter(load_clips(work.tracks, config)))
    codes = json.loads((work.folder / f"codes/{first}.json").read_text(encoding="utf-8"))["codes"]
    assert names["indices"].tolist() == codes[:1]
