import json
from pathlib import Path

import pytest

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.files import (
    KeyedLines,
    atomic_path,
    make_output_folder,
    read_json,
    remove_unfinished,
    write_json,
    write_text,
)


def test_atomic_write_keeps_the_old_file_when_the_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_write_shows_nothing_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("a.hdf5", ".hidden.tmp", ".12-notes.tmp.txt", "12-0123abcd.tmp.txt")]
    for path in kept:
        path.touch()
    with atomic_path(tmp_path / "sub" / "a.hdf5") as temporary:
        temporary.touch()
        remove_unfinished(tmp_path)
        assert not temporary.exists()
        temporary.touch()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        [*kept, tmp_path / "sub" / "a.hdf5"]
    )


def test_unwritable_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/sub.*cannot be written"):
        make_output_folder(tmp_path / "file" / "sub")
    with pytest.raises(UsageError, match=r"file/sub/a.json.*cannot be written"):
        write_json(tmp_path / "file" / "sub" / "a.json", {})


def test_nan_is_not_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert not (tmp_path / "a.json").exists()


def test_keyed_lines_last_record_counts_and_compact_orders(tmp_path: Path) -> None:
    lines = KeyedLines(tmp_path / "m.jsonl")
    for clip, status in [("b", "failed"), ("a", "done"), ("b", "done")]:
        lines.add({"clip": clip, "status": status})
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == 3
    again = KeyedLines(tmp_path / "m.jsonl")
    again.compact()
    records = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert records == [{"clip": "a", "status": "done"}, {"clip": "b", "status": "done"}]


def test_keyed_lines_survive_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"clip": "a", "status": "done"}\n{"clip": "b", "sta')
    lines = KeyedLines(path)
    lines.add({"clip": "c", "status": "done"})
    assert list(KeyedLines(path).records) == ["a", "c"]


def test_keyed_lines_name_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"clip": "a"}\nnot json\n')
    with pytest.raises(UsageError, match="line 2"):
        KeyedLines(tmp_path / "m.jsonl")


def test_read_json_names_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(UsageError, match=r"a\.json: holds a list"):
        read_json(tmp_path / "a.json")
