"""Names of devices, on machines that have them and on machines that have not."""

import pytest
import torch

from amplify_motion_tokenizer.devices import resolve_device
from amplify_motion_tokenizer.errors import ConfigError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    gpus, mps = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("machine", "name", "expected"),
    [
        ((0, False), "auto", "cpu"),
        ((0, True), "auto", "mps"),
        ((2, True), "auto", "cuda"),
        ((2, False), "cuda:1", "cuda:1"),
        ((2, False), "cpu", "cpu"),
        ((0, True), "mps:0", "mps:0"),
        ((0, False), "cpu:0", "cpu:0"),
    ],
    indirect=["machine"],
)
@pytest.mark.usefixtures("machine")
def test_devices_that_are_there(name: str, expected: str) -> None:
    assert resolve_device(name, "key") == torch.device(expected)


@pytest.mark.parametrize(
    ("machine", "name", "message"),
    [
        ((0, False), "cuda", "key = 'cuda' is not available; allowed here: auto, cpu"),
        ((0, False), "mps", "key = 'mps' is not available; allowed here: auto, cpu"),
        ((0, True), "gpu", "key = 'gpu' is not a device; allowed here: auto, mps, cpu"),
        ((0, False), "", "key = '' is not a device; allowed here: auto, cpu"),
        ((0, False), "meta", "key = 'meta' is not a device; allowed here: auto, cpu"),
        (
            (2, False),
            "cuda:2",
            "key = 'cuda:2' is not available; allowed here: auto, cuda, cuda:0, cuda:1, cpu",
        ),
        (
            (2, False),
            "cuda:-1",
            "key = 'cuda:-1' is not a device; allowed here: auto, cuda, cuda:0, cuda:1, cpu",
        ),
    ],
    indirect=["machine"],
)
@pytest.mark.usefixtures("machine")
def test_other_names_are_told_what_is_there(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_device(name, "key")
    assert str(caught.value) == message
