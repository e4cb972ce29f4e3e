import dataclasses
import logging
import math
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import CheckpointError, ConfigError, TrainingError, UsageError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import with_training
from tests.support.reference_losses import focal_loss
from tests.support.training_runs import (
    StopError,
    first_step_gradient,
    make_trainer,
    next_second,
    scalars,
    stop_after,
    weights,
)

Write = Callable[..., Path]


def test_a_run_leaves_checkpoints_config_and_logs(
    run_config: Config, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    train(run_config, tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    names = {path.name for path in run.iterdir()}
    checkpoints = {"best.pth", "last.pth", "step_6.pth", "epoch_1.pth", "epoch_2.pth"}
    assert names == {*checkpoints, "config.yaml", "tensorboard"}
    # 21 training windows, 4 a step: 6 steps an epoch.
    assert [step for step, _ in scalars(run, "train/loss")] == list(range(1, 13))
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    (text,) = events.Tensors("config/text_summary")
    shown = textwrap.dedent(text.tensor_proto.string_val[0].decode())
    assert (text.step, yaml.safe_load(shown)) == (0, yaml.safe_load((run / "config.yaml").read_text()))
    tags = set(events.Tags()["scalars"])
    for name in (
        "train/loss",
        "train/accuracy",
        "train/accuracy_no_motion",
        "train/mask_share",
        "train/learning_rate",
        "train/windows_per_second",
        "train/data_wait_share",
        "train_epoch/windows_per_second",
        "train_epoch/data_wait_share",
        "train/unique_codes",
        "train/entropy",
        "train/normalized_entropy",
        "train/perplexity",
        "train_epoch/loss",
        "train_epoch/perplexity",
        "val/loss",
        "val/accuracy_no_motion",
        "val/unique_codes",
    ):
        assert name in tags
    assert "train/amplify_perplexity" not in tags, "figures of a nominal size without one"
    assert set(events.Tags()["histograms"]) == {
        "train/code_usage",
        "train_epoch/code_usage",
        "val/code_usage",
    }
    checkpoint = load_checkpoint(run / "last.pth")
    assert checkpoint.training is not None
    assert checkpoint.training["state"]["step"] == 12
    assert checkpoint.track_settings is not None
    assert checkpoint.track_settings["video.target_fps"] == 10
    reports = [record.getMessage() for record in caplog.records]
    loss = checkpoint.metrics["val/loss"]
    assert any(report.startswith(f"epoch 2 val: loss {loss:.4f}, accuracy") for report in reports)
    assert any(re.fullmatch(r"epoch 2 train: \d+ windows/s, \d+% of the time waiting .*", r) for r in reports)


def test_training_lowers_the_loss_and_moves_every_weight(run_config: Config, tmp_path: Path) -> None:
    config = with_training(run_config, epochs=30, learning_rate=3e-3)
    train(config, tmp_path / "tracks", tmp_path / "run")
    losses = [value for _, value in scalars(tmp_path / "run", "train_epoch/loss")]
    assert losses[-1] < 0.8 * losses[0]
    run = tmp_path / "run"
    first, last = weights(run / "epoch_1.pth"), weights(run / "last.pth")
    assert [key for key in first if torch.equal(first[key], last[key])] == []


def test_best_is_the_epoch_of_the_lowest_validation_loss(run_config: Config, tmp_path: Path) -> None:
    config = with_training(run_config, epochs=6, learning_rate=0.05)
    train(config, tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    losses = [value for _, value in scalars(run, "val/loss")]
    best = load_checkpoint(run / "best.pth")
    assert best.metrics["val/loss"] == pytest.approx(min(losses), rel=1e-6)
    assert best.training is not None
    assert best.training["state"]["epoch"] == losses.index(min(losses)) + 1


@pytest.mark.parametrize("stop_at", [3, 6, 8])
def test_resuming_equals_never_stopping(run_config: Config, tmp_path: Path, stop_at: int) -> None:
    """Stops within the first epoch, at its end, and in the second; with dropout and a schedule."""
    model = dataclasses.replace(run_config.model, dropout=0.2)
    config = with_training(
        dataclasses.replace(run_config, model=model),
        schedule="cosine",
        warmup_steps=2,
        gradient_accumulation_steps=2,
        batch_size=2,
        num_workers=1,
    )
    whole = config
    train(whole, tmp_path / "tracks", tmp_path / "whole")
    # The schedule's length must not depend on the stop: stop by raising at the step.
    stopped = with_training(config, save_every_steps=1)
    with pytest.raises(StopError), stop_after(stop_at):
        train(stopped, tmp_path / "tracks", tmp_path / "parts")
    next_second()
    train(stopped, tmp_path / "tracks", tmp_path / "parts", resume="auto")
    expected, found = weights(tmp_path / "whole/last.pth"), weights(tmp_path / "parts/last.pth")
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    for tag in ("train/loss", "train_epoch/loss", "train_epoch/unique_codes", "val/loss"):
        assert scalars(tmp_path / "parts", tag) == scalars(tmp_path / "whole", tag)


def test_accumulated_gradient_is_that_of_the_whole_batch(run_config: Config, tmp_path: Path) -> None:
    """Micro-batches whose masks differ in size count by their points, not one each."""
    static = dataclasses.replace(run_config.data.static_filter, threshold=0.8, min_keep=1)
    config = dataclasses.replace(run_config, data=dataclasses.replace(run_config.data, static_filter=static))
    gradients = []
    for batch, accumulation in [(8, 1), (4, 2), (1, 8)]:
        trainer = make_trainer(
            with_training(config, batch_size=batch, gradient_accumulation_steps=accumulation), tmp_path
        )
        kept = first_step_gradient(trainer)
        gradients.append(kept)
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-6, rtol=1e-5)


def test_step_gradient_is_that_of_the_masked_mean(run_config: Config, tmp_path: Path) -> None:
    trainer = make_trainer(run_config, tmp_path)
    batch = next(iter(trainer.train_loader))
    found = first_step_gradient(trainer)
    model, loss = trainer.learner.model, run_config.loss
    model.zero_grad()
    output = model(batch.inputs.velocities)
    total, count = focal_loss(
        output.logits, batch.inputs.labels, batch.inputs.mask, loss.gamma, loss.alpha_center, 1.0
    )
    (total / count).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-5)


def test_an_existing_run_is_never_overwritten(run_config: Config, tmp_path: Path) -> None:
    config = with_training(run_config, epochs=1)
    train(config, tmp_path / "tracks", tmp_path / "run")
    before = (tmp_path / "run" / "last.pth").read_bytes()
    with pytest.raises(UsageError, match=r"--resume auto"):
        train(config, tmp_path / "tracks", tmp_path / "run")
    assert (tmp_path / "run" / "last.pth").read_bytes() == before


def test_resume_with_another_config_names_the_keys(run_config: Config, tmp_path: Path) -> None:
    train(with_training(run_config, epochs=1), tmp_path / "tracks", tmp_path / "run")
    other = dataclasses.replace(run_config, model=dataclasses.replace(run_config.model, hidden_dim=32))
    with pytest.raises(CheckpointError, match=r"model\.hidden_dim 16 -> 32"):
        train(other, tmp_path / "tracks", tmp_path / "run", resume="auto")


def test_resume_auto_without_a_run_starts_one_and_more_epochs_go_on(
    run_config: Config, tmp_path: Path
) -> None:
    train(with_training(run_config, epochs=1), tmp_path / "tracks", tmp_path / "run", resume="auto")
    next_second()
    train(with_training(run_config, epochs=3), tmp_path / "tracks", tmp_path / "run", resume="auto")
    run = tmp_path / "run"
    assert [step for step, _ in scalars(run, "val/loss")] == [6, 12, 18]


def test_resume_refuses_weights_without_training_state(run_config: Config, tmp_path: Path) -> None:
    train(with_training(run_config, epochs=1), tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    content = torch.load(run / "last.pth", weights_only=True)
    content["training"] = None
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(TrainingError, match=r"weights\.pth: holds weights only"):
        train(
            run_config,
            tmp_path / "tracks",
            tmp_path / "new",
            resume=str(tmp_path / "weights.pth"),
        )


def test_loss_that_is_not_finite_stops_the_run(run_config: Config, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite at step \d+, whose windows are of \d, \d"):
        train(
            with_training(run_config, learning_rate=1e30, epochs=9, log_every_steps=1000),
            tmp_path / "tracks",
            tmp_path / "run",
        )
    # Neither the log nor a checkpoint may have been written with weights that are no use.
    for path in (tmp_path / "run").glob("*.pth"):
        assert all(value.isfinite().all() for value in weights(path).values())


def test_fp16_without_cuda_is_refused(run_config: Config, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ConfigError, match="fp16"):
        train(with_training(run_config, mixed_precision="fp16"), tmp_path / "tracks", tmp_path / "run")


def test_bf16_trains_and_keeps_float32_weights(run_config: Config, tmp_path: Path) -> None:
    train(with_training(run_config, mixed_precision="bf16", epochs=1), tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    assert {value.dtype for value in weights(run / "last.pth").values()} == {torch.float32}
    assert all(math.isfinite(value) for _, value in scalars(run, "train/loss"))


def test_without_validation_best_follows_the_training_loss(run_config: Config, tmp_path: Path) -> None:
    data = dataclasses.replace(run_config.data, val_split=0.0)
    train(dataclasses.replace(run_config, data=data), tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    assert "val/loss" not in load_checkpoint(run / "last.pth").metrics
    assert (run / "best.pth").is_file()


def test_loaded_tokenizer_gives_the_trained_models_codes(run_config: Config, tmp_path: Path) -> None:
    train(with_training(run_config, epochs=1), tmp_path / "tracks", tmp_path / "run")
    run = tmp_path / "run"
    tokenizer = load_tokenizer(run / "best.pth")
    data = WindowDataset(load_clips(tmp_path / "tracks", run_config), run_config)
    velocities = data.batch(range(5)).inputs.velocities
    indices = tokenizer.tokenize(velocities)
    assert indices.shape == (5, 3)
    assert 0 <= int(indices.min()) <= int(indices.max()) < tokenizer.codebook_size == 20
    latents = tokenizer.encode(velocities)
    codes, same = tokenizer.quantize(latents)
    assert torch.equal(same, indices)
    assert tokenizer.decode(codes).shape == (5, 5, 9, 49)
    assert tokenizer.config.model == run_config.model


def test_resume_within_an_epoch_needs_the_same_windows(
    run_config: Config, write_tracks: Write, tmp_path: Path
) -> None:
    train(with_training(run_config, max_steps=2), tmp_path / "tracks", tmp_path / "run")
    write_tracks(tmp_path / "tracks" / "more.hdf5", 7, seed=9)
    with pytest.raises(TrainingError, match=r"within an epoch of 21 windows, 4 a step; now there are \d+"):
        train(run_config, tmp_path / "tracks", tmp_path / "run", resume="auto")


def test_resume_at_the_end_of_an_epoch_honours_the_epochs_whatever_their_steps(
    run_config: Config, write_tracks: Write, tmp_path: Path
) -> None:
    train(with_training(run_config, epochs=1), tmp_path / "tracks", tmp_path / "run")
    write_tracks(tmp_path / "tracks" / "more.hdf5", 20, seed=9)
    train(with_training(run_config, epochs=3), tmp_path / "tracks", tmp_path / "run", resume="auto")
    state = load_checkpoint(tmp_path / "run" / "last.pth").training
    assert state is not None
    assert (state["state"]["epoch"], state["state"]["step_in_epoch"]) == (3, 0)


def test_a_cosine_cannot_be_lengthened(run_config: Config, tmp_path: Path) -> None:
    config = with_training(run_config, schedule="cosine", epochs=1)
    train(config, tmp_path / "tracks", tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"training\.epochs 1 -> 2"):
        train(with_training(config, epochs=2), tmp_path / "tracks", tmp_path / "run", resume="auto")


def test_an_epoch_in_which_nothing_counts_is_an_error(run_config: Config, tmp_path: Path) -> None:
    data = dataclasses.replace(run_config.data, min_visibility=1.0)
    for path in (tmp_path / "tracks").glob("*.hdf5"):
        with h5py.File(path, "a") as file:
            file["root/default/vis"][...] = 0.5
    with pytest.raises(TrainingError, match="no point counted in the whole epoch"):
        train(dataclasses.replace(run_config, data=data), tmp_path / "tracks", tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.pth"))


def test_windows_that_are_hardly_seen_are_dropped_and_counted(
    run_config: Config, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    hidden = tmp_path / "tracks" / "0.hdf5"
    with h5py.File(hidden, "a") as file:
        file["root/default/vis"][:3, :, 1:] = 0.4  # one point of nine is seen
        file["root/default/vis"][3, :, 0] = 0.4
    config = dataclasses.replace(
        run_config,
        data=dataclasses.replace(run_config.data, val_split=0.0, min_visible_share=0.2),
    )
    data = WindowDataset(load_clips(hidden.parent, config), config)
    mask = data.batch(range(5)).inputs.mask
    assert not mask[:3].any() and mask[3:].flatten(1).any(1).all()
    assert not mask[3, :, 0].any(), "a hidden point does not count"
    train(with_training(config, epochs=1), tmp_path / "tracks", tmp_path / "run")
    assert "3 windows dropped" in caplog.text
    assert scalars(tmp_path / "run", "train_epoch/dropped_windows")[-1][1] == 3
