"""What python -m amplify_motion_tokenizer inspect says of tracks whose motion is known."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.commands.inspect import main
from amplify_motion_tokenizer.commands.pack import main as pack_main
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.evaluation.label_map import CELL_PX, LEFT_PX, TOP_PX, label_map
from amplify_motion_tokenizer.evaluation.motion_statistics import measure, suggest
from amplify_motion_tokenizer.file_names import PACK_INDEX
from amplify_motion_tokenizer.files import read_json, write_json
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.trackers.windows import WindowTracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from tests.support.run_scripts import TINY, write_config
from tests.support.tracked import clip_record_of


def write_motion(
    path: Path,
    config: Config,
    velocity_px: tuple[float, float],
    moving: int,
    size: tuple[int, int] = (48, 64),
) -> None:
    """Three windows in which the first ``moving`` points move, in pixels of ``size``, and the others rest."""
    queries = query_grid("row_major", config.data.grid_size, size)
    speeds = np.where(np.arange(len(queries))[:, None] < moving, np.array(velocity_px), 0.0)
    tracks = queries + np.arange(config.data.sequence_length)[:, None, None] * speeds
    with TrackFileWriter(path, clip_record_of(config), size) as writer:
        for start in range(3):
            visibility = np.ones(tracks.shape[:2], np.float32)
            visibility[:, 8] = 0.25
            writer.append(WindowTracks(start, 0.1 * start, tracks.astype(np.float32), visibility))
        writer.finish(num_frames=8, windows_dropped=0)


def test_shares_and_percentiles_are_those_of_the_motion(tiny: Config, tmp_path: Path) -> None:
    """Twice the reference size: 8 px are 4, beyond the +-3 of W = 7, and 2 px are 1."""
    write_motion(tmp_path / "fast.hdf5", tiny, (8.0, 0.0), moving=3, size=(96, 128))
    write_motion(tmp_path / "slow.hdf5", tiny, (0.0, -1.0), moving=6)
    found = measure(load_clips(tmp_path, tiny), tiny)
    assert (found.clips, found.windows, found.windows_read) == (2, 6, 6)
    assert found.sizes == {"48 x 64": 1, "96 x 128": 1}
    assert found.fps == (10.0,)
    assert found.clamped_share == pytest.approx(3 / 18)
    assert found.center_share == found.static_share == pytest.approx(9 / 18)
    assert (found.moving_clamped_share, found.moving_center_share) == (pytest.approx(3 / 9), 0.0)
    assert found.visible_share == pytest.approx(8 / 9)
    assert found.moving_speed_px[25] == pytest.approx(1, abs=1e-4)
    assert found.moving_speed_px[90] == pytest.approx(4, abs=1e-4)
    assert found.axis_99_px == pytest.approx(4, abs=1e-4)
    expected = torch.zeros(7, 7, dtype=torch.int64)
    # 15 steps of three points to the right, of six upwards, and of nine at rest.
    expected[3, 6], expected[2, 3], expected[3, 3] = 3 * 15, 6 * 15, 9 * 15
    assert torch.equal(found.label_counts, expected)


@pytest.mark.parametrize(
    ("speed", "key", "better"),
    [
        pytest.param(6.2, "model.decoder_window_size", 15, id="fast"),
        pytest.param(30.0, "video.target_fps", 20.0, id="too fast for any window"),
        pytest.param(0.0, None, None, id="at rest"),
        pytest.param(2.0, None, None, id="right"),
    ],
)
def test_suggestions_follow_the_motion(
    tiny: Config, tmp_path: Path, speed: float, key: str | None, better: float | None
) -> None:
    write_motion(tmp_path / "clip.hdf5", tiny, (speed, 0.0), moving=9)
    suggestions = {each.key: each for each in suggest(measure(load_clips(tmp_path, tiny), tiny), tiny)}
    suggestions.pop("data.static_filter.threshold", None)
    assert list(suggestions) == [key] * (key is not None)
    if key is not None:
        assert suggestions[key].better == better


@pytest.mark.parametrize(
    ("fps", "source_fps", "key", "better", "said"),
    [
        pytest.param((10.0,), (30.0,), "video.target_fps", 20.0, "2.0 times the frame rate", id="there are"),
        pytest.param(
            (10.0,),
            (12.0, 30.0),
            "video.target_fps",
            12.0,
            "than 12 fps",
            id="the slowest clip has less",
        ),
        pytest.param((10.0,), (10.0,), "data.reference_size", None, "than 10 fps", id="there are none"),
        pytest.param((8.0,), (8.0,), "data.reference_size", None, "than 8 fps", id="slower than asked"),
        pytest.param((10.0,), (), "video.target_fps", None, "where the clips have it", id="nobody knows"),
        pytest.param((), (), "video.target_fps", None, "where the clips have it", id="nor the tracks' rate"),
    ],
)
def test_no_more_frames_are_advised_than_the_clips_have(
    tiny: Config,
    tmp_path: Path,
    fps: tuple[float, ...],
    source_fps: tuple[float, ...],
    key: str,
    better: float | None,
    said: str,
) -> None:
    """Twice the rate would suit points at 30 px a step."""
    write_motion(tmp_path / "clip.hdf5", tiny, (30.0, 0.0), moving=9)
    found = measure(load_clips(tmp_path, tiny), tiny)
    assert (found.fps, found.source_fps) == ((10.0,), (30.0,))
    suggestion = suggest(dataclasses.replace(found, fps=fps, source_fps=source_fps), tiny)[0]
    assert (suggestion.key, suggestion.better) == (key, better)
    assert said in suggestion.reason


def test_fewer_frames_are_fewer_than_the_clips_have(tiny: Config, tmp_path: Path) -> None:
    """Clips of 4 fps, below the 10 that were asked for, keep their own: a quarter of it is 1."""
    write_motion(tmp_path / "clip.hdf5", tiny, (0.25, 0.0), moving=9)
    found = dataclasses.replace(
        measure(load_clips(tmp_path, tiny), tiny),
        fps=(4.0,), source_fps=(4.0,), moving_center_share=0.9, moving_speed_px={50: 0.25}, axis_99_px=1.0,
    )  # fmt: skip
    assert suggest(found, tiny)[0].better == 1.0


def test_slow_motion_wants_fewer_frames(tiny: Config, tmp_path: Path) -> None:
    """Points that creep but for one step of a pixel."""
    write_motion(tmp_path / "clip.hdf5", tiny, (0.25, 0.0), moving=9)
    creeping = load_clips(tmp_path, tiny)
    found = dataclasses.replace(
        measure(creeping, tiny), moving_center_share=0.9, moving_speed_px={50: 0.25}, axis_99_px=1.0
    )
    fewer = suggest(found, tiny)[0]
    assert (fewer.key, fewer.now, fewer.better) == ("video.target_fps", 10.0, 2.5)


def test_threshold_is_half_a_pixel(tiny: Config, tmp_path: Path) -> None:
    write_motion(tmp_path / "clip.hdf5", tiny, (2.0, 0.0), moving=9)
    static = dataclasses.replace(tiny.data.static_filter, threshold=0.9)
    config = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, static_filter=static))
    (suggestion,) = suggest(measure(load_clips(tmp_path, config), config), config)
    # At W = 7 half a pixel is a sixth of the three that 1 stands for.
    assert (suggestion.key, suggestion.better) == ("data.static_filter.threshold", 0.17)


def test_amplify_motion_is_measured_in_every_view(tmp_path: Path) -> None:
    tree = {
        **TINY,
        "data": {**TINY["data"], "reference_size": [48, 64]},
        "model": {**TINY["model"], "num_layers": 2, "name": "amplify", "amplify": {"class_grid": [5, 9]}},
    }
    config = config_from_dict(tree, "in the tests")
    write_motion(tmp_path / "clip.hdf5", config, (3.0, 0.0), moving=3)
    found = measure(load_clips(tmp_path, config), config)
    assert found.label_counts.shape == (5, 9)
    assert found.moving_clamped_share == 0.0  # columns reach 4 px, rows 2
    write_motion(tmp_path / "clip.hdf5", config, (0.0, 3.0), moving=3)
    assert measure(load_clips(tmp_path, config), config).moving_clamped_share > 0


def test_label_map_shows_where_labels_are() -> None:
    counts = torch.zeros(3, 5, dtype=torch.int64)
    counts[0, 4] = 10
    picture = label_map(counts)
    classes = picture[TOP_PX : TOP_PX + 3 * CELL_PX, LEFT_PX : LEFT_PX + 5 * CELL_PX]
    brightness = classes.astype(int).sum(axis=2)
    assert brightness[:CELL_PX, -CELL_PX:].min() > brightness[-CELL_PX:, :CELL_PX].max()


def test_label_map_has_a_title_axes_and_a_scale_that_follow_the_counts() -> None:
    """Ink on the white around the classes: of each tick, and of the colours from none to the most."""
    counts = torch.zeros(3, 5, dtype=torch.int64)
    counts[1, 2], counts[0, 4] = 1000, 10
    picture = label_map(counts, "1,010 steps")
    dark = picture.max(axis=2) < 200
    assert dark[:22].any() and dark[22:TOP_PX, : LEFT_PX + 100].any()
    below, left = TOP_PX + 3 * CELL_PX, LEFT_PX - 3
    for column in range(5):
        assert dark[below + 2, LEFT_PX + column * CELL_PX + CELL_PX // 2]
    for row in range(3):
        assert dark[TOP_PX + row * CELL_PX + CELL_PX // 2, left]
    scale = picture[TOP_PX:, LEFT_PX + 5 * CELL_PX + 30]
    assert tuple(scale[0]) == tuple(picture[TOP_PX + CELL_PX + 5, LEFT_PX + 2 * CELL_PX + 5])
    assert tuple(scale[5 * CELL_PX - 1]) == tuple(picture[below - 1, LEFT_PX])
    more = label_map(10 * counts, "1,010 steps")
    right = np.s_[:, LEFT_PX + 5 * CELL_PX + 40 :]
    assert not np.array_equal(more[right], picture[right]), "the numbers beside the scale are others"


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (5, 9), (31, 31), (4, 6)])
@pytest.mark.parametrize("most", [0, 1, 12, 10**9])
def test_label_maps_of_all_sizes_are_drawn(rows: int, columns: int, most: int) -> None:
    counts = torch.zeros(rows, columns, dtype=torch.int64)
    counts[0, 0] = most
    picture = label_map(counts, f"{most} steps")
    height, width = picture.shape[:2]
    assert height >= TOP_PX + rows * CELL_PX and width >= LEFT_PX + columns * CELL_PX
    edge = np.concatenate([picture[[0, -1]].reshape(-1, 3), picture[:, [0, -1]].reshape(-1, 3)])
    assert edge.min() == 255, "nothing is cut off"


def test_the_folder_stands_anywhere(tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks, picture = str(tmp_path / "tracks"), str(tmp_path / "map.png")
    write_motion(tmp_path / "tracks" / "clip.hdf5", tiny, (2.0, 0.0), moving=9)
    write_config(tmp_path / "tracks" / "config.yaml")
    threshold = ["--data.static_filter.threshold", "0.25"]
    lines = [
        [*threshold, "--picture", picture, tracks],
        [*threshold, tracks, "--picture", picture],
        [tracks, *threshold, "--picture", picture],
    ]
    for line in lines:
        assert main(line) == 0
    first, *others = capsys.readouterr().out.split(f"label map: {picture}\n")[:3]
    assert "data.static_filter.threshold 0.25" in first
    assert others == [first] * 2


@pytest.mark.parametrize("config_file", [True, False], ids=["config.yaml", "no config.yaml"])
def test_a_pack_is_seen_as_its_tracks(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], config_file: bool
) -> None:
    """With their grid and length, which are not the defaults; and all their settings where they are kept."""
    write_motion(tmp_path / "tracks" / "clip.hdf5", tiny, (2.0, 0.0), moving=9)
    if config_file:
        write_config(tmp_path / "tracks" / "config.yaml")
    pack_main(["--input", str(tmp_path / "tracks"), "--output", str(tmp_path / "pack")])
    capsys.readouterr()
    said = []
    for name in ("tracks", "pack"):
        assert main([str(tmp_path / name)]) == 0
        said.append(capsys.readouterr().out.replace(str(tmp_path / name), "DIR"))
    assert said[0] == said[1] and ", 10 fps" in said[1]
    assert ("reference size: shorter side 48 px" in said[1]) == config_file


def test_a_pack_from_before_it_held_frame_rates_is_read(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_motion(tmp_path / "tracks" / "clip.hdf5", tiny, (2.0, 0.0), moving=9)
    pack_main(["--input", str(tmp_path / "tracks"), "--output", str(tmp_path / "pack")])
    index = read_json(tmp_path / "pack" / PACK_INDEX)
    del index["clips"][0]["fps"]
    write_json(tmp_path / "pack" / PACK_INDEX, index)
    assert main([str(tmp_path / "pack")]) == 0
    assert ", unknown fps" in capsys.readouterr().out


def test_stored_velocities_do_not_tell_how_fast(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They end at the window's edge, so no larger W follows from them."""
    for start in range(2):
        torch.save(torch.full((5, 9, 2), 1.0), tmp_path / f"clip_start{start:06d}.pt")
    write_config(tmp_path / "config.yaml")
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "velocity files hold speeds up to the edge of the classes alone" in out
    assert (
        "suggestion: model.decoder_window_size 7: 100.0% of moving points' steps leave the 7 x 7 px, "
        "a larger one is due; only track files tell how large"
    ) in out


def test_command_prints_and_draws(tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the settings that lie beside the tracks."""
    write_motion(tmp_path / "tracks" / "clip.hdf5", tiny, (6.2, 0.0), moving=9)
    write_config(tmp_path / "tracks" / "config.yaml")
    assert main([str(tmp_path / "tracks")]) == 0
    out = capsys.readouterr().out
    assert "1 clips, 3 windows (3 of them read), 10 fps" in out
    assert "reference size: shorter side 48 px (data.reference_size)" in out
    assert "suggestion: model.decoder_window_size 7 -> 15: 100.0% of moving points' steps leave" in out
    assert cv2.imread(str(tmp_path / "tracks" / "label_map.png")).shape[0] > 7 * CELL_PX
    with pytest.raises(UsageError, match="required: DIR"):
        main([])
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--picture" in capsys.readouterr().out


def test_a_picture_of_no_known_kind_is_refused_and_leaves_nothing(tiny: Config, tmp_path: Path) -> None:
    write_motion(tmp_path / "tracks" / "a.hdf5", tiny, (4.0, 0.0), moving=3)
    config = write_config(tmp_path / "tiny.yaml")
    for name in ("map.txt", "map"):
        with pytest.raises(UsageError, match=rf"--picture .*{name} is no name of a picture; give .*\.png"):
            main([str(tmp_path / "tracks"), "--config", str(config), "--picture", str(tmp_path / name)])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([config.name, "tracks"])
