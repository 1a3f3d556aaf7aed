"""One process at a time in a directory: a lock that dies with its holder, and a note that says who holds it.

Knows nothing about Qdrant or what is in the directory.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.errors import StoreLocked

if TYPE_CHECKING:
    from filelock import BaseFileLock

NOTE = "owner.json"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a directory."""

    pid: int
    url: str
    """Where it serves people; empty where it doesn't."""
    command: str
    token: str = field(default="", repr=False)
    """Lets another process of the same user hand work to it there; empty where it takes none."""


class DirectoryLock:
    """Held from `take` to `release`, or until the process ends, however it ends."""

    def __init__(self, directory: Path, held: BaseFileLock, owner: Owner) -> None:
        """Use `take`."""
        self._directory = directory
        self._held = held
        self.owner = owner

    @classmethod
    def take(cls, directory: Path, url: str = "", token: str = "") -> DirectoryLock:
        """Make the directory where missing and take its lock, without waiting.

        Args:
            directory: what to hold.
            url: where this process serves people.
            token: a secret that lets others of this user hand it work; told to nobody else.

        Raises:
            StoreLocked: another process has it; names that process.
            OSError: the directory cannot be written.
        """
        from filelock import FileLock, Timeout

        directory.mkdir(parents=True, exist_ok=True)
        held = FileLock(directory / "lock", timeout=0, thread_local=False)
        try:
            held.acquire()
        except Timeout:
            raise locked(directory) from None
        lock = cls(directory, held, Owner(os.getpid(), url, _command(), token))
        try:
            write_json(directory / NOTE, asdict(lock.owner), mode=0o600)
        except BaseException:
            lock.release()
            raise
        return lock

    def release(self) -> None:
        """Let the directory go."""
        with suppress(OSError):  # the lock alone decides: a stale note only names a process that is gone
            (self._directory / NOTE).unlink(missing_ok=True)
        self._held.release()


def owner_of(directory: Path) -> Owner | None:
    """The living process that holds the directory, as far as it left word."""
    import psutil

    try:
        owner = Owner(**json.loads((directory / NOTE).read_text(encoding="utf-8")))
        return owner if psutil.pid_exists(owner.pid) else None
    except (OSError, ValueError, TypeError):
        return None


def locked(directory: Path) -> StoreLocked:
    """The error for a directory that is in use."""
    owner = owner_of(directory)
    who, remedy = "another process", "wait until it ends, or stop it, and try again"
    if owner is not None:
        who = f"process {owner.pid} ({owner.command})"
        if owner.url:
            who, remedy = f"{who}, which serves {owner.url}", f"use {owner.url}, or stop that process and try again"
    return StoreLocked(f"the index in {directory} is in use by {who}; {remedy}", owner)


def write_json(path: Path, value: Any, mode: int = 0o666) -> None:
    """Write to a temporary name, then rename: a reader sees all of it or none, after a crash too.

    `mode` says who may read it, less what the umask takes away.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)  # one that a killed process left behind has the mode of its time
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Put a directory's entries on disk, where the system can (Windows cannot)."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _command() -> str:
    """How this process was started, short enough for a message."""
    return textwrap.shorten(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), 80, placeholder=" ...")
