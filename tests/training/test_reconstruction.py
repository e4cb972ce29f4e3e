"""``model.reconstruction``: what moves the held-out tracks are judged by, and what it leaves as it is."""

import dataclasses
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips, split_clips
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import amplify_config, with_training
from tests.support.training_runs import scalars


def with_way(config: Config, way: str) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, reconstruction=way))


@pytest.mark.parametrize("name", ["keypoint", "amplify"])
def test_tracks_are_judged_by_the_chosen_moves_and_classes_by_themselves(
    name: str, run_config: Config, tmp_path: Path, write_tracks
) -> None:
    config, tracks = run_config, tmp_path / "tracks"
    if name == "amplify":
        config = amplify_config(views=1)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, views=("default",)))
    config = with_training(config, epochs=1, learning_rate=0.01)
    for way in ("expected", "likeliest"):
        train(with_way(config, way), tracks, tmp_path / way)

    def found(way: str, name: str) -> float:
        return scalars(tmp_path / way, f"val/{name}")[-1][1]

    for same in ("loss", "accuracy", "nonzero_pred_f1", "nonzero_pred_percent"):
        assert found("expected", same) == found("likeliest", same)
    assert found("expected", "nonzero_pred_percent") < 1
    # The mean over the classes, by hand: a distance in pixels of the reference size.
    tokenizer = load_tokenizer(tmp_path / "expected" / "last.pth")
    assert tokenizer.config.model.reconstruction == "expected"
    _, held_out = split_clips(load_clips(tracks, config), config.data.val_split, config.training.seed)
    inputs = WindowDataset(held_out, config).batch(range(7)).inputs
    with torch.no_grad():
        logits = tokenizer(inputs.velocities).logits.double()
    if name == "amplify":
        logits = logits[:, 0]
        inputs = inputs._replace(
            **{field: getattr(inputs, field)[:, 0] for field in ("tracks_rc_norm", "visibility", "size_px")}
        )
    rows, columns = config.class_grid
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double()
    middle = torch.tensor([rows // 2, columns // 2])
    truth = inputs.tracks_rc_norm.double() * (inputs.size_px / 2)[:, None, None]
    for way in ("expected", "likeliest"):
        shares = logits.softmax(dim=-1)
        if way == "likeliest":
            shares = torch.nn.functional.one_hot(logits.argmax(dim=-1), rows * columns).double()
        places = truth[:, :1] + (shares @ (cells - middle)).cumsum(dim=1)
        off = (places - truth[:, 1:]).norm(dim=-1)
        seen = inputs.visibility[:, 1:] >= 0.5
        of_windows = (off * seen).sum(dim=(1, 2)) / seen.sum(dim=(1, 2))
        assert found(way, "l2_px") == pytest.approx(float(of_windows.mean()), rel=1e-4)
    assert found("expected", "l2_px") != found("likeliest", "l2_px")
