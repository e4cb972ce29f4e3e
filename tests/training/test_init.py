"""Training that begins with another tokenizer's weights, and the codec in the ordinary trainer."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.commands.train import main as train_main
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips, split_clips
from amplify_motion_tokenizer.errors import CheckpointError, ConfigError, UsageError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.models.displacement.codec_loss import PREFIXES, random_prefixes
from amplify_motion_tokenizer.training.initial import initial_config, load_initial
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import with_training
from tests.support.run_scripts import TINY
from tests.support.training_runs import scalars, weights

Write = Callable[..., Path]


@pytest.fixture
def codec(write_tracks: Write, tmp_path: Path) -> Config:
    """A small codec, and four clips of seven windows that move steadily."""
    model = {"name": "codec", "hidden_dim": 16, "encoder_sequence_len": 14, "fsq_levels": [8, 8, 8, 4]}
    data = {**TINY["data"], "grid_size": 5}
    config = config_from_dict({**TINY, "model": model, "data": data}, "here")
    for number in range(4):
        write_tracks(tmp_path / "tracks" / f"{number}.hdf5", 7, seed=number, config=config)
    return with_training(config, epochs=2, learning_rate=0.003)


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_codec_trains_goes_on_bit_for_bit_and_is_told_by_its_distance(
    codec: Config, tmp_path: Path
) -> None:
    tracks = tmp_path / "tracks"
    config = with_training(codec, epochs=6, batch_size=7, learning_rate=0.01)
    train(config, tracks, tmp_path / "whole")
    train(with_training(config, max_steps=5), tracks, tmp_path / "parts")
    train(config, tracks, tmp_path / "parts", resume="auto")
    assert same(*(weights(tmp_path / name / "last.pth") for name in ("whole", "parts")))
    losses = [value for _, value in scalars(tmp_path / "whole", "train_epoch/loss")]
    assert losses[-1] < 0.95 * losses[0]
    # By hand: distance in pixels at 240 rows, by (1 + motion)^0.6, over the points that are seen.
    model = load_tokenizer(tmp_path / "whole" / "last.pth")
    _, held_out = split_clips(load_clips(tracks, config), config.data.val_split, config.training.seed)
    inputs = WindowDataset(held_out, config).batch(range(7)).inputs
    moves = inputs.velocities.cumsum(dim=1)
    made = model.reconstruct(model.quantize(model.encode(inputs.velocities))[0]).detach().cumsum(dim=1)
    off = (made - moves).norm(dim=-1) * 240
    motion = model.waves.amplitudes(inputs.velocities).square().sum(dim=1).sqrt() * 240
    wanted = (off / (1 + motion[:, None, None]) ** 0.6)[inputs.mask].mean()
    assert scalars(tmp_path / "whole", "val/loss")[-1][1] == pytest.approx(float(wanted), rel=1e-3)
    assert model.training is False


def test_still_points_count_in_the_codecs_loss(codec: Config, tmp_path: Path, write_tracks: Write) -> None:
    filtered = dataclasses.replace(
        codec.data, static_filter=dataclasses.replace(codec.data.static_filter, threshold=100.0, min_keep=1)
    )
    clips = load_clips(tmp_path / "tracks", codec)
    for config in (codec, dataclasses.replace(codec, data=filtered)):
        assert WindowDataset(clips, config).batch(range(28)).inputs.mask.float().mean() > 0.9


def test_prefixes_are_drawn_and_never_longer_than_the_code() -> None:
    torch.manual_seed(0)
    drawn = random_prefixes(3000, 14, torch.device("cpu"))
    counts = torch.bincount(drawn, minlength=15)
    assert counts[0] == 0
    assert (counts[1:] > 20).all()  # a fifth of the windows, each number as often: 43
    assert len(counts) == 15
    assert (counts[[*PREFIXES[:2], 14]] > 700).all()


def test_a_run_begins_with_the_weights_and_model_of_another_and_says_so(
    codec: Config, tmp_path: Path
) -> None:
    tracks, first = tmp_path / "tracks", tmp_path / "first" / "last.pth"
    train(codec, tracks, first.parent)
    initial = load_initial(first)
    base = initial_config(initial)
    assert base.model == codec.model
    assert base.data.grid_size == 5
    assert base.training == Config().training
    # So small a rate that what is written is what it began with.
    config = with_training(
        base,
        **{**dataclasses.asdict(codec.training), "learning_rate": 1e-12, "epochs": 1, "weight_decay": 0.0},
    )
    train(config, tracks, tmp_path / "second", init=first)
    before, after = load_checkpoint(first), load_checkpoint(tmp_path / "second" / "last.pth")
    for name, value in before.model.items():
        torch.testing.assert_close(after.model[name], value, atol=1e-6, rtol=0)
    state = after.training["state"]
    assert state["began_with"].startswith("last.pth (SHA-256 ")
    assert state["step"] == 6
    longer = with_training(config, epochs=2)
    train(longer, tracks, tmp_path / "second", resume="auto", init=first)
    other = tmp_path / "first" / "epoch_1.pth"
    with pytest.raises(CheckpointError, match=r"began with last\.pth .* not with epoch_1\.pth"):
        train(longer, tracks, tmp_path / "second", resume="auto", init=other)


def test_what_contradicts_the_weights_is_named_with_both_values(codec: Config, tmp_path: Path) -> None:
    tracks, first = tmp_path / "tracks", tmp_path / "first" / "last.pth"
    train(with_training(codec, epochs=1), tracks, first.parent)
    line = ["--init", str(first), "--input", str(tracks), "--output", str(tmp_path / "run")]
    with pytest.raises(ConfigError, match=r"model\.hidden_dim = 8 is impossible: .*pth are of 16; leave"):
        train_main([*line, "--model.hidden_dim", "8"])
    with pytest.raises(ConfigError, match=r"model\.name = keypoint is impossible: .* are of codec"):
        train_main([*line, "--model.name", "keypoint"])
    with pytest.raises(ConfigError, match=r"data\.reference_size = .*96.* are of {'shorter': 48}"):
        train_main([*line, "--data.reference_size", "{shorter: 96}"])
    # What the codec does not use contradicts nothing.
    known = load_initial(first)
    config = dataclasses.replace(codec, model=dataclasses.replace(codec.model, num_layers=7))
    assert initial_config(known).model.num_layers != 7
    train(with_training(config, epochs=1), tracks, tmp_path / "other", init=first)
    assert not (tmp_path / "run").exists()


def test_what_has_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    line = ["--init", "transform", "--input", str(tmp_path), "--output", str(tmp_path / "run")]
    with pytest.raises(UsageError, match="--init transform is a transform tokenizer, .* give --init codec"):
        train_main(line)


def test_a_shipped_codec_is_a_beginning() -> None:
    config = initial_config(load_initial("codec"))
    assert config.model.name == "codec"
    assert config.data.source == "tracks"
