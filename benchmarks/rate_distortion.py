"""Bits of a window against what they leave of its motion: tokenizers and plain coders, one evaluation.

    python -m benchmarks.rate_distortion --tracks FOLDER [--tracks FOLDER ...] [--checkpoint FILE ...]

A folder holds track files of any sizes. ``--checkpoint`` takes files and names of shipped tokenizers; those
of which the first ids are a code are told at every number of ids. The PCA coder is fitted on made-up windows
(``scenes.synthetic``), never on the folders. Bits are nominal: ids times log2 of the codebook.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.filling import fill_lost
from amplify_motion_tokenizer.data.inputs import from_tracks, moves_px
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.evaluation.metrics import code_histogram, code_usage
from amplify_motion_tokenizer.evaluation.rate_distortion import (
    PcaCoder,
    distortion,
    global_similarity,
    no_motion,
    with_start,
)
from amplify_motion_tokenizer.models import MotionTokenizer
from amplify_motion_tokenizer.models.checkpoint import load_tokenizer
from amplify_motion_tokenizer.models.displacement.tokenizer import DisplacementTokenizer
from amplify_motion_tokenizer.scenes.synthetic import synthetic_windows
from amplify_motion_tokenizer.trackers.windows import SEEN

IDS = (4, 8, 16)
PCA_WINDOWS, PCA_SEED = 6000, 1

Clips = list[ViewTracks]
Tracks = tuple[Tensor, Tensor, Tensor]
"""Tracks (B, T, N, 2), visible (B, T, N) bool, sizes (B, 2)."""


def read(folder: Path, config: Config) -> Clips:
    """All windows of a folder, a batch for each clip."""
    data = WindowDataset(load_clips(folder, config), config)
    names = np.array([data.locate(index)[0] for index in range(len(data))])
    clips = []
    for name in dict.fromkeys(names):
        stored = data.stored(np.flatnonzero(names == name))
        assert not isinstance(stored, Tensor)
        clips.append(stored[0])
    return clips


def joined(clips: Clips) -> Tracks:
    sizes = [torch.tensor([clip.size]).expand(len(clip.visibility), 2) for clip in clips]
    tracks, seen = (torch.cat(column) for column in zip(*(clip[:2] for clip in clips), strict=True))
    return tracks, seen >= SEEN, torch.cat(sizes)


def decoded(model: MotionTokenizer, clips: Clips, ids: int) -> tuple[Tensor, Tensor]:
    """Tracks of the first ``ids`` ids of a model of one view, and all ids (B, d)."""
    tracks, every = [], []
    for clip in clips:
        inputs = from_tracks([clip], model.config)
        codes, indices = model.quantize(model.encode(inputs.velocities))
        part = codes[:, :ids] if isinstance(model, DisplacementTokenizer) else codes
        assert clip.size is not None
        moves = moves_px(model.reconstruct(part), clip.size, model.config)
        tracks.append(with_start(clip.tracks_xy_px, moves.cumsum(dim=1)))
        every.append(indices)
    return torch.cat(tracks), torch.cat(every)


def row(name: str, bits: float | None, of: Tracks, made: Tensor, extra: str = "") -> None:
    found = distortion(of[0], made, of[1], of[2])
    parts = found.by_speed.items()
    speeds = "  ".join(f"{speed} {part.error_px:.2f}/{part.no_motion_px:.2f}" for speed, part in parts)
    told = f"{bits:6.0f}" if bits is not None else "     -"
    print(
        f"  {name:34} {told} bits  {found.error_px:7.3f} px  {100 * found.relative:6.1f} %  "
        f"delta_avg {found.delta_avg:.3f}  delta_auc {found.delta_auc:.3f}  {extra:16} [{speeds}]",
        flush=True,
    )


def pca_coders(grid: int, frames: int) -> dict[int, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    made = synthetic_windows(PCA_WINDOWS, PCA_SEED, 0, grid, frames)
    moves = fill_lost(made.tracks_xy_px - made.tracks_xy_px[:, :1], made.visibility > 0)[:, 1:]
    moves = moves / made.sizes.amin(dim=1)[:, None, None, None]
    return {ids: PcaCoder(moves, ids) for ids in IDS}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracks", type=Path, action="append", required=True)
    parser.add_argument("--checkpoint", action="append", help="default: transform")
    parser.add_argument("--grid", type=int, default=20)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    models = {name: load_tokenizer(name) for name in args.checkpoint or ["transform"]}
    base = config_from_dict({"data": {"grid_size": args.grid, "static_filter": {"min_keep": 1}}}, "here")
    coders = pca_coders(args.grid, base.data.sequence_length)
    for folder in args.tracks:
        clips = read(folder, base)
        of = joined(clips)
        print(f"{folder}: {len(of[0])} windows of {len(clips)} clips")
        row("no motion", 0, of, no_motion(*of))
        row("one similarity a step, unrounded", None, of, global_similarity(*of))
        for ids, coder in coders.items():
            row("PCA of made-up motion", 11 * ids, of, coder(*of))
        for name, model in models.items():
            bits = math.log2(model.codebook_size)
            prefixes = IDS if isinstance(model, DisplacementTokenizer) else (model.num_codes,)
            for ids in (count for count in prefixes if count <= model.num_codes):
                with torch.no_grad():
                    tracks, indices = decoded(model, clips, ids)
                usage = code_usage(code_histogram(indices[:, :ids], model.codebook_size))
                row(name, bits * ids, of, tracks, f"perplexity {usage.perplexity:.0f}")


if __name__ == "__main__":
    main()
