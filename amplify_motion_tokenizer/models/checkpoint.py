"""Checkpoint files: written by the trainer, read for resuming and by ``load_tokenizer``.

Ours is a torch file that holds one dict of tensors and plain values::

    format, format_version   what it is
    model                    state dict
    config                   the resolved config, as plain dicts
    track_settings           dotted keys that decided the training tracks; None when unknown
    metrics                  of the epoch that it ends
    versions                 of this package and the libraries that matter
    training                 optimiser, scheduler, scaler, position, random states, and the weights of
                             the last step where ``model`` holds their running mean

``amplify.exchange`` and ``keypoint.exchange`` read and write the files of the other systems.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config, to_dict
from amplify_motion_tokenizer.config.gone import settings_now
from amplify_motion_tokenizer.config.loading import config_from_dict, local_settings, stored_settings
from amplify_motion_tokenizer.damaged_files import no_file
from amplify_motion_tokenizer.devices import resolve_device
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.files import write_torch
from amplify_motion_tokenizer.kinds import MAPPING, TEXT, check_kinds, or_none
from amplify_motion_tokenizer.models import MODELS, MotionTokenizer, build_model
from amplify_motion_tokenizer.models.amplify.exchange import read_amplify
from amplify_motion_tokenizer.models.exchange import OWN_PARTS, Exchanged
from amplify_motion_tokenizer.models.hub_folder import check_config, weights_of
from amplify_motion_tokenizer.models.keypoint.exchange import read_reproduction
from amplify_motion_tokenizer.models.shipped import SUFFIX, names, place_of, read_shipped
from amplify_motion_tokenizer.models.torch_files import TENSORS, file_hash, read_torch, unwrapped
from amplify_motion_tokenizer.version import versions

FORMAT = "amplify_motion_tokenizer"
FORMAT_VERSION = 1


_NEEDED = ("model", "config")
"""The keys that make a tokenizer; AMPLIFY's files also hold training state, with foreign objects in it."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint file in memory, on the CPU."""

    path: Path
    model: dict[str, Tensor]
    """State dict."""
    config: Config
    track_settings: dict[str, Any] | None
    """Dotted keys that decided the training tracks; None when the file does not say."""
    metrics: dict[str, float]
    training: dict[str, Any] | None
    """Training state; None in files that only hold weights."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of this package and its libraries when the file was written; empty when unknown."""
    gone: dict[str, Any] = field(default_factory=dict)
    """Settings of its training that no longer exist, where their values are not today's constants."""
    copy_of: str | None = None
    """SHA-256 of the file that this one is a copy of, as ``Tokenizer.save_pretrained`` writes copies."""
    not_followed: dict[str, Any] = field(default_factory=dict)
    """Code, paths and network places that the file names (``Setting.local``): told, never followed."""

    @property
    def sha256(self) -> str:
        """What codes name the tokenizer by: SHA-256 of its file, or of the one that this is a copy of."""
        return self.copy_of or file_hash(self.path)


def plain_content(
    config: Config, track_settings: dict[str, Any] | None, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """What a file holds beside the weights, and training's state."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": to_dict(config),
        "track_settings": track_settings,
        "metrics": dict(metrics),
        "versions": versions(),
    }


def save_checkpoint(
    path: Path,
    *,
    model: Mapping[str, Tensor],
    config: Config,
    track_settings: dict[str, Any] | None,
    metrics: Mapping[str, float],
    training: dict[str, Any] | None,
) -> None:
    """Writes a checkpoint atomically; without ``training`` it cannot be resumed."""
    plain = plain_content(config, track_settings, metrics)
    write_torch(path, {"model": dict(model), **plain, "training": training})


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads one of our checkpoints, the source's, or a reproduction's state dict with its config.

    Instead of a path it takes the name of a tokenizer that the package ships, such as "default", a folder
    that ``Tokenizer.save_pretrained`` wrote, or a name on the Hugging Face Hub, ``user/name`` or
    ``user/name@revision``.

    Raises:
        CheckpointError: the file is missing, damaged, needs code to unpickle, or is neither; names
            the file and what it looked like.
        ConfigError: the config that belongs to it is impossible.
    """
    path = place_of(path)
    path = weights_of(path) or path
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {path} {no_file(path)}; give a run's best.pth or last.pth, a file of another "
            f"system, user/name on the Hugging Face Hub, or a tokenizer that is shipped: {', '.join(names())}"
        )
    content = read_shipped(path) if path.suffix == SUFFIX else read_torch(path, _NEEDED)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        checkpoint = _native(path, content)
        _check_size(checkpoint)
        check_config(path, content)
        return checkpoint
    if isinstance(content, dict) and {"model", "config"} <= content.keys():
        return _foreign(path, read_amplify(path, content))
    if isinstance(content, dict) and content and all(isinstance(v, Tensor) for v in content.values()):
        return _foreign(path, read_reproduction(path, content))
    raise CheckpointError(
        f"{path}: is not a tokenizer checkpoint; it holds {_describe(content)}; "
        "give a run's best.pth or last.pth"
    )


def load_tokenizer(path: str | Path, device: str | torch.device = "cpu") -> MotionTokenizer:
    """A tokenizer in evaluation mode, from any file that ``load_checkpoint`` reads, or a shipped one by name.

    The names are "default", "transform" and others of ``models.shipped``.

    Args:
        path: the file, or the name of a shipped tokenizer.
        device: where its weights are to be: auto, cpu, mps, cuda, cuda:N, or a device of torch.

    Raises:
        ConfigError: there is no such device here; says which are.
        CheckpointError: as ``load_checkpoint``; or the weights do not fit the config.
    """
    device = resolve_device(str(device), "device")
    checkpoint = load_checkpoint(path)
    model = build_model(checkpoint.config)
    load_weights(model, checkpoint.model, str(path))
    return model.to(device).eval()


def load_weights(model: torch.nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads ``state`` strictly into ``model``.

    Raises:
        CheckpointError: names the first keys that are missing, unknown or of another shape, or hold no
            weights: whole numbers, NaN or infinity, modes that are none.
    """
    own = model.state_dict()
    problems = [
        f"{key} has shape {tuple(state[key].shape)}, the config expects {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    problems += [f"{key} is missing" for key in own.keys() - state.keys()]
    problems += [f"{key} is unknown" for key in state.keys() - own.keys()]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{source}: weights do not fit the config: {'; '.join(sorted(problems)[:3])}{more}; "
            "use the config that the checkpoint was trained with"
        )
    unusable = [f"{key} {fault}" for key, value in own.items() if (fault := _fault(value, state[key]))]
    if unusable:
        more = f" (and {len(unusable) - 3} more)" if len(unusable) > 3 else ""
        raise CheckpointError(
            f"{source}: its weights are of no use: {'; '.join(unusable[:3])}{more}; take another checkpoint"
        )
    try:
        model.load_state_dict(state)
    except ValueError as error:
        problem = f"{source}: its weights are of no use: {error}"
        raise CheckpointError(f"{problem}; take another checkpoint") from None


def _fault(own: Tensor, found: Tensor) -> str | None:
    """Why ``found`` cannot be taken for a weight like ``own``; None where it can."""
    if found.layout != torch.strided or found.is_quantized or found.is_meta:
        return f"is no plain tensor ({found.dtype}, {found.layout}, {found.device})"
    if not own.is_floating_point():
        return None if not found.is_floating_point() and not found.is_complex() else f"is {found.dtype}"
    if not found.is_floating_point():
        return f"is {found.dtype}, expected floating-point numbers"
    finite = found.to(own.dtype).isfinite()  # numbers of 8 bits have no such test
    return None if finite.all() else f"holds {int((~finite).sum())} numbers that are NaN or infinite"


def _check_size(checkpoint: Checkpoint) -> None:
    """Refuses a config of a network that is larger than the weights, before there is one in memory."""
    model = checkpoint.config.model
    has_layers = "model.num_layers" not in MODELS[model.name].unused_settings
    wanted = model.num_layers * model.hidden_dim**2 if has_layers else 0
    found = sum(tensor.numel() for tensor in checkpoint.model.values())
    if wanted > found:
        raise CheckpointError(
            f"{checkpoint.path}: weights do not fit the config: {model.num_layers} layers of width "
            f"{model.hidden_dim} have more than {wanted} weights, the file holds {found}; use the config "
            "that the checkpoint was trained with"
        )


def _foreign(path: Path, content: Exchanged) -> Checkpoint:
    return Checkpoint(path=path, **content._asdict(), training=None)


def _native(path: Path, content: dict[str, Any]) -> Checkpoint:
    version = content.get("format_version")
    missing = {"model", "config", "track_settings", "metrics"} - content.keys()
    if type(version) is not int or version != FORMAT_VERSION or missing:
        problem = f"lacks {', '.join(sorted(missing))}" if missing else f"has format version {version!r:.40}"
        raise CheckpointError(
            f"{path}: {problem}; expected a checkpoint of format version {FORMAT_VERSION}; "
            "take another one, or read it with the package version that wrote it"
        )
    own = {"model": TENSORS, "training": or_none(MAPPING), "versions": MAPPING, "copy_of": or_none(TEXT)}
    check_kinds(str(path), content, OWN_PARTS | own)
    made, source = content["track_settings"], f"in {path}"
    return Checkpoint(
        path=path,
        model=unwrapped(content["model"]),
        config=config_from_dict(content["config"], source),
        track_settings=None if made is None else settings_now(made, str(path), CheckpointError),
        metrics=content["metrics"],
        training=content.get("training"),
        versions=content.get("versions", {}),
        copy_of=content.get("copy_of"),
        gone=stored_settings(content["config"], source).other,
        not_followed=local_settings(content["config"]),
    )


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dict with the keys {', '.join(map(str, list(content)[:8])) or '(none)'}"
    return f"a {type(content).__name__}"
