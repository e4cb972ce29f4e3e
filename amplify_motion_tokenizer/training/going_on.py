"""Resumes a run from a checkpoint: where it stands, what must be as it was, and what is told."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace

from amplify_motion_tokenizer.config import TrainingConfig
from amplify_motion_tokenizer.errors import TrainingError
from amplify_motion_tokenizer.models.checkpoint import Checkpoint
from amplify_motion_tokenizer.training.schedule import Course, total_steps, whole_course
from amplify_motion_tokenizer.training.state import TrainState

logger = logging.getLogger(__name__)


def state_of(checkpoint: Checkpoint, now: TrainState) -> TrainState:
    """The state that goes on from ``checkpoint``, with the windows and clips that are there now.

    Args:
        checkpoint: with a state of training.
        now: the state of a run that would begin on today's windows and clips.

    Raises:
        TrainingError: the run was stopped within an epoch over other windows, whose rest cannot be told.
    """
    saved = checkpoint.training
    if saved is None:
        raise TrainingError(f"{checkpoint.path}: holds weights only, no training state to resume")
    state = TrainState(**{"run_id": now.run_id, **saved["state"]})
    before, here = (state.windows, state.windows_per_step), (now.windows, now.windows_per_step)
    if state.step_in_epoch and before != here:
        raise TrainingError(
            f"{checkpoint.path}: was stopped within an epoch of {before[0]} windows, {before[1]} a step; "
            f"now there are {here[0]}, {here[1]} a step; resume with the same tracks, batch and processes, "
            "or from the end of an epoch (epoch_N.pth)"
        )
    if state.clips not in ("", now.clips):
        _check_other_clips(checkpoint, state)
    return replace(state, windows=now.windows, windows_per_step=now.windows_per_step, clips=now.clips)


def _check_other_clips(checkpoint: Checkpoint, state: TrainState) -> None:
    """Refuses other clips within an epoch, whose rest cannot be told; between epochs warns of a new split."""
    if state.step_in_epoch:
        raise TrainingError(
            f"{checkpoint.path}: was stopped within an epoch over other clips, of as many windows; "
            "resume with the same tracks, by the same names, or from the end of an epoch (epoch_N.pth)"
        )
    logger.warning(
        "%s was trained on other clips than are there now: it may have seen some that are held out for "
        "validation now, and its earlier losses do not compare with the next ones",
        checkpoint.path,
    )


def steps_left(training: TrainingConfig, state: TrainState, steps_per_epoch: int) -> int:
    """Steps to the end of all epochs, or to ``max_steps``."""
    left = (training.epochs - state.epoch) * steps_per_epoch - state.step_in_epoch
    return left if training.max_steps is None else min(left, training.max_steps - state.step)


def course_of(
    checkpoint: Checkpoint, state: TrainState, training: TrainingConfig, steps_per_epoch: int
) -> Course:
    """The learning rate's course from ``state`` on; says so where a step has another batch than before."""
    before = TrainState(**(checkpoint.training or {})["state"])
    course = Course(before.course_step, before.course_share, before.course_end)
    if not course.end:  # a file of an older version, whose course followed from its number of steps
        per_step = before.windows_per_step or state.windows_per_step
        steps = -(-(before.windows or state.windows) // per_step)
        course = whole_course(total_steps(checkpoint.config.training, steps), training.warmup_steps)
    end = state.step + max(0, steps_left(training, state, steps_per_epoch))
    now = course.ending_at(end, state.step, training.warmup_steps)
    if before.windows_per_step not in (0, state.windows_per_step):
        logger.warning(
            "%s: a step took %d windows and takes %d now (training.batch_size x "
            "training.gradient_accumulation_steps x processes); training.learning_rate stays as it is",
            checkpoint.path,
            before.windows_per_step,
            state.windows_per_step,
        )
    if now != course and training.schedule == "cosine":
        logger.warning(
            "%s: the cosine goes on where it stands, with %.0f%% of it done at step %d, and ends at step %d "
            "instead of %d",
            checkpoint.path,
            100 * course.done(state.step) if state.step > training.warmup_steps else 0,
            state.step,
            end,
            course.end,
        )
    return now


def with_course(state: TrainState, course: Course) -> TrainState:
    """``state`` with the course that a checkpoint keeps."""
    return TrainState(
        **{
            **asdict(state),
            "course_step": course.step,
            "course_share": course.share,
            "course_end": course.end,
        }
    )
