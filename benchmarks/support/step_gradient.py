"""train.py that writes the gradient of its first step to a file: names to tensors, as torch.save does.

    python -m benchmarks.step_gradient FILE -- TRAINING ARGUMENTS

For comparing how a step's windows are dealt to micro-batches and processes, which must not matter.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import torch

from amplify_motion_tokenizer.training.learner import Learner

REPO = Path(__file__).parents[2]


def main() -> None:
    split = sys.argv.index("--")
    path = Path(sys.argv[1])
    update = Learner._update

    def write_and_update(learner: Learner, *arguments: Any) -> Any:
        model = learner.accelerator.unwrap_model(learner.model)
        gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        if os.environ.get("RANK", "0") == "0" and not path.exists():
            torch.save(gradients, path)
        return update(learner, *arguments)

    Learner._update = write_and_update
    sys.argv = [str(REPO / "train.py"), *sys.argv[split + 1 :]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
