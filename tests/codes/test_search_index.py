"""The index of codes: it finds what search without it finds, and knows which codes it was built of."""

import dataclasses
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, load_tokenizer, write_codes
from amplify_motion_tokenizer.codes.files.base import COLUMNS, OPTIONAL
from amplify_motion_tokenizer.codes.motion_vectors import all_vectors
from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.codes.search import nearest, query_moment
from amplify_motion_tokenizer.codes.search_index import (
    ClipPlaces,
    build_index,
    index_folder,
    open_index,
    searchable,
    write_index,
)
from amplify_motion_tokenizer.commands.search import main
from amplify_motion_tokenizer.errors import CheckpointError, UsageError
from tests.support.moving_codes import codes_of, pan, zoom

STARTS = list(range(0, 25, 8))

needs_usearch = pytest.mark.skipif(importlib.util.find_spec("usearch") is None, reason="needs usearch")


@pytest.fixture(scope="module")
def codes() -> MotionCodeSet:
    tokenizer = load_tokenizer("transform", device="cpu")
    motions = {
        "right": pan(1), "sub/faster": pan(1.6), "left": pan(-1), "in": zoom(0.02), "down": pan(0, 1)
    }  # fmt: skip
    found = [codes_of(tokenizer, name, [each] * 39, STARTS) for name, each in motions.items()]
    nothing = {column: getattr(found[0], column)[:0] for column in COLUMNS if column not in OPTIONAL}
    return MotionCodeSet([*found, dataclasses.replace(found[0], clip="still", **nothing)])


@pytest.fixture()
def folder(codes: MotionCodeSet, tmp_path: Path) -> Path:
    write_codes(tmp_path / "codes" / "codes.jsonl", codes)
    return tmp_path / "codes"


@pytest.mark.parametrize("approximate", [False, pytest.param(True, marks=needs_usearch)])
@pytest.mark.parametrize("of_a_file", [False, True])
def test_an_index_finds_what_search_without_finds(
    codes: MotionCodeSet, folder: Path, approximate: bool, of_a_file: bool
) -> None:
    path = folder / "codes.jsonl" if of_a_file else folder
    vectors = all_vectors(codes, load_tokenizer("transform", device="cpu"))
    assert open_index(path) is None
    build_index(path, approximate=approximate)
    assert index_folder(path).is_dir()
    index = searchable(path)
    assert list(index.clips) == list(codes)
    assert (index.graph is not None) == approximate
    for start, seconds in ((0.4, 0.0), (0.0, 1.2)):
        query = query_moment(codes, "right", start, seconds)
        assert query_moment(index.clips, "right", start, seconds) == query
        wanted = nearest(codes, vectors, query, 20)
        assert nearest(index.clips, index.vectors, query, 20, index.graph) == wanted
        assert nearest(index.clips, index.vectors, query, 2, index.graph) == wanted[:2]
    with pytest.raises(UsageError, match="clip still has no windows"):
        query_moment(index.clips, "still", 0, 0)


def test_an_index_of_other_codes_is_refused_until_it_is_built_again(
    codes: MotionCodeSet, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = ["query", "--codes", str(folder), "--clip", "right", "--start", "0", "-k", "2"]
    assert main(["build", str(folder)]) == 0
    assert "20 windows of 6 clips, for exact search" in capsys.readouterr().out
    assert main(query) == 0
    with_index = capsys.readouterr().out
    (old,) = index_folder(folder).iterdir()
    write_codes(folder / "codes.jsonl", [codes["right"], codes["left"]])
    with pytest.raises(UsageError, match="search_index: was built of other codes .* run search build again"):
        main(query)
    assert (old / "index.yaml").is_file()
    assert main(["build", str(folder), "--checkpoint", "transform"]) == 0
    assert not old.exists()
    assert main(query) == 0
    shutil.rmtree(index_folder(folder))
    write_codes(folder / "codes.jsonl", codes)
    capsys.readouterr()
    assert main(query[1:]) == 0
    assert capsys.readouterr().out == with_index


def test_a_damaged_index_is_told_in_one_line(folder: Path) -> None:
    build_index(folder)
    (own,) = index_folder(folder).iterdir()
    for name in ("vectors.npy", "windows.npy", "clips.npy"):
        whole = (own / name).read_bytes()
        for share in (0, 0.5, 0.99):
            (own / name).write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(UsageError, match="is damaged .* run search build again"):
                open_index(folder)
        (own / name).unlink()
        with pytest.raises(UsageError, match="is damaged .* run search build again"):
            open_index(folder)
        (own / name).write_bytes(whole)
    with pytest.raises(UsageError, match="--checkpoint codec is another file"):
        searchable(folder, "codec")
    with pytest.raises(CheckpointError, match=r"nope\.pth"):
        searchable(folder, "nope.pth")
    (folder / "codes.jsonl").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        searchable(folder)


@needs_usearch
def test_a_damaged_graph_is_told_and_can_be_left_out(folder: Path) -> None:
    build_index(folder, approximate=True)
    (own,) = index_folder(folder).iterdir()
    (own / "graph.usearch").write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match="is damaged .* run search build again"):
        open_index(folder)
    (own / "graph.usearch").unlink()
    with pytest.raises(UsageError, match="is damaged .* run search build again"):
        open_index(folder)
    assert searchable(folder, exact=True).graph is None
    build_index(folder)
    assert sorted(path.name for path in own.iterdir()) == [
        "clips.npy", "index.yaml", "vectors.npy", "windows.npy"
    ]  # fmt: skip
    assert searchable(folder).graph is None


def test_without_usearch_its_install_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs usearch, .* pip install 'usearch>=2\.17'"):
        main(["build", str(folder), "--approximate"])
    assert not index_folder(folder).exists()


def test_codes_without_windows_have_no_index(codes: MotionCodeSet, tmp_path: Path) -> None:
    write_codes(tmp_path / "codes.jsonl", codes["still"])
    with pytest.raises(UsageError, match="holds no windows of any clip"):
        build_index(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UsageError, match="holds the codes of no clip"):
        build_index(tmp_path / "empty.jsonl")
    with pytest.raises(UsageError, match=r"nope\.parquet: cannot be read"):
        build_index(tmp_path / "nope.parquet")


@needs_usearch
def test_a_graph_finds_the_nearest_of_many_windows(tmp_path: Path) -> None:
    """Clips of points on a circle: what is near is known."""
    clips, windows = 40, 50
    angles = np.random.default_rng(0).permutation(clips * windows) * (2 * np.pi / (clips * windows))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    starts = torch.arange(windows) * 16
    places = {
        str(number): ClipPlaces(
            str(number),
            starts,
            torch.stack([starts / 20, (starts + 15) / 20], dim=1).double(),
            torch.stack([starts, starts + 15], dim=1),
            torch.zeros_like(starts),
            {"tracked_length": 16},
        )
        for number in range(clips)
    }
    record = {"source_hash": "0" * 16, "windows": len(vectors), "tracked_length": 16, "graph": True}
    index = write_index(tmp_path, places, vectors, record | {"checkpoint_sha256": None})
    query = query_moment(index.clips, "7", 8.0, 0)
    assert query.rows == (10,)
    found = nearest(index.clips, index.vectors, query, 10, index.graph)
    apart = np.abs(np.angle(np.exp(1j * (angles - angles[7 * windows + 10]))))
    wanted = {divmod(int(row), windows) for row in np.argsort(apart)[1:11]}
    assert {(int(moment.clip), moment.rows[0]) for moment in found} == wanted


def test_codes_in_memory_are_searched_as_before(codes: MotionCodeSet) -> None:
    one: MotionCodes = codes["right"]
    assert query_moment({"right": one}, "right", 0, 0).rows == (0,)
    with pytest.raises(UsageError, match="codes of no clip"):
        query_moment({}, "right", 0, 0)
