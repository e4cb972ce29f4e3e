"""The codec: what it is before training, that training on made-up motion betters it, and its file."""

import json

import pytest
import torch

from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import ConfigError, UsageError
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.displacement.codec import PLAIN_IDS
from amplify_motion_tokenizer.models.displacement.codec_loss import loss_of, quantised
from amplify_motion_tokenizer.training.pretraining import Pretraining, made_up, pretrain, write_pretrained

SMALL = Pretraining(seed=3, steps=100, batch_size=32, windows=320, learning_rate=2e-3)


def codec_config(ids=14, **model):
    return config_from_dict(
        {
            "model": {"name": "codec", "hidden_dim": 32, "encoder_sequence_len": ids, **model},
            "data": {"grid_size": 6, "reference_size": {"shorter": 240}, "static_filter": {"min_keep": 1}},
        },
        "here",
    )


def codec(**model):
    torch.manual_seed(0)
    return build_model(codec_config(**model))


@pytest.fixture(scope="module")
def windows():
    return made_up(codec(), SMALL, 10_000, 64)


def whole_loss(model, pool):
    steps = torch.arange(15)
    rows = torch.arange(len(pool.gain))
    ids = torch.full((len(rows),), model.num_codes)
    with torch.no_grad():
        return float(loss_of(model, pool.take(rows, steps), steps, ids, SMALL, progress=1.0))


def velocities_of(pool):
    moves = pool.targets.float() * pool.gain[..., None, None]
    return torch.cat([moves[:, :1], moves.diff(dim=1)], dim=1)


def test_the_first_ids_are_those_of_the_transform_tokenizer(windows):
    transform = build_model(codec_config(name="transform"))
    model = codec().eval()
    torch.nn.init.normal_(model.encoder.last.weight)
    velocities = velocities_of(windows)
    ours, plain = model.tokenize(velocities), transform.tokenize(velocities)
    assert torch.equal(ours[:, :PLAIN_IDS], plain[:, :PLAIN_IDS])
    assert not torch.equal(ours[:, PLAIN_IDS:], plain[:, PLAIN_IDS:])


def test_any_first_ids_are_a_code(windows):
    model = codec().eval()
    velocities = velocities_of(windows)
    codes, indices = model.quantize(model.encode(velocities))
    errors = []
    for ids in (1, 4, PLAIN_IDS, 14):
        decoded = model.reconstruct(codes[:, :ids])
        errors.append(float((decoded.detach().cumsum(1) - velocities.cumsum(1)).norm(dim=-1).mean()))
        whole = model.decode_indices(indices)[:2]
    assert errors == sorted(errors, reverse=True)
    assert whole.shape == (2, 15, 36, 225)


def test_noise_is_of_one_level_and_rounding_lets_gradients_through():
    model = codec()
    digits = torch.rand(8, 14, 4) * 4
    digits.requires_grad_()
    soft, noisy, whole = (quantised(model, digits, SMALL, progress) for progress in (0.0, 0.2, 0.9))
    assert torch.equal(soft[:, PLAIN_IDS:], digits[:, PLAIN_IDS:])
    off = (noisy - digits)[:, PLAIN_IDS:]
    assert 0.3 < off.abs().max() <= 0.5
    torch.testing.assert_close(whole[:, PLAIN_IDS:], digits[:, PLAIN_IDS:].floor() + 0.5)
    whole.sum().backward()
    assert (digits.grad[:, PLAIN_IDS:] == 1).all()
    assert (digits.grad[:, :PLAIN_IDS] == 0).all()


def test_training_on_made_up_motion_betters_windows_it_has_not_seen(windows):
    model = codec()
    before = whole_loss(model, windows)
    mean = pretrain(model, SMALL, lambda *_: None)
    model.load_state_dict(mean)
    assert whole_loss(model, windows) < 0.985 * before


def test_one_seed_gives_one_file_and_its_record(tmp_path):
    few = Pretraining(seed=3, steps=3, batch_size=8, windows=40)
    paths = [tmp_path / f"{name}.safetensors" for name in ("a", "b")]
    records = [write_pretrained(path, codec_config(), few, lambda *_: None) for path in paths]
    one, other = (load_tokenizer(path) for path in paths)
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)
    assert records[0] == json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert records[0]["options"]["steps"] == 3


def test_impossible_options_are_named_before_anything_is_computed(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ConfigError, match="model.name = keypoint is impossible"):
        write_pretrained(path, codec_config(name="keypoint", num_heads=2), SMALL, print)
    with pytest.raises(UsageError, match=r"expected a file NAME.safetensors"):
        write_pretrained(tmp_path / "a.pth", codec_config(), SMALL, print)
    with pytest.raises(UsageError, match="steps is 0; expected at least 1"):
        write_pretrained(path, codec_config(), Pretraining(steps=0), print)
