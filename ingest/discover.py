"""Paths -> files, in a fixed order, with what tells a changed file from an unchanged one.

Knows nothing about formats: a file in a folder is yielded whether it can be read or not, so that nothing is
dropped without a word. Left out inside folders are hidden names, and what editors leave beside a file.
"""

from __future__ import annotations

import hashlib
import os
import stat
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rag.errors import IngestError, ParseError

_NAMESPACE = uuid.UUID("0d5a3b52-8d0c-5d3b-8a57-6f3f4f1f3c19")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A file that was seen; size 0 and time 0 where it could not be looked at, which reading it will explain."""

    path: Path
    """Absolute, symbolic links as they were met."""
    size: int
    """Bytes."""
    mtime_ns: int


def discover(paths: Sequence[Path]) -> Iterator[Found]:
    """Files given, and all files below folders given, sorted by name in each folder; none twice.

    Files given by name are always taken. Symbolic links are followed, those to folders
    last; a folder is entered once.

    Raises:
        IngestError: a path does not exist. Raised before the first file is yielded.
    """
    roots = [absolute(path) for path in paths]
    for root in roots:
        if not os.path.lexists(root):
            raise IngestError(f"no such file or folder: {root}")
    return _walk(roots)


def _walk(roots: Sequence[Path]) -> Iterator[Found]:
    seen: set[Path] = set()
    entered: set[tuple[int, int]] = set()
    stack, links = list(reversed(roots)), deque[Path]()
    while stack or links:
        late = not stack
        path = links.popleft() if late else stack.pop()
        status = _status(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            if path.is_symlink() and not late and path not in roots:
                links.append(path)  # a folder goes by its own name, if it can be reached by it
                continue
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            below = _listing(path)
            if below is not None:
                stack.extend(reversed(below))
                continue
        if path not in seen:
            seen.add(path)
            yield Found(path, status.st_size, status.st_mtime_ns) if status else Found(path, 0, 0)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _listing(folder: Path) -> list[Path] | None:
    """What a folder holds, sorted; None where it may not be listed: then the folder itself is reported."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are enough, and sort by their bytes
    except OSError:
        return None
    return [folder / name for name in sorted(names) if not is_left_out(name)]


def is_left_out(name: str) -> bool:
    """Hidden files and folders, editors' backups and swap files, Office's lock files."""
    return name.startswith((".", "~$")) or name.endswith(("~", ".swp", ".swo"))


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content, read in pieces.

    Raises:
        ParseError: why it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ParseError("cannot be read: it is not a regular file, or a folder that may not be listed")
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise ParseError(f"cannot be read: {error.strerror or error}; check that it is there and its rights") from error
    return digest.hexdigest()


def day_of(mtime_ns: int) -> str:
    """The ISO day of a file's time, as people on this machine see it; empty for 0, which is no time."""
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9).date().isoformat() if mtime_ns else ""
    except (ValueError, OverflowError, OSError):  # a file system may say anything
        return ""


def doc_id_of(path: Path) -> str:
    """UUID of a document, the same for the same absolute path on every machine and in every run."""
    digest = hashlib.sha1(_NAMESPACE.bytes + os.fsencode(absolute(path)), usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def absolute(path: Path) -> Path:
    """Absolute path without `..`; symbolic links stay, so that a document keeps the name it was given."""
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - Path.absolute keeps `..`


def plain(text: str) -> str:
    """A file name as text that JSON, SQLite and a terminal can take: bytes that are no UTF-8 are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
