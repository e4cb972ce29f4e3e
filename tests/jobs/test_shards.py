"""Shards have a folder among them, each its share of the clips, and what is not merged is not read."""

import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from amplify_motion_tokenizer.codes.merging import folders_to_merge, merge
from amplify_motion_tokenizer.codes.reading import read_codes
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import DRAWINGS, OUTPUT_CONFIG
from amplify_motion_tokenizer.jobs.folder_lock import beginning, only_run
from amplify_motion_tokenizer.jobs.folder_run import FolderRun, run_together
from amplify_motion_tokenizer.jobs.shards import Shard, parse_shard, shards_in
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW, Clip, ViewSource
from tests.support.run_scripts import REPO, manifest_of

NAMES = [f"sub/{number:03d}" for number in range(40)]

HOLD = """
import sys, time
from pathlib import Path
from amplify_motion_tokenizer.jobs.folder_lock import only_run
from amplify_motion_tokenizer.jobs.shards import parse_shard
with only_run(Path(sys.argv[1]), parse_shard(sys.argv[2]) if sys.argv[2:] else None):
    print("held", flush=True)
    time.sleep(600)
"""


class Writing:
    """Writes a text file for each clip."""

    def __init__(self, output: Path, text: str = "a", breaks_at: str = "") -> None:
        self.output, self.text, self.breaks_at = output, text, breaks_at
        self.made: list[str] = []

    @property
    def records(self):
        return {OUTPUT_CONFIG: {"text": self.text}, DRAWINGS: {}}

    def changed(self):
        path = self.output / OUTPUT_CONFIG
        return (
            [f"text -> {self.text}"] if path.exists() and f"text: {self.text}\n" != path.read_text() else []
        )

    def prepare(self, threads: int):
        return self

    def is_complete(self, clip: Clip) -> bool:
        return (self.output / clip.name).is_file()

    def __call__(self, clip: Clip):
        if clip.name == self.breaks_at:
            raise KeyboardInterrupt
        (self.output / clip.name).parent.mkdir(exist_ok=True)
        (self.output / clip.name).write_text(self.text)
        self.made.append(clip.name)
        return {"output": clip.name, "windows": 1}


def write(output: Path, shard: str = "", names: list[str] = NAMES, text: str = "a", **options) -> list[str]:
    """Runs over the clips ``names``, or a shard of them; the clips that were made."""
    clips = [Clip(name, {DEFAULT_VIEW: ViewSource(Path(name))}) for name in names]
    job = Writing(output, text, options.pop("breaks_at", ""))
    run = FolderRun.open(
        clips, output, "drawings", shard=parse_shard(shard) if shard else None, **options
    ).telling({"settings": text})
    run_together([(run, job)], job, job.prepare)
    return job.made


def share(name: str, of: int) -> int:
    """Counted from 1."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) % of + 1


def holding(*arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=REPO
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("text", ["0/8", "9/8", "1/0", "-1/2", "1", "a/b", "1/2/3", "1.0/2", "", "1/9999999"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected I/N with I from 1 to N"):
        parse_shard(text)


def test_the_share_of_a_clip_is_its_names_alone() -> None:
    """So a clip that is added moves no other."""
    for of in (1, 2, 3, 8):
        for name in [*NAMES, "été 1", "\udcff"]:
            assert sum(Shard(index, of).holds(name) for index in range(1, of + 1)) == 1
        assert all(Shard(share(name, of), of).holds(name) for name in NAMES)
    counts = [sum(Shard(index, 8).holds(f"{n}") for n in range(8000)) for index in range(1, 9)]
    assert all(abs(count - 1000) < 5 * 1000**0.5 for count in counts)


def test_merged_shards_are_as_one_run(tmp_path: Path) -> None:
    assert write(tmp_path / "whole") == NAMES
    made = [write(tmp_path / "out", f"{index}/3") for index in (2, 1, 3)]
    assert made == [[name for name in NAMES if share(name, 3) == index] for index in (2, 1, 3)]
    counts = merge(tmp_path / "out")
    assert counts == {"done": 40}
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert merge(tmp_path / "out") == counts
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_share_without_clips_is_a_share(tmp_path: Path) -> None:
    made = [write(tmp_path / "out", f"{index}/4", NAMES[:1]) for index in range(1, 5)]
    assert sorted(map(len, made)) == [0, 0, 0, 1]
    assert merge(tmp_path / "out") == {"done": 1}


def test_what_is_missing_is_named_and_can_be_made(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "1/3")
    with pytest.raises(UsageError, match=r"shards 2, 3 of 3 never ran; run --shard 2/3, then merge"):
        merge(out)
    stops_at = [name for name in NAMES if share(name, 3) == 2][5]
    with pytest.raises(KeyboardInterrupt):
        write(out, "2/3", breaks_at=stops_at)
    write(out, "3/3")
    with pytest.raises(UsageError, match=r"shard 2 of 3 did not end; run it again with --shard 2/3"):
        merge(out)
    assert write(out, "2/3")[0] == stops_at
    (out / NAMES[0]).unlink()
    own = share(NAMES[0], 3)
    with pytest.raises(UsageError, match=f"{NAMES[0]}: is missing, and shard {own}/3 did {NAMES[0]}"):
        merge(out)
    assert write(out, f"{own}/3") == NAMES[:1]
    merge(out)
    assert {record["status"] for record in manifest_of(out).values()} == {"done", "skipped"}


def test_shards_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "1/2")
    with pytest.raises(UsageError, match=r"another run \(text -> b\)"):
        write(out, "2/2", text="b")
    write(out, "2/2", NAMES[:-1])
    with pytest.raises(UsageError, match="input changed between the shards, as 1/2 found 40 .* 2/2 39"):
        merge(out)
    write(out, "2/2", text="b", overwrite=True)
    with pytest.raises(UsageError, match="1/2 and 2/2 were made with different settings or formats"):
        merge(out)
    with pytest.raises(UsageError, match=r"holds shards 1, 2 of 2, not merged yet, and --shard is 1/3"):
        write(out, "1/3", text="b")
    assert shards_in(out) == [Shard(1, 2), Shard(2, 2)]
    write(out, "1/2", text="b", overwrite=True)
    merge(out)
    assert {(out / name).read_text() for name in NAMES} == {"b"}


def test_a_whole_run_takes_in_what_shards_did(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    out = tmp_path / "out"
    write(out, "2/4")
    assert write(out) == [name for name in NAMES if share(name, 4) != 2]
    assert not shards_in(out) and manifest_of(out).keys() == set(NAMES)
    # Shards go on from what is merged, as a whole run does.
    more = [*NAMES, "sub/new"]
    made = [write(out, f"{index}/2", more) for index in (1, 2)]
    assert sum(made, []) == ["sub/new"]
    merge(out)
    assert manifest_of(out).keys() == set(more)


@pytest.mark.parametrize("read", [read_codes, find_tracks, lambda folder: find_tracks(folder, None)])
def test_what_is_not_merged_is_not_read(tmp_path: Path, read: Callable[[Path], object]) -> None:
    write(tmp_path, "1/2")
    with pytest.raises(UsageError, match=f"holds shard 1 of 2, not merged yet; run merge {tmp_path}"):
        read(tmp_path)


def test_a_refused_shard_leaves_a_merged_folder_readable(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(UsageError, match="another run"):
        write(tmp_path, "1/2", text="b")
    assert shards_in(tmp_path) == [] and merge(tmp_path) == {"done": 40}


def test_shards_run_at_once_and_nobody_else(tmp_path: Path) -> None:
    with only_run(tmp_path, Shard(1, 2)), only_run(tmp_path, Shard(2, 2)):
        with (
            pytest.raises(UsageError, match="shard 2/2 of .* is another run's"),
            only_run(tmp_path, Shard(2, 2)),
        ):
            pass
        with pytest.raises(UsageError, match="is another run's"), only_run(tmp_path):
            pass
        with pytest.raises(UsageError, match="wait until it ends"):
            merge(tmp_path)
    with (
        only_run(tmp_path),
        pytest.raises(UsageError, match="is another run's"),
        only_run(tmp_path, Shard(1, 2)),
    ):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_running_shard_is_told_with_its_process(tmp_path: Path) -> None:
    process = holding(tmp_path, "1/2")
    try:
        write(tmp_path, "2/2")
        with pytest.raises(UsageError, match="another run's|in the works"):
            write(tmp_path)
        state = {"run": {"process": process.pid, "host": "far", "since": 0}}
        (tmp_path / ".shards/1-of-2.state").write_text(json.dumps(state))
        with pytest.raises(UsageError, match=rf"in the works at shard 1 of 2 \(process {process.pid} on far"):
            merge(tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    write(tmp_path, "1/2")  # its lock went with the process
    assert merge(tmp_path) == {"done": 40}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("also_whole", [False, True])
def test_many_begin_and_end_at_once(also_whole: bool, tmp_path: Path) -> None:
    """Shards never stop each other, and never run beside a whole run."""
    inside, wrong = {"shards": 0, "whole": 0}, []
    guard, began = threading.Lock(), [0]

    def runs(shard: Shard | None) -> None:
        kind = "whole" if shard is None else "shards"
        for _ in range(30):
            with suppress(UsageError), only_run(tmp_path, shard), beginning(tmp_path, shard):
                with guard:
                    inside[kind] += 1
                    began[0] += 1
                    if inside["whole"] + bool(inside["shards"]) > 1:
                        wrong.append(dict(inside))
                with guard:
                    inside[kind] -= 1

    shards: list[Shard | None] = [Shard(index, 4) for index in range(1, 5)]
    threads = [threading.Thread(target=runs, args=(each,)) for each in [*shards, *[None] * also_whole]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert began == [120] or (also_whole and began[0] > 0)


@pytest.mark.parametrize("step", ["join_manifests", "forget_shards", "check_files"])
def test_a_merge_that_is_killed_can_be_run_again(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "whole")
    for index in (1, 2):
        write(tmp_path / "out", f"{index}/2")
    module = sys.modules[merge.__module__]
    real = getattr(module, step)

    def killed(*arguments: object) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, killed)
        with pytest.raises(KeyboardInterrupt):
            merge(tmp_path / "out")
    assert merge(tmp_path / "out") == {"done": 40}
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"ended": 1}', '{"ended": {"kind": "codes"}}'])
def test_states_that_are_damaged_are_told(tmp_path: Path, content: str) -> None:
    write(tmp_path, "1/1")
    (tmp_path / ".shards/1-of-1.state").write_text(content)
    with pytest.raises(UsageError, match=r"\.state"):
        merge(tmp_path)


def test_where_there_is_nothing_to_merge(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        folders_to_merge(tmp_path / "no")
    with pytest.raises(UsageError, match="holds no shards"):
        folders_to_merge(tmp_path)
    for name in ("a", "b"):
        write(tmp_path / name, "1/1")
    assert folders_to_merge(tmp_path) == [tmp_path / "a", tmp_path / "b"]


def test_a_folder_of_strangers_asks_for_no_memory(tmp_path: Path) -> None:
    """Of names that say impossible numbers no shards are made."""
    (tmp_path / ".shards").mkdir()
    for name in ("1-of-99999999999999999999", "0-of-0", "9-of-2", "1-of-999999"):
        (tmp_path / f".shards/{name}.state").write_text("{}")
    assert shards_in(tmp_path) == []
