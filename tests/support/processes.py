"""Which processes there are, for tests that end some."""

import time
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc/self/task").exists()


def workers_of(pid: int) -> list[int]:
    """The processes that ``pid`` has spawned with multiprocessing to work for it."""
    if not Path(f"/proc/{pid}").exists():
        return []
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def is_running(pid: int) -> bool:
    """Whether ``pid`` is alive; one that has ended but was not yet waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
