"""Dataset strings such as ``libero_10:traj0.9``, and the demos of each task that they select."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from amplify_motion_tokenizer.config.dataset_string import parse_dataset
from amplify_motion_tokenizer.errors import TrackFileError
from amplify_motion_tokenizer.video.input_files import natural_key


def select_demos(names: Iterable[str], dataset: str) -> list[str]:
    """The clips of ``dataset`` among ``names``, that share of each task's, tasks and demos in natural order.

    ``traj0.9`` and ``traj-0.1`` share no demo and leave none out.

    Args:
        names: clips by their path below the track folder: ``<dataset>/.../<task>/<demo>``.
        dataset: as ``parse_dataset`` takes it.

    Raises:
        ConfigError: as ``parse_dataset``.
        TrackFileError: no clip lies in a folder of that name, or the share is less than half a demo.
    """
    wanted, _, fraction = parse_dataset(dataset)
    tasks: dict[str, list[str]] = defaultdict(list)
    folders = set()
    for name in names:
        folders.add(name.split("/")[0] if "/" in name else ".")
        if name.startswith(f"{wanted}/"):
            tasks[name.rpartition("/")[0]].append(name)
    if not tasks:
        raise TrackFileError(
            f"data.dataset = {dataset!r}: the track folder holds no folder {wanted}; it holds "
            f"{', '.join(sorted(folders))}"
        )
    chosen = [name for task in sorted(tasks, key=natural_key) for name in _share(tasks[task], fraction)]
    if not chosen:
        raise TrackFileError(
            f"data.dataset = {dataset!r} selects no demo, as no task has more than "
            f"{max(map(len, tasks.values()))}; take a larger fraction"
        )
    return chosen


def _share(demos: list[str], fraction: float) -> list[str]:
    ordered = sorted(demos, key=natural_key)
    # A share from the end is what the complement from the start leaves, so that the two partition.
    from_start = fraction if fraction > 0 else 1 + fraction
    # Rounded first, as 1 - 0.9 is a little less than 0.1 and would lose a demo at a half.
    count = int(round(from_start * len(ordered), 6) + 0.5)
    return ordered[:count] if fraction > 0 else ordered[count:]
