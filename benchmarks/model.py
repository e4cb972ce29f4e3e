"""Time and memory of a training step, beside the same step as its source computes it.

    python -m benchmarks.model [--model keypoint] [--grow]
    python -m benchmarks.model --device cuda --bf16 --batch-size 32

Forward, loss and backward of one model with equal weights and input, each variant in a process of its own:
``plain`` is ``support/references.py``, ``ours`` the package, ``point`` a keypoint model of a token a point.
``+fp16`` runs under float16 autocast with a scaled loss, as AMPLIFY trains; ``+chunk`` compiles all that is
done with a chunk of logits, ``+model`` the network; ``training.compile`` does both. ``apart`` compares loss
and gradients, without dropout, with the first variant's: the norm of all gradients' difference, and the
largest difference in one parameter's, over that gradient's largest element. The floor is the time that the
products which the step cannot do without take at the speed of a large one.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.models.amplify.network import AmplifyNetwork, AmplifySizes
from amplify_motion_tokenizer.models.factorised_loss import ChunkLoss, chunk_loss, head_loss
from amplify_motion_tokenizer.models.keypoint.network import KeypointTokenizer
from amplify_motion_tokenizer.models.losses import class_weights
from amplify_motion_tokenizer.models.quantizer import quantize_float32
from benchmarks.support.measuring import (
    CLOCKS,
    clock_of,
    encoder_products,
    flops_per_second,
    peak_bytes,
    positive,
    square,
)
from benchmarks.support.references import PlainKeypoint, amplify_logits, focal_sums

Loss = Callable[[], Tensor]
FP16_SCALE = 2.0**16
VARIANTS = [
    *("plain", "ours", "point", "plain+fp16", "ours+fp16"),
    *("ours+chunk", "ours+model", "ours+model+chunk", "point+model"),
]


def config_of(args: argparse.Namespace, tokens: str = "point_step") -> Config:
    """The full config of ``args.model`` in the sizes of ``args``."""
    side = round(args.points**0.5)
    given = {
        "model": {"name": args.model, "hidden_dim": args.dim, "keypoint": {"tokens": tokens}},
        "data": {
            "sequence_length": args.steps + 1,
            "grid_size": side,
            # The mask is random here; the filter's own least number would not fit a small grid.
            "static_filter": {"min_keep": 0},
            "views": [f"view{number}" for number in range(args.views)],
            "reference_size": [128, 128],
        },
        "tracking": {"query_order": "uniform"},
        "loss": {"gamma": 0.0, "alpha_center": 1.0} if args.model == "amplify" else {},
    }
    return config_from_dict(given, "in the benchmark")


def inputs_of(config: Config, shape: tuple[int, ...], device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Velocities, labels, the mask and the weights of classes; every fifth element does not count."""
    torch.manual_seed(1)
    velocities = 0.1 * torch.randn(*shape, 2)
    labels, mask = torch.randint(config.num_classes, shape), torch.rand(shape) < 0.8
    weights = class_weights(config.loss, config.class_grid)
    return velocities.to(device), labels.to(device), mask.to(device), weights.to(device)


def make(kind: str, args: argparse.Namespace, dropout: float, of_chunk: ChunkLoss) -> tuple[nn.Module, Loss]:
    """The network, and what makes its mean loss; the same weights and input in every process."""
    config = config_of(args, "point" if kind == "point" else "point_step")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dropout=dropout))
    torch.manual_seed(0)
    network: nn.Module
    if args.model == "amplify":
        network = AmplifyNetwork(
            AmplifySizes(
                num_views=args.views, num_points=config.num_points, num_steps=args.steps,
                hidden_dim=args.dim, dropout=dropout,
            )
        )  # fmt: skip
    else:
        network = KeypointTokenizer(config)
    if kind == "plain" and args.model == "keypoint":
        state = network.state_dict()
        network = PlainKeypoint(config)
        network.load_state_dict(state | {"causal_mask": network.causal_mask})
    network = network.to(args.device)
    views = (args.views,) if args.model == "amplify" else ()
    shape = (args.batch_size, *views, args.steps, config.num_points)
    velocities, labels, mask, weights = inputs_of(config, shape, args.device)

    def loss() -> Tensor:
        if kind != "plain":
            head = network(velocities).head
            return head_loss(head, labels, mask, weights, config.loss.gamma, of_chunk).sums.sum()
        if isinstance(network, AmplifyNetwork):
            codes, _ = quantize_float32(network.quantize, network.encode(velocities))
            return focal_sums(amplify_logits(network, codes), labels, mask, weights, config.loss.gamma)
        return focal_sums(network(velocities), labels, mask, weights, config.loss.gamma)

    return network, lambda: loss() / labels.numel()


def step(loss: Loss, device: str, autocast: torch.dtype | None) -> Tensor:
    """Forward, loss and backward; returns the loss."""
    with torch.autocast(torch.device(device).type, dtype=autocast, enabled=autocast is not None):
        value = loss()
    (value * FP16_SCALE if autocast == torch.float16 else value).backward()
    return value.detach()


def measure(variant: str, args: argparse.Namespace, output: Path) -> None:
    """Runs in a process of its own and leaves what it found in ``output``."""
    torch.set_num_threads(args.threads)
    kind, *extras = variant.split("+")
    autocast = torch.float16 if "fp16" in extras else torch.bfloat16 if args.bf16 else None
    on_gpu = torch.device(args.device).type == "cuda"
    of_chunk: ChunkLoss = torch.compile(chunk_loss, dynamic=False) if "chunk" in extras else chunk_loss

    def prepared(dropout: float) -> tuple[nn.Module, Loss]:
        network, loss = make(kind, args, dropout, of_chunk)
        if "model" in extras:
            network.compile(dynamic=False)
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return network, loss

    _, loss = prepared(dropout=0.1)
    before = torch.cuda.memory_allocated() if on_gpu else peak_bytes()
    step(loss, args.device, autocast)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        step(loss, args.device, autocast)
    found = {"peak": (torch.cuda.max_memory_allocated() if on_gpu else peak_bytes()) - before}
    found["waits"] = host_waits(lambda: step(loss, args.device, autocast)) if on_gpu else -1
    times = []
    for _ in range(args.repeats):
        began = [clock() for clock in CLOCKS.values()]
        step(loss, args.device, autocast)
        if on_gpu:
            torch.cuda.synchronize()
        times.append([clock() - start for clock, start in zip(CLOCKS.values(), began, strict=True)])
    found |= dict(zip(CLOCKS, map(min, zip(*times, strict=True)), strict=True))
    if not args.grow:
        network, loss = prepared(dropout=0.0)
        found["loss"] = float(step(loss, args.device, autocast))
        scale = FP16_SCALE if autocast == torch.float16 else 1.0
        torch.save(
            {
                name: parameter.grad.float().cpu() / scale
                for name, parameter in network.named_parameters()
                if parameter.grad is not None
            },
            f"{output}.grads",
        )
    torch.save(found, output)


def host_waits(run: Callable[[], object]) -> int:
    """How often ``run`` makes the host wait for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def floor_flops(args: argparse.Namespace) -> float:
    """Operations that a step cannot do without: products forward, and twice as many for the gradients."""
    config, dim = config_of(args), args.dim
    layers, codes, points = config.model.num_layers, config.model.encoder_sequence_len, config.num_points
    if args.model == "amplify":
        views, tokens = args.views, args.steps
        decoder = tokens * dim * (layers // 2) * (24 * dim + 4 * tokens)
        head = views * tokens * points * AmplifySizes.mlp_dim * config.num_classes
    else:
        of_codes = layers * codes * 2 * dim**2
        decoder = points * dim * layers * (14 * dim + 2 * points + 2 * codes) + of_codes
        head = points * dim * config.num_classes
    return 3 * 2.0 * args.batch_size * (encoder_products(config) + decoder + head)


def run(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """What ``measure`` found of each variant; the gradients lie in ``folder``."""
    found = {}
    for variant in args.variants:
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(variant, args, folder / variant)
        )
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{variant} failed")
        found[variant] = torch.load(folder / variant, weights_only=True)
        print(f"  {variant}: {1e3 * found[variant]['wall']:.1f} ms", file=sys.stderr, flush=True)
    return found


def apart(found: dict[str, dict[str, float]], folder: Path) -> dict[str, str]:
    """Relative differences of loss and gradients from the first variant; ``point`` is another function."""
    (first, *others), texts = found, {}
    theirs = torch.load(folder / f"{first}.grads", weights_only=True)
    for variant in others:
        if variant.startswith("point") != first.startswith("point"):
            continue
        mine = torch.load(folder / f"{variant}.grads", weights_only=True)
        loss = abs(found[variant]["loss"] / found[first]["loss"] - 1)
        of_all, largest, name = gradients_apart(mine, theirs)
        of_one = f"at most {largest:.0e} in one ({name})"
        texts[variant] = f"   apart: loss {loss:.0e}, gradients {of_all:.0e}, {of_one}"
    return texts


def gradients_apart(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[float, float, str]:
    """|mine - theirs| / |theirs| of all gradients, and max |mine - theirs| / max |theirs| of the parameter
    that is furthest apart, with its name; infinite where theirs is zero alone."""
    assert mine.keys() == theirs.keys(), mine.keys() ^ theirs.keys()
    off = {name: mine[name] - grad for name, grad in theirs.items()}
    norms = [sum(float(x.square().sum()) for x in grads.values()) ** 0.5 for grads in (off, theirs)]
    largest = {
        name: float(each.abs().max() / theirs[name].abs().max()) if each.any() else 0.0
        for name, each in off.items()
    }
    name = max(largest, key=largest.__getitem__)
    return norms[0] / norms[1], largest[name], name


def show(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        found = run(args, Path(name))
        differences = apart(found, Path(name))
    torch.set_num_threads(args.threads)
    clock, flops = clock_of(args.device), floor_flops(args)
    first, floor = found[args.variants[0]], flops / flops_per_second(args.device, args.bf16)
    print(f"{args.model} training step: {vars(args)}")
    for variant, values in found.items():
        waits = f"   host waits {values['waits']:.0f}" if values["waits"] >= 0 else ""
        of_floor = "" if variant.startswith("point") else f"   floor {floor / values[clock]:4.0%}"
        print(
            f"  {variant:16} {1e3 * values['wall']:7.0f} ms, CPU {1e3 * values['cpu']:7.0f} ms"
            f"   {first[clock] / values[clock]:5.2f} x   memory {values['peak'] / 2**20:6.0f} MiB"
            f"{of_floor}{waits}{differences.get(variant, '')}"
        )
    print(f"  floor: {flops / 1e9:.0f} G operations, {1e3 * floor:.0f} ms at {flops / floor / 1e9:.0f} G/s")
    print(f"  ratios and floor are of {clock} time")


def show_growth(args: argparse.Namespace) -> None:
    axes = {"B": "batch_size", "V": "views", "N": "points", "t": "steps"}
    base: dict[str, dict[str, float]] = {}
    print(f"{args.model} training step, each axis doubled: {vars(args)}")
    for axis in ("", *axes):
        if axis == "V" and args.model == "keypoint":
            continue
        larger = argparse.Namespace(**vars(args))
        if axis:
            setattr(larger, axes[axis], 2 * getattr(args, axes[axis]))
        if axis == "N":
            larger.points = round((2 * args.points) ** 0.5) ** 2
        with tempfile.TemporaryDirectory() as name:
            found = run(larger, Path(name))
        base = base or found
        cells = (
            f"{variant} {1e3 * values['cpu']:7.0f} ms ({values['cpu'] / base[variant]['cpu']:4.2f} x) "
            f"{values['peak'] / 2**20:6.0f} MiB"
            for variant, values in found.items()
        )
        print(f"  {axis and f'2 {axis}':4} CPU  " + "   ".join(cells))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("amplify", "keypoint"), default="amplify")
    parser.add_argument("--batch-size", type=positive, help="default: 4, keypoint 1")
    parser.add_argument("--views", type=positive, help="default: 2, keypoint has 1")
    parser.add_argument("--points", type=square, default=400, help="a square")
    parser.add_argument("--steps", type=positive, default=15)
    parser.add_argument("--dim", type=positive, default=768)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--repeats", type=positive, help="default: 5, keypoint 2")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        metavar="VARIANT",
        help=f"of {', '.join(VARIANTS)}; default: what the device has",
    )
    parser.add_argument(
        "--grow", action="store_true", help="double the batch, views, points and steps in turn"
    )
    args = parser.parse_args(argv)
    amplify = args.model == "amplify"
    args.batch_size = args.batch_size or (4 if amplify else 1)
    args.views = args.views or (2 if amplify else 1)
    args.repeats = args.repeats or (5 if amplify else 2)
    if amplify and any(variant.startswith("point") for variant in args.variants or ()):
        parser.error("point is a variant of --model keypoint alone")
    if not amplify and args.views > 1:
        parser.error("--model keypoint has one view")
    variants = ["plain", "ours"] if amplify or args.grow else ["plain", "ours", "point"]
    if torch.device(args.device).type == "cuda" and not args.grow:
        compiled = (
            ["ours+chunk", "ours+model", "ours+model+chunk"] if amplify else ["ours+model", "point+model"]
        )
        variants += ["plain+fp16", "ours+fp16", *compiled]
    args.variants = args.variants or variants
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    (show_growth if args.grow else show)(args)


if __name__ == "__main__":
    main()
