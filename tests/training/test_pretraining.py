"""The codec: its modes, what it is before training, that training on made-up motion betters it, its file."""

import json
import math

import pytest
import torch

from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import ConfigError, UsageError
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.displacement.codec import STILL
from amplify_motion_tokenizer.models.displacement.codec_loss import loss_of
from amplify_motion_tokenizer.models.displacement.modes import Mode, Modes
from amplify_motion_tokenizer.scenes.synthetic import synthetic_windows
from amplify_motion_tokenizer.training.mode_fitting import fit_modes, fit_to_made_up
from amplify_motion_tokenizer.training.pretraining import (
    Pretraining,
    made_up,
    pretrain,
    write_pretrained,
)

SMALL = Pretraining(seed=3, steps=100, batch_size=32, windows=320, learning_rate=2e-3, fitted_to=400)


def codec_config(ids=14, **model):
    return config_from_dict(
        {
            "model": {"name": "codec", "hidden_dim": 32, "encoder_sequence_len": ids, **model},
            "data": {"grid_size": 4, "reference_size": {"shorter": 240}, "static_filter": {"min_keep": 1}},
        },
        "here",
    )


def codec(**model):
    torch.manual_seed(0)
    return build_model(codec_config(**model))


@pytest.fixture(scope="module")
def fitted():
    """The modes of a codec that were fitted to a few windows."""
    model = codec()
    fit_to_made_up(model, SMALL.seed, SMALL.fitted_to)
    return model.modes.state_dict()


def codec_with(modes, **model):
    built = codec(**model)
    built.modes.load_state_dict(modes)
    return built.eval()


@pytest.fixture(scope="module")
def windows(fitted):
    return made_up(codec_with(fitted), SMALL, 10_000, 64)


def whole_loss(model, pool):
    steps = torch.arange(15)
    rows = torch.arange(len(pool.gain))
    ids = torch.full((len(rows),), model.num_codes)
    with torch.no_grad():
        return float(loss_of(model, pool.take(rows, steps), steps, ids))


def velocities_of(pool):
    moves = pool.targets.float() * pool.gain[..., None, None]
    return torch.cat([moves[:, :1], moves.diff(dim=1)], dim=1)


def test_a_mode_tells_its_components_digit_by_digit():
    """Two modes over three waves, one id of two digits: the wider component takes the first digit."""
    modes = Modes(2, 3, (4, 4), 1)
    swap = torch.eye(3)[:, [2, 0, 1]]
    modes.put(
        [Mode(torch.eye(3), torch.tensor([0.5, 0.3, 0.01])), Mode(swap, torch.tensor([0.5, 0.3, 0.01]))]
    )
    shapes = torch.tensor([[0.6, -0.2, 0.0], [-0.2, 0.0, 0.6]])
    left, numbers = modes.left(shapes)
    mode = left.argmin(dim=1)
    assert mode.tolist() == [0, 1]
    digits = modes.digits(mode, numbers[torch.arange(2), mode]).floor()
    # The gain per digit is 0.25 (1 - 1/2) of the first, 0.09 (1 - 1/2) of the second, but a second digit of
    # the first takes 0.25 (1/2 - 1/8) = 0.094: both digits are its. 0.6 of the deviation 0.5:
    # u = 1/2 + (1 - e^-1.2) / (1 - e^-2) / 2 = 0.904, 14.46 of 16 cells: 3 and 2.
    assert digits.tolist() == [[[3, 2]], [[3, 2]]]
    told = modes.shapes(mode, digits, torch.tensor([1, 1]))
    # The middle of the cell 14 of 16 is 0.90625: a = -0.5 ln(1 - 0.8125 (1 - e^-2)).
    first = -0.5 * math.log(1 - 0.8125 * (1 - math.exp(-2)))
    expected = torch.tensor([[first, 0.0, 0.0], [0.0, 0.0, first]])
    torch.testing.assert_close(told, expected, atol=1e-3, rtol=0)
    assert torch.equal(modes.shapes(mode, digits, torch.tensor([0, 0])), torch.zeros(2, 3))


def test_fitted_modes_are_those_of_the_groups_that_made_the_windows():
    """Windows along two planes of six waves: two modes hold all of them, one holds half."""
    random = torch.Generator().manual_seed(0)
    planes = [torch.linalg.qr(torch.randn(6, 2, generator=random))[0] for _ in range(2)]
    shapes = torch.cat([torch.randn(300, 2, generator=random) @ plane.mT for plane in planes])
    shapes = shapes / shapes.norm(dim=1, keepdim=True)
    modes = Modes(2, 6, (8, 8), 2)

    def left_of(number):
        trial = Modes(number, 6, (8, 8), 2)
        trial.put(fit_modes(shapes, modes, number, torch.Generator().manual_seed(1)))
        return float(trial.left(shapes)[0].amin(dim=1).mean())

    assert left_of(2) < 0.8 * left_of(1)


def test_any_first_ids_are_a_code_and_more_leave_less(fitted, windows):
    model, velocities = codec_with(fitted), velocities_of(windows)
    codes, indices = model.quantize(model.encode(velocities))
    errors = []
    for ids in (1, 4, 8, 14):
        decoded = model.reconstruct(codes[:, :ids])
        errors.append(float((decoded.detach().cumsum(1) - velocities.cumsum(1)).norm(dim=-1).mean()))
    assert errors == sorted(errors, reverse=True)
    assert model.decode_indices(indices)[:2].shape == (2, 15, 16, 225)
    torch.testing.assert_close(model.codes_of(indices), codes, atol=0, rtol=0)


def test_before_training_it_is_better_than_the_transform_tokenizer(fitted, windows):
    transform = build_model(codec_config(name="transform")).eval()
    velocities = velocities_of(windows)
    off = []
    for model in (codec_with(fitted), transform):
        decoded = model.reconstruct(model.quantize(model.encode(velocities))[0])
        off.append(float((decoded.detach().cumsum(1) - velocities.cumsum(1)).norm(dim=-1).mean()))
    assert off[0] < 0.95 * off[1]


@pytest.mark.parametrize(
    ("levels", "ids"), [((8, 5, 5, 5), 6), ((7, 5, 5, 5, 5), 9), ((3, 3), 16), ((8, 8), 1)]
)
def test_any_levels_any_grid_any_steps(levels, ids):
    config = config_from_dict(
        {
            "model": {
                "name": "codec", "hidden_dim": 16, "encoder_sequence_len": ids, "fsq_levels": list(levels)
            },
            "data": {
                "grid_size": 5, "sequence_length": 9, "reference_size": {"shorter": 240},
                "static_filter": {"min_keep": 1},
            },
        },
        "here",
    )  # fmt: skip
    model = build_model(config).eval()
    made = synthetic_windows(24, 5, 0, 5, 9, noise=False)
    velocities = made.tracks_xy_px.diff(dim=1) / made.sizes.amin(dim=1)[:, None, None, None]
    codes, indices = model.quantize(model.encode(velocities))
    assert 0 <= indices.min() <= indices.max() < math.prod(levels)
    off = model.reconstruct(codes).cumsum(dim=1) - velocities.cumsum(dim=1)
    assert off.norm(dim=-1).mean() <= velocities.cumsum(dim=1).norm(dim=-1).mean()


def test_one_digit_cannot_tell_gain_and_mode():
    with pytest.raises(ConfigError, match=r"model.fsq_levels = \[4\] is impossible with model.name = codec"):
        build_model(codec_config(fsq_levels=[4]))


def test_objects_before_a_camera_at_rest_are_told_as_objects():
    """A square of a 20 x 20 grid moves to the right, all else rests: waves would ring."""
    config = config_from_dict(
        {
            "model": {"name": "codec", "hidden_dim": 16, "encoder_sequence_len": 16},
            "data": {"grid_size": 20, "reference_size": {"shorter": 240}, "static_filter": {"min_keep": 1}},
        },
        "here",
    )
    model = build_model(config).eval()
    velocities = torch.zeros(1, 15, 20, 20, 2)
    velocities[:, :, 8:13, 5:10, 0] = 0.01
    codes, _ = model.quantize(model.encode(velocities.flatten(2, 3)))
    moved = model.reconstruct(codes).sum(dim=1).view(20, 20, 2)
    assert moved[9:12, 6:9, 0].mean() == pytest.approx(0.15, abs=0.03)
    assert moved[:5].abs().max() < 0.005
    assert moved[15:].abs().max() < 0.005


def test_a_window_is_written_in_the_mode_whose_decoding_is_nearest(fitted, windows):
    """A network that throws everything far away is not asked; a still window is told as still."""
    model, velocities = codec_with(fitted), velocities_of(windows)
    torch.nn.init.normal_(model.decoder.last.bias, std=100)
    modes = model.told(model.encode(velocities).floor(), torch.tensor([1] * len(velocities))).mode
    assert ((modes < model.plain_modes) | (modes >= len(model.modes))).all()
    still = model.encode(torch.zeros(1, 15, 16, 2)).floor()
    assert int(model.told(still, torch.tensor([14])).mode) == STILL
    assert not model.displacements_of(still).any()


def test_training_on_made_up_motion_betters_windows_it_has_not_seen(fitted, windows):
    model = codec_with(fitted)
    before = whole_loss(model, windows)
    mean = pretrain(model, SMALL, lambda *_: None)
    model.load_state_dict(mean, strict=False)
    assert whole_loss(model, windows) < 0.985 * before


def test_one_seed_gives_one_file_and_its_record(tmp_path):
    few = Pretraining(seed=3, steps=3, batch_size=8, windows=40, fitted_to=200)
    paths = [tmp_path / f"{name}.safetensors" for name in ("a", "b")]
    records = [write_pretrained(path, codec_config(), few, lambda *_: None) for path in paths]
    one, other = (load_tokenizer(path) for path in paths)
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)
    assert torch.equal(one.modes.basis, other.modes.basis)
    assert one.modes.basis[-1].any()
    assert paths[0].read_bytes() == paths[1].read_bytes()
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
