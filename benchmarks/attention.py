"""Causal attention with dropout on a CPU, forward and backward: time, memory, and what it computes.

    python -m benchmarks.attention [--tokens 3000] [--heads 8] [--width 96] [--bf16]

``plain`` is ``references.plain_attention``, ``torch`` what ``scaled_dot_product_attention`` does, ``ours``
``models/attention.py``; each in a process of its own, on one thread, of one window. Times are CPU time, the
shortest of a few; memory is what the process takes beyond its input. ``apart`` is without dropout: the
largest difference of the output and of each gradient from the plain one's, over its largest element.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from torch import Tensor, nn

from amplify_motion_tokenizer.models.attention import BlockAttention
from benchmarks.support.measuring import peak_bytes, positive
from benchmarks.support.references import plain_attention

VARIANTS = ("plain", "torch", "ours")
DROPOUT = 0.1

Attention = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def attention_of(variant: str, tokens: int) -> Attention:
    if variant == "plain":
        mask = nn.Transformer.generate_square_subsequent_mask(tokens)
        return lambda query, key, value, dropout: plain_attention(query, key, value, dropout, mask)
    if variant == "torch":
        return lambda query, key, value, dropout: F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True
        )
    # Not through ``attention``, which leaves what has no dropout to torch.
    return lambda *arguments: BlockAttention.apply(*arguments, True)  # type: ignore[no-untyped-call]


def step(attention: Attention, inputs: list[Tensor], upstream: Tensor, dropout: float) -> list[Tensor]:
    """The output, and the gradients of query, key and value."""
    query, key, value = inputs
    output = attention(query, key, value, dropout)
    return [output.detach(), *torch.autograd.grad(output, inputs, upstream)]


def measure(variant: str, args: argparse.Namespace, path: Path) -> None:
    """Runs in a process of its own and leaves what it found in ``path``."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype, shape = torch.bfloat16 if args.bf16 else torch.float32, (1, args.heads, args.tokens, args.width)
    inputs = [torch.randn(shape).to(dtype).requires_grad_() for _ in range(3)]
    attention, upstream = attention_of(variant, args.tokens), torch.randn(shape).to(dtype)
    found: dict[str, Any] = {"times": []}
    before = peak_bytes()
    for _ in range(args.repeats):
        began = time.process_time()
        step(attention, inputs, upstream, DROPOUT)
        found["times"].append(time.process_time() - began)
    found["memory"] = peak_bytes() - before
    found["values"] = step(attention, inputs, upstream, 0.0)
    torch.save(found, path)


def apart(mine: list[Tensor], theirs: list[Tensor]) -> float:
    pairs = zip(mine, theirs, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=positive, default=3000)
    parser.add_argument("--heads", type=positive, default=8)
    parser.add_argument("--width", type=positive, default=96, help="of a head")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 instead of float32")
    return parser.parse_args(argv)


def main() -> None:
    args = parse()
    print(f"causal attention, forward and backward, dropout {DROPOUT}: {vars(args)}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS:
            path = Path(folder) / variant
            process = multiprocessing.get_context("spawn").Process(target=measure, args=(variant, args, path))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{variant} failed")
            found[variant] = torch.load(path, weights_only=True)
    plain = found["plain"]
    for variant, values in found.items():
        seconds, memory = min(values["times"]), values["memory"] / 2**20
        print(
            f"  {variant:6} CPU {1e3 * seconds:7.0f} ms   {min(plain['times']) / seconds:5.2f} x"
            f"   memory {memory:6.0f} MiB   apart {apart(values['values'], plain['values']):.0e}"
        )


if __name__ == "__main__":
    main()
