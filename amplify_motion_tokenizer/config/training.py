"""Settings of the loss, of training and of inference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class UsageConfig:
    """Code-usage term: rewards FSQ digits that differ between windows (see usage.py)."""

    weight: float = 0.0
    """Weight of the term; 0 leaves it out."""
    temperature: float = 1.0
    """Of a digit's soft assignment to its levels, in squared level steps."""
    sample_entropy: float = 1.0
    """Weight of the entropy of single assignments, which is kept low, against that of their batch mean."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Focal loss (Lin et al. 2017) over what counts; gamma 0 and weights of 1 are plain cross entropy."""

    gamma: float = 2.0
    """Focusing exponent; 0 is cross entropy."""
    alpha_center: float = 0.25
    """Weight of the centre class (no motion)."""
    alpha_other: float = 1.0
    """Weight of every other class."""
    radial_strength: float = 0.0
    """s of the factor 1 + s (r / r_max)^p on a class's weight, r its distance from no motion."""
    radial_power: float = 1.0
    """p of that factor."""
    view_weights: dict[str, float] = field(default_factory=lambda: {"agentview": 0.9, "eye_in_hand": 0.1})
    """Weight of each view's mean loss; views that are not named weigh 1."""
    min_visibility: float = 0.5
    """Steps count only where the point's confidence at both ends reaches this; 0 counts all. Tracks without
    confidence are visible everywhere."""
    min_visible_share: float = 0.1
    """A window, or a view of one, counts for nothing where a smaller share of its steps is so visible."""
    usage: UsageConfig = field(default_factory=UsageConfig)
    """Code-usage term."""


@dataclass(frozen=True, kw_only=True)
class CollapseConfig:
    """Alarm of a codebook of which few codes are in use, so that codes say little."""

    after_steps: int = 1000
    """Steps before it may sound; runs pass through such a phase first."""
    min_unique_codes: int = 2
    """It sounds when a logged step uses fewer codes than this ..."""
    min_entropy: float = 0.1
    """... or when the normalised entropy of its codes, of a 0..1 range, is below this."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Optimisation, logging and checkpoints. Steps are optimiser steps."""

    output_dir: str = "runs/tokenizer"
    """Folder of checkpoints, logs and the resolved config."""
    batch_size: int = 256
    """Windows per process in one forward pass."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimiser step."""
    learning_rate: float = 1e-4
    """AdamW learning rate."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW moment decay rates."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning-rate schedule after the warm-up."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    clip_grad_norm: float | None = None
    """Largest gradient norm; null does not clip."""
    ema_decay: float | None = None
    """Decay of a running mean of the weights, which is validated and used for inference; null keeps none."""
    epochs: int = 100
    """Passes over the training windows."""
    max_steps: int | None = None
    """Stop after this many steps, even within an epoch; null trains all epochs."""
    early_stopping: int | None = None
    """Stop after this many validations in a row without a new best; null trains to the end."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    """Autocast type; quantising always stays float32. fp16 needs CUDA."""
    compile: bool = False
    """Whether the model and a factorised head's loss run through torch.compile; first steps take minutes."""
    deterministic: bool = False
    """Whether only deterministic kernels run on a GPU, as bit-exact resuming needs; on CPUs all are."""
    num_workers: int = 2
    """Loader processes per training process."""
    log_every_steps: int = 10
    """Steps between two log entries."""
    wandb_project: str | None = None
    """Weights & Biases project to log to, next to TensorBoard; null logs to TensorBoard alone."""
    validate_every_steps: int | None = None
    """Also validate every so many steps; null only at the end of an epoch."""
    save_every_epochs: int = 10
    """Epochs between two epoch_N.pth; best.pth and last.pth are written every epoch."""
    save_every_steps: int | None = None
    """Also write last.pth every so many steps; null only at the end of an epoch."""
    pictures: int = 4
    """Validation clips whose first window TensorBoard shows, true tracks beside predicted; 0 for none."""
    save_every_minutes: float | None = None
    """Also write last.pth when so many minutes have passed since the last time; null does not."""
    keep_last: int = 2
    """Newest states kept to resume from: last.pth and those before it, as step_N.pth."""
    keep_epochs: int | None = None
    """Newest epoch_N.pth kept; null keeps all."""
    separate_optimizer: bool = False
    """Whether the optimiser's state has a file of its own beside a checkpoint, <name>.optimizer.pth."""
    max_skipped_steps: int = 0
    """Steps that may be left out because their loss or gradients are not finite; one more ends the run."""
    collapse: CollapseConfig = field(default_factory=CollapseConfig)
    """Collapse alarm."""
    seed: int = 0
    """Seed of initialisation, data order and split."""


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How clips are turned into codes."""

    batch_size: int = 32
    """Windows in one forward pass."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0, mps ..."""
