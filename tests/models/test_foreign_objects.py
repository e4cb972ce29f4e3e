"""Checkpoints of AMPLIFY that hold objects of other libraries beside what is needed: nothing of them runs."""

import collections
import datetime
import logging
import os
import pathlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
from amplify_motion_tokenizer.models.convert import convert
from tests.support.checkpoints import save_native
from tests.support.run_scripts import TINY


class Node:
    """A foreign class with a state."""

    def __init__(self, value: Any) -> None:
        self.value = value


class ListConfig(list):  # type: ignore[type-arg]
    """A foreign list."""


class DictConfig(dict):  # type: ignore[type-arg]
    """A foreign mapping."""


class Runs:
    """What a hostile file asks for: to be called when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def touched(path: str) -> None:
    """Must never be called by reading a file."""
    Path(path).touch()


@pytest.fixture
def amplify(tmp_path: Path) -> Path:
    tree = {
        **TINY,
        "model": {**TINY["model"], "name": "amplify", "fsq_levels": [5, 3]},
        "data": {**TINY["data"], "reference_size": [48, 64]},
        "tracking": {**TINY["tracking"], "query_order": "uniform"},
    }
    save_native(tmp_path / "native.pth", config_from_dict(tree, "in the tests"))
    convert(tmp_path / "native.pth", tmp_path / "amplify.pth", "amplify")
    return tmp_path / "amplify.pth"


FOREIGN: dict[str, Any] = {
    "a numpy number": np.float64(1.5),
    "a numpy array": np.arange(3),
    "a class with a state": Node([Node(1), {"a": Node(2)}]),
    "a list": ListConfig([0.9, 0.95]),
    "a mapping": DictConfig(a=1, b=ListConfig([2])),
    "a mapping with a default": collections.defaultdict(dict, a=1),
    "a queue": collections.deque([1, 2], maxlen=5),
    "a path": pathlib.PurePosixPath("/tmp/x"),
    "a time": datetime.datetime(2024, 1, 1),
    "an optimiser": torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1),
    "a function": touched,
    "a class": Node,
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("key", ["optimizer", "val_loss"])
def test_foreign_objects_beside_model_and_config_are_left(
    kind: str, key: str, amplify: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = torch.load(amplify, weights_only=True)
    content[key] = {"state": {}, "param_groups": [{"betas": FOREIGN[kind]}]}
    torch.save(content, tmp_path / "theirs.pth")
    with caplog.at_level(logging.WARNING):
        found = load_checkpoint(tmp_path / "theirs.pth")
    expected = load_checkpoint(amplify)
    assert found.config == expected.config
    assert all(torch.equal(found.model[name], value) for name, value in expected.model.items())
    plain = kind in ("a list", "a mapping", "a mapping with a default", "a queue")
    assert (f"{key}.param_groups.0.betas" in caplog.text) == (not plain)
    assert ("left unread" in caplog.text) == (not plain)


def test_nothing_foreign_runs_or_is_imported(
    amplify: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("never_imported")
    exec("class Betas:\n    pass\n", module.__dict__)  # as a library that is not installed where it is read
    monkeypatch.setitem(sys.modules, "never_imported", module)
    content = torch.load(amplify, weights_only=True)
    mark = tmp_path / "ran"
    content["optimizer"] = [module.__dict__["Betas"](), Runs(touched, str(mark)), Runs(eval, "1 / 0")]
    torch.save(content, tmp_path / "theirs.pth")
    monkeypatch.delitem(sys.modules, "never_imported")
    load_tokenizer(tmp_path / "theirs.pth")
    assert not mark.exists()
    assert "never_imported" not in sys.modules


def test_a_call_of_the_system_is_refused_and_not_made(amplify: Path, tmp_path: Path) -> None:
    content = torch.load(amplify, weights_only=True)
    mark = tmp_path / "ran"
    content["optimizer"] = Runs(os.system, f"touch {mark}")
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(CheckpointError, match=r"theirs\.pth: is refused, because it needs more than tensors"):
        load_checkpoint(tmp_path / "theirs.pth")
    assert not mark.exists()


@pytest.mark.parametrize("key", ["model", "config"])
def test_foreign_objects_in_what_is_needed_are_refused(key: str, amplify: Path, tmp_path: Path) -> None:
    content = torch.load(amplify, weights_only=True)
    content[key]["more"] = Node(1)
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(CheckpointError, match=r"is refused, because it needs more .*Node"):
        load_checkpoint(tmp_path / "theirs.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weight: torch.full_like(weight, torch.nan), "holds .* NaN or infinite"),
        (lambda weight: weight / 0, "holds .* NaN or infinite"),
        (lambda weight: weight.long(), "is torch.int64, expected floating-point numbers"),
        (lambda weight: weight.to(torch.complex64), "is torch.complex64"),
        (lambda weight: weight.to_sparse(), "is no plain tensor"),
    ],
)
def test_weights_that_are_of_no_use_are_named(change: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    save_native(path, config_from_dict(TINY, "in the tests"))
    content = torch.load(path, weights_only=True)
    content["model"]["pos_embed"] = change(content["model"]["pos_embed"])
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"best.pth: its weights are of no use: pos_embed {words}"):
        load_tokenizer(path)
