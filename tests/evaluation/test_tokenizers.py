"""Rate and distortion of tokenizers: which points are judged, what is counted, what is refused."""

import dataclasses
import json
import math
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.codes.decoding import decode_tracks
from amplify_motion_tokenizer.codes.tracks import encode_tracks
from amplify_motion_tokenizer.commands.evaluate import main
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.inputs import from_tracks
from amplify_motion_tokenizer.data.views import ViewTracks
from amplify_motion_tokenizer.errors import CheckpointError, TokenizerError, TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation import code_length, plain_coders
from amplify_motion_tokenizer.evaluation.grid_windows import (
    GridWindows,
    WindowSource,
    farthest_off,
    folder_windows,
    nearest_rows,
)
from amplify_motion_tokenizer.evaluation.rate_distortion import distortion
from amplify_motion_tokenizer.evaluation.rate_picture import draw_rates
from amplify_motion_tokenizer.evaluation.tokenizer_tables import heading
from amplify_motion_tokenizer.evaluation.tokenizers import LIKELIEST, Row, evaluate_tokenizers
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.scenes import TruthWindows, write_clips
from tests.support.checkpoints import save_native
from tests.support.configs import amplify_config
from tests.support.run_scripts import TINY
from tests.support.tracked import write_velocities

SIZE = (96, 128)


def config_of(
    name: str, grid: int, frames: int = 6, ids: int = 3, horizon: int | None = None, order: str = "row_major"
) -> Config:
    tree = {key: dict(section) for key, section in TINY.items()}
    tree["data"] |= {"grid_size": grid, "sequence_length": frames, "true_horizon": horizon}
    tree["data"] |= {"reference_size": [48, 64] if name == "amplify" else {"shorter": 48}}
    tree["tracking"] |= {"query_order": order}
    tree["model"] |= {"name": name, "num_layers": 2, "fsq_levels": [8, 5], "encoder_sequence_len": ids}
    tree["model"] |= {"amplify": {"mlp_dim": 12, "class_grid": [5, 7]}}
    return config_from_dict(tree, "in the tests")


def model_of(config: Config) -> torch.nn.Module:
    torch.manual_seed(3)
    return build_model(config).eval()


@pytest.fixture(autouse=True)
def _few_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_coders, "FIT_WINDOWS", 100)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    windows = TruthWindows(length=6, stride=3, grid_size=6)
    write_clips(
        output=folder,
        clips=3,
        kinds=("pan", "movers", "still"),
        seed=4,
        size=SIZE,
        frames=12,
        fps=20.0,
        truth=windows,
    )
    return folder / "truth"


def source_of(
    tracks: torch.Tensor, seen: torch.Tensor | None = None, kind: str | None = None
) -> WindowSource:
    visibility = torch.ones(tracks.shape[:3]) if seen is None else seen.float()
    windows = GridWindows(tracks, visibility, SIZE, kind)
    grid, frames = math.isqrt(tracks.shape[2]), tracks.shape[1]
    return WindowSource(name="made here", grid=grid, frames=frames, clips=0, chunks=lambda: iter([windows]))


def moving(grid: int, frames: int = 6, windows: int = 4) -> torch.Tensor:
    """(B, T, N, 2) windows that pan, each at a speed of its own, with a little of each point's own motion."""
    rng = np.random.default_rng(grid)
    start = query_grid("row_major", grid, SIZE)
    velocity = rng.normal(0, 2, (windows, 1, 1, 2)) + rng.normal(0, 0.3, (windows, 1, grid**2, 2))
    return torch.from_numpy(start + velocity * np.arange(frames)[:, None, None]).float()


def rows_named(rows: list[Row], name: str) -> list[Row]:
    return [row for row in rows if row.name == name]


@pytest.mark.parametrize(("stored", "side"), [(20, 20), (20, 10), (20, 6), (9, 3), (7, 5), (4, 1)])
def test_the_points_next_to_a_smaller_grid_are_taken(stored: int, side: int) -> None:
    place, wanted = ((np.arange(count) + 0.5) / count for count in (stored, side))
    found = nearest_rows(stored, side).numpy()
    nearest = np.abs(place[:, None] - wanted).min(axis=0)
    assert np.abs(place[found] - wanted) == pytest.approx(nearest)
    assert farthest_off(stored, side) == pytest.approx(nearest.max(), abs=1e-6)
    assert len(set(found)) == side


def test_a_tokenizer_is_judged_on_what_it_says_of_its_own_points() -> None:
    stored = moving(6, frames=8)
    model = model_of(config_of("transform", 3, frames=5))
    (section,) = evaluate_tokenizers({"mine": model}, [source_of(stored, kind="pan")])
    points = (torch.tensor([0, 2, 4])[:, None] * 6 + torch.tensor([0, 2, 4])).flatten()
    own = stored[:, :5, points]
    assert (section.grid, section.frames, section.windows) == (3, 5, 4)
    seen = torch.ones(own.shape[:3], dtype=torch.bool)
    ids = encode_tracks(model, own, seen, SIZE)
    rows = rows_named(section.rows, "mine")
    assert [(row.ids, row.bits) for row in rows] == [(2, 2 * math.log2(40)), (3, 3 * math.log2(40))]
    for row in rows:
        decoded = decode_tracks(model, ids[:, : row.ids], SIZE, own[:, 0])
        expected = distortion(own, decoded, seen, torch.tensor([SIZE] * 4))
        assert row.total.error_px == pytest.approx(expected.error_px, rel=1e-5)
        assert row.kinds["pan"].error_px == row.total.error_px
        assert row.use is not None
        assert row.use.codes.unique == len(ids[:, : row.ids].unique())
    assert rows[1].total.error_px < rows[0].total.error_px < section.rows[0].total.error_px
    assert section.rows[0].total.relative == 1


def test_a_tokenizer_of_what_moves_before_the_camera_is_judged_on_that() -> None:
    grid, frames, shift = query_grid("row_major", 6, SIZE), np.arange(6)[:, None, None], np.array([4.0, 1.0])
    world = np.stack([grid + 0 * frames] * 2)
    world[:, :, 14:16] += frames * np.array([0.0, 3.0])
    whole, still = (torch.from_numpy(each).float() for each in (world + frames * shift, world))
    keep = config_of("transform", 6)
    remove = dataclasses.replace(keep, data=dataclasses.replace(keep.data, camera="remove"))
    models = {"all": model_of(keep), "objects": model_of(remove)}
    of_all, of_objects = evaluate_tokenizers(models, [source_of(whole)])
    assert (of_all.camera, of_objects.camera) == (True, False)
    assert heading(of_objects) == f"{heading(of_all)}, the camera's motion taken out"
    assert {row.name for row in of_all.rows} - {row.name for row in of_objects.rows} == {"all"}
    (expected,) = evaluate_tokenizers({"objects": models["all"]}, [source_of(still)])
    assert [row.total.error_px for row in of_objects.rows] == pytest.approx(
        [row.total.error_px for row in expected.rows], rel=1e-3
    )
    assert of_objects.rows[0].total.error_px < 0.5 * of_all.rows[0].total.error_px


@pytest.mark.parametrize("name", ["keypoint", "amplify"])
def test_classes_are_read_by_their_mean_and_by_the_likeliest(name: str) -> None:
    tracks, model = moving(3), model_of(config_of(name, 3, order="uniform"))
    (section,) = evaluate_tokenizers({"mine": model}, [source_of(tracks)])
    mean, likeliest = rows_named(section.rows, "mine")
    assert (mean.reading, likeliest.reading) == ("", LIKELIEST)
    uniform = torch.arange(9).view(3, 3).T.flatten()
    own, seen = tracks[:, :, uniform], torch.ones(tracks.shape[:3])
    velocities = from_tracks([ViewTracks(own, seen, SIZE)], model.config).velocities
    decoded = decode_tracks(model, model.tokenize(velocities), SIZE, own[:, 0]).view(own.shape)
    expected = distortion(own, decoded, seen > 0, torch.tensor([SIZE] * 4)).error_px
    assert mean.total.error_px == pytest.approx(expected, rel=1e-5)
    assert mean.total.error_px != likeliest.total.error_px
    assert mean.held_out is None


def test_decoded_frames_are_brought_to_the_tracked_ones() -> None:
    # 9 tracked frames become 5 of the model's, and 9 again: of motion at one speed nothing is lost by that.
    config = config_of("transform", 3, frames=5, ids=40, horizon=9)
    (section,) = evaluate_tokenizers({"mine": model_of(config)}, [source_of(moving(3, frames=9))])
    assert section.frames == 9
    assert rows_named(section.rows, "mine")[-1].total.relative < 0.15


def test_held_out_points_are_hidden_from_the_encoder() -> None:
    tracks = moving(4)[:, :1].repeat(1, 6, 1, 1)
    black = torch.tensor([(row + col) % 2 == 1 for row in range(4) for col in range(4)])
    tracks[:, :, black] += torch.arange(6.0)[:, None, None]
    (section,) = evaluate_tokenizers(
        {"mine": model_of(config_of("transform", 4, ids=40))}, [source_of(tracks)]
    )
    row = rows_named(section.rows, "mine")[-1]
    assert row.held_out is not None
    assert row.held_out.relative == pytest.approx(1, abs=0.05)
    assert row.total.relative < 0.95


def kt_bits(column: list[int], levels: int) -> float:
    bits, counts = 0.0, [0] * levels
    for number, digit in enumerate(column):
        share = (counts[digit] + Fraction(1, 2)) / (number + Fraction(levels, 2))
        bits -= math.log2(share)
        counts[digit] += 1
    return bits


def test_bits_are_the_length_of_a_stream_that_learns() -> None:
    pytest.importorskip("constriction")
    levels, rng = (8, 5), np.random.default_rng(0)
    skewed = rng.choice(40, (500, 3), p=np.arange(1, 41) / 820)
    ideal = sum(
        kt_bits([int(x) for x in column], count)
        for place in skewed.T
        for column, count in ((place % 8, 8), (place // 8, 5))
    )
    assert code_length.coded_bits(torch.from_numpy(skewed), levels) * 500 == pytest.approx(
        ideal, rel=5e-3, abs=64
    )
    assert math.isnan(code_length.coded_bits(torch.empty(0, 3, dtype=torch.int64), levels))


def test_bits_are_no_number_without_the_coder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    assert math.isnan(code_length.coded_bits(torch.zeros(4, 3, dtype=torch.int64), (8, 5)))


def test_use_of_digits_is_told_by_place() -> None:
    ids = torch.tensor([[0, 3], [1, 3], [2, 11], [3, 19]])
    use = code_length.digit_use(ids, (8, 5))
    assert use[0].tolist() == pytest.approx([math.log(4) / math.log(8), 0])
    assert use[1].tolist() == pytest.approx([0, 1.5 * math.log(2) / math.log(5)])


def test_a_folder_is_read_in_any_order_of_points(truth: Path, tmp_path: Path) -> None:
    uniform = np.arange(36).reshape(6, 6).T.ravel()
    for path in truth.glob("*.hdf5"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        with h5py.File(tmp_path / path.name, "a") as file:
            for name in ("tracks", "vis"):
                data = file["root/default"][name]
                data[...] = data[...][:, :, uniform]
    chunks = [list(folder_windows(folder).chunks()) for folder in (truth, tmp_path)]
    assert [chunk.kind for chunk in chunks[0]] == ["pan", "movers", "still"]
    for one, other in zip(*chunks, strict=True):
        torch.testing.assert_close(one.tracks_xy_px, other.tracks_xy_px)
        torch.testing.assert_close(one.visibility, other.visibility)


def test_padded_and_unwritten_windows_are_left_out(truth: Path, tmp_path: Path) -> None:
    (path,) = truth.glob("*_pan.hdf5")
    (tmp_path / path.name).write_bytes(path.read_bytes())
    with h5py.File(tmp_path / path.name, "a") as file:
        view = file["root/default"]
        view["valid_steps"][0] = 4
        view["tracks"][1] = np.nan
        view["tracks"][2, 3, 5] = np.nan
    before, after = (
        sum(len(chunk.visibility) for chunk in folder_windows(source).chunks()) for source in (path, tmp_path)
    )
    assert after == before - 2
    (rest,) = folder_windows(tmp_path).chunks()
    assert not rest.seen[0, 3, 5]
    (section,) = evaluate_tokenizers(
        {"mine": model_of(config_of("transform", 6))}, [folder_windows(tmp_path)]
    )
    assert all(math.isfinite(row.total.error_px) for row in section.rows)
    with h5py.File(tmp_path / path.name, "a") as file:
        file["root/default"]["valid_steps"][...] = 4
    with pytest.raises(TrackFileError, match="all of its windows have padding"):
        evaluate_tokenizers({"mine": model_of(config_of("transform", 6))}, [folder_windows(tmp_path)])


def test_the_command_prints_writes_and_draws(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    for name in ("keypoint", "amplify"):
        save_native(tmp_path / f"{name}.pth", config_of(name, 3))
    save_native(tmp_path / "waves.pth", config_of("transform", 6))
    arguments = [
        "--tracks",
        truth,
        "--made-up",
        5,
        "--json",
        tmp_path / "all.json",
        "--picture",
        tmp_path / "p.png",
    ]
    for name in ("keypoint", "amplify", "waves"):
        arguments += ["--checkpoint", tmp_path / f"{name}.pth"]
    assert main(["tokenizer", *map(str, arguments)]) == 0
    printed = capsys.readouterr().out
    assert "3 x 3 points, 6 frames; the points of 6 x 6 points that lie next to" in printed
    content = json.loads((tmp_path / "all.json").read_text())
    assert [(part["source"], part["grid"], part["windows"]) for part in content["sections"]] == [
        (str(truth), 3, 9), (str(truth), 6, 9), ("made-up motion", 3, 5), ("made-up motion", 6, 5),
    ]  # fmt: skip
    coders = content["sections"][0]["coders"]
    first = "error with all ids, the least first: "
    order = next(line for line in printed.splitlines() if line.startswith(first)).removeprefix(first)
    errors = [float(part.split(" px")[0].rsplit(" ", 1)[1]) for part in order.split(", ") if " px" in part]
    theirs = sorted(coder["error_px"] for coder in coders if not coder["plain"])
    assert errors == pytest.approx(theirs, abs=6e-4)
    assert {coder["name"] for coder in coders if coder["plain"]} == {
        "no motion",
        "one similarity",
        "PCA",
        "DCT",
    }
    still = [coder["by_kind"]["still"] for coder in coders]
    assert all(part["relative"] is None and part["no_motion_px"] == 0 for part in still)
    header = (tmp_path / "p.png").read_bytes()[:24]
    assert header[:4] == b"\x89PNG"
    assert int.from_bytes(header[16:20], "big") == 900
    capsys.readouterr()
    assert (
        main(["tokenizer", "--tracks", str(truth), "--checkpoint", str(tmp_path / "waves.pth"), "--markdown"])
        == 0
    )
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert table[0].startswith("| coder | ids | bits | coded | px | % |")


def test_a_picture_of_what_does_not_move_or_is_a_similarity_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model = model_of(config_of("transform", 3))
    still, shifted = moving(3)[:, :1].repeat(1, 6, 1, 1), moving(3)[:, :1] + torch.arange(6.0)[:, None, None]
    sources = [dataclasses.replace(source_of(still), name="still"), source_of(shifted)]
    sections = evaluate_tokenizers({"mine": model}, sources)
    assert math.isnan(sections[0].rows[0].total.relative)
    assert sections[1].rows[1].total.relative < 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_rates(tmp_path / "p.png", sections)
    assert (tmp_path / "p.png").stat().st_size > 0


def test_a_picture_needs_matplotlib(truth: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        UsageError, match="--picture needs matplotlib; install it with pip install matplotlib"
    ):
        main(["tokenizer", "--tracks", str(truth), "--picture", str(tmp_path / "p.png")])


def changed(truth: Path, folder: Path, change: str) -> Path:
    (path,) = truth.glob("*_pan.hdf5")
    (folder / path.name).write_bytes(path.read_bytes())
    with h5py.File(folder / path.name, "a") as file:
        view = file["root/default"]
        if change == "sizeless":
            del view.attrs["height"], view.attrs["width"]
        elif change == "scattered":
            view["tracks"][...] = view["tracks"][...][:, :, np.random.default_rng(0).permutation(36)]
        else:
            for name in ("tracks", "vis"):
                data = view[name][...][:, :, :35]
                del view[name]
                view[name] = data
    return folder


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("sizeless", "does not say the size that was tracked"),
        ("scattered", "its points do not start on a grid of 6 x 6"),
        ("not square", "has 35 points, which make no square grid"),
    ],
)
def test_tracks_of_no_use_are_named(truth: Path, tmp_path: Path, change: str, told: str) -> None:
    model = model_of(config_of("transform", 3))
    with pytest.raises(TrackFileError, match=told):
        evaluate_tokenizers({"mine": model}, [folder_windows(changed(truth, tmp_path, change))])


def test_what_cannot_be_judged_is_refused_in_a_line(truth: Path, tmp_path: Path, tiny: Config) -> None:
    (tmp_path / "empty").mkdir()
    write_velocities(tmp_path / "velocities" / "clip", tiny, 2)
    save_native(tmp_path / "views.pth", amplify_config(views=2))
    cases: list[tuple[list[object], type[TokenizerError], str]] = [
        ([], UsageError, "there is nothing to judge on: give --tracks FOLDER"),
        (["--made-up", -1], UsageError, "--made-up is -1; expected"),
        (["--tracks", tmp_path / "empty"], TrackFileError, "holds no track files"),
        (["--tracks", tmp_path / "nowhere"], TrackFileError, "does not exist"),
        (["--tracks", tmp_path / "velocities"], TrackFileError, "holds velocities of windows"),
        (["--tracks", truth], TrackFileError, "has 6 points on a side, and the tokenizer codec takes 20"),
        (["--tracks", truth, "--checkpoint", "nobody"], CheckpointError, "nobody"),
        (["--tracks", truth, "--checkpoint", tmp_path / "views.pth"], CheckpointError, "takes 2 views"),
    ]
    for arguments, kind, told in cases:
        with pytest.raises(kind, match=told) as caught:
            main(["tokenizer", *map(str, arguments)])
        assert "\n" not in str(caught.value)
