"""Checkpoints converted between this project, AMPLIFY and the keypoint reproduction."""

from __future__ import annotations

import logging
from pathlib import Path

from amplify_motion_tokenizer.errors import CheckpointError, UsageError
from amplify_motion_tokenizer.files import write_torch, write_yaml
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.amplify.exchange import amplify_content
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_weights, save_checkpoint
from amplify_motion_tokenizer.models.exchange import OWN_KEY, own_part, unknown_settings
from amplify_motion_tokenizer.models.keypoint.exchange import REPRODUCTION_CONFIG, reproduction_content

logger = logging.getLogger(__name__)

KINDS = ("amplify", "keypoint", "native")


def convert(source: Path, target: Path, kind: str) -> list[Path]:
    """Writes ``source`` as a file of ``kind`` and returns what was written.

    A keypoint file gets its ``config.yaml`` beside it.

    Raises:
        CheckpointError: ``source`` cannot be read, its weights do not fit, or it is of another model.
        UsageError: ``target``, or the config beside it, is there already or cannot be written; or both
            have the same name.
    """
    targets = [target] + [target.with_name(REPRODUCTION_CONFIG)] * (kind == "keypoint")
    if len(set(targets)) < len(targets):
        raise UsageError(
            f"{target}: is the name of the config that lies beside the weights; name the weights otherwise, "
            "such as best.pth"
        )
    for path in targets:
        if path.exists():
            raise UsageError(f"{path} exists; choose another name, nothing is overwritten")
    checkpoint = load_checkpoint(source)
    config = checkpoint.config
    load_weights(build_model(config), checkpoint.model, str(source))
    if kind == "native":
        save_checkpoint(
            target,
            model=checkpoint.model,
            config=config,
            track_settings=checkpoint.track_settings,
            metrics=checkpoint.metrics,
            training=None,
        )
        return targets
    own = {OWN_KEY: own_part(config, checkpoint.track_settings, checkpoint.metrics)}
    try:
        if kind == "amplify":
            write_torch(target, amplify_content(checkpoint.model, config) | own)
        else:
            state, beside = reproduction_content(checkpoint.model, config)
            write_torch(target, state)
            write_yaml(targets[1], beside | own)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    unknown = unknown_settings(config)
    if unknown:
        logger.warning(
            "%s was trained with %s, which the other system does not read there: give it such input "
            "(load_tokenizer and inference know)",
            target,
            ", ".join(unknown),
        )
    return targets
