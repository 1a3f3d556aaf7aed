"""Which directory is the index: its names, its record, and how another takes its place.

    DIRECTORY/index/             the index: meta.json and shard/
    DIRECTORY/index.new/         one that is being made
    DIRECTORY/index.optimizing/  a copy that is being optimized
    DIRECTORY/index.next/        a complete one that takes the place of index/: there only between two renames
    DIRECTORY/index.old/         the one whose place it took: being removed
    DIRECTORY/beside/            a directory of the same kind, for an index that is built beside this one

A process may be killed between any two steps: index.next/ appears by one rename of a complete index, and whoever
opens the directory next finishes what was begun. Knows nothing about Qdrant or what is in a shard.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from rag.errors import StoreError
from rag.store.lock import sync, write_json

META = "meta.json"


def index(directory: Path) -> Path:
    """Where the index is while the directory is held."""
    return directory / "index"


def new(directory: Path) -> Path:
    """Where an index is made."""
    return directory / "index.new"


def optimizing(directory: Path) -> Path:
    """Where a copy is optimized."""
    return directory / "index.optimizing"


def beside(directory: Path) -> Path:
    """The directory of the index that is built beside this one."""
    return directory / "beside"


def exists(directory: Path) -> bool:
    """Whether there is an index to open. Touches nothing."""
    return any((each / META).is_file() for each in (_next(directory), index(directory)))


def read(directory: Path) -> dict[str, Any] | None:
    """The record of the index that opening the directory would open, None where there is none. Touches nothing.

    Raises:
        StoreError: it is damaged.
    """
    chosen = next((each for each in (_next(directory), index(directory)) if each.exists()), None)
    if chosen is None:
        return None
    try:
        return dict(json.loads((chosen / META).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"the index in {directory} is damaged ({META}: {error!r}); remove that directory and ingest again"
        ) from error


def complete(directory: Path, record: dict[str, Any]) -> None:
    """Write the record of the index that was made, as its last part, and give it its name."""
    write_json(new(directory) / META, record)
    new(directory).rename(index(directory))
    sync(directory)


def replace(directory: Path, by: Path) -> None:
    """Make `by`, which is complete, the directory's index. Call with the directory held and neither index open."""
    sync_all(by)
    by.rename(_next(directory))
    sync(directory)
    _finish(directory)


def recover(directory: Path) -> None:
    """Finish a replacement that was cut short, and remove what nobody will ask for. Call with the directory held."""
    _finish(directory)
    tidy(directory)


def tidy(directory: Path) -> None:
    """Remove what is no index, or none any more. Call with the directory held."""
    for leftover in (new(directory), optimizing(directory), _old(directory)):
        remove(leftover)


def discard(directory: Path) -> None:
    """Remove the directory's index. Call with the directory held and the index closed."""
    recover(directory)
    if index(directory).exists():
        index(directory).rename(_old(directory))  # at one blow, so that no half of it is ever opened
        tidy(directory)


def copy(source: Path, target: Path) -> None:
    """Copy an index that nobody writes to.

    Raises:
        OSError: there is not enough room for the copy and for what is made of it, or it cannot be written.
    """
    need_room(source, 2 * size(source))
    remove(target)
    shutil.copytree(source, target)


def need_room(path: Path, needed: int) -> None:
    """Raises OSError where the disk of `path` has not that many bytes free."""
    free = shutil.disk_usage(path).free
    if free < needed:
        raise OSError(f"{free / 1e6:,.0f} MB of disk space are free, {needed / 1e6:,.0f} MB are needed for a while")


def size(path: Path) -> int:
    """Bytes in the files of a directory and of all that are in it."""
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def sync_all(path: Path) -> None:
    """Put a directory on disk with all that is in it."""
    for each in path.rglob("*"):
        if each.is_dir():
            sync(each)
        else:
            with each.open("rb") as file:
                os.fsync(file.fileno())
    sync(path)


def remove(path: Path) -> None:
    """Remove a directory, if it is there. Raises OSError."""
    if path.exists():
        shutil.rmtree(path)


def _finish(directory: Path) -> None:
    if not _next(directory).exists():
        return
    remove(_old(directory))
    if index(directory).exists():
        index(directory).rename(_old(directory))
    _next(directory).rename(index(directory))
    sync(directory)


def _next(directory: Path) -> Path:
    return directory / "index.next"


def _old(directory: Path) -> Path:
    return directory / "index.old"
