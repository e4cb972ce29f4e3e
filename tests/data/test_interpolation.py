"""Resampling along time: golden values, exactness on polynomials, and the ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from amplify_motion_tokenizer.data.interpolation import interpolate_time
from amplify_motion_tokenizer.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / "golden" / "amplify_geometry.safetensors"


@pytest.mark.parametrize("method", ["linear", "spline"])
def test_golden(method: str) -> None:
    if method == "spline":
        pytest.importorskip("scipy")
    golden = load_file(GOLDEN)
    resampled = interpolate_time(golden["out.normalized_128x160"], 11, method)
    assert resampled.dtype == torch.float32
    torch.testing.assert_close(resampled, golden[f"out.interp_{method}_11"], atol=1e-5, rtol=0)


def test_linear_by_hand() -> None:
    # (T = 3, N = 1) at times 0, 1/2, 1; asked for at 0, 1/4, 1/2, 3/4, 1.
    tracks = torch.tensor([[[0.0, 4.0]], [[2.0, 4.0]], [[8.0, 0.0]]], dtype=torch.float64)
    resampled = interpolate_time(tracks, 5, "linear")
    assert resampled[:, 0].tolist() == [[0, 4], [1, 4], [2, 4], [5, 2], [8, 0]]


@pytest.mark.parametrize(("num_frames", "degree"), [(2, 1), (3, 2), (4, 3), (9, 3)])
def test_a_spline_reproduces_polynomials(num_frames: int, degree: int) -> None:
    pytest.importorskip("scipy")

    def positions(count: int) -> torch.Tensor:
        time = torch.linspace(0, 1, count, dtype=torch.float64)[:, None, None]
        return torch.cat([2 * time**degree - time, 1 - 3 * time**degree], dim=-1).expand(2, -1, 3, -1)

    expected = positions(14).float()
    torch.testing.assert_close(interpolate_time(positions(num_frames), 14, "spline"), expected)


@pytest.mark.parametrize("lost", [torch.nan, torch.inf])
def test_a_spline_leaves_out_coordinates_that_are_lost_somewhere(lost: float) -> None:
    """As the keypoint model's windows hold them: scipy refuses a whole array for one of them."""
    pytest.importorskip("scipy")
    tracks = torch.rand(2, 5, 3, 2)
    whole = interpolate_time(tracks, 9, "spline")
    tracks[1, 2, 0, 1] = lost
    resampled = interpolate_time(tracks, 9, "spline")
    assert resampled[1, :, 0, 1].isnan().all()
    whole[1, :, 0, 1] = torch.nan
    assert torch.equal(resampled.nan_to_num(9.0), whole.nan_to_num(9.0))


@pytest.mark.parametrize("method", ["linear", "spline"])
@pytest.mark.parametrize("num_frames", [2, 6, 7, 31])
def test_ends_are_kept(method: str, num_frames: int) -> None:
    if method == "spline":
        pytest.importorskip("scipy")
    tracks = torch.rand(2, 3, 7, 5, 2)
    resampled = interpolate_time(tracks, num_frames, method)
    assert resampled.shape == (2, 3, num_frames, 5, 2)
    torch.testing.assert_close(resampled[:, :, [0, -1]], tracks[:, :, [0, -1]])
    if num_frames == 7:
        assert torch.equal(resampled, tracks)
        assert resampled.data_ptr() != tracks.data_ptr()


def test_bad_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'linear' or 'spline'"):
        interpolate_time(torch.rand(4, 2, 2), 5, "cubic")
    with pytest.raises(ValueError, match="at least 2 frames"):
        interpolate_time(torch.rand(1, 2, 2), 5, "linear")
    with pytest.raises(ValueError, match="at least 2 frames"):
        interpolate_time(torch.rand(4, 2, 2), 1, "linear")
    monkeypatch.setitem(sys.modules, "scipy.interpolate", None)
    with pytest.raises(ConfigError, match="pip install scipy"):
        interpolate_time(torch.rand(4, 2, 2), 5, "spline")
