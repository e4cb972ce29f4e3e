"""Fine-tunes the codec on some clips, and says how much of the motion of the others its codes then keep.

    python -m benchmarks.finetuning --tracks TRACKS [--init codec] [--folds 3] [--steps 120] [--seeds 0 1 2]

TRACKS holds track files of the codec's grid. The clips are dealt to folds, each of which is left out in turn;
the others train as train.py with configs/finetune.yaml does, by as many steps: from random weights, from the
weights of --init, and from them with made-up windows beside the clips' own (data.source: both). Beside them
stand the weights of --init as they are. Error is in pixels at 240 rows over points that are seen, of all
windows together, relative to the prediction that nothing moves; CPU seconds are of a training.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from amplify_motion_tokenizer import decode_tracks, encode_tracks
from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.data.made_up import made_up_training
from amplify_motion_tokenizer.evaluation.rate_distortion import distortion
from amplify_motion_tokenizer.models import MotionTokenizer
from amplify_motion_tokenizer.models.checkpoint import Checkpoint, load_tokenizer
from amplify_motion_tokenizer.trackers.windows import SEEN
from amplify_motion_tokenizer.tracks.stored import Clips
from amplify_motion_tokenizer.training.initial import initial_config, load_initial
from amplify_motion_tokenizer.training.launch import make_accelerator
from amplify_motion_tokenizer.training.trainer import Trainer

IDS = (4, 8, 16)
WAYS = {"from scratch": (False, False), "fine-tuned": (True, False), "with made-up": (True, True)}
"""Name to whether training begins with the weights of --init, and whether made-up windows are beside."""

Tracks = tuple[Tensor, Tensor, Tensor]
"""Tracks (B, T, N, 2), visible (B, T, N) bool, sizes (B, 2)."""


class QuietTrainer(Trainer):
    """Leaves nothing behind."""

    def _end_epoch(self) -> None:
        self.state.epoch, self.state.step_in_epoch = self.state.epoch + 1, 0

    def _record_results(self, *_: object) -> None:
        return


def trained(config: Config, clips: Clips, initial: Checkpoint | None) -> MotionTokenizer:
    """The tokenizer after training on ``clips``, with the mean of its weights."""
    made_up = made_up_training(config, sum(clip.num_windows for clip in clips.values()))
    data = WindowDataset(clips, config, truth=False, made_up=made_up)
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(config, Path(folder))
        trainer = QuietTrainer(config, accelerator, data, None, Path(folder), None, initial=initial)
        trainer.train()
    tokenizer = trainer.learner.tokenizer
    tokenizer.load_state_dict(trainer.learner.inference_weights())
    AcceleratorState._reset_state(reset_partial_state=True)
    return tokenizer.eval()


def decoded(tokenizer: MotionTokenizer, clips: Clips, name: str) -> tuple[Tracks, list[Tensor]]:
    """The tracks of a clip, and what the first ids of ``IDS`` tell of them."""
    stored = WindowDataset({name: clips[name]}, tokenizer.config)
    view = stored.stored(torch.arange(len(stored)).numpy())
    assert not isinstance(view, Tensor)
    tracks, visibility, size = view[0][:3]
    assert size is not None
    ids = encode_tracks(tokenizer, tracks, visibility, size)
    made = [decode_tracks(tokenizer, ids[:, :count], size, tracks[:, 0]) for count in IDS]
    return (tracks, visibility >= SEEN, torch.tensor([size]).expand(len(tracks), 2)), made


def shares(of: Sequence[Tracks], made: Sequence[Sequence[Tensor]]) -> list[float]:
    """For each of ``IDS``, what is left of the motion of all clips together."""
    true, seen, sizes = (torch.cat(column) for column in zip(*of, strict=True))
    return [distortion(true, torch.cat(tracks), seen, sizes).relative for tracks in zip(*made, strict=True)]


def row(name: str, left: Sequence[float], seconds: float) -> None:
    told = " | ".join(f"{100 * share:.1f} %" for share in left)
    print(f"| {name} | {told} | {seconds:.0f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracks", type=Path, required=True)
    parser.add_argument("--init", default="codec")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs=argparse.REMAINDER, default=[], help="settings of the training")
    arguments = parser.parse_args(argv)
    initial = load_initial(arguments.init)
    base, _ = cli.parse(
        ["--config", "finetune", *arguments.set], "train", "", {}, defaults=initial_config(initial)
    )
    clips = load_clips(arguments.tracks, base)
    names = list(clips)
    print("| way | " + " | ".join(f"{ids} ids" for ids in IDS) + " | CPU s |")
    print("|---" * (len(IDS) + 2) + "|")
    tokenizer = load_tokenizer(arguments.init)
    row("as it is", shares(*zip(*(decoded(tokenizer, clips, name) for name in clips), strict=True)), 0.0)
    for way, (begun, beside) in WAYS.items():
        every = []
        for seed in arguments.seeds:
            training = dataclasses.replace(
                base.training, seed=seed, max_steps=arguments.steps, epochs=100_000
            )
            data = dataclasses.replace(base.data, source="both" if beside else "tracks")
            config = dataclasses.replace(base, training=training, data=data)
            found, seconds = [], 0.0
            for fold in range(arguments.folds):
                left_out = names[fold :: arguments.folds]
                others = {name: clips[name] for name in names if name not in left_out}
                began = time.process_time()
                tokenizer = trained(config, others, initial if begun else None)
                seconds += (time.process_time() - began) / arguments.folds
                found += [decoded(tokenizer, clips, name) for name in left_out]
            every.append(shares(*zip(*found, strict=True)))
            row(f"{way}, seed {seed}", every[-1], seconds)
        row(f"**{way}**", torch.tensor(every).mean(dim=0).tolist(), seconds)


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    main()
