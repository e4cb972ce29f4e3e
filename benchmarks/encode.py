"""Windows a second to codes: stopping after quantising, as inference does, and decoding as well.

    python -m benchmarks.encode [--model amplify] [--device cuda --bf16]

The full config in evaluation mode, velocities already on the device. ``codes`` is
``MotionTokenizer.tokenize``; ``codes and labels`` also decodes every window to its most likely classes,
which ``--save labels`` needs. The floor is the rate at which the products up to the codes could be made at
the speed of a large one, measured in the same run; on a CPU all is per second of CPU time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.heads import head_answers
from benchmarks.support.measuring import CLOCKS, clock_of, encoder_products, flops_per_second, positive

MODELS: dict[str, dict[str, Any]] = {
    "keypoint": {},
    "keypoint, tokens: point": {"model": {"keypoint": {"tokens": "point"}}},
    "amplify": {
        "model": {"name": "amplify"},
        "data": {"views": ["agentview", "eye_in_hand"], "reference_size": [128, 128]},
        "tracking": {"query_order": "uniform"},
    },
}


def codes_alone(model: MotionTokenizer, velocities: Tensor) -> Tensor:
    return model.tokenize(velocities)


def codes_and_labels(model: MotionTokenizer, velocities: Tensor) -> Tensor:
    codes, _ = model.quantize(model.encode(velocities))
    return head_answers(model.head(codes))


def seconds(
    run: Callable[[MotionTokenizer, Tensor], Tensor],
    model: MotionTokenizer,
    velocities: Tensor,
    args: argparse.Namespace,
) -> float:
    """Shortest of a few runs, after one to warm up, by ``clock_of``."""
    on_gpu = torch.device(args.device).type == "cuda"
    clock, times = CLOCKS[clock_of(args.device)], []
    for _ in range(args.repeats + 1):
        began = clock()
        run(model, velocities)
        if on_gpu:
            torch.cuda.synchronize()
        times.append(clock() - began)
    return min(times[1:])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), help="default: all")
    parser.add_argument("--batch-size", type=positive, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--repeats", type=positive, default=2)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    print(f"windows per second: {vars(args)}")
    for name in [args.model] if args.model else MODELS:
        torch.manual_seed(0)
        config = config_from_dict(MODELS[name], "here")
        model = build_model(config).to(args.device).eval()
        velocities = torch.rand(args.batch_size, *model.input_shape).sub(0.5).to(args.device)
        kind = torch.device(args.device).type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=args.bf16):
            alone, both = (seconds(run, model, velocities, args) for run in (codes_alone, codes_and_labels))
        rates = (f"{args.batch_size / each:8.2f}" for each in (alone, both))
        flops, speed = 2 * encoder_products(config), flops_per_second(args.device, args.bf16)
        print(
            "  {:24} codes {}   codes and labels {}   {:.2f} x".format(name, *rates, both / alone),
            f"  floor {speed / flops:8.2f} ({flops / 1e9:.3g} G operations at {speed / 1e9:.0f} G/s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
