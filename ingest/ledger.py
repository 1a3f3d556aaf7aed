"""What the SQLite files of a home share: their errors, told in one line. Knows nothing about what is in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rag.errors import FootnoteError


@contextmanager
def explained(path: Path, what: str, kind: type[FootnoteError], remedy: str) -> Iterator[None]:
    """SQLite's and the system's errors as errors of ours.

    Args:
        path: the file.
        what: what it is, such as `the catalog`.
        kind: the error to raise.
        remedy: what mends a file that is damaged.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        busy = "locked" in str(error) or "busy" in str(error)
        mends = "another process is writing to it, try again" if busy else "check the disk and the folder's rights"
        raise kind(f"{what} {path} cannot be used: {error}; {mends}") from error
    except sqlite3.Error as error:
        raise kind(f"{what} {path} cannot be used: {error}; {remedy}") from error
    except OSError as error:
        raise kind(f"{what} {path} cannot be opened: {error.strerror or error}; check its folder") from error
