"""The amplify model on track files of two views, as AMPLIFY writes them."""

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.interpolation import interpolate_time
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import ConfigError, TrackFileError
from amplify_motion_tokenizer.evaluation.reconstruction import known_windows, predicted_tracks, track_metrics
from amplify_motion_tokenizer.geometry import labels_from_rc_norm, query_grid
from amplify_motion_tokenizer.models.losses import class_weights
from amplify_motion_tokenizer.training.launch import make_accelerator
from amplify_motion_tokenizer.training.run import train
from amplify_motion_tokenizer.training.trainer import Trainer
from tests.support.configs import with_training
from tests.support.run_scripts import TINY
from tests.support.training_runs import first_step_gradient, scalars, weights

VIEWS = ("agentview", "eye_in_hand")
SIZES = ((48, 64), (64, 64))
REFERENCE = (32, 64)


def write_two_views(path: Path, count: int, seed: int, length: int = 6) -> None:
    """AMPLIFY's bare layout: no attributes but the sizes, windows at every frame."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        for view, size in zip(VIEWS, SIZES, strict=True):
            queries = query_grid("uniform", 3, size)
            velocity = rng.uniform(-2, 2, (count, 1, 9, 2))
            tracks = queries + np.arange(length)[None, :, None, None] * velocity
            group = file.create_group(f"root/{view}")
            group["tracks"] = tracks.astype(np.float32)
            group["vis"] = np.ones(tracks.shape[:3], np.float32)
            group.attrs.update({"height": size[0], "width": size[1]})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "tracks").mkdir()
    for number in range(4):
        write_two_views(tmp_path / "tracks" / f"{number}.hdf5", 7, number)
    tree = {
        **TINY,
        "data": {
            **TINY["data"],
            "views": list(VIEWS),
            "reference_size": list(REFERENCE),
            "static_filter": {"enable": False},
        },
        "model": {
            **TINY["model"],
            "name": "amplify",
            "num_layers": 2,
            "fsq_levels": [5, 3],
            "amplify": {"mlp_dim": 12},
        },
        "loss": {"gamma": 0.0, "alpha_center": 1.0},
        "training": TINY["training"],
    }
    return config_from_dict(tree, "in the tests")


def dataset(config: Config, tracks: Path) -> WindowDataset:
    return WindowDataset(load_clips(tracks, config), config)


def test_input_is_remapped_normalised_and_labelled_in_reference_pixels(
    config: Config, tmp_path: Path
) -> None:
    inputs = dataset(config, tmp_path / "tracks").batch([0, 1, 2]).inputs
    with h5py.File(tmp_path / "tracks" / "0.hdf5") as file:
        xy = [torch.from_numpy(file[f"root/{view}/tracks"][:3]) for view in VIEWS]
    for number, (tracks, size) in enumerate(zip(xy, SIZES, strict=True)):
        rc = torch.stack([tracks[..., 1] / size[0], tracks[..., 0] / size[1]], dim=-1) * 2 - 1
        rc = rc.clamp(-1, 1)
        torch.testing.assert_close(inputs.tracks_rc_norm[:, number], rc, atol=1e-5, rtol=0)
        torch.testing.assert_close(inputs.velocities[:, number], rc.diff(dim=1), atol=1e-5, rtol=0)
        assert torch.equal(inputs.labels[:, number], labels_from_rc_norm(rc, REFERENCE, (7, 7)))
    assert inputs.size_px[0].tolist() == [[32, 64], [32, 64]]
    assert inputs.mask.all()


def test_training_lowers_the_loss_and_reports_track_metrics(config: Config, tmp_path: Path) -> None:
    config = with_training(config, epochs=25, learning_rate=3e-3)
    train(config, tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    losses = [value for _, value in scalars(run, "train_epoch/loss")]
    assert losses[-1] < 0.9 * losses[0]
    tracks = ("delta_auc", "delta_auc_no_motion", "delta_avg", "delta_avg_no_motion", "l2_px", "mse")
    usage = [
        f"{whose}{name}" for whose in ("", "amplify_") for name in ("perplexity", "normalized_perplexity")
    ]
    last = {name: scalars(run, f"val/{name}")[-1][1] for name in (*tracks, *usage)}
    assert 0 < last["delta_auc"] <= 1
    assert last["l2_px"] > 0
    # Of the same codes: 16 in name, 15 in truth.
    assert last["amplify_perplexity"] == pytest.approx(last["perplexity"], rel=1e-5)
    assert last["normalized_perplexity"] == pytest.approx(last["perplexity"] / 15)
    assert last["amplify_normalized_perplexity"] == pytest.approx(last["perplexity"] / 16)
    first, final = weights(run / "epoch_1.pth"), weights(run / "last.pth")
    still = [key for key in first if first[key].is_floating_point() and torch.equal(first[key], final[key])]
    assert still == ["network.decoder.fixed_positional_emb.inv_freq"]


def test_accumulated_gradient_weighs_views_over_the_whole_batch(config: Config, tmp_path: Path) -> None:
    data = dataclasses.replace(config.data, min_visibility=0.5)
    config = dataclasses.replace(config, data=data, loss=dataclasses.replace(config.loss, gamma=1.0))
    for number in range(4):
        with h5py.File(tmp_path / "tracks" / f"{number}.hdf5", "a") as file:
            hidden = np.random.default_rng(number).random((7, 6, 9)) < 0.1 * number
            file["root/eye_in_hand/vis"][...] = np.where(hidden, 0.0, 1.0)
    gradients = []
    for batch, accumulation in [(8, 1), (2, 4)]:
        changed = with_training(config, batch_size=batch, gradient_accumulation_steps=accumulation)
        trainer = Trainer(
            changed,
            make_accelerator(changed, tmp_path),
            dataset(changed, tmp_path / "tracks"),
            None,
            tmp_path,
            None,
        )
        gradients.append(first_step_gradient(trainer))
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


def test_true_labels_reconstruct_the_tracks(config: Config, tmp_path: Path) -> None:
    inputs = dataset(config, tmp_path / "tracks").batch(range(7)).inputs
    predicted = predicted_tracks(inputs.labels, inputs, (7, 7))
    metrics = track_metrics(predicted, inputs)
    # Rounding to whole pixels is off by at most a pixel an axis at each end.
    assert metrics["l2_px"] < 1.5
    assert metrics["pixel_accuracy_2"] == 1.0
    assert metrics["delta_avg"] > metrics["delta_avg_no_motion"]
    assert metrics["l2_px"] < metrics["l2_px_no_motion"]
    assert known_windows(inputs, torch.tensor([True] * 6 + [False])).tolist() == [True] * 6 + [False]


def test_longer_windows_are_interpolated_to_the_models_frames(config: Config, tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    write_two_views(tmp_path / "long" / "a.hdf5", 3, seed=0, length=11)
    data = dataclasses.replace(config.data, true_horizon=11)
    resampled = dataset(dataclasses.replace(config, data=data), tmp_path / "long").batch([0]).inputs
    whole = dataclasses.replace(data, true_horizon=None, sequence_length=11)
    full = dataset(dataclasses.replace(config, data=whole), tmp_path / "long").batch([0]).inputs
    expected = interpolate_time(full.tracks_rc_norm, 6, "linear")
    torch.testing.assert_close(resampled.tracks_rc_norm, expected)
    assert resampled.velocities.shape == (1, 2, 5, 9, 2)
    with pytest.raises(TrackFileError, match=r"T = 11 .*expected T = 6"):
        config = dataclasses.replace(config, data=dataclasses.replace(data, true_horizon=None))
        dataset(config, tmp_path / "long")


def test_a_view_that_is_not_there_is_named(config: Config, tmp_path: Path) -> None:
    data = dataclasses.replace(config.data, views=("agentview", "wrist"))
    with pytest.raises(TrackFileError, match=r"lacks the view wrist; it holds agentview, eye_in_hand"):
        dataset(dataclasses.replace(config, data=data), tmp_path / "tracks")


def test_amplify_needs_a_reference_of_two_sides() -> None:
    with pytest.raises(ConfigError, match=r"data\.reference_size .* \[height, width\]"):
        config_from_dict({"model": {"name": "amplify"}}, "in the tests")
    with pytest.raises(ConfigError, match=r"data\.reference_size = null .* \[height, width\]"):
        config_from_dict({"model": {"name": "amplify"}, "data": {"reference_size": None}}, "in the tests")
    with pytest.raises(ConfigError, match=r"data\.views"):
        config_from_dict({"data": {"views": ["a", "b"]}}, "in the tests")
    with pytest.raises(ConfigError, match=r"model\.nominal_codebook_size = 2048 .*\[8, 8, 6, 5\]"):
        config_from_dict({"model": {"nominal_codebook_size": 2048}}, "in the tests")


def test_the_centre_class_alone_has_another_weight(config: Config) -> None:
    found = class_weights(dataclasses.replace(config.loss, alpha_center=0.25), (3, 5))
    assert found.reshape(3, 5).tolist() == [[1] * 5, [1, 1, 0.25, 1, 1], [1] * 5]


def test_compile_takes_in_the_network_and_the_loss_and_trains_the_same(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_training(config, epochs=1, max_steps=2)
    train(config, tmp_path / "tracks", tmp_path / "plain")
    traced: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        """Runs what was traced as it is: no compiler is needed."""
        traced.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda *args, **options: compile_(*args, backend=backend, **options)
    )
    torch._dynamo.reset()
    train(with_training(config, compile=True), tmp_path / "tracks", tmp_path / "compiled")
    assert any("scaled_dot_product_attention" in name for name in traced)
    assert any("scatter_add_" in name for name in traced), "the loss was not traced"
    plain, compiled = (scalars(tmp_path / run, "train_epoch/loss")[-1] for run in ("plain", "compiled"))
    assert compiled == pytest.approx(plain, rel=1e-6)
