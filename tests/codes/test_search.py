"""Search by motion: what is found, what counts as the same moment, and what is refused."""

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, Tokenizer, load_tokenizer, write_codes
from amplify_motion_tokenizer.codes.made_with import tokenizer_of
from amplify_motion_tokenizer.codes.motion_vectors import all_vectors, half_vectors, motion_vectors
from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.codes.search import nearest, query_moment
from amplify_motion_tokenizer.commands.search import main
from amplify_motion_tokenizer.errors import TokenizerError, UsageError
from amplify_motion_tokenizer.geometry import query_grid
from tests.support.moving_codes import GRID, LENGTH, SIZE, codes_of, pan, zoom
from tests.support.render_clips import write_moving

STARTS = [0, 8, 16, 24]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer("transform", device="cpu")


@pytest.fixture(scope="module")
def codes(tokenizer: Tokenizer) -> MotionCodeSet:
    """Clips of 40 frames: to the right, faster, to the left, and to the right from frame 20 on."""
    motions = {
        "right": [pan(1)] * 39,
        "faster": [pan(1.6)] * 39,
        "left": [pan(-1)] * 39,
        "in": [zoom(0.02)] * 39,
        "turns": [pan(-1)] * 20 + [pan(1.1)] * 19,
    }
    return MotionCodeSet(codes_of(tokenizer, name, each, STARTS) for name, each in motions.items())


def test_vectors_are_shapes_that_fade_where_little_moves() -> None:
    grid = query_grid("row_major", GRID, SIZE)
    steps = np.arange(LENGTH, dtype=np.float32)[:, None, None]
    moves = [
        np.float32([1, 0]),
        np.float32([3, 0]),
        np.float32([-1, 0]),
        np.float32([0, 1]),
        np.float32([0, 0]),
    ]
    tracks = torch.from_numpy(np.stack([grid + steps * move for move in moves]))
    one, three, back, down, still = motion_vectors(tracks, SIZE)
    assert np.linalg.norm(one - three) < 0.02
    assert np.linalg.norm(one - back) == pytest.approx(2, abs=0.03)
    assert np.linalg.norm(one - down) == pytest.approx(2**0.5, abs=0.03)
    assert not still.any()
    # After 1 to 15 frames of a pixel each; means of the three stretches, in shorter sides.
    middles = np.array([3, 8, 13]) / 48
    mean = np.sqrt((middles**2).mean())
    assert np.linalg.norm(one[:96]) == pytest.approx(mean / (mean + 1 / 480), rel=1e-4)


def test_vectors_end_with_what_kind_of_motion_it_is() -> None:
    grid = query_grid("row_major", GRID, SIZE)
    steps = np.arange(LENGTH, dtype=np.float32)[:, None, None]
    middle = np.float32([32, 24])
    left_half = (grid[:, :1] < 32).astype(np.float32)
    back = np.float32([*range(8), *range(8, 0, -1)])[:, None, None]
    tracks = np.stack(
        [
            grid + steps * np.float32([1, 0]),
            grid + steps * 0.05 * (grid - middle),
            grid + steps * np.float32([0, 1]) * left_half,
            grid + back * np.float32([1, 0]),
        ]
    )
    numbers = motion_vectors(torch.from_numpy(tracks), SIZE)[:, 96:] / np.float32([1.5, 1, 1])
    pan, zoom, half, there_and_back = numbers
    # A shift and a zoom of the whole frame leave nothing; half a frame that moves down leaves what the best
    # shift and turn do not tell: moves less their mean are 1/2 and -1/2, and a turn is one slope.
    assert pan[0] == pytest.approx(0, abs=1e-3)
    assert zoom[0] == pytest.approx(0, abs=1e-3)
    places = grid - grid.mean(axis=0)
    slope = (places[:, 0] * (left_half[:, 0] - 0.5)).sum() / (places**2).sum()
    left = np.stack([slope * places[:, 1], left_half[:, 0] - 0.5 - slope * places[:, 0]])
    assert half[0] == pytest.approx(np.sqrt((left**2).sum(axis=0).mean() / 0.5), abs=0.03)
    # 15 of 15 pixels are left at the end; 1 of 15; as far as ``STILL`` allows.
    assert pan[1] == pytest.approx(1, abs=0.01)
    assert there_and_back[1] == pytest.approx(1 / 15, abs=0.01)
    # All points that move do so one way; of a zoom they cancel.
    assert (pan[2], half[2]) == (pytest.approx(1, abs=0.01), pytest.approx(1, abs=0.02))
    assert zoom[2] == pytest.approx(0, abs=0.01)


def test_views_and_small_grids_have_vectors_too() -> None:
    tracks = torch.rand(5, 2, 6, 9, 2, generator=torch.Generator().manual_seed(0)) * 20
    # Two steps of the five to a half, or three stretches of five; all of the 3 x 3 fields.
    assert motion_vectors(tracks, SIZE).shape == (5, 2 * 2 * 3 * 9 + 3)
    assert motion_vectors(tracks[:0], SIZE).shape == (0, 2 * 2 * 3 * 9 + 3)
    both, first = half_vectors(tracks, SIZE), half_vectors(tracks[:, 0], SIZE)
    for whole, one, steps in zip(both, first, ((0, 2), (2, 4)), strict=True):
        moves = (tracks[:, 0, steps[1]] - tracks[:, 0, steps[0]]).mT.reshape(5, -1).numpy() / 48
        shape = moves / np.linalg.norm(moves, axis=1, keepdims=True)
        assert one / np.linalg.norm(one, axis=1, keepdims=True) == pytest.approx(shape, abs=1e-5)
        parallel = whole[:, :18] / np.linalg.norm(whole[:, :18], axis=1, keepdims=True)
        assert parallel == pytest.approx(shape, abs=1e-5)


def test_the_nearest_moments_move_alike_and_do_not_overlap(
    codes: MotionCodeSet, tokenizer: Tokenizer
) -> None:
    vectors = all_vectors(codes, tokenizer)
    query = query_moment(codes, "right", 0.4, 0)
    assert (query.rows, query.source_frames) == ((1,), (8, 23))
    assert query.seconds == pytest.approx((0.4, 1.15))
    found = nearest(codes, vectors, query, 20)
    # Frames 24 to 39 of its own clip, and windows of others; 0 to 15 and 16 to 31 overlap the query.
    assert [moment.clip for moment in found].count("right") == 1
    assert {moment.clip for moment in found[:4]} == {"right", "faster", "turns"}
    assert [moment.distance for moment in found] == sorted(moment.distance for moment in found)
    of_faster = sorted(moment.rows[0] for moment in found if moment.clip == "faster")
    assert of_faster in ([0, 2], [1, 3], [0, 3])
    assert len(nearest(codes, vectors, query, 2)) == 2


def test_a_longer_motion_is_found_by_its_parts_in_order(codes: MotionCodeSet, tokenizer: Tokenizer) -> None:
    again = codes_of(tokenizer, "again", [pan(-1.5)] * 36 + [pan(1.4)] * 19, list(range(0, 41, 8)))
    every = MotionCodeSet([*codes.values(), again])
    query = query_moment(every, "turns", 0, 1.95)
    assert (query.rows, query.source_frames) == ((0, 1, 2, 3), (0, 39))
    best, second = nearest(every, all_vectors(every, tokenizer), query, 2)
    assert (best.clip, best.rows, best.source_frames) == ("again", (2, 3, 4, 5), (16, 55))
    assert second.distance > best.distance + 0.3


def test_a_moment_spans_neither_a_missing_window_nor_a_cut(
    codes: MotionCodeSet, tokenizer: Tokenizer
) -> None:
    gap = codes_of(tokenizer, "gap", [pan(1)] * 47, [0, 8, 24, 32])
    cut = codes_of(tokenizer, "cut", [pan(1)] * 47, [0, 8, 16, 24])
    cut = dataclasses.replace(cut, meta={**cut.meta, "parts": [0, 8]})
    every = MotionCodeSet([codes["right"], gap, cut])
    query = query_moment(every, "right", 0, 1.2)
    assert query.rows == (0, 1)
    found = nearest(every, all_vectors(every, tokenizer), query, 20)
    assert {(moment.clip, moment.rows) for moment in found} == {
        ("gap", (0, 1)), ("gap", (2, 3)), ("cut", (1, 2))
    }  # fmt: skip
    assert query_moment(every, "cut", 0, 1.2).rows == (0,)


@pytest.mark.parametrize(
    ("clip", "start", "seconds", "words"),
    [
        ("wright", 0, 0, "there is no clip 'wright'; nearest of 5 are right,"),
        ("right", 2, 0, "no windows of right cover 2 s; covered are 0 to 1.95 s"),
        ("right", 1, 4, "cover 1 to 5 s"),
        ("right", -0.5, 0, "no windows of right cover -0.5 s"),
        ("right", float("nan"), 0, "from nan s on is none; expected seconds"),
        ("right", 0, float("inf"), "a query of inf s"),
        ("right", 0, -1, "a query of -1 s"),
    ],
)
def test_a_query_that_no_window_covers_is_refused(
    codes: MotionCodeSet, clip: str, start: float, seconds: float, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        query_moment(codes, clip, start, seconds)
    assert words in str(caught.value)


def test_no_moments_cannot_be_asked_for(codes: MotionCodeSet) -> None:
    with pytest.raises(UsageError, match="0 moments cannot be found"):
        nearest(codes, {}, query_moment(codes, "right", 0, 0), 0)


def test_a_query_needs_times(codes: MotionCodeSet) -> None:
    clip = codes["right"]
    unknown = dataclasses.replace(clip, seconds=torch.full_like(clip.seconds, float("nan")))
    with pytest.raises(UsageError, match="do not say when"):
        query_moment(MotionCodeSet([unknown]), "right", 0, 0)


def made_with(clip: MotionCodes, checkpoint: str, digest: str) -> MotionCodeSet:
    meta = {**clip.meta, "checkpoint": checkpoint, "checkpoint_sha256": digest}
    return MotionCodeSet([dataclasses.replace(clip, meta=meta)], Path("codes.jsonl"))


def test_the_tokenizer_of_codes_is_found_by_its_hash(codes: MotionCodeSet, tmp_path: Path) -> None:
    assert tokenizer_of(codes).config.model.name == "transform"
    assert tokenizer_of(codes, "transform").config.model.name == "transform"
    with pytest.raises(UsageError, match="--checkpoint codec is another file"):
        tokenizer_of(codes, "codec")
    with pytest.raises(
        UsageError, match=r"made with best\.pth \(SHA-256 abcdef01\.\.\.\), which is not a shipped"
    ):
        tokenizer_of(made_with(codes["right"], "best.pth", "abcdef0123"))


def test_the_command_tells_writes_and_draws(
    codes: MotionCodeSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_codes(tmp_path / "codes.parquet", codes.values())
    (tmp_path / "videos").mkdir()
    for number, name in enumerate(codes):
        write_moving(tmp_path / "videos" / f"{name}.webm", SIZE, 40, fps=20, seed=number)
    line = ["--codes", str(tmp_path / "codes.parquet"), "--clip", "right", "--start", "0.4", "-k", "3"]
    written = ["--json", str(tmp_path / "found.json"), "--picture", str(tmp_path / "found.png")]
    assert main([*line, *written, "--input", str(tmp_path / "videos")]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert "-k is 3" not in caplog.text
    assert rows[1].split() == ["query", "right", "0.40", "1.15", "0.000"]
    assert len(rows) == 5
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert content["query"]["windows"] == [1]
    assert [hit["clip"] for hit in content["found"]] == [row.split()[1] for row in rows[2:]]
    with av.open(str(tmp_path / "found.png")) as picture:
        sheet = next(picture.decode(video=0)).to_ndarray(format="rgb24")
    assert sheet.shape == (4 * (120 + 18) + 4, 3 * (160 + 4), 3)
    # Frames of one clip move on from column to column, and clips differ.
    cells = [sheet[18:138, left : left + 160].astype(int) for left in (0, 164, 328)]
    assert abs(cells[0] - cells[1]).mean() > 5
    watched = ["--picture", str(tmp_path / "found.mp4"), "--input", str(tmp_path / "videos")]
    assert main(["query", *line, *watched]) == 0
    with av.open(str(tmp_path / "found.mp4")) as video:
        played = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    # A grid of 2 x 2 cells of 142 x 164; rounds of 0.75 s and 0.5 s until there are 4 s.
    assert played[0].shape == (2 * 142, 2 * 164, 3)
    assert len(played) == 4 * 25
    for top, left in ((18, 0), (18, 164), (160, 0), (160, 164)):
        cell = [frame[top : top + 100, left : left + 160] for frame in played]
        assert abs(cell[0] - cell[8]).mean() > 4
        assert abs(cell[0] - cell[25]).mean() < 4  # it begins again
        assert abs(cell[16] - cell[24]).mean() < 4  # it waits
    (tmp_path / "videos" / "right.webm").unlink()
    with pytest.raises(TokenizerError, match="has no video of the clip right"):
        main([*line, *written, "--input", str(tmp_path / "videos")])


def test_flags_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    line = ["--codes", "codes", "--clip", "a", "--start"]
    for flags, words in (
        (["1", "-k", "0"], "-k is 0; expected 1 or more"),
        (["nan"], "--start is nan; expected seconds"),
        (["1", "--seconds", "-1"], "--seconds is -1"),
        (["1", "--picture", "a.png"], "--picture and --input go together"),
        (["1", "--picture", "a.gif", "--input", "b"], "expected a file that ends in .png or .mp4"),
    ):
        with pytest.raises(UsageError) as caught:
            main([*line, *flags])
        assert words in str(caught.value)
