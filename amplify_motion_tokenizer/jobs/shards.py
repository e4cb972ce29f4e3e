"""Shards: N runs that share the clips of an input, and write side by side into one output folder.

Until they are merged, the hidden folder ``.shards`` of the output folder holds what is each shard's own::

    3-of-8.lock     is locked while the shard runs
    3-of-8.state    JSON: who runs it and since when; once it has ended, what ``merge`` is to know of it
    3-of-8.jsonl    its manifest
    begin.lock      is locked while a shard begins, one after the other
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.file_names import MANIFEST, SHARDS, is_clip_name
from amplify_motion_tokenizer.files import discard_folder, read_json, write_json, write_text
from amplify_motion_tokenizer.jobs.manifest import Manifest, read_manifest

MOST_SHARDS = 100_000

_NAME = re.compile(r"(\d{1,6})-of-(\d{1,6})\.(?:state|jsonl)")


@dataclass(frozen=True)
class Shard:
    """One of ``of`` shares of the clips of an input."""

    index: int
    """Which one, counted from 1."""
    of: int
    """How many shares there are."""

    def holds(self, clip: str) -> bool:
        """Whether the clip of that name is in the share, which its name and ``of`` alone decide.

        So a clip that is added to the input moves no other clip into another share. Shares differ in size by
        chance: of 10,000 clips in 8 shares by some 3 %.
        """
        digest = hashlib.sha256(clip.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def file(self, output: Path, ending: str) -> Path:
        """The shard's file of that ending in ``.shards`` of the output folder."""
        return output / SHARDS / f"{self.index}-of-{self.of}{ending}"


def parse_shard(text: str) -> Shard:
    """The shard that ``I/N`` names.

    Raises:
        UsageError: it names none.
    """
    match = re.fullmatch(r"\s*(\d{1,9})/(\d{1,9})\s*", text)
    shard = Shard(int(match[1]), int(match[2])) if match else Shard(0, 0)
    if not 1 <= shard.index <= shard.of <= MOST_SHARDS:
        raise UsageError(
            f"--shard {text!r:.40}: expected I/N with I from 1 to N, as 3/8; in a Slurm array of "
            "--array=1-8 give $SLURM_ARRAY_TASK_ID/8"
        )
    return shard


def shards_in(output: Path) -> list[Shard]:
    """The shards of ``output`` that have begun and are not merged, in order; mostly none."""
    folder = output / SHARDS
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read ({error.strerror}); mend or remove it") from None
    found = {(int(match[2]), int(match[1])) for match in map(_NAME.fullmatch, names) if match}
    return [Shard(index, of) for of, index in sorted(found) if 1 <= index <= of <= MOST_SHARDS]


def check_merged(folder: Path) -> None:
    """Refuses to read a folder whose shards are not merged, as some of its clips may be missing.

    Raises:
        UsageError: names the folder, its shards and what to do.
    """
    shards = shards_in(folder)
    if shards:
        raise UsageError(
            f"{folder} holds {in_words(shards)}, not merged yet; run merge {folder} when all have ended"
        )


def in_words(shards: Iterable[Shard]) -> str:
    """Which shards: shards 1, 2 and 5 of 8."""
    several = list(shards)
    numbers = [str(shard.index) for shard in several]
    told = ", ".join(numbers[:8]) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"{'shards' if len(numbers) > 1 else 'shard'} {told} of {several[0].of}"


def check_number(output: Path, shard: Shard) -> None:
    """Refuses a shard of another number of shares than the shards that are not merged.

    Raises:
        UsageError: names them and what to do.
    """
    others = [other for other in shards_in(output) if other.of != shard.of]
    if others:
        raise UsageError(
            f"{output} holds {in_words(others)}, not merged yet, and --shard is {shard}; give --shard "
            f"I/{others[0].of}, merge them first, or run once without --shard, which takes in what they did"
        )


def manifest_of(output: Path, shard: Shard | None) -> Manifest:
    """The manifest of a run over the clips of ``shard``, or over all clips, which takes in that of shards.

    The caller has the folder, or the shard, to itself.

    Raises:
        UsageError: a manifest cannot be read or written.
    """
    if shard is None:
        if (output / SHARDS).is_dir():
            join_manifests(output)
            forget_shards(output)
        return Manifest(output / MANIFEST)
    write_json(shard.file(output, ".state"), {"run": owner()})
    path = shard.file(output, ".jsonl")
    if not path.exists() and (output / MANIFEST).exists():
        before = read_manifest(output / MANIFEST)
        lines = (json.dumps(record, allow_nan=False) for clip, record in before.items() if shard.holds(clip))
        write_text(path, "".join(f"{line}\n" for line in lines))
    return Manifest(path)


def owner() -> dict[str, Any]:
    """What tells this process to people."""
    return {"process": os.getpid(), "host": socket.gethostname(), "since": time.time()}


def listing_of(clips: Iterable[str]) -> dict[str, Any]:
    """Tells whether the shards saw the same clips in the input: how many, and SHA-256 of their names."""
    names = sorted(clips)
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()
    return {"clips": len(names), "names": digest}


def finish_shard(output: Path, shard: Shard, facts: Mapping[str, Any]) -> None:
    """Records that a shard's run has seen all its clips.

    Args:
        output: the output folder.
        shard: which one.
        facts: what ``merge`` is to know, as plain values: ``kind``, what the folder holds; ``input``, as
            ``listing_of`` gives it; ``settings``, a text that outputs of equal settings have in common.
    """
    write_json(shard.file(output, ".state"), {"run": owner(), "ended": dict(facts)})


def ended_shards(output: Path) -> dict[Shard, dict[str, Any]]:
    """All shards of ``output`` with their facts, once they are whole and fit together.

    Raises:
        UsageError: one is missing or has not ended, they differ in settings or input, a file that a manifest
            names is missing, or the folder holds shards of several numbers.
    """
    shards = shards_in(output)
    if len({shard.of for shard in shards}) > 1:
        raise UsageError(f"{output / SHARDS} holds shards of several numbers; remove all but those of one")
    wanted = [Shard(index, shards[0].of) for index in range(1, shards[0].of + 1)]
    there = set(shards)
    missing = [shard for shard in wanted if shard not in there]
    if missing:
        raise UsageError(f"{output}: {in_words(missing)} never ran; run --shard {missing[0]}, then merge")
    facts = {shard: _facts(output, shard) for shard in wanted}
    unfinished = [shard for shard, found in facts.items() if found is None]
    if unfinished:
        raise UsageError(
            f"{output}: {in_words(unfinished)} did not end; run it again with --shard {unfinished[0]}, which "
            "goes on, then merge"
        )
    ended = {shard: found for shard, found in facts.items() if found is not None}
    _check_alike(output, ended)
    return ended


def _facts(output: Path, shard: Shard) -> dict[str, Any] | None:
    path = shard.file(output, ".state")
    if not (path.is_file() and shard.file(output, ".jsonl").is_file()):
        return None
    found = read_json(path).get("ended")
    if found is None:
        return None
    keys = {"kind": str, "settings": str, "input": dict}
    if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in keys.items()):
        raise UsageError(f"{path}: is damaged; run --shard {shard} again, then merge")
    return found


def _check_alike(output: Path, ended: Mapping[Shard, Mapping[str, Any]]) -> None:
    first, reference = next(iter(ended.items()))
    for shard, facts in ended.items():
        if (facts["kind"], facts["settings"]) != (reference["kind"], reference["settings"]):
            raise UsageError(
                f"{output}: shards {first} and {shard} were made with different settings or formats; run one "
                "again as the other (--overwrite where it says so), then merge"
            )
        if facts["input"] != reference["input"]:
            counts = [each["input"].get("clips") for each in (reference, facts)]
            raise UsageError(
                f"{output}: the input changed between the shards, as {first} found {counts[0]} clips there "
                f"and {shard} {counts[1]}, or others; run all shards again, which skips what is done, then "
                "merge"
            )


def check_files(output: Path, shards: Iterable[Shard]) -> None:
    """Checks that every file is there that the shards' manifests tell as done.

    Raises:
        UsageError: one is missing; names it and its shard.
    """
    for shard in shards:
        for clip, record in read_manifest(shard.file(output, ".jsonl")).items():
            made = record.get("output")
            named = record.get("status") != "failed" and isinstance(made, str) and is_clip_name(made)
            if named and not os.path.exists(output / str(made)):
                raise UsageError(
                    f"{output / str(made)}: is missing, and shard {shard} did {clip}; run --shard {shard} "
                    "again, which makes it, then merge"
                )


def join_manifests(output: Path) -> Manifest:
    """Writes one manifest of all that is there, the shards' records before older ones; repeatable."""
    manifest = Manifest(output / MANIFEST)
    for shard in shards_in(output):
        manifest.records.update(read_manifest(shard.file(output, ".jsonl")))
    manifest.compact()
    return manifest


def forget_shards(output: Path) -> None:
    """Removes what was each shard's own, all at once, when it stands elsewhere."""
    discard_folder(output / SHARDS)
