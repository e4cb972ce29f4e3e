"""Validation: loss, accuracy, code usage and track metrics of held-out windows, over all processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from amplify_motion_tokenizer.data.dataset import CHUNK_WINDOWS, Batch, WindowDataset
from amplify_motion_tokenizer.data.inputs import ModelInput
from amplify_motion_tokenizer.data.sampler import PADDING
from amplify_motion_tokenizer.errors import TrainingError
from amplify_motion_tokenizer.evaluation.metrics import Mean
from amplify_motion_tokenizer.evaluation.reconstruction import (
    known_windows,
    predicted_tracks,
    reconstructed_tracks,
    track_means,
)
from amplify_motion_tokenizer.training.learner import Learner, to_device
from amplify_motion_tokenizer.training.log import NOTHING_COUNTS
from amplify_motion_tokenizer.training.state import some_names
from amplify_motion_tokenizer.training.totals import Means, Totals


def check_something_counts(training: WindowDataset, held_out: WindowDataset) -> None:
    """Refuses held-out windows of which nothing counts, whatever a model predicts.

    Raises:
        TrainingError: names how many windows there are and what to do.
    """
    if _something_counts(held_out):
        return
    if not _something_counts(training):
        raise nothing_counted()
    raise TrainingError(
        f"validation would be of nothing: in its {len(held_out)} windows of {len(held_out.clips)} clips "
        f"({some_names(list(held_out.clips))}) {NOTHING_COUNTS}; look at these clips, hold out others "
        "(training.seed), or none (data.val_split: 0)"
    )


def _something_counts(data: WindowDataset) -> bool:
    """Reads windows in their order until something counts, which is mostly in the first."""
    windows = range(len(data))
    parts = (windows[first : first + CHUNK_WINDOWS] for first in windows[::CHUNK_WINDOWS])
    return any(bool(data.batch(part).inputs.mask.any()) for part in parts)


def nothing_counted() -> TrainingError:
    """The error of an epoch that trains on nothing."""
    return TrainingError(f"no point counted in the whole epoch: {NOTHING_COUNTS}; look at the tracks")


@torch.no_grad()
def validate(learner: Learner, batches: Iterable[Batch]) -> tuple[Totals, dict[str, Mean]]:
    """Totals and track metrics over all batches and all processes, with the weights for inference.

    Every process must call it. Track metrics are means over the windows whose true positions are known;
    there are none where no such window is.
    """
    accelerator, config = learner.accelerator, learner.config
    totals, tracks = Totals.zero(config, accelerator.device), Means()
    learner.model.eval()
    with learner.averaged():
        for batch in batches:
            batch = to_device(batch, accelerator.device)
            output, loss, batch_totals = learner.forward(batch)
            totals = totals.plus(batch_totals)
            known = known_windows(batch.inputs, batch.indices != PADDING)
            inputs = ModelInput(*(column[known] for column in batch.inputs))
            if len(inputs.labels):
                answered = predicted_tracks(loss.classes[known], inputs, config.class_grid)
                moves_px = learner.tokenizer.moves_px(output.head)[known]
                predicted = reconstructed_tracks(moves_px, inputs)
                tracks.add(track_means(predicted, inputs, answered))
    learner.model.train()
    return totals.reduced(accelerator), tracks.of_all_processes()
