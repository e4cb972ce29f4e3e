"""Each command's output folder is its own: none writes among the files of another."""

import json
import shutil
from pathlib import Path

import pytest

from amplify_motion_tokenizer.commands import draw as draw_command
from amplify_motion_tokenizer.commands import scenes
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.jobs.output_folders import kind_of, open_output_folder
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.video.sources import find_clips
from tests.support.run_scripts import INFER, PREPROCESS, TRAIN, Run, Work, files_below, preprocess


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


def drawn(work: Work, output: Path, source: Path | None = None) -> list[str]:
    line = ["--tracks", work.tracks, "--input", source or work.videos, "--output", output]
    return [str(part) for part in line]


def rendered(output: Path, *more: str) -> list[str]:
    return ["--output", str(output), "--clips", "1", "--size", "48x64", "--frames", "8", *more]


TRUTH = ("--truth", "--windows", "6", "--grid", "3")


@pytest.mark.parametrize(
    ("folder", "held"), [("run", "checkpoints of a run"), ("codes", "codes"), ("tracks", "tracks")]
)
def test_drawings_and_rendered_clips_go_into_no_other_output(work: Work, folder: str, held: str) -> None:
    place = work.folder / folder
    before = files_below(place)
    for command, line in ((scenes.main, rendered(place)), (draw_command.main, drawn(work, place))):
        refusal = (
            "would be written over" if (command, folder) == (draw_command.main, "tracks") else f"holds {held}"
        )
        with pytest.raises(UsageError, match=f"{place} {refusal}"):
            command(line)
    assert files_below(place) == before


def test_no_output_goes_among_drawings_or_rendered_clips(run: Run, work: Work, tmp_path: Path) -> None:
    clips, drawings = tmp_path / "clips", tmp_path / "drawn"
    for _ in range(2):  # a second run into its own folder goes on
        assert scenes.main(rendered(clips, *TRUTH)) == 0
        assert draw_command.main(drawn(work, drawings)) == 0
    assert [kind_of(drawings), kind_of(clips), kind_of(clips / "truth")] == [
        "drawings",
        "rendered clips",
        "rendered clips",
    ]
    assert list(find_tracks(clips / "truth")) == ["000_pan"]
    before = files_below(tmp_path)
    for place in (drawings, clips, clips / "truth"):
        result = preprocess(run, work, place, "--overwrite")
        assert f"error: {place} holds {kind_of(place)}, among which tracks would" in result.err
    with pytest.raises(UsageError, match="holds rendered clips, among which drawings would"):
        draw_command.main(drawn(work, clips))
    with pytest.raises(UsageError, match="holds drawings, among which rendered clips would"):
        scenes.main(rendered(drawings))
    assert files_below(tmp_path) == before


def test_drawings_are_no_input(
    work: Work, tiny: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos = shutil.copytree(work.videos, tmp_path / "videos")
    for inside in (videos, videos / "drawn"):
        with pytest.raises(UsageError, match="lies in the input|would be written over"):
            draw_command.main(drawn(work, inside, videos))
    assert not (videos / "drawn").exists()
    (tmp_path / "link").symlink_to(videos)
    with pytest.raises(UsageError, match="lies in the input"):
        draw_command.main(drawn(work, tmp_path / "link" / "drawn", videos))

    draw_command.main(drawn(work, tmp_path / "drawn", videos))
    shutil.move(tmp_path / "drawn", videos / "drawn")
    found = [clip.name for clip in find_clips(videos, tiny, ["default"])]
    assert found == [clip.name for clip in find_clips(work.videos, tiny, ["default"])]
    warnings = [record.getMessage() for record in caplog.records if "drawings" in record.getMessage()]
    assert warnings == [f"{videos}: 1 folders hold drawings of tracks, such as {videos / 'drawn'}; left out"]
    with pytest.raises(UsageError, match="holds no video"):
        find_clips(videos / "drawn", tiny, ["default"])


def test_videos_with_pictures_and_a_list_beside_them_are_no_drawings(
    work: Work, tiny: Config, tmp_path: Path
) -> None:
    video = shutil.copy(next(work.videos.glob("*.mp4")), tmp_path / "x.mp4")
    video.with_suffix(".png").touch()
    (tmp_path / "manifest.jsonl").write_text('{"file": "x.mp4", "caption": "cat"}\n')
    assert [clip.name for clip in find_clips(tmp_path, tiny, ["default"])] == ["x"]
