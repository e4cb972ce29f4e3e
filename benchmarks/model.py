"""Time and memory of AMPLIFY's training step, beside the same step as its source computes it.

``python benchmarks/model.py`` runs forward, loss and backward of one model with equal weights and input
twice, each in a process of its own: *plain* concatenates [h_t, p_n, q_v] for every (view, step, point),
runs the perceptron over it and takes the cross entropy of all logits; *ours* is ``models.heads`` with
``factorised_loss``. Prints both, their ratios, and how far loss and gradients are apart.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

from amplify_motion_tokenizer.config import LossConfig
from amplify_motion_tokenizer.factorised_loss import factorised_loss
from amplify_motion_tokenizer.losses import class_weights, masked_loss
from amplify_motion_tokenizer.models.amplify import AmplifyNetwork, AmplifySizes
from amplify_motion_tokenizer.models.quantizer import quantize_float32

LOSS = LossConfig(gamma=0.0, alpha_center=1.0)


def plain_logits(network: AmplifyNetwork, codes: Tensor) -> Tensor:
    """Logits (B, V, t, N, C) of codes (B, L, D), by the head as the source has it."""
    decoder, sizes = network.decoder, network.sizes
    tokens = decoder.decoder["transformer"](torch.zeros_like(codes), codes)
    shape = (len(codes), sizes.num_views, sizes.num_steps, sizes.num_points, sizes.hidden_dim)
    hidden = tokens.reshape(len(codes), -1, sizes.num_steps, sizes.hidden_dim)[:, :, :, None].expand(shape)
    points = decoder.track_pos_emb.weight.expand(shape)
    views = decoder.view_emb.weight[:, None, None].expand(shape)
    return decoder.decoder_proj(hidden + decoder.decoder_mlp(torch.cat([hidden, points, views], dim=-1)))


def step(
    kind: str, network: AmplifyNetwork, inputs: dict[str, Tensor], autocast: torch.dtype | None
) -> Tensor:
    """Forward, loss and backward; returns the sums (V,) of the loss."""
    device = inputs["labels"].device
    weights = class_weights(LOSS, network.sizes.class_grid).to(device)
    with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        codes, _ = quantize_float32(network.quantize, network.encode(inputs["velocities"]))
        if kind == "plain":
            logits = plain_logits(network, codes)
            sums, _ = masked_loss(logits, inputs["labels"], inputs["mask"], weights, LOSS.gamma)
        else:
            head = network.head(codes)
            sums, _ = factorised_loss(head, inputs["labels"], inputs["mask"], weights, LOSS.gamma)
    (sums / inputs["labels"].numel()).sum().backward()
    return sums.detach()


def make(args: argparse.Namespace, dropout: float) -> tuple[AmplifyNetwork, dict[str, Tensor]]:
    """The same network and input in every process."""
    torch.manual_seed(0)
    sizes = AmplifySizes(num_views=args.views, num_points=args.points, num_steps=args.steps, dropout=dropout)
    network = AmplifyNetwork(sizes)
    shape = (args.batch_size, *network.input_shape[:-1])
    inputs = {
        "velocities": 0.01 * torch.randn(*shape, 2),
        "labels": torch.randint(sizes.num_classes, shape),
        "mask": torch.rand(shape) < 0.8,
    }
    return network.to(args.device), {name: tensor.to(args.device) for name, tensor in inputs.items()}


def measure(kind: str, args: argparse.Namespace, output: Path) -> None:
    """Runs in a process of its own and leaves what it found in ``output``."""
    torch.set_num_threads(args.threads)
    autocast = torch.bfloat16 if args.bf16 else None
    on_gpu = torch.device(args.device).type == "cuda"
    network, inputs = make(args, dropout=0.1)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = torch.cuda.memory_allocated() if on_gpu else peak_bytes()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    step(kind, network, inputs, autocast)
    peak = (torch.cuda.max_memory_allocated() if on_gpu else peak_bytes()) - before
    times = []
    for _ in range(args.repeats):
        began = time.perf_counter()
        step(kind, network, inputs, autocast)
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    network, inputs = make(args, dropout=0.0)
    sums = step(kind, network, inputs, autocast)
    grads = torch.cat([p.grad.flatten().float().cpu() for p in network.parameters() if p.grad is not None])
    torch.save({"sums": sums.cpu(), "grads": grads, "seconds": min(times), "peak": peak}, output)


def peak_bytes() -> int:
    """Most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def floor_flops(args: argparse.Namespace) -> float:
    """Multiply-adds, times two, that the head cannot do without: logits, and two gradients of them."""
    sizes = AmplifySizes(num_views=args.views)
    rows = args.batch_size * args.views * args.steps * args.points
    return 3 * 2.0 * rows * sizes.mlp_dim * sizes.num_classes


def matmul_flops_per_second(args: argparse.Namespace) -> float:
    """What this machine reaches on one product of the head's shape."""
    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    rows, inner, classes = 6000, 256, 225
    a, b = (
        torch.randn(shape, device=args.device, dtype=dtype) for shape in ((rows, inner), (inner, classes))
    )
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(5):
            a @ b
        if a.is_cuda:
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - began) / 5)
    return 2.0 * rows * inner * classes / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--points", type=int, default=400)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("plain", "ours"):
            output = Path(folder) / kind
            process = multiprocessing.get_context("spawn").Process(target=measure, args=(kind, args, output))
            process.start()
            process.join()
            found[kind] = torch.load(output, weights_only=True)
    plain, ours = found["plain"], found["ours"]
    print(f"amplify training step: {vars(args)}")
    for kind, values in found.items():
        print(
            f"  {kind:6} {1e3 * values['seconds']:8.0f} ms   extra memory {values['peak'] / 2**20:8.0f} MiB"
        )
    print(f"  time   plain / ours {plain['seconds'] / ours['seconds']:.2f}")
    print(f"  memory ours / plain {ours['peak'] / plain['peak']:.3f}")
    apart = float((ours["grads"] - plain["grads"]).norm() / plain["grads"].norm())
    loss = float(((ours["sums"] - plain["sums"]) / plain["sums"]).abs().max())
    print(f"  apart (without dropout): loss {loss:.1e}, gradients {apart:.1e}, both relative")
    floor = floor_flops(args) / matmul_flops_per_second(args)
    print(f"  head's arithmetic floor {1e3 * floor:.0f} ms: {floor / ours['seconds']:.0%} of our step")


if __name__ == "__main__":
    main()
