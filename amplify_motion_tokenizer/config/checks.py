"""Which values the settings allow, beyond their types, and the numbers that follow from others."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from amplify_motion_tokenizer.config.dataset_string import parse_dataset
from amplify_motion_tokenizer.config.keys import AMPLIFY_LEVELS, flatten
from amplify_motion_tokenizer.config.schema import Config
from amplify_motion_tokenizer.errors import ConfigError

CLIP_PLACE = "{clip}"
"""Stands in ``tracking.view_files`` for the clip's name."""


def validate(config: Config) -> Config:
    """Returns ``config`` with the derived numbers filled in, after checking every value.

    Raises:
        ConfigError: naming the first key whose value is impossible, the value and what is allowed.
    """
    nominal = config.model.nominal_codebook_size
    if nominal in AMPLIFY_LEVELS:
        model = dataclasses.replace(config.model, fsq_levels=AMPLIFY_LEVELS[nominal])
        config = dataclasses.replace(config, model=model)
    for key, value, ok, allowed in _rules(config):
        if not ok:
            raise ConfigError(f"{key} = {_show(value)} is impossible; allowed: {allowed}")
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, num_points=config.num_points),
        model=dataclasses.replace(
            config.model, num_classes=config.num_classes, codebook_size=config.codebook_size
        ),
    )


def _show(value: object) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


Rule = tuple[str, Any, bool, str]


def _rules(config: Config) -> list[Rule]:
    return [
        *_finite_rules(config),
        *_tracking_rules(config),
        *_data_rules(config),
        *_augmentation_rules(config),
        *_model_rules(config),
        *_amplify_rules(config),
        *_vision_rules(config),
        *_loss_rules(config),
        *_training_rules(config),
    ]


def _finite_rules(config: Config) -> list[Rule]:
    flat = flatten(dataclasses.asdict(config))
    numbers = [(key, value) for key, value in flat.items() if isinstance(value, float)]
    return [(key, str(value), math.isfinite(value), "a finite number") for key, value in numbers]


def _at_least(low: int, key: str, value: int | None, optional: bool = False) -> Rule:
    ok = optional if value is None else value >= low
    return key, value, ok, f"a whole number of at least {low}" + (" or null" if optional else "")


def _tracking_rules(config: Config) -> list[Rule]:
    video, tracking, gate, flow = config.video, config.tracking, config.tracking.gate, config.tracking.flow
    fps_ok = video.target_fps is None or video.target_fps > 0
    return [
        _at_least(1, "video.threads", video.threads),
        ("video.target_fps", video.target_fps, fps_ok, "a number above 0, or null"),
        ("video.fps", video.fps, video.fps is None or video.fps > 0, "a number above 0, or null"),
        _at_least(16, "video.resize_shorter", video.resize_shorter, optional=True),
        _target_size_rule(config),
        _at_least(1, "tracking.num_workers", tracking.num_workers, optional=True),
        _at_least(1, "tracking.window_stride", tracking.window_stride),
        _view_files_rule(config),
        _at_least(16, "tracking.first_frames", tracking.first_frames, optional=True),
        _at_least(8, "tracking.gate.resize_shorter", gate.resize_shorter),
        *[
            (f"tracking.gate.{name}", getattr(gate, name), 0 <= getattr(gate, name) <= 1, "0 to 1")
            for name in ("pixel_threshold", "min_mean_difference", "min_active_share")
        ],
        (
            "tracking.flow.scale",
            flow.scale,
            flow.scale is None or 0 < flow.scale <= 1,
            "above 0 and at most 1, or null",
        ),
        ("tracking.flow.finest_scale", flow.finest_scale, 0 <= flow.finest_scale <= 4, "0 to 4"),
        _at_least(1, "tracking.cotracker.window_batch_size", tracking.cotracker.window_batch_size),
    ]


def _target_size_rule(config: Config) -> Rule:
    size, key = config.video.target_size, "video.target_size"
    if config.video.fit == "shorter":
        return key, size, size is None, "null with video.fit: shorter, or set video.fit: letterbox"
    ok = size is not None and min(size) >= 16
    return key, size, ok, "[height, width] of at least 16 pixels, which video.fit: letterbox needs"


def _view_files_rule(config: Config) -> Rule:
    files, key = config.tracking.view_files, "tracking.view_files"
    names_ok = all(view and "/" not in view for view in files) and len(set(files.values())) == len(files)
    if config.video.source == "libero":
        ok = names_ok and all(files.values())
        return key, files, ok, "view names with different image names below obs, such as agentview_rgb"
    ok = names_ok and all(form.count(CLIP_PLACE) == 1 for form in files.values())
    return key, files, ok, f"view names with different paths that hold {CLIP_PLACE} once, or {{}}"


def _dataset_rule(config: Config) -> Rule:
    dataset, key, ok = config.data.dataset, "data.dataset", True
    if dataset is not None:
        try:
            ok = parse_dataset(dataset)[1] == "traj"
        except ConfigError:
            ok = False
    return (
        key,
        dataset,
        ok,
        "name:traj0.9 (a share of each task's demos), name:traj-0.1 (from the end), or null",
    )


def _data_rules(config: Config) -> list[Rule]:
    data, filter_ = config.data, config.data.static_filter
    points = config.num_points
    return [
        _dataset_rule(config),
        _at_least(2, "data.sequence_length", data.sequence_length),
        _at_least(1, "data.grid_size", data.grid_size),
        (
            "data.num_points",
            data.num_points,
            data.num_points in (None, points),
            f"{points}, which is data.grid_size^2 ({data.grid_size}^2), or leave it out",
        ),
        (
            "data.reference_size",
            data.reference_size,
            _is_reference_size(data.reference_size),
            "[height, width] or {shorter: pixels}, whole numbers of at least 2, or null",
        ),
        (
            "data.views",
            data.views,
            1 <= len(set(data.views)) == len(data.views)
            and (config.model.name == "amplify" or len(data.views) == 1),
            "one name for the keypoint model, one or more different names for amplify",
        ),
        _at_least(2, "data.true_horizon", data.true_horizon, optional=True),
        ("data.val_split", data.val_split, 0 <= data.val_split < 1, "0 or more and below 1"),
        ("data.static_filter.threshold", filter_.threshold, filter_.threshold >= 0, "0 or more"),
        (
            "data.static_filter.min_keep",
            filter_.min_keep,
            0 <= filter_.min_keep <= points or not filter_.enable,
            f"0 to {points} (the number of points, data.grid_size^2)",
        ),
    ]


def _augmentation_rules(config: Config) -> list[Rule]:
    own, length = config.data.augmentation, config.data.sequence_length
    low, high = own.scale
    longest = (config.tracked_length - 1) // max(1, length - 1)
    stride = own.temporal_stride
    stride_ok = stride is None or 1 <= stride[0] <= stride[1] <= longest
    still = "with model.amplify.vision.encoder, as first frames would show another moment"
    section = "data.augmentation"
    return [
        *[
            (f"{section}.{name}", getattr(own, name), 0 <= getattr(own, name) <= 1, "0 to 1")
            for name in ("flip_horizontal", "flip_vertical", "reverse")
        ],
        (f"{section}.scale", own.scale, 0 < low <= high < math.inf, "two numbers above 0, the lower first"),
        (f"{section}.point_dropout", own.point_dropout, 0 <= own.point_dropout < 1, "0 or more and below 1"),
        (
            f"{section}.temporal_stride",
            stride,
            stride_ok,
            f"two whole numbers from 1 to {longest}, the lower first, as data.true_horizon has "
            f"{config.tracked_length} frames and data.sequence_length {length}; or null",
        ),
        (f"{section}.reverse", own.reverse, not (own.reverse and config.conditioned), f"0 {still}"),
        (f"{section}.temporal_stride", stride, not (stride and config.conditioned), f"null {still}"),
    ]


def _is_reference_size(size: tuple[int, int] | dict[str, int] | None) -> bool:
    if size is None:
        return True
    values = list(size.values()) if isinstance(size, dict) else list(size)
    shape_ok = list(size) == ["shorter"] if isinstance(size, dict) else len(values) == 2
    return shape_ok and all(value >= 2 for value in values)


def _model_rules(config: Config) -> list[Rule]:
    model = config.model
    width, classes, codes = model.decoder_window_size, config.num_classes, config.codebook_size
    heads_ok = model.num_heads >= 1 and model.hidden_dim % model.num_heads == 0
    levels_ok = len(model.fsq_levels) >= 1 and all(level >= 3 for level in model.fsq_levels)
    return [
        _at_least(1, "model.num_layers", model.num_layers),
        _at_least(1, "model.hidden_dim", model.hidden_dim),
        (
            "model.num_heads",
            model.num_heads,
            heads_ok,
            f"a whole number that divides model.hidden_dim ({model.hidden_dim})",
        ),
        ("model.dropout", model.dropout, 0 <= model.dropout < 1, "0 or more and below 1"),
        _at_least(1, "model.encoder_sequence_len", model.encoder_sequence_len),
        ("model.latent_noise", model.latent_noise, model.latent_noise >= 0, "0 or more"),
        ("model.fsq_levels", model.fsq_levels, levels_ok, "one or more whole numbers of at least 3"),
        (
            "model.decoder_window_size",
            width,
            width >= 3 and width % 2 == 1,
            "an odd whole number of at least 3",
        ),
        (
            "model.num_classes",
            model.num_classes,
            model.num_classes in (None, classes),
            f"{classes}, which is {' x '.join(map(str, config.class_grid))}, or leave it out",
        ),
        (
            "model.codebook_size",
            model.codebook_size,
            model.codebook_size in (None, codes),
            f"{codes}, the product of model.fsq_levels, or leave it out",
        ),
    ]


def _amplify_rules(config: Config) -> list[Rule]:
    amplify, nominal = config.model.amplify, config.model.nominal_codebook_size
    size_ok = config.model.name != "amplify" or isinstance(config.data.reference_size, tuple)
    return [
        (
            "model.nominal_codebook_size",
            nominal,
            nominal is None or nominal in AMPLIFY_LEVELS,
            f"{', '.join(map(str, AMPLIFY_LEVELS))}, or null",
        ),
        _at_least(1, "model.amplify.mlp_dim", amplify.mlp_dim),
        (
            "model.amplify.class_grid",
            amplify.class_grid,
            all(side >= 1 and side % 2 == 1 for side in amplify.class_grid or ()),
            "two odd whole numbers, or null",
        ),
        (
            "data.reference_size",
            config.data.reference_size,
            size_ok,
            "[height, width] for the amplify model, which normalises by the frame",
        ),
    ]


def _vision_rules(config: Config) -> list[Rule]:
    vision, side = config.model.amplify.vision, config.tracking.first_frames
    return [
        (
            "model.amplify.vision.encoder",
            vision.encoder,
            vision.encoder is None or config.model.name == "amplify",
            "null, or model.name: amplify, the only model that is conditioned on images",
        ),
        (
            "model.amplify.vision.weights",
            vision.weights,
            vision.weights is None or vision.encoder is not None,
            "null without model.amplify.vision.encoder",
        ),
        (
            "model.amplify.vision.lr_multiplier",
            vision.lr_multiplier,
            vision.lr_multiplier > 0,
            "above 0; model.amplify.vision.frozen keeps the weights as they are",
        ),
        (
            "tracking.first_frames",
            side,
            side is not None or not config.conditioned,
            "a side in pixels such as 224, which model.amplify.vision.encoder needs",
        ),
    ]


def _loss_rules(config: Config) -> list[Rule]:
    loss = config.loss
    return [
        ("loss.gamma", loss.gamma, loss.gamma >= 0, "0 or more"),
        ("loss.alpha_center", loss.alpha_center, loss.alpha_center >= 0, "0 or more"),
        ("loss.alpha_other", loss.alpha_other, loss.alpha_other > 0, "above 0"),
        ("loss.radial_strength", loss.radial_strength, loss.radial_strength >= 0, "0 or more"),
        ("loss.radial_power", loss.radial_power, loss.radial_power > 0, "above 0"),
        (
            "loss.view_weights",
            loss.view_weights,
            all(math.isfinite(weight) and weight >= 0 for weight in loss.view_weights.values()),
            "view names with weights of 0 or more",
        ),
        *[
            (f"loss.{name}", getattr(loss, name), 0 <= getattr(loss, name) <= 1, "0 to 1")
            for name in ("min_visibility", "min_visible_share")
        ],
        ("loss.usage.weight", loss.usage.weight, loss.usage.weight >= 0, "0 or more"),
        ("loss.usage.temperature", loss.usage.temperature, loss.usage.temperature > 0, "above 0"),
        ("loss.usage.sample_entropy", loss.usage.sample_entropy, loss.usage.sample_entropy >= 0, "0 or more"),
    ]


def _training_rules(config: Config) -> list[Rule]:
    training = config.training
    clip_ok = training.clip_grad_norm is None or training.clip_grad_norm > 0
    minutes = training.save_every_minutes
    return [
        *[
            _at_least(1, f"training.{name}", getattr(training, name))
            for name in (
                "batch_size",
                "gradient_accumulation_steps",
                "epochs",
                "log_every_steps",
                "save_every_epochs",
                "keep_last",
            )
        ],
        *[
            _at_least(1, f"training.{name}", getattr(training, name), optional=True)
            for name in (
                "max_steps",
                "early_stopping",
                "validate_every_steps",
                "save_every_steps",
                "keep_epochs",
            )
        ],
        *[
            _at_least(0, f"training.{name}", getattr(training, name))
            for name in ("warmup_steps", "num_workers", "pictures", "max_skipped_steps")
        ],
        *_collapse_rules(config),
        ("training.seed", training.seed, 0 <= training.seed < 2**31, "a whole number from 0 to 2147483647"),
        ("training.learning_rate", training.learning_rate, training.learning_rate > 0, "above 0"),
        ("training.weight_decay", training.weight_decay, training.weight_decay >= 0, "0 or more"),
        (
            "training.betas",
            training.betas,
            all(0 <= beta < 1 for beta in training.betas),
            "two numbers, 0 or more and below 1",
        ),
        ("training.clip_grad_norm", training.clip_grad_norm, clip_ok, "above 0, or null"),
        ("training.save_every_minutes", minutes, minutes is None or minutes > 0, "above 0, or null"),
        (
            "training.ema_decay",
            training.ema_decay,
            training.ema_decay is None or 0 <= training.ema_decay < 1,
            "0 or more and below 1, or null",
        ),
        _at_least(1, "inference.batch_size", config.inference.batch_size),
    ]


def _collapse_rules(config: Config) -> list[Rule]:
    collapse, key = config.training.collapse, "training.collapse"
    return [
        _at_least(0, f"{key}.after_steps", collapse.after_steps),
        _at_least(0, f"{key}.min_unique_codes", collapse.min_unique_codes),
        (f"{key}.min_entropy", collapse.min_entropy, 0 <= collapse.min_entropy <= 1, "0 to 1"),
    ]
