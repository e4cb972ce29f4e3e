"""The files of the codes of all clips of a folder, made of the files of single clips when a run is over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amplify_motion_tokenizer.codes.formats import code_format, code_formats
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.reading import with_latents
from amplify_motion_tokenizer.file_names import MANIFEST
from amplify_motion_tokenizer.jobs.manifest import read_manifest


def write_tables(output: Path, run: Mapping[str, Sequence[str]]) -> None:
    """Writes the tables of a folder of codes: what was wanted, and what an earlier run wrote.

    Args:
        output: the folder, whose manifest names the clips.
        run: ``formats``, the names of the formats that were asked for, one at least of a file for each clip;
            ``hashes``, every ``config_hash`` of the run's codes.

    Raises:
        UsageError: a file cannot be read or written.
    """
    clips = _WrittenClips(output, run["formats"], frozenset(run["hashes"]))
    for table in code_formats():
        if table.table and (table.name in run["formats"] or table.file(output, "").is_file()):
            table.write(table.file(output, ""), clips)


@dataclass(frozen=True)
class _WrittenClips:
    """The codes of a run's clips, read from their files each time that they are walked through."""

    output: Path
    formats: Sequence[str]
    hashes: frozenset[str]

    def __iter__(self) -> Iterator[MotionCodes]:
        form = next(each for each in map(code_format, self.formats) if not each.table)
        records = read_manifest(self.output / MANIFEST)
        for name in sorted(name for name, record in records.items() if record.get("status") != "failed"):
            path = form.file(self.output, name)
            if path.is_file() and form.meta(path).get("config_hash") in self.hashes:
                yield from with_latents(form.read(path), self.output)
