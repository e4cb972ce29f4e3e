"""Reads Parquet files that others wrote: what is none, or would fill the memory, is a DamagedError."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.damaged_files import DamagedError

_ROOM = 2**22
"""Values that a file of any size may hold."""
_MOST_UNFOLDED = 64
"""Values for each of its bytes that a larger file may hold; a column of one value packs to almost nothing."""

Choice = Callable[[Any], Sequence[str]]
"""Names of the columns to read, of a file's ``pyarrow.Schema``."""


def read_table(path: Path, chosen: Choice | None = None) -> Any:
    """The ``pyarrow.Table`` in a file.

    Args:
        path: the file.
        chosen: which columns to read; None: all.

    Raises:
        DamagedError: it is damaged, no Parquet, lacks a column, or holds far more values than bytes.
        OSError: it cannot be read.
    """
    with damage_told():
        import pyarrow.parquet as pq

        schema = pq.read_schema(path)
        names = list(schema.names if chosen is None else chosen(schema))
        missing = [name for name in names if name not in schema.names]
        if missing:
            raise DamagedError(f"it has no column {missing[0]}; its columns are {', '.join(schema.names)}")
        check_values(pq.read_metadata(path), path.stat().st_size)
        return pq.read_table(path, columns=names, partitioning=None)


def read_rows(path: Path, chosen: Choice | None = None) -> list[dict[str, Any]]:
    """The rows of a file as plain values; arguments and errors as those of ``read_table``."""
    table = read_table(path, chosen)
    with damage_told():
        rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def check_values(metadata: Any, size: int) -> None:
    """Raises DamagedError where a file of ``size`` bytes holds far more values by its ``FileMetaData``."""
    # Not what the columns say of themselves: pyarrow ends the process where that is damaged.
    values = metadata.num_rows * metadata.num_columns
    most = max(_ROOM, _MOST_UNFOLDED * size)
    if values > most:
        raise DamagedError(f"{size} bytes unfold to {values} values, at most {most} are read")


@contextmanager
def damage_told() -> Iterator[None]:
    """Turns what pyarrow raises of damaged files into a DamagedError of one line.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    import pyarrow as pa

    try:
        yield
    except DamagedError:
        raise
    except (OSError, *_DAMAGE, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DamagedError(f"{reason:.200}") from None


_DAMAGE = (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, RuntimeError)
