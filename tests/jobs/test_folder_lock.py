"""An output folder belongs to one run at a time, and a run that was killed holds none."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.jobs import folder_lock
from amplify_motion_tokenizer.jobs.folder_lock import only_run
from tests.support.render_clips import numbered_frames, write_clip
from tests.support.run_scripts import PREPROCESS, REPO, Run, manifest_of

HOLD = """
import sys, time
from pathlib import Path
from amplify_motion_tokenizer.jobs.folder_lock import only_run
with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holding(folder: Path) -> subprocess.Popen[str]:
    """A process of its own that has ``folder``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True, cwd=REPO
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_and_told_who_has_the_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in/clip.mp4", numbered_frames(18, texture_seed=1), 20)
    output = tmp_path / "out"
    output.mkdir()
    line = (PREPROCESS, "--input", tmp_path / "in", "--output", output)
    process = holding(output)
    try:
        result = run(*line)
        assert result.status == 2
        assert f"{output} is another run's (process {process.pid} on " in result.err
        assert {path.name for path in output.iterdir()} == {".lock", ".lock.owner"}
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(*line).status == 0  # the lock went with the process, whatever it left
    assert manifest_of(output)["clip"]["status"] == "done"
    assert not [path for path in output.iterdir() if path.name.startswith(".")]


def test_one_after_another_have_it(tmp_path: Path) -> None:
    """Ending and beginning at the same time, never two have the folder at once."""
    inside, most, refused = [0], [0], [0]

    def runs() -> None:
        for _ in range(40):
            try:
                with only_run(tmp_path):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    inside[0] -= 1
            except UsageError:
                refused[0] += 1

    threads = [threading.Thread(target=runs) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and refused[0] < 160
    assert not list(tmp_path.iterdir())


def test_owners_that_cannot_be_read_are_told_as_such(tmp_path: Path) -> None:
    for content in ("", "[]", json.dumps({"process": 1})):
        with only_run(tmp_path):
            (tmp_path / ".lock.owner").write_text(content, encoding="utf-8")
            with pytest.raises(UsageError, match="which does not say its process"), only_run(tmp_path):
                pass


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class NoLock:
        def __init__(self, path: Path) -> None:
            self.path = path

        def acquire(self, timeout: float) -> None:
            raise OSError(os.strerror(37))

    monkeypatch.setattr(folder_lock, "FileLock", NoLock)
    with only_run(tmp_path):
        pass
    assert "cannot be locked" in caplog.text and "one run at a time" in caplog.text
