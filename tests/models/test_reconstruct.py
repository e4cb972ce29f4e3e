"""Codes back to velocities, in the unit that went in: the mean over classes, or the likeliest one."""

import pytest
import torch

from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.models import build_model

SMALL = {"hidden_dim": 16, "num_heads": 2, "num_layers": 2, "dropout": 0.0, "decoder_window_size": 5}
DATA = {"grid_size": 3, "sequence_length": 5, "static_filter": {"min_keep": 1}}


def model_of(data=None, **model):
    torch.manual_seed(0)
    config = config_from_dict({"model": {**SMALL, **model}, "data": {**DATA, **(data or {})}}, "here")
    return build_model(config).eval()


@pytest.mark.parametrize("decoder", ["replicate", "per_step"])
def test_keypoint_velocities_are_w_normalised_means(decoder):
    model = model_of(keypoint={"decoder": decoder})
    codes, _ = model.quantize(model.encode(torch.rand(2, 4, 9, 2) - 0.5))
    with torch.no_grad():
        shares = model.decode(codes).softmax(dim=-1).view(2, 4, 9, 5, 5)  # rows are y
        cells = torch.linspace(-1, 1, 5)
        expected = torch.stack([(shares.sum(-2) * cells).sum(-1), (shares.sum(-1) * cells).sum(-1)], dim=-1)
        torch.testing.assert_close(model.reconstruct(codes), expected)
        label = model.decode(codes).argmax(dim=-1)
        likeliest = torch.stack([cells[label % 5], cells[label // 5]], dim=-1)
        torch.testing.assert_close(model.reconstruct(codes, likeliest=True), likeliest)


def test_amplify_velocities_are_of_the_frame_rows_first():
    data = {"reference_size": [48, 64], "views": ["a", "b"]}
    model = model_of(data, name="amplify", amplify={"class_grid": [3, 5]})
    codes, _ = model.quantize(model.encode(torch.rand(2, 2, 4, 9, 2) * 0.1))
    with torch.no_grad():
        shares = model.decode(codes).softmax(dim=-1).unflatten(-1, (3, 5))
        rows = (shares.sum(-1) * torch.tensor([-1.0, 0, 1])).sum(-1) * 2 / 48
        columns = (shares.sum(-2) * torch.tensor([-2.0, -1, 0, 1, 2])).sum(-1) * 2 / 64
        assert model.reconstruct(codes).shape == (2, 2, 4, 9, 2)
        torch.testing.assert_close(model.reconstruct(codes), torch.stack([rows, columns], dim=-1))
