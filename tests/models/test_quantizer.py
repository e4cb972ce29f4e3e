"""Ids are whole numbers worked out digit by digit, for codebooks of any size that is allowed."""

import math

import pytest
import torch

from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.evaluation.metrics import (
    add_counts,
    code_histogram,
    code_usage,
    count_codes,
    no_codes,
    used_codes,
)
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.quantizer import build_fsq, codes_of_indices, quantize_float32
from tests.support.run_scripts import TINY


@pytest.mark.parametrize(
    "levels",
    [[8, 6, 5], [8] * 8, [16] * 7, [5] * 13, [999, 999, 999], [1000, 3, 1000], [3] * 19, [8] * 10],
)
def test_ids_are_exact(levels: list[int]) -> None:
    torch.manual_seed(0)
    fsq = build_fsq(levels, 24).eval()
    latents = 3 * torch.randn(400, 2, fsq.dim)
    with torch.no_grad():
        codes, ids = quantize_float32(fsq, latents)
        projected = fsq.project_in(latents)
    digits, true = [], torch.zeros(400, 2, dtype=torch.int64)
    for place, level in enumerate(levels):
        half, offset = (level - 1) * 1.001 / 2, 0.5 if level % 2 == 0 else 0.0
        shift = math.atanh(offset / half)
        digit = (torch.tanh(projected[..., place] + shift) * half - offset).round().long() + level // 2
        digits.append(digit)
        true += digit * math.prod(levels[:place])
    assert all(
        int(digit.min()) >= 0 and int(digit.max()) < level
        for digit, level in zip(digits, levels, strict=True)
    )
    # Half way between two levels, the last bit of the bound decides.
    assert (ids != true).float().mean() < 0.005
    assert int(ids.max()) > 2**24 or math.prod(levels) <= 2**24
    assert int(ids.max()) < math.prod(levels)
    with torch.no_grad():
        torch.testing.assert_close(codes_of_indices(fsq, ids), codes, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("levels", [[16] * 8, [3] * 20, [1001, 3]])
def test_levels_without_exact_ids_are_refused(levels: list[int]) -> None:
    words = "at least 3 and at most 1000, whose product, the number of codes, is at most 2147483648"
    with pytest.raises(ConfigError, match=rf"model\.fsq_levels = .* is impossible; allowed: .*{words}"):
        config_from_dict({**TINY, "model": {**TINY["model"], "fsq_levels": levels}}, "in the tests")
    with pytest.raises(ConfigError, match=r"model\.fsq_levels"):
        build_fsq(levels, 8)


def test_counts_of_a_large_codebook_take_no_room_for_what_does_not_occur() -> None:
    size = 2**31
    ids = torch.tensor([[5, 2**31 - 1], [5, 2**24 + 1], [2**24 + 1, 5]])
    counts = code_histogram(ids, size)
    assert counts.tolist() == [[5, 2**24 + 1, 2**31 - 1], [3, 2, 1]]
    more = add_counts(counts, count_codes(torch.tensor([7, 5, -1]), torch.tensor([True, True, True]), size))
    assert [part.tolist() for part in used_codes(more)] == [[5, 7, 2**24 + 1, 2**31 - 1], [4, 1, 2, 1]]
    usage = code_usage(counts, size)
    entropy = -sum(share * math.log2(share) for share in (1 / 2, 1 / 3, 1 / 6))
    assert usage == (3, *map(pytest.approx, (entropy, entropy / 31, 2**entropy, 2**entropy / size)))
    assert code_usage(no_codes(size, torch.device("cpu")), size).unique == 0
    with pytest.raises(ValueError, match="expected 0 to 2147483647"):
        code_histogram(torch.tensor([2**31]), size)


@pytest.mark.parametrize("name", ["keypoint", "amplify"])
def test_a_tokenizer_of_another_type_gives_the_same_ids(name: str) -> None:
    torch.manual_seed(0)
    tree = {**TINY, "model": {**TINY["model"], "name": name}}
    if name == "amplify":
        tree["data"] = {**TINY["data"], "reference_size": [48, 64]}
    model = build_model(config_from_dict(tree, "in the tests")).eval()
    velocities = torch.rand(50, *model.input_shape) - 0.5
    expected = model.tokenize(velocities)
    for change in (torch.nn.Module.double, torch.nn.Module.bfloat16, torch.nn.Module.half):
        changed = change(model)
        assert changed is model
        assert torch.equal(changed.tokenize(velocities), expected)
        assert torch.equal(changed.tokenize(velocities.double().float()), expected)
    rounded = velocities.bfloat16()
    assert torch.equal(model.tokenize(rounded), model.tokenize(rounded.float()))
    assert torch.equal(model.tokenize(velocities.double()), expected)
    assert model.to(torch.float64).decode_indices(expected).dtype == torch.float32
