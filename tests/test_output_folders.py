"""Each command's output folder is its own: none writes among the files of another."""

import json
import shutil
from pathlib import Path

import pytest
from run_scripts import INFER, PREPROCESS, TRAIN, Run, Work, files_below

from amplify_motion_tokenizer.output_folders import kind_of, open_output_folder


def test_kinds_are_told_by_what_lies_in_the_folder(work: Work, tmp_path: Path) -> None:
    assert [kind_of(folder) for folder in (work.tracks, work.run, work.codes)] == [
        "tracks",
        "checkpoints of a run",
        "codes",
    ]
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/pack.json").write_text("{}")
    assert kind_of(tmp_path / "pack") == "a pack"
    assert kind_of(work.folder) is None, "the outputs in its subfolders are not its own"
    assert kind_of(work.videos) is None
    assert kind_of(tmp_path / "none") is None


def test_a_folder_of_codes_may_hold_tracks_in_a_subfolder(work: Work, tmp_path: Path) -> None:
    shutil.copytree(work.codes, tmp_path / "all")
    shutil.copytree(work.tracks, tmp_path / "all/tracks")
    open_output_folder(tmp_path / "all", "codes")


@pytest.mark.parametrize(
    ("script", "folder", "held"),
    [
        (PREPROCESS, "run", "checkpoints of a run"),
        (PREPROCESS, "codes", "codes"),
        (TRAIN, "codes", "codes"),
        (TRAIN, "tracks", "tracks"),
        (INFER, "tracks", "tracks"),
        (INFER, "run", "checkpoints of a run"),
    ],
)
def test_the_output_of_another_command_is_refused(
    run: Run, work: Work, script: str, folder: str, held: str
) -> None:
    source = {
        PREPROCESS: ["--config", work.config, "--input", work.videos, "--overwrite"],
        TRAIN: ["--config", work.config, "--input", work.tracks],
        INFER: ["--checkpoint", work.best, "--input", work.videos, "--overwrite"],
    }[script]
    before = files_below(work.folder / folder)
    result = run(script, *source, "--output", work.folder / folder)
    assert result.status == 2
    assert f"error: {work.folder / folder} holds {held}, among which " in result.err
    assert result.err.endswith("choose another --output\n")
    assert files_below(work.folder / folder) == before
    assert json.loads((work.tracks / "manifest.jsonl").read_text().splitlines()[0])["status"] == "done"
