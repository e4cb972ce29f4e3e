"""``data.dataset`` acts on the data that a command is given, and on no other that its checkpoint meets."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from amplify_motion_tokenizer.commands.inspect import main as inspect
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.models.checkpoint import load_tokenizer
from amplify_motion_tokenizer.training.run import train
from tests.support.configs import with_training
from tests.support.run_scripts import write_config


def test_a_share_is_taken_in_training_and_not_where_its_checkpoint_is_used(
    tmp_path: Path,
    tiny: Config,
    write_tracks: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracks = tmp_path / "tracks"
    for number in range(4):
        write_tracks(tracks / f"suite/task_demo/demo_{number}.hdf5", 3, seed=number)
    share = "suite:traj0.75"
    data = dataclasses.replace(tiny.data, dataset=share, val_split=0.4)
    config = dataclasses.replace(tiny, data=data)
    caplog.set_level(logging.INFO)
    train(with_training(config, epochs=1), tracks, tmp_path / "run")
    assert "training on 6 windows of 2 clips, validating on 3 windows of 1 clips" in caplog.text
    known = load_tokenizer(tmp_path / "run" / "best.pth").config
    assert len(load_clips(tracks, known)) == 4
    assert len(load_clips(tracks, known, share)) == 3
    write_config(tracks / "config.yaml")
    assert inspect([str(tracks)]) == 0
    assert "4 clips, 12 windows" in capsys.readouterr().out
    assert inspect([str(tracks), "--data.dataset", share]) == 0
    assert "3 clips, 9 windows" in capsys.readouterr().out
