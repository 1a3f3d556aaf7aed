"""Folders for what is unpacked on the way, one a run. Those that killed runs left behind are removed by the next one.

Knows nothing about what is in them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rag.errors import IngestError


@contextmanager
def leased(folder: Path) -> Iterator[None]:
    """Hold the name of a run's folder, beside those of other runs, and remove the folder when the run ends.

    Raises:
        IngestError: the place where such folders are cannot be written.
    """
    try:
        held = _taken(folder)
    except OSError as error:
        raise IngestError(
            f"{folder.parent} cannot be used: {error.strerror or error}; check the disk and the folder's rights"
        ) from error
    try:
        yield
    finally:
        _remove(folder)
        held.release()


def _taken(folder: Path) -> FileLock:
    root = folder.parent
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_suffix(".lock")):  # so that nobody finds the new lock before it is held
        for lock in root.glob("*.lock"):
            _sweep(lock)
        held = _lock(folder)
        held.acquire()
    return held


def _sweep(lock: Path) -> None:
    """Remove the folder of a lock, unless it is held: a lock ends with its process, however that ends."""
    left = _lock(lock.with_suffix(""))
    try:
        left.acquire()
    except Timeout:
        return
    _remove(lock.with_suffix(""))
    left.release()


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_suffix(".lock"), timeout=0, thread_local=False)


def _remove(folder: Path) -> None:
    """Remove a folder, then the lock by which it would be found."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        folder.with_suffix(".lock").unlink(missing_ok=True)
