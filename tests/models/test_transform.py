"""The tokenizer that needs no training: ids by hand, prefixes, any grid, its place among the models."""

import math

import pytest
import torch

from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.checkpoint import load_tokenizer, save_checkpoint
from amplify_motion_tokenizer.models.displacement.digits import Digits, plan_with_gain
from amplify_motion_tokenizer.models.displacement.waves import Waves, velocities_of
from amplify_motion_tokenizer.scenes.synthetic import synthetic_windows


def transform(ids=16, grid=20, frames=16, levels=(8, 8, 8, 4), **model):
    return build_model(
        config_from_dict(
            {
                "model": {
                    "name": "transform", "encoder_sequence_len": ids, "fsq_levels": list(levels), **model
                },
                "data": {
                    "static_filter": {"min_keep": 1},
                    "grid_size": grid, "sequence_length": frames, "reference_size": {"shorter": 240},
                },
            },
            "here",
        )
    ).eval()  # fmt: skip


def made_up(count=64, grid=20, frames=16, seed=1):
    """(B, t, N, 2) velocities in shorter sides, of exact tracks."""
    made = synthetic_windows(count, seed, 0, grid, frames, noise=False)
    return made.tracks_xy_px.diff(dim=1) / made.sizes.amin(dim=1)[:, None, None, None]


def relative_error(true, decoded):
    true, decoded = true.cumsum(dim=1), decoded.cumsum(dim=1)
    return float((true - decoded).norm(dim=-1).sum() / true.norm(dim=-1).sum())


@pytest.mark.parametrize(("steps", "side"), [(15, 20), (15, 6), (3, 9), (1, 1)])
def test_waves_are_orthonormal_and_come_back(steps, side):
    waves = Waves(steps, side)
    amplitudes = torch.randn(3, math.prod(waves.shape), generator=torch.Generator().manual_seed(0))
    displacements = waves.displacements(amplitudes)
    torch.testing.assert_close(
        displacements.square().sum(dim=-1).mean(dim=(1, 2)), amplitudes.square().sum(dim=1)
    )
    torch.testing.assert_close(
        waves.amplitudes(velocities_of(displacements)), amplitudes, atol=1e-4, rtol=1e-4
    )


def test_an_amplitude_means_the_same_on_every_grid():
    """The same motion, asked for on 8 and on 20 points a side, and in 6 and in 15 steps."""

    def amplitudes(steps, side):
        time = torch.arange(1, steps + 1) / (steps + 0.5)
        place = (torch.arange(side) + 0.5) / side
        field = (math.pi / 2 * time).sin().view(-1, 1, 1) * (math.pi * place).cos().view(1, 1, -1)
        moves = torch.stack([field.expand(-1, side, -1), torch.zeros(steps, side, side)], dim=-1)
        waves = Waves(steps, side)
        all_of_it = waves.amplitudes(velocities_of(moves.reshape(1, steps, side**2, 2)))
        return all_of_it.view(waves.shape)[0, 0, 1, 0]

    assert amplitudes(6, 8) == pytest.approx(float(amplitudes(15, 20)), rel=0.05)


def test_digits_are_the_mixed_radix_expansion():
    digits = Digits([0, 1, 0, 1], (8, 4))  # the numbers 0 and 1 in 8 x 8 and 4 x 4 cells
    whole = digits.of_numbers(torch.tensor([[0.7, 0.3]])).floor()
    # 0.7 = 5/8 + 4.8/64; 0.3 = 1/4 + 0.8/16
    assert whole.tolist() == [[[5, 1], [4, 0]]]
    torch.testing.assert_close(digits.numbers(whole), torch.tensor([[44.5 / 64, 4.5 / 16]]))
    torch.testing.assert_close(digits.numbers(whole[:, :1]), torch.tensor([[5.5 / 8, 1.5 / 4]]))


def test_the_first_digits_go_to_the_gain_and_what_a_camera_does():
    assert plan_with_gain(torch.tensor([0.1, 1.0, 0.6]), (8, 8, 8, 4), 1) == [0, 2, 3, 0]


def test_ids_of_a_pan_by_hand():
    """All points move 3 px a frame to the right at 240 rows, over 2 steps of a 2 x 2 grid."""
    model = transform(ids=1, grid=2, frames=3, levels=(8, 8, 8, 4))
    velocities = torch.zeros(1, 2, 4, 2)
    velocities[..., 0] = 3 / 240
    # Displacements of 3 and 6 px: a root mean square of 4.743 px, 6.2457 octaves of 12 above 1/16 px.
    # In 32 cells: 16, digits 4 of 8 and 0 of 4. The cell's middle is 2^-4 2^(12 16.5 / 32) = 4.529 px.
    # The slowest wave, sin(pi/5), sin(2 pi/5) times sqrt(4/5): its amplitude is 4.717 px, 1.04 gains: 1.
    # So the digit of x is 7 of 8, and y, which is 0, is the digit 4: the lower border of the middle.
    (index,) = model.tokenize(velocities)[0].tolist()
    assert index == 4 + 8 * 7 + 64 * 4 + 512 * 0
    decoded = model.reconstruct(model.quantize(model.encode(velocities))[0])
    assert relative_error(velocities, decoded) < 0.4


def test_prefixes_are_codes_and_more_ids_leave_less_error():
    model, velocities = transform(), made_up()
    codes, indices = model.quantize(model.encode(velocities))
    errors = [relative_error(velocities, model.reconstruct(codes[:, :ids])) for ids in (1, 2, 4, 8, 16)]
    assert errors == sorted(errors, reverse=True)
    # 0.35 without the warps that six of ten windows have, which no few waves tell.
    assert errors[-1] < 0.4
    assert torch.equal(transform(ids=4).tokenize(velocities), indices[:, :4])
    with pytest.raises(ValueError, match=r"expected \(B, d, K\)"):
        model.reconstruct(torch.zeros(1, 17, 4))


def test_ids_are_an_ordinary_codebook():
    model, velocities = transform(ids=8), made_up()
    codes, indices = model.quantize(model.encode(velocities))
    assert indices.dtype == torch.int64
    assert 0 <= indices.min() <= indices.max() < 2048
    from_ids = model.quantizer.indices_to_codes(indices)
    torch.testing.assert_close(from_ids, codes, atol=0, rtol=0)
    assert torch.equal(model.decode_indices(indices[:2]), model.decode(codes[:2]))


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (7, 5, 5, 5, 5), (4,), (3, 3)])
def test_any_levels_any_grid_any_steps(levels):
    model = transform(ids=6, grid=5, frames=9, levels=levels)
    velocities = made_up(16, grid=5, frames=9)
    codes, indices = model.quantize(model.encode(velocities))
    assert indices.max() < math.prod(levels)
    assert relative_error(velocities, model.reconstruct(codes)) < 0.95


def test_halves_and_mirrors_are_told_by_the_digits_they_should_be():
    """A frame of half the size gives the same velocities in sides; a slower motion another gain alone."""
    model, velocities = transform(), made_up(32)
    moving = velocities[velocities.cumsum(dim=1).norm(dim=-1).mean(dim=(1, 2)) > 0.01]
    fast, slow = model.encode(moving).floor(), model.encode(moving / 4).floor()
    gain = fast[:, 0, 0] * 4 + fast[:, 0, 3] - (slow[:, 0, 0] * 4 + slow[:, 0, 3])
    assert ((gain - 2 * 32 / 12).abs() < 1).all()  # two of twelve octaves in 32 cells


def test_still_windows_decode_to_next_to_nothing():
    model = transform()
    still = torch.zeros(1, 15, 400, 2)
    decoded = model.reconstruct(model.quantize(model.encode(still))[0]).cumsum(dim=1) * 240
    assert decoded.abs().max() < 0.1


def test_labels_are_the_classes_of_what_is_reconstructed():
    model, velocities = transform(grid=6), made_up(8, grid=6)
    codes, _ = model.quantize(model.encode(velocities))
    answers = model.decode(codes).argmax(dim=-1)
    cells = (model.reconstruct(codes) * 240).clamp(-7, 7).round() + 7
    assert torch.equal(answers, (cells[..., 1] * 15 + cells[..., 0]).long())


def test_pixels_and_nan_and_wrong_types_are_named():
    model = transform(grid=6)
    with pytest.raises(ValueError, match="reach 90; .* in shorter sides of the frame a step, not pixels"):
        model.encode(torch.full((1, 15, 36, 2), 90.0))
    with pytest.raises(ValueError, match="NaN or infinity; expected lost points filled"):
        model.encode(torch.full((1, 15, 36, 2), torch.nan))
    with pytest.raises(ValueError, match=r"expected \(B, t, N, 2\) = \(B, 15, 36, 2\)"):
        model.encode(torch.zeros(1, 15, 35, 2))
    with pytest.raises(ValueError, match=r"torch.float32 tensor \(B, t, N, 2\).*float64"):
        model.encode(torch.zeros(1, 15, 36, 2, dtype=torch.float64))


def test_a_checkpoint_holds_no_weights_and_loads(tmp_path):
    model = transform(ids=4)
    path = tmp_path / "transform.pth"
    save_checkpoint(
        path, model=model.state_dict(), config=model.config, track_settings=None, metrics={}, training=None
    )
    velocities = made_up(4)
    assert torch.equal(load_tokenizer(path).tokenize(velocities), model.tokenize(velocities))


def test_a_reference_size_is_needed():
    with pytest.raises(ConfigError, match="data.reference_size = null is impossible"):
        config_from_dict({"model": {"name": "transform"}, "data": {"reference_size": None}}, "here")
