"""Settings of the loss, of training and of inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amplify_motion_tokenizer.config.settings import section, setting


@dataclass(frozen=True, kw_only=True)
class UsageConfig:
    """The code-usage term, which rewards FSQ digits that differ between windows."""

    weight: float = setting(
        0.0,
        decides="weights",
        at_least=0,
        help="Weight in the loss of the code-usage term, which pulls the codes of windows apart; 0 leaves "
        "it out.",
    )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Focal loss (Lin et al. 2017) over what counts; gamma 0 and weights of 1 are plain cross entropy."""

    gamma: float = setting(
        2.0, decides="weights", at_least=0, help="Focusing exponent of the focal loss; 0 is cross entropy."
    )
    alpha_center: float = setting(
        0.25,
        decides="weights",
        at_least=0,
        help="Weight in the loss of the centre class, no motion; every other class weighs 1.",
    )
    view_weights: dict[str, float] = setting(
        {"agentview": 0.9, "eye_in_hand": 0.1},
        decides="weights",
        at_least=0,
        help="Weight of each view's mean loss; views that are not named weigh 1.",
    )
    usage: UsageConfig = section(UsageConfig)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Optimisation, logging and checkpoints. Steps are optimiser steps."""

    batch_size: int = setting(
        256, decides="run", at_least=1, help="Training windows per process in one forward pass."
    )
    gradient_accumulation_steps: int = setting(
        1, decides="run", at_least=1, help="Forward passes per optimiser step."
    )
    learning_rate: float = setting(1e-4, decides="weights", above=0, help="Learning rate of AdamW.")
    weight_decay: float = setting(0.01, decides="weights", at_least=0, help="Weight decay of AdamW.")
    betas: tuple[float, float] = setting(
        (0.9, 0.999), decides="weights", at_least=0, below=1, help="Decay rates of AdamW's two moments."
    )
    schedule: Literal["constant", "cosine"] = setting(
        "constant", decides="weights", help="Course of the learning rate after the warm-up."
    )
    warmup_steps: int = setting(
        0, decides="weights", at_least=0, help="Optimiser steps over which the learning rate rises linearly."
    )
    clip_grad_norm: float | None = setting(
        None, decides="weights", above=0, help="Norm that gradients are clipped to; null does not clip."
    )
    ema_decay: float | None = setting(
        None,
        decides="weights",
        at_least=0,
        below=1,
        help="Decay of a running mean of the weights, which is validated and used for inference; null keeps "
        "no such mean.",
    )
    epochs: int = setting(100, decides="run", at_least=1, help="Passes over the training windows.")
    max_steps: int | None = setting(
        None,
        decides="run",
        at_least=1,
        help="Optimiser steps after which training stops, even within an epoch; null trains all epochs.",
    )
    early_stopping: int | None = setting(
        None,
        decides="run",
        at_least=1,
        help="Validations in a row without a new best after which training stops; null trains to the end.",
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = setting(
        "bf16",
        decides="weights",
        help="Number type of training's autocast; quantising always stays float32. fp16 needs CUDA.",
    )
    compile: bool = setting(
        False,
        decides="weights",
        help="Whether torch.compile speeds up the training step; the first steps then take minutes.",
    )
    deterministic: bool = setting(
        False,
        decides="weights",
        help="Whether only deterministic kernels run on a GPU, as bit-exact resuming needs; on CPUs all are.",
    )
    num_workers: int = setting(
        2, decides="speed", at_least=0, help="Processes that load windows for each training process."
    )
    log_every_steps: int = setting(
        10, decides="run", at_least=1, help="Optimiser steps between two entries of the training log."
    )
    wandb_project: str | None = setting(
        None,
        decides="run",
        local=True,
        help="Weights & Biases project to log to, next to TensorBoard; null logs to TensorBoard alone.",
    )
    validate_every_steps: int | None = setting(
        None,
        decides="run",
        at_least=1,
        help="Optimiser steps between validations within an epoch; null validates only at its end.",
    )
    save_every_epochs: int = setting(
        10,
        decides="run",
        at_least=1,
        help="Epochs between two epoch_N.pth; best.pth and last.pth are written every epoch.",
    )
    save_every_steps: int | None = setting(
        None,
        decides="run",
        at_least=1,
        help="Optimiser steps between two last.pth within an epoch; null writes it only at the epoch's end.",
    )
    pictures: int = setting(
        4,
        decides="run",
        at_least=0,
        help="Validation clips whose first window TensorBoard shows, true tracks beside predicted; 0: none.",
    )
    save_every_minutes: float | None = setting(
        None,
        decides="run",
        above=0,
        help="Minutes after which last.pth is written within an epoch; null does not go by time.",
    )
    keep_last: int = setting(
        2,
        decides="run",
        at_least=1,
        help="Newest states kept to resume from: last.pth and, as step_N.pth, those before it.",
    )
    max_skipped_steps: int = setting(
        0,
        decides="run",
        at_least=0,
        help="Optimiser steps that may be left out because loss or gradients are not finite; one more ends "
        "the run.",
    )
    seed: int = setting(
        0,
        decides="weights",
        at_least=0,
        at_most=2**31 - 1,
        help="Seed of the weights' first values, of the order of windows and of the validation split.",
    )


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """From clips to codes."""

    batch_size: int = setting(
        32, decides="speed", at_least=1, help="Windows in one forward pass of inference."
    )
    device: str = setting(
        "auto", decides="speed", help="Where the tokenizer computes codes: auto, cpu, cuda, cuda:0, mps."
    )
