"""CoTracker's code and weights, from torch.hub or from local files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from amplify_motion_tokenizer.config import CoTrackerConfig
from amplify_motion_tokenizer.errors import TrackerError
from amplify_motion_tokenizer.trackers.checkouts import LOAD_ERRORS, one_line

_HUGGING_FACE = "https://huggingface.co/facebook"
WEIGHTS_URLS = {
    "cotracker3_offline": f"{_HUGGING_FACE}/cotracker3/resolve/main/scaled_offline.pth",
    "cotracker3_online": f"{_HUGGING_FACE}/cotracker3/resolve/main/scaled_online.pth",
    "cotracker2": f"{_HUGGING_FACE}/cotracker/resolve/main/cotracker2.pth",
    "cotracker2_online": f"{_HUGGING_FACE}/cotracker/resolve/main/cotracker2.pth",
    "cotracker2v1": f"{_HUGGING_FACE}/cotracker/resolve/main/cotracker2v1.pth",
    "cotracker2v1_online": f"{_HUGGING_FACE}/cotracker/resolve/main/cotracker2v1.pth",
}
"""The hub entries of facebookresearch/co-tracker, with what each downloads."""

HUB_REPO = "facebookresearch/co-tracker"
"""torch.hub repository that CoTracker's code is fetched from where there is no checkout of it."""

HUB_REF = "82e02e8029753ad4ef13cf06be7f4fc5facdda4d"
"""Commit of ``HUB_REPO`` that is known to work."""


def load_predictor(entry: str, config: CoTrackerConfig) -> Any:
    """The predictor that hub entry ``entry`` makes, with its weights, on the CPU.

    Raises:
        TrackerError: code or weights are not there, or are not CoTracker's; says which keys to set.
    """
    repo, source = _repository(config, entry)
    pretrained = config.weights is None
    try:
        predictor = torch.hub.load(  # type: ignore[no-untyped-call]
            repo,
            entry,
            source=source,
            pretrained=pretrained,
            # torch.hub would ask on the terminal; naming the repository in the config is the answer.
            trust_repo=True,
            skip_validation=True,
            verbose=False,
        )
    except ImportError as error:
        raise TrackerError(f"CoTracker's code in {repo} cannot be imported: {one_line(error)}") from error
    except LOAD_ERRORS as error:
        if "Cannot find callable" in str(error):
            raise TrackerError(
                f"tracking.tracker = {entry!r} is no entry of {repo}/hubconf.py; CoTracker's entries are "
                f"{', '.join(WEIGHTS_URLS)}"
            ) from error
        wanted = (
            "code and weights" if source == "github" and pretrained else "weights" if pretrained else "code"
        )
        raise TrackerError(
            f"no CoTracker {wanted} from {repo}: {one_line(error)}. Without network, {_how_to(entry, config)}"
        ) from error
    _check_parts(predictor, entry, repo)
    if config.weights is not None:
        _load_weights(predictor.model, Path(config.weights).expanduser(), entry)
    return predictor.eval().requires_grad_(False)


def _repository(config: CoTrackerConfig, entry: str) -> tuple[str, str]:
    """Repository and source as torch.hub takes them."""
    if config.checkout is not None:
        folder = Path(config.checkout).expanduser()
        if not (folder / "hubconf.py").is_file():
            raise TrackerError(
                f"tracking.cotracker.checkout = {config.checkout!r} is not a clone of CoTracker (it has no "
                f"hubconf.py); {_CLONE}"
            )
        return str(folder), "local"
    return f"{HUB_REPO}:{HUB_REF}", "github"


def _check_parts(predictor: Any, entry: str, repo: str) -> None:
    """Raises TrackerError unless ``predictor`` has the parts of CoTracker that are used."""
    parts = ("interp_shape", "support_grid_size", "model", "model.fnet", "model.updateformer")
    missing = [part for part in parts if not _has(predictor, part)]
    if missing:
        raise TrackerError(
            f"{entry} of {repo} does not have CoTracker's parts ({', '.join(missing)} missing); this version "
            "of its code does not fit, set tracking.cotracker.checkout to a clone of another"
        )


def _has(value: Any, part: str) -> bool:
    for name in part.split("."):
        if not hasattr(value, name):
            return False
        value = getattr(value, name)
    return True


def _load_weights(model: torch.nn.Module, path: Path, entry: str) -> None:
    """Fills ``model`` from a state-dict file."""
    if not path.is_file():
        raise TrackerError(f"tracking.cotracker.weights = {str(path)!r} is not a file; {_weights_for(entry)}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state.get("model", state))
    except (*LOAD_ERRORS, AttributeError, TypeError, ValueError, LookupError) as error:
        raise TrackerError(
            f"tracking.cotracker.weights = {str(path)!r} is not a state dict of {entry}: "
            f"{one_line(error)}{_where(entry, '. It is at {}')}"
        ) from error


_CLONE = (
    "set tracking.cotracker.checkout to a folder made by 'git clone "
    "https://github.com/facebookresearch/co-tracker'"
)


def _how_to(entry: str, config: CoTrackerConfig) -> str:
    """Which settings to give where nothing can be fetched; a checkout that is there is not asked for."""
    return _weights_for(entry) if config.checkout else f"{_CLONE}, and {_weights_for(entry)}"


def _weights_for(entry: str) -> str:
    file = _where(entry, "a file downloaded from {}") or "a file of weights"
    return f"set tracking.cotracker.weights to {file}"


def _where(entry: str, text: str) -> str:
    """``text`` with the address of the entry's weights; empty for an entry that is not CoTracker's own."""
    return text.format(WEIGHTS_URLS[entry]) if entry in WEIGHTS_URLS else ""
