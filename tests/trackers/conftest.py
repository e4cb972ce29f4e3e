"""What tests of trackers share: there is no network."""

from urllib.error import URLError

import pytest
import torch


@pytest.fixture(autouse=True)
def asked(tmp_path, monkeypatch):
    """The addresses that were asked for; there is no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    addresses = []

    def refuse(request, *_, **__):
        addresses.append(getattr(request, "full_url", request))
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    return addresses
