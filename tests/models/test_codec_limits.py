"""What the tokenizers of displacements make of inputs, weights and codes at the edge of what there is."""

from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.models import MotionTokenizer
from amplify_motion_tokenizer.models.checkpoint import load_tokenizer
from amplify_motion_tokenizer.models.shipped import place_of, read_shipped, write_shipped

NAMES = ("codec", "transform")


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request) -> MotionTokenizer:
    return load_tokenizer(request.param)


@pytest.fixture(scope="module")
def velocities() -> torch.Tensor:
    """Windows told in many modes: what random ids of the codec say."""
    codec, random = load_tokenizer("codec"), torch.Generator().manual_seed(0)
    return codec.reconstruct(codec.codes_of(torch.randint(2048, (32, 16), generator=random))).clamp(-5, 5)


def test_no_window_has_no_codes_and_no_motion(tokenizer):
    nothing = torch.zeros(0, *tokenizer.input_shape)
    ids = tokenizer.tokenize(nothing)
    assert ids.shape == (0, 16)
    assert tokenizer.reconstruct(tokenizer.codes_of(ids)).shape == nothing.shape
    assert tokenizer(nothing).indices.shape == (0, 16)


def test_ids_and_motion_are_the_same_under_autocast(tokenizer, velocities):
    ids = tokenizer.tokenize(velocities)
    back = tokenizer.reconstruct(tokenizer.codes_of(ids))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tokenizer.tokenize(velocities), ids)
        assert torch.equal(tokenizer.reconstruct(tokenizer.codes_of(ids)), back)


def test_a_tokenizer_in_another_type_takes_that_type(velocities):
    for name, kind in ((name, kind) for name in NAMES for kind in (torch.float64, torch.bfloat16)):
        tokenizer = load_tokenizer(name)
        rounded = velocities[:4].to(kind)
        expected = tokenizer.tokenize(rounded.float())
        assert torch.equal(tokenizer.to(kind).tokenize(rounded), expected)


def test_codes_in_another_type_say_the_same(tokenizer):
    codes = tokenizer.codes_of(torch.randint(2048, (8, 16), generator=torch.Generator().manual_seed(1)))
    expected = tokenizer.reconstruct(codes)
    for kind in (torch.float64, torch.bfloat16):
        assert torch.equal(tokenizer.reconstruct(codes.to(kind)), expected)


@pytest.mark.parametrize("ids", [1, 5, 16])
def test_any_ids_tell_finite_motion(tokenizer, ids):
    random = torch.Generator().manual_seed(ids)
    told = tokenizer.reconstruct(tokenizer.codes_of(torch.randint(2048, (200, ids), generator=random)))
    assert told.shape == (200, 15, 400, 2)
    assert told.isfinite().all()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -9.0])
def test_codes_that_no_id_has_are_refused(tokenizer, number):
    codes = tokenizer.codes_of(torch.zeros(1, 16, dtype=torch.int64))
    codes[0, 0, 1] = number
    with pytest.raises(ValueError, match="codes hold NaN, or numbers that no id has"):
        tokenizer.reconstruct(codes)


@pytest.mark.parametrize("ids", [[[1, 2]], torch.tensor([[1.5]]), torch.tensor([[True]])])
def test_ids_that_are_no_whole_numbers_are_refused(tokenizer, ids):
    with pytest.raises(ValueError, match="expected a tensor .* of whole numbers, found "):
        tokenizer.codes_of(ids)


def test_ids_may_have_any_type_of_whole_numbers(tokenizer):
    ids = torch.tensor([[0, 7, 255]])
    expected = tokenizer.codes_of(ids)
    for kind in (torch.uint8, torch.int32, torch.uint16):
        assert torch.equal(tokenizer.codes_of(ids.to(kind)), expected)


@pytest.mark.parametrize(
    ("key", "change", "expected"),
    [
        ("modes.deviations", lambda weight: weight * 0, "deviations holds 3720 numbers that are not above 0"),
        ("modes.deviations", lambda weight: -weight, "deviations holds 3720 numbers that are not above 0"),
        ("modes.basis", lambda weight: weight * 100, "basis has a column of the length 100, not of 1"),
        ("modes.basis", lambda weight: weight.int(), "modes.basis is torch.int32, expected floating-point"),
    ],
)
def test_modes_that_are_none_are_told(tmp_path: Path, key, change, expected):
    content = read_shipped(place_of("codec"))
    weights = content.pop("model")
    path = tmp_path / "bad.safetensors"
    write_shipped(path, weights | {key: change(weights[key])}, content)
    with pytest.raises(CheckpointError, match=f"bad.safetensors: its weights are of no use: .*{expected}"):
        load_tokenizer(path)


def test_a_checkpoint_that_is_not_there_tells_of_the_shipped_ones(tmp_path: Path):
    with pytest.raises(CheckpointError, match="nope does not exist; .*: default, codec, transform"):
        load_tokenizer(tmp_path / "nope")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"folder\.safetensors is a folder; give "):
        load_tokenizer(tmp_path / "folder.safetensors")
