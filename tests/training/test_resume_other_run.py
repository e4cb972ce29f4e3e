"""Resuming onto another run's folder, or on other tracks, which would make a mixture of two runs."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from amplify_motion_tokenizer.commands.pack import main as pack_main
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import CheckpointError, TrainingError, UsageError
from amplify_motion_tokenizer.training.checkpoints import load_state
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import with_training
from tests.support.run_scripts import files_below

Write = Callable[..., Path]


@pytest.fixture
def config(tmp_path: Path, tiny: Config, write_tracks: Write) -> Config:
    for number in range(4):
        write_tracks(tmp_path / "tracks" / f"{number}.hdf5", 2, seed=number)
    return with_training(tiny, epochs=1)


def test_a_run_is_not_written_over_another(config: Config, tmp_path: Path) -> None:
    other = config
    train(config, tmp_path / "tracks", tmp_path / "run")
    train(other, tmp_path / "tracks", tmp_path / "other")
    before = files_below(tmp_path / "other", "*.pth")
    longer = with_training(other, epochs=2)
    with pytest.raises(UsageError, match=r"other holds another run .* than .*run/last\.pth"):
        train(longer, tmp_path / "tracks", tmp_path / "other", resume=str(tmp_path / "run/last.pth"))
    assert files_below(tmp_path / "other", "*.pth") == before
    moved = longer
    train(moved, tmp_path / "tracks", tmp_path / "moved", resume=str(tmp_path / "run/last.pth"))
    # Its own checkpoints are no other run.
    train(
        with_training(moved, epochs=3),
        tmp_path / "tracks",
        tmp_path / "moved",
        resume=str(tmp_path / "moved/epoch_2.pth"),
    )


def test_other_clips_of_as_many_windows_are_not_taken_for_those_of_the_epoch(
    config: Config, tmp_path: Path, write_tracks: Write, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        write_tracks(tmp_path / "others" / f"other {number}.hdf5", 2, seed=number)
    pack_main(["--input", str(tmp_path / "tracks"), "--output", str(tmp_path / "pack")])
    config = with_training(config, batch_size=2)  # 3 steps an epoch
    train(with_training(config, max_steps=2), tmp_path / "tracks", tmp_path / "run")
    within, whole = (with_training(config, max_steps=steps, epochs=2) for steps in (3, 6))
    with pytest.raises(TrainingError, match="stopped within an epoch over other clips, of as many windows"):
        train(
            with_training(within, epochs=1),
            tmp_path / "others",
            tmp_path / "run",
            resume="auto",
        )
    train(
        with_training(within, epochs=1),
        tmp_path / "pack",
        tmp_path / "run",
        resume="auto",
    )
    assert "other clips" not in caplog.text
    train(
        with_training(whole, epochs=1),
        tmp_path / "others",
        tmp_path / "run",
        resume="auto",
    )
    assert "was trained on other clips than are there now" in caplog.text


def test_tracks_may_move_but_not_be_made_in_another_way(
    config: Config, tmp_path: Path, write_tracks: Write
) -> None:
    train(config, tmp_path / "tracks", tmp_path / "run")
    faster = dataclasses.replace(config, video=dataclasses.replace(config.video, target_fps=20))
    for number in range(4):
        write_tracks(tmp_path / "faster" / f"{number}.hdf5", 2, seed=number, config=faster)
    longer = with_training(config, epochs=2)
    with pytest.raises(CheckpointError, match=r"tracks of other settings \(video\.target_fps 10.* -> 20"):
        train(
            with_training(longer, epochs=1),
            tmp_path / "faster",
            tmp_path / "run",
            resume="auto",
        )
    shutil.move(tmp_path / "tracks", tmp_path / "moved")
    train(longer, tmp_path / "moved", tmp_path / "run", resume="auto")
    training = load_state(tmp_path / "run/last.pth").training
    assert training is not None
    assert training["state"]["epoch"] == 2
