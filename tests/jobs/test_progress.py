"""What a user sees of a long loop: on a terminal, in a file, and with --quiet."""

import fcntl
import io
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.jobs import progress as module
from amplify_motion_tokenizer.jobs.progress import Progress
from tests.support.run_scripts import ENVIRONMENT, TRAIN, Run, command, write_config

BAR = re.compile(r"\d+%\|")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def test_without_a_terminal_there_is_a_plain_line_every_30_seconds(
    clock: Clock, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    with Progress(50, "clip", label="validation", initial=10) as progress:
        for _ in progress.each(range(20)):
            clock.now += 4
            progress.note("loss=0.5")
    # 8 clips are done after 32 s, 16 after 64; each takes 4 s.
    assert caplog.messages == [
        "validation: 18 of 50 clips, 0.25 a second, 02:08 left; loss=0.5",
        "validation: 26 of 50 clips, 0.25 a second, 01:36 left; loss=0.5",
    ]
    captured = capfd.readouterr()
    assert "\r" not in captured.err + captured.out


@pytest.mark.parametrize(("level", "shown"), [(logging.WARNING, True), (logging.INFO, False)])
def test_progress_is_silent_where_information_is(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, level: int, shown: bool
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    caplog.set_level(level)
    with Progress(3, "clip", shown=shown) as progress:
        for _ in progress.each(range(3)):
            clock.now += 100
    assert not caplog.messages and not terminal.getvalue()


def test_an_error_ends_the_bars_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    caplog.set_level(logging.INFO)
    with pytest.raises(ValueError, match="mine"), Progress(3, "clip") as progress:
        for _ in progress.each(range(3)):
            raise ValueError("mine")
    assert BAR.search(terminal.getvalue()) and terminal.getvalue().endswith("\n")


def on_a_terminal(line: list[str]) -> str:
    """All that a command writes to its terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    environment = {**os.environ, **ENVIRONMENT}
    process = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    try:
        while block := os.read(ours, 1 << 16):
            written += block
    except OSError:
        pass  # how Linux tells that the other end is closed
    finally:
        os.close(ours)
    assert process.wait(timeout=60) == 0, written.decode()
    return written.decode().replace("\x1b[A", "")  # up a line, from one bar to another


@pytest.fixture
def training(run_config: Config, tmp_path: Path) -> list[object]:
    """Arguments of a training of two epochs of six steps."""
    config = write_config(tmp_path / "tiny.yaml")
    return ["--config", config, "--input", tmp_path / "tracks", "--output", tmp_path / "run"]


def test_on_a_terminal_log_lines_stand_apart_from_the_bar(training: list[object]) -> None:
    shown = on_a_terminal(command(TRAIN, *training))
    parts = re.split(r"[\r\n]+", shown)
    assert any(BAR.search(part) for part in parts)
    logged = [part for part in parts if "INFO: " in part]
    assert any("epoch 2 val: loss" in part for part in logged)
    assert all(part.startswith("INFO: ") and not BAR.search(part) for part in logged)


def test_a_file_gets_lines(run: Run, training: list[object], tmp_path: Path) -> None:
    """Of training, whose steps take milliseconds, at an interval to match."""
    script = tmp_path / "often.py"
    script.write_text(
        "from amplify_motion_tokenizer.jobs import progress\n"
        "progress.LINE_EVERY_S = 1e-6\n"
        "from amplify_motion_tokenizer.commands import cli\n"
        "cli.run('train')\n",
        encoding="utf-8",
    )
    told = run(script, *training).err
    assert "\r" not in told and not BAR.search(told)
    assert re.search(r"^INFO: 2 of \d+ steps, \S+ a second, 00:\d\d left; loss=", told, re.MULTILINE)
    assert re.search(r"^INFO: validation: 1 of \d+ steps, ", told, re.MULTILINE)


def test_quiet_leaves_the_result(run: Run, training: list[object], tmp_path: Path) -> None:
    result = run(TRAIN, *training, "--quiet")
    assert (result.status, result.err) == (0, "")
    assert re.fullmatch(
        rf"best checkpoint: {tmp_path}/run/best\.pth \(step \d+, epoch [12]\): val/loss \d+\.\d{{4}}\n",
        result.out,
    )
