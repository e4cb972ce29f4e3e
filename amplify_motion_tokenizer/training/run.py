"""Wires a training run: tracks and config to data sets, accelerator and trainer."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import textwrap
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import WandBTracker

from amplify_motion_tokenizer.config import (
    SETTINGS,
    Config,
    changes,
    flatten,
    free_on_resume,
    to_dict,
    track_settings,
)
from amplify_motion_tokenizer.config.gone import CONSTANTS, what_took_its_place
from amplify_motion_tokenizer.config.loading import Given, build, config_from_settings
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips, split_clips
from amplify_motion_tokenizer.data.made_up import made_up_training, made_up_validation
from amplify_motion_tokenizer.errors import CheckpointError, ConfigError, UsageError
from amplify_motion_tokenizer.file_names import OUTPUT_CONFIG, checkpoints_in
from amplify_motion_tokenizer.files import write_yaml, yaml_text
from amplify_motion_tokenizer.jobs.folder_lock import only_run
from amplify_motion_tokenizer.jobs.output_folders import open_output_folder
from amplify_motion_tokenizer.models import MODELS
from amplify_motion_tokenizer.models.checkpoint import Checkpoint
from amplify_motion_tokenizer.tracks.stored import Clips
from amplify_motion_tokenizer.training.checkpoints import load_state, newest_state, run_id_in, run_id_of
from amplify_motion_tokenizer.training.initial import check_initial, load_initial, told
from amplify_motion_tokenizer.training.launch import make_accelerator
from amplify_motion_tokenizer.training.log import log_failures_named
from amplify_motion_tokenizer.training.state import TrainState
from amplify_motion_tokenizer.training.trainer import Trainer
from amplify_motion_tokenizer.version import versions

logger = logging.getLogger(__name__)


def train(
    config: Config,
    tracks: Path | None,
    output: Path,
    resume: str | None = None,
    init: str | Path | None = None,
) -> signal.Signals | None:
    """Trains on the tracks of a folder, on made-up motion or on both into another folder.

    Args:
        config: the whole config. What the track files say of their making wins over its sections
            video and tracking.
        tracks: folder of track files, or a pack; None with ``data.source: synthetic``, and only then.
        output: folder of the run: checkpoints, logs and the resolved config.
        resume: a checkpoint, or "auto" for the newest whole one in the output folder (a new run where
            there is none).
        init: a checkpoint, or the name of a shipped tokenizer, whose weights a new run begins with; the
            config must be of that model (``initial.initial_config``).

    Returns:
        The signal that ended the run before its end, SIGTERM or SIGINT; it can be resumed. None at its end.

    Raises:
        TokenizerError: tracks, config, output or checkpoint cannot be used.
    """
    _check_trainable(config)
    _check_wandb(config)
    initial = None if init is None else load_initial(init)
    if initial is not None:
        check_initial(initial, config)
    if config.training.deterministic:
        _use_deterministic_kernels()
    clips = _clips_to_train_on(config, tracks)
    config, settings = _with_track_settings(config, clips)
    accelerator = make_accelerator(config, output)
    with accelerator.main_process_first():
        checkpoint = _find_checkpoint(output, resume)
    if checkpoint is not None:
        _check_same_tracks(checkpoint, settings)
        _check_resumable(checkpoint, config)
        _check_same_beginning(checkpoint, initial)
    open_output_folder(output, "checkpoints of a run")
    train_clips, val_clips = split_clips(clips, config.data.val_split, config.training.seed)
    read = sum(clip.num_windows for clip in train_clips.values())
    train_data = WindowDataset(train_clips, config, True, False, made_up_training(config, read))
    val_data = WindowDataset(val_clips, config, made_up=made_up_validation(config))
    trainer = Trainer(config, accelerator, train_data, val_data, output, settings, checkpoint, initial)
    with _held(output, accelerator), log_failures_named(output / "tensorboard"):
        stopped_by = _run(trainer, val_data)
        # A model that outlives its process group can hang when it is freed.
        del trainer
        accelerator.free_memory()
        accelerator.end_training()
    return stopped_by


def _held(output: Path, accelerator: Accelerator) -> AbstractContextManager[None]:
    """Keeps other runs out of ``output``, whose processes are all this run's."""
    return only_run(output) if accelerator.is_main_process else nullcontext()


def _clips_to_train_on(config: Config, tracks: Path | None) -> Clips:
    """The clips of ``tracks``; none with ``data.source: synthetic``.

    Raises:
        UsageError: there are tracks that would not be used, or none where there must be.
        TokenizerError: as ``load_clips``.
    """
    source = config.data.source
    if source == "synthetic":
        if tracks is not None:
            raise UsageError(f"--input is {tracks}, but data.source: synthetic takes none; leave one out")
        return {}
    if tracks is None:
        raise UsageError(f"--input is required: with data.source: {source} tracks are trained on")
    return load_clips(tracks, config, config.data.dataset)


def _run(trainer: Trainer, val_data: WindowDataset) -> signal.Signals | None:
    """Trains to the end, where that is not reached yet; says from where."""
    output, accelerator, data = trainer.files.folder, trainer.accelerator, trainer.train_data
    if trainer.finished:
        logger.info("%s: %s", output, _already_finished(trainer))
        return None
    if accelerator.is_main_process:
        write_yaml(output / OUTPUT_CONFIG, to_dict(trainer.config))
        logger.info(
            "training on %s, validating on %s, from step %d, %d process(es) on %s",
            data.contents,
            val_data.contents,
            trainer.state.step,
            accelerator.num_processes,
            accelerator.device,
        )
    _start_trackers(accelerator, trainer.config, output, trainer.state)
    return trainer.train()


def _already_finished(trainer: Trainer) -> str:
    """Why there is nothing to do, and what gives more to do."""
    training, state = trainer.config.training, trainer.state
    found = f"the run is finished already, at step {state.step} after {state.epoch} epoch(s)"
    if trainer.stopped_early:
        return f"{found}, by training.early_stopping = {training.early_stopping}; raise it to go on"
    end = ("max_steps", training.max_steps) if state.epoch < training.epochs else ("epochs", training.epochs)
    ended = f"{found}, by training.{end[0]} = {end[1]}"
    if training.schedule == "cosine":
        return f"{ended}, which a cosine schedule fixes; train longer in another --output"
    return f"{ended}; raise it to go on"


def _use_deterministic_kernels() -> None:
    # cuBLAS reads it when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def _check_trainable(config: Config) -> None:
    name, command = config.model.name, MODELS[config.model.name].trained_by
    if command != "train":
        way = f"the command {command} trains it" if command else "it has nothing to train"
        raise ConfigError(f"model.name = {name} is impossible: {way}; choose another model")


def _check_wandb(config: Config) -> None:
    if config.training.wandb_project is not None and importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "training.wandb_project needs Weights & Biases, which is not installed; install it with "
            "pip install wandb, or set it to null"
        )


def _start_trackers(accelerator: Accelerator, config: Config, output: Path, state: TrainState) -> None:
    project = config.training.wandb_project
    if project is not None:
        # A run that goes on is found by its id; steps that it logs again are in that run already.
        tracker = WandBTracker(
            project, id=state.run_id, resume="allow", dir=str(output), config=to_dict(config)
        )
        accelerator.log_with.append(tracker)
    # What a killed run logged after its last checkpoint is dropped, so that steps do not overlap.
    accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": state.step + 1}})
    if accelerator.is_main_process:
        # Markdown's code; Weights & Biases gets the config when its tracker is made.
        text = textwrap.indent(yaml_text(to_dict(config)), " " * 4)
        accelerator.get_tracker("tensorboard", unwrap=True).add_text("config", text, state.step)


def _with_track_settings(config: Config, clips: Clips) -> tuple[Config, dict[str, Any] | None]:
    """The config with the settings that the tracks were really made with; None where the files do not say.

    Made-up windows are as tracks of the config's own settings.
    """
    if not clips:
        return config, track_settings(config)
    settings = next((clip.settings for clip in clips.values() if clip.settings is not None), None)
    if settings is None:
        logger.warning(
            "the tracks do not say how they were made: inference will need the video and tracking settings"
        )
        return config, None
    known = track_settings(config)
    differ = changes(known, {key: settings.get(key, value) for key, value in known.items()})
    if differ:
        logger.info("the tracks were made with their own settings, which are used: %s", "; ".join(differ))
    # T and N were checked against the files already; what is left concerns video and tracking alone.
    theirs = flatten(to_dict(config_from_settings(settings, "from the track files")))
    given = {key: Given(theirs[key], "") for key in settings if _of_video(key)}
    return build(config, given), settings


def _of_video(key: str) -> bool:
    return key in SETTINGS and SETTINGS[key].section in ("video", "tracking")


def _find_checkpoint(output: Path, resume: str | None) -> Checkpoint | None:
    if resume == "auto":
        return newest_state(output)
    if resume is not None:
        checkpoint = load_state(Path(resume))
        check_same_run(output, checkpoint)
        return checkpoint
    if checkpoints_in(output):
        raise UsageError(
            f"{output} holds a run already; give --resume auto to go on with it, or another --output"
        )
    return None


def check_same_run(output: Path, checkpoint: Checkpoint) -> None:
    """Refuses to write a run's checkpoints over another run's."""
    theirs, own = run_id_in(output), run_id_of(checkpoint)
    if None not in (theirs, own) and theirs != own:
        raise UsageError(
            f"{output} holds another run ({theirs}) than {checkpoint.path} ({own}), which would write over "
            "it; give --resume auto to go on with the run that is there, or another --output"
        )


def _check_same_tracks(checkpoint: Checkpoint, settings: dict[str, Any] | None) -> None:
    """Refuses tracks that were made in another way than the run's; where they lie does not matter."""
    if checkpoint.track_settings is None or settings is None:
        return
    differ = changes(checkpoint.track_settings, settings)
    if differ:
        raise CheckpointError(
            f"{checkpoint.path}: was trained on tracks of other settings ({'; '.join(differ)}); resume with "
            "tracks that are made as those were, or start a new run in another --output"
        )


def _check_same_beginning(checkpoint: Checkpoint, initial: Checkpoint | None) -> None:
    """Refuses to go on with a run that began with other weights than ``--init`` names."""
    began = (checkpoint.training or {}).get("state", {}).get("began_with", "")
    if initial is not None and began != told(initial):
        raise CheckpointError(
            f"{checkpoint.path}: its run began with {began or 'random weights'}, not with {told(initial)}; "
            "leave --init out to go on with it, or start a new run in another --output"
        )


def _may_change(key: str, fixed: tuple[str, ...]) -> bool:
    return free_on_resume(key) and key not in fixed


def _check_resumable(checkpoint: Checkpoint, config: Config) -> None:
    """Tells what differs from the run that goes on, and refuses what would make it another run."""
    # With a cosine the length of the run decides every step's rate.
    fixed = ("training.epochs", "training.max_steps") if config.training.schedule == "cosine" else ()
    differ = changes(flatten(to_dict(checkpoint.config)), flatten(to_dict(config)))
    allowed = [change for change in differ if _may_change(change.partition(" ")[0], fixed)]
    refused = [change for change in differ if change not in allowed] + [
        f"{key} = {value}, which {what_took_its_place(key)}"
        for key, value in checkpoint.gone.items()
        if CONSTANTS[key].decides == "weights"
    ]
    if refused:
        also = f" (these may change: {'; '.join(allowed)})" if allowed else ""
        raise CheckpointError(
            f"{checkpoint.path}: was trained with another config ({'; '.join(refused)}){also}; "
            "resume with the same values, or start a new run in another --output"
        )
    if allowed:
        logger.info("going on with another config, which is allowed: %s", "; ".join(allowed))
    newer = changes(checkpoint.versions, versions())
    if checkpoint.versions and newer:
        logger.warning(
            "%s was written with other versions (%s): what follows may differ in the last digits",
            checkpoint.path,
            "; ".join(newer),
        )
