"""Rules that several settings must meet together; what one may be by itself stands at its field."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from amplify_motion_tokenizer.config.convert import show
from amplify_motion_tokenizer.config.dataset_string import parse_dataset
from amplify_motion_tokenizer.config.input_kinds import names_with
from amplify_motion_tokenizer.config.keys import SETTINGS, flatten
from amplify_motion_tokenizer.config.levels import ALLOWED_LEVELS, levels_allowed
from amplify_motion_tokenizer.config.schema import Config
from amplify_motion_tokenizer.errors import ConfigError

CLIP_PLACE = "{clip}"
"""Stands in ``tracking.view_files`` for the clip's name."""

LEAST_CAMERA_POINTS = 8
"""Points that a frame must show of a window's first one for its camera to be known: a map has four."""

Problem = tuple[str, Any, str]
"""A dotted key, its impossible value, and what is allowed, in words."""

Rule = tuple[str, Any, bool, str]
"""A dotted key, its value, whether that is possible, and what is allowed, in words."""


def validate(config: Config) -> Config:
    """Returns ``config``, after checking every value.

    Raises:
        ConfigError: naming the first key whose value is impossible, the value and what is allowed.
    """
    problem = problem_of(config)
    if problem is not None:
        raise ConfigError(impossible(*problem))
    return config


def impossible(key: str, value: Any, allowed: str) -> str:
    """The message for an impossible value, in which texts have quotes."""
    told = json.dumps(value) if isinstance(value, str) else show(value)
    return f"{key} = {told} is impossible; allowed: {allowed}"


def problem_of(config: Config) -> Problem | None:
    """The first value that is impossible; None where all are possible."""
    for key, value in flatten(dataclasses.asdict(config)).items():
        if not SETTINGS[key].fits(value):
            finite = isinstance(value, float) and value - value != 0
            return key, value, "a finite number" if finite else SETTINGS[key].allowed
    return next(((key, value, allowed) for key, value, ok, allowed in _rules(config) if not ok), None)


MOST_POSITIONS = 2**24
"""Points times frames of a window: 2,600 times the default's, for which there is room in memory."""


def _rules(config: Config) -> Iterator[Rule]:
    yield _view_files_rule(config)
    yield _dataset_rule(config)
    yield from _data_rules(config)
    yield _source_rule(config)
    yield from _augmentation_rules(config)
    yield from _model_rules(config)


_INSIDE = {
    "libero": "view names with different image names below obs, such as agentview_rgb",
    "lerobot": "view names with the keys of different cameras, such as observation.images.top",
}
"""Sources whose views lie within what is one file or data set, and how ``tracking.view_files`` names them."""


def _view_files_rule(config: Config) -> Rule:
    files, key = config.tracking.view_files, "tracking.view_files"
    names_ok = all(view and "/" not in view for view in files) and len(set(files.values())) == len(files)
    names_ok = names_ok and not any(_leads_out(form) for form in files.values())
    if config.video.source in _INSIDE:
        return key, files, names_ok and all(files.values()), _INSIDE[config.video.source]
    ok = names_ok and all(form.count(CLIP_PLACE) == 1 for form in files.values())
    words = f"view names with different paths below the input folder that hold {CLIP_PLACE} once, or {{}}"
    return key, files, ok, words


def _leads_out(form: str) -> bool:
    """Whether a path is not below the folder that it is joined to, as a stranger's file may have it."""
    parts = form.replace("\\", "/").split("/")
    return parts[0].endswith(":") or parts[0] == "" or ".." in parts or "\0" in form


def _dataset_rule(config: Config) -> Rule:
    dataset, ok = config.data.dataset, True
    if dataset is not None:
        try:
            ok = parse_dataset(dataset)[1] == "traj"
        except ConfigError:
            ok = False
    allowed = "name:traj0.9 (a share of each task's demos), name:traj-0.1 (from the end), or null"
    return "data.dataset", dataset, ok, allowed


def _data_rules(config: Config) -> Iterator[Rule]:
    data, filter_, points = config.data, config.data.static_filter, config.num_points
    kind, length = config.input_kind, max(config.tracked_length, config.data.sequence_length)
    yield (
        "data.grid_size",
        data.grid_size,
        points * length <= MOST_POSITIONS,
        f"at most {MOST_POSITIONS} positions in a window, grid_size^2 x {length} frames",
    )
    yield (
        "data.reference_size",
        data.reference_size,
        not kind.frame_size or isinstance(data.reference_size, tuple),
        f"[height, width] for the {config.model.name} model, which normalises by the frame",
    )
    yield (
        "data.reference_size",
        data.reference_size,
        not kind.one_size or data.reference_size is not None,
        f"[height, width] or {{shorter: pixels}} for the {config.model.name} model",
    )
    yield (
        "data.views",
        data.views,
        len(set(data.views)) == len(data.views) and (kind.view_axis or len(data.views) == 1),
        f"one name, or one or more different names for model.name: {names_with('view_axis')}",
    )
    yield (
        "data.camera",
        data.camera,
        data.camera == "keep" or points >= LEAST_CAMERA_POINTS,
        f"keep with data.grid_size: {data.grid_size}, as {LEAST_CAMERA_POINTS} points at least tell of it",
    )
    yield (
        "data.static_filter.min_keep",
        filter_.min_keep,
        filter_.min_keep <= points or not filter_.enable,
        f"0 to {points} (the number of points, data.grid_size^2)",
    )


def _source_rule(config: Config) -> Rule:
    source = config.data.source
    ok, why = True, ""
    if config.data.reference_size is None:
        ok, why = source == "tracks", " with data.reference_size: null, as made-up frames have many sizes"
    elif config.conditioned:
        ok, why = source == "tracks", " with model.amplify.vision.encoder, as made-up motion has no frames"
    elif config.data.augmentation.enabled:
        ok, why = source != "synthetic", " or both with data.augmentation, which changes tracks alone"
    return "data.source", source, ok, f"tracks{why}"


def _augmentation_rules(config: Config) -> Iterator[Rule]:
    own, length, section = config.data.augmentation, config.data.sequence_length, "data.augmentation"
    longest = (config.tracked_length - 1) // max(1, length - 1)
    stride = own.temporal_stride
    still = "with model.amplify.vision.encoder, as first frames would show another moment"
    yield (
        f"{section}.scale",
        own.scale,
        own.scale[0] <= own.scale[1],
        "two numbers above 0, the lower first",
    )
    yield (
        f"{section}.temporal_stride",
        stride,
        stride is None or stride[0] <= stride[1] <= longest,
        f"two whole numbers from 1 to {longest}, the lower first, as data.true_horizon has "
        f"{config.tracked_length} frames and data.sequence_length {length}; or null",
    )
    yield f"{section}.reverse", own.reverse, not (own.reverse and config.conditioned), f"0 {still}"
    yield f"{section}.temporal_stride", stride, not (stride and config.conditioned), f"null {still}"


def _model_rules(config: Config) -> Iterator[Rule]:
    model, vision, side = config.model, config.model.amplify.vision, config.tracking.first_frames
    yield "model.fsq_levels", model.fsq_levels, levels_allowed(model.fsq_levels), ALLOWED_LEVELS
    yield (
        "model.num_heads",
        model.num_heads,
        model.hidden_dim % model.num_heads == 0,
        f"a whole number that divides model.hidden_dim ({model.hidden_dim})",
    )
    yield (
        "model.amplify.vision.encoder",
        vision.encoder,
        vision.encoder is None or model.own is model.amplify,
        "null, or model.name: amplify, the only model that is conditioned on images",
    )
    yield (
        "model.amplify.vision.weights",
        vision.weights,
        vision.weights is None or vision.encoder is not None,
        "null without model.amplify.vision.encoder",
    )
    yield (
        "tracking.first_frames",
        side,
        side is not None or not config.conditioned,
        "a side in pixels such as 224, which model.amplify.vision.encoder needs",
    )
