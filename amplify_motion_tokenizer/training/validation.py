"""Held-out windows: loss, accuracy, code usage and track metrics over all processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from amplify_motion_tokenizer.data.dataset import Batch
from amplify_motion_tokenizer.data.inputs import ModelInput
from amplify_motion_tokenizer.data.sampler import PADDING
from amplify_motion_tokenizer.evaluation.reconstruction import known_windows, predicted_tracks, track_metrics
from amplify_motion_tokenizer.training.learner import Learner, to_device
from amplify_motion_tokenizer.training.totals import Totals, WindowMeans


@torch.no_grad()
def validate(learner: Learner, batches: Iterable[Batch]) -> tuple[Totals, dict[str, float]]:
    """Over all batches and all processes, with the weights for inference: totals and track metrics.

    Every process must call it. Track metrics are means over the windows whose true positions are known;
    empty where none are.
    """
    accelerator, config = learner.accelerator, learner.config
    totals, tracks = Totals.zero(config, accelerator.device), WindowMeans()
    learner.model.eval()
    with learner.averaged():
        for batch in batches:
            batch = to_device(batch, accelerator.device)
            _, loss, batch_totals = learner.forward(batch)
            totals = totals.plus(batch_totals)
            known = known_windows(batch.inputs, batch.indices != PADDING)
            inputs = ModelInput(*(column[known] for column in batch.inputs))
            if len(inputs.labels):
                predicted = predicted_tracks(loss.answers[known], inputs, config.class_grid)
                tracks.add(track_metrics(predicted, inputs), len(inputs.labels))
    learner.model.train()
    return totals.reduced(accelerator), tracks.means()
