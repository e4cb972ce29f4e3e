"""Makes the accelerator, and refuses what a launcher asks for by its environment and training does not do.

``accelerate launch`` tells a script its settings by environment variables, of which this training takes the
number of processes and the devices. Every other setting is refused or told before anything is written;
``docs/training.md`` has the table.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, GradientAccumulationPlugin, ProjectConfiguration

from amplify_motion_tokenizer.config import Config, TrainingConfig
from amplify_motion_tokenizer.errors import ConfigError, TrainingError

logger = logging.getLogger(__name__)

_PLAIN = "launch processes that each hold the whole model (accelerate launch --multi_gpu --num_processes N)"

_OTHER_TRAININGS = {
    "ACCELERATE_USE_FSDP": f"FSDP (--use_fsdp) is not supported; {_PLAIN}",
    "ACCELERATE_USE_DEEPSPEED": f"DeepSpeed (--use_deepspeed) is not supported; {_PLAIN}",
    "ACCELERATE_USE_MEGATRON_LM": f"Megatron-LM (--use_megatron_lm) is not supported; {_PLAIN}",
    "ACCELERATE_USE_PARALLELISM_CONFIG": (
        f"splitting the model or its tokens (--use_parallelism_config) is not supported; {_PLAIN}"
    ),
}
"""Variables that are set to true for ways to train that change what a checkpoint holds: what to do."""

_KNOWN_WAYS = {
    "NO",
    "MULTI_CPU",
    "MULTI_GPU",
    "MULTI_NPU",
    "MULTI_XPU",
    "MULTI_MLU",
    "MULTI_MUSA",
    "MULTI_HPU",
}
"""Accelerate's names of one process, and of several that each hold the whole model."""


_FILES = "accelerate launch --config_file configs/accelerate/gpus.yaml --num_processes N"

_PROCESSES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables in which launchers say how many processes there are; torch's launcher may run within MPI's."""


def check_launch(training: TrainingConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Refuses a launch that asks for what this training does not do; tells what the config decides instead.

    Args:
        training: decides precision, accumulation, clipping and compiling.
        environment: variables that the launcher has set.

    Raises:
        TrainingError: names the variable, its value and what to do.
    """
    for name, advice in _OTHER_TRAININGS.items():
        if environment.get(name, "").lower() in ("1", "true", "t", "yes", "y", "on"):
            raise TrainingError(f"the launcher sets {name} = {environment[name]}: {advice}")
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if backend.lower() not in ("no", ""):
        raise TrainingError(
            f"the launcher sets ACCELERATE_DYNAMO_BACKEND = {backend}: give --dynamo_backend no (in "
            "accelerate's config file leave out dynamo_config), and set training.compile: true to compile"
        )
    told = {
        "ACCELERATE_MIXED_PRECISION": ("training.mixed_precision", training.mixed_precision),
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (
            "training.gradient_accumulation_steps",
            str(training.gradient_accumulation_steps),
        ),
        "ACCELERATE_GRADIENT_CLIPPING": ("training.clip_grad_norm", str(training.clip_grad_norm).lower()),
    }
    for name, (key, value) in told.items():
        found = environment.get(name)
        if found and found.lower() != value and not _same_number(found, value):
            # "no" is also what a launcher says that was not asked.
            level = logging.INFO if found.lower() == "no" else logging.WARNING
            logger.log(
                level, "the launcher sets %s = %s, which is not used: %s = %s is", name, found, key, value
            )


def _same_number(found: str, value: str) -> bool:
    try:
        return float(found) == float(value)
    except ValueError:
        return False


def _launched(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes a launcher says that there are; 1 where none says it.

    Raises:
        TrainingError: there are several, and no address at which they find each other; or accelerate was
            asked for several and has started one, as it does without --multi_gpu.
    """
    name = next((name for name in _PROCESSES if environment.get(name, "").isdecimal()), None)
    launched = 1 if name is None else int(environment[name])
    if launched > 1 and "MASTER_ADDR" not in environment:
        raise TrainingError(
            f"the launcher sets {name} = {launched}, but not MASTER_ADDR, at which the processes find each "
            "other: set MASTER_ADDR and MASTER_PORT, or launch with accelerate launch or torchrun"
        )
    if name is None and {"MASTER_ADDR", "MASTER_PORT", "ACCELERATE_MIXED_PRECISION"} <= environment.keys():
        raise TrainingError(
            "accelerate was asked for several processes and started one, which would train alone: give "
            f"{_FILES} (--cpu starts one whatever is asked for), or unset MASTER_ADDR where one is meant"
        )
    return launched


def make_accelerator(config: Config, output: Path) -> Accelerator:
    """The one place where the accelerator is made; its settings are the config's alone.

    Raises:
        ConfigError: fp16 without CUDA.
        TrainingError: as ``check_launch``, or the processes of one launch do not find each other.
    """
    check_launch(config.training)
    if config.training.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("training.mixed_precision = fp16 needs a CUDA device; allowed here: no, bf16")
    launched = _launched()
    accelerator = Accelerator(
        # Without it, processes launched on a machine with no accelerator would each train alone.
        cpu=launched > 1 and not torch.accelerator.is_available(),
        mixed_precision=config.training.mixed_precision,
        # An empty variable of the launcher's is no backend to accelerate.
        dynamo_backend="no",
        # The trainer accumulates itself; a value from the launcher's environment must not divide again.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(output), logging_dir=str(output)),
    )
    if accelerator.num_processes != launched:
        raise TrainingError(
            f"{launched} processes were launched, but each sees {accelerator.num_processes}; "
            "check the options of accelerate launch (--cpu, --multi_gpu)"
        )
    way = DistributedType(accelerator.distributed_type).value
    if way not in _KNOWN_WAYS:
        raise TrainingError(f"the launcher asks for training by {way}, which is not supported; {_PLAIN}")
    return accelerator
