import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.files import (
    atomic_path,
    growing_file,
    make_output_folder,
    read_json,
    write_json,
    write_text,
)
from amplify_motion_tokenizer.jobs.manifest import Manifest


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


def test_a_growing_file_can_be_read_meanwhile_and_replaces_none_unasked(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "lines"
    with growing_file(path) as append:
        assert not path.exists()
        append(b"one\n")
        assert path.read_bytes() == b"one\n"
        append(b"two\n")
        assert path.read_bytes() == b"one\ntwo\n"
    with pytest.raises(UsageError, match=r"lines is there already; give --overwrite"), growing_file(path):
        pass
    with growing_file(path, overwrite=True) as append:
        assert path.read_bytes() == b"one\ntwo\n"  # until there is something else
        append(b"three\n")
    assert path.read_bytes() == b"three\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_growing_file_tells_of_a_full_disk() -> None:
    full = pytest.raises(UsageError, match="/dev/full: cannot be written .disk full")
    with growing_file(Path("/dev/full"), overwrite=True) as append, full:
        append(b"one\n")


KILLED = """
import os, sys
from pathlib import Path
from amplify_motion_tokenizer.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.touch()
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """But nothing of a process that runs, of another host, or of other making."""
    (tmp_path / "out").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    line = [sys.executable, "-c", KILLED, str(tmp_path / "out" / "sub" / "clip.hdf5")]
    assert subprocess.run(line, env=environment, check=False).returncode == -9
    (left,) = (tmp_path / "out" / "sub").iterdir()
    dead, host, *_ = left.name.split("-")
    kept = [f"{dead}-00000000-12345678.tmp.hdf5", ".7.tmp", ".notes.tmp.txt", f"{left.name[1:]}"]
    for name in kept:
        assert host != "00000000"
        (left.parent / name).touch()
    with atomic_path(left.with_name("clip.hdf5")) as temporary:
        temporary.touch()
        make_output_folder(tmp_path / "out")
        assert {path.name for path in left.parent.iterdir()} == {*kept, temporary.name}


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
    lines = Manifest(tmp_path / "m.jsonl")
    for clip, status in [("b", "failed"), ("a", "done"), ("b", "done")]:
        lines.add({"clip": clip, "status": status})
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == 3
    again = Manifest(tmp_path / "m.jsonl")
    again.compact()
    records = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert records == [{"clip": "a", "status": "done"}, {"clip": "b", "status": "done"}]


def test_keyed_lines_survive_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"clip": "a", "status": "done"}\n{"clip": "b", "sta')
    lines = Manifest(path)
    lines.add({"clip": "c", "status": "done"})
    assert list(Manifest(path).records) == ["a", "c"]


def test_keyed_lines_name_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"clip": "a"}\nnot json\n')
    with pytest.raises(UsageError, match="line 2"):
        Manifest(tmp_path / "m.jsonl")


def test_read_json_names_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(UsageError, match=r"a\.json: holds a list"):
        read_json(tmp_path / "a.json")
