"""Trains the codec on made-up motion: no videos, no tracks, one seed.

First its modes are fitted (``mode_fitting``). The codes of a window are fixed then, so that no code can die,
and the decoder learns to make more of them. Each window is told by a random number of its ids, so that the
first few are a code too.

Letters: B windows, d ids, K digits of an id, t steps, N points.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from amplify_motion_tokenizer.config import Config, track_settings
from amplify_motion_tokenizer.config.input_kinds import SIDES
from amplify_motion_tokenizer.data.made_up import displacements_of_made_up
from amplify_motion_tokenizer.errors import ConfigError, UsageError
from amplify_motion_tokenizer.files import check_target, write_json
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.checkpoint import plain_content
from amplify_motion_tokenizer.models.displacement.codec import CodecTokenizer
from amplify_motion_tokenizer.models.displacement.codec_loss import Pool, loss_of, pool_of, random_prefixes
from amplify_motion_tokenizer.models.shipped import SUFFIX, write_shipped
from amplify_motion_tokenizer.training.mode_fitting import FITTED_TO, fit_to_made_up
from amplify_motion_tokenizer.version import versions

_WARM_UP = 1 / 11
"""Share of the steps over which the learning rate rises."""

_AVERAGE = 0.998
"""Decay of the running mean of the weights, which is what is kept."""


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How the codec is trained."""

    seed: int = 0
    """Of the first weights, the made-up windows and all that is random."""
    steps: int = 4000
    """Optimiser steps."""
    batch_size: int = 192
    """Windows of a step."""
    learning_rate: float = 1.2e-3
    """Highest of a cosine."""
    weight_decay: float = 0.01
    """AdamW's."""
    windows: int = 32000
    """Made-up windows, each of which is seen several times."""
    fitted_to: int = FITTED_TO
    """Made-up windows, other ones, that modes are fitted to."""
    judged: int = 3
    """Steps of a window, drawn anew for each batch, at which it is judged."""


def made_up(model: CodecTokenizer, options: Pretraining, first: int, count: int) -> Pool:
    """Windows ``first`` to ``first + count - 1`` of the endless row that ``options.seed`` gives."""
    data = model.config.data
    moves = displacements_of_made_up(options.seed, first, count, data.grid_size, data.sequence_length)
    return pool_of(model, *moves)


def pretrain(
    model: CodecTokenizer, options: Pretraining, tell: Callable[[int, float, float], None]
) -> dict[str, Tensor]:
    """Trains ``model`` and returns the running mean of its weights, by their names.

    Args:
        model: with its first weights.
        options: how.
        tell: called every 250 steps with the step, the mean loss since and the CPU seconds so far.
    """
    began = time.process_time()
    random = torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), options.learning_rate, (0.9, 0.98), weight_decay=options.weight_decay
    )
    mean = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    # Windows are made as they are needed: all are there when half of the steps are over.
    part = max(1, options.windows // 20)
    pool = made_up(model, options, 0, part)
    model.train()
    total = 0.0
    for step in range(options.steps):
        if len(pool.gain) < options.windows and step >= len(pool.gain) / options.windows * options.steps / 2:
            fresh = made_up(model, options, len(pool.gain), part)
            pool = Pool(*(torch.cat(pair) for pair in zip(pool, fresh, strict=True)))
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _rate(step, options.steps)
        rows = torch.randint(len(pool.gain), (options.batch_size,), generator=random)
        ids = random_prefixes(options.batch_size, model.num_codes, rows.device, random)
        judged = torch.randperm(model.config.num_steps, generator=random)[: options.judged]
        loss = loss_of(model, pool.take(rows, judged), judged, ids)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(_AVERAGE, step / (step + 10))
        for name, weight in model.named_parameters():
            mean[name].lerp_(weight.detach(), 1 - decay)
        total += loss.item()
        if step % 250 == 249:
            tell(step + 1, total / 250, time.process_time() - began)
            total = 0.0
    return mean


def write_pretrained(
    path: Path, config: Config, options: Pretraining, tell: Callable[[int, float, float], None]
) -> dict[str, Any]:
    """Trains what ``config`` describes and writes it, in half precision, with its record beside it.

    Args:
        path: ``NAME.safetensors``; the record is ``NAME.json``.
        config: of a transform tokenizer, which is written as it is, or of a codec.
        options: how.
        tell: as ``pretrain``.

    Returns:
        The record: options, weights, bytes, CPU seconds, last loss, versions.

    Raises:
        ConfigError: the model is another.
        UsageError: an option is impossible, or the file cannot be written.
    """
    check_options(path, config, options)
    torch.manual_seed(options.seed)
    began, losses = time.process_time(), [math.nan]
    model = build_model(config)
    weights: dict[str, Tensor] = {}
    if isinstance(model, CodecTokenizer):

        def heard(step: int, loss: float, seconds: float) -> None:
            losses.append(loss)
            tell(step, loss, seconds)

        fit_to_made_up(model, options.seed, options.fitted_to)
        weights = {name: weight.half() for name, weight in pretrain(model, options, heard).items()}
        weights |= {name: buffer.half() for name, buffer in model.modes.state_dict(prefix="modes.").items()}
    write_shipped(path, weights, plain_content(config, track_settings(config), {}))
    record = {
        "model": config.model.name,
        "options": dataclasses.asdict(options) if weights else {},
        "weights": sum(weight.numel() for weight in model.parameters()),
        "bytes": path.stat().st_size,
        "cpu_seconds": round(time.process_time() - began, 1),
        "threads": torch.get_num_threads(),
        "last_loss": None if math.isnan(losses[-1]) else round(losses[-1], 5),
        "versions": versions(),
    }
    write_json(path.with_suffix(".json"), record)
    return record


def check_options(path: Path, config: Config, options: Pretraining) -> None:
    """Raises what ``write_pretrained`` says, before anything is computed."""
    if config.input_kind is not SIDES:
        raise ConfigError(f"model.name = {config.model.name} is impossible; allowed: codec or transform")
    if path.suffix != SUFFIX:
        raise UsageError(f"--output is {path}; expected a file NAME{SUFFIX}")
    for name, least in {"seed": 0, "steps": 1, "windows": 1, "batch_size": 1}.items():
        if getattr(options, name) < least:
            raise UsageError(f"{name} is {getattr(options, name)}; expected at least {least}")
    check_target(path)


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / (_WARM_UP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
