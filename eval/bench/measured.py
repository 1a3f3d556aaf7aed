"""A piece of work in a process of its own: how long it takes, its processor time, and the memory of all its processes.

Knows nothing about what the work is.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import psutil

from rag.errors import BenchError, FootnoteError

SAMPLE = 0.25
"""Seconds between two looks at the memory."""
PSS_EVERY = 4
"""Looks between two at the proportional memory, which takes the kernel longer to add up."""
TELL = 30.0
"""Seconds between two words about how far it is."""


class Side(Protocol):
    """One side of a comparison. It is made in its process; what is loaded while it is made is not timed."""

    def work(self) -> None:
        """What is timed."""

    def facts(self) -> dict[str, Any]:
        """What came of it; asked afterwards, and not timed."""


class Timing(NamedTuple):
    """How long the work took, and what it cost the processor, in seconds; processes it started are in it."""

    seconds: float
    cpu_seconds: float


class Measured(NamedTuple):
    """The work's cost. Memory is in bytes, the most that all its processes held together."""

    timing: Timing
    peak_rss: int
    peak_pss: int | None
    """As the peak, with shared pages counted once; None where the system does not tell."""
    facts: dict[str, Any]


class _Failed(NamedTuple):
    reason: str


def measure(name: str, make: Callable[..., Side], *arguments: Any, tell: Callable[[str], None]) -> Measured:
    """Make a side in a fresh process, have it work, and watch it.

    Args:
        name: what it is called where it fails or tells how far it is.
        make: makes the side; can be pickled, as must the arguments.
        arguments: for `make`.
        tell: told every few seconds how long it has worked and what it holds.

    Raises:
        BenchError: the side raised an error or its process ended.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, make, arguments), name=f"footnote-bench-{name}")
    process.start()
    theirs.close()
    try:
        _received(name, ours)  # it has loaded what it needs
        watch = _Watch(name, psutil.Process(process.pid), tell)
        while not ours.poll(SAMPLE):
            watch.look()
        timing = _received(name, ours)
        return Measured(timing, watch.rss, watch.pss, _received(name, ours))
    finally:
        process.kill()
        process.join()
        ours.close()


def _received(name: str, connection: Connection) -> Any:
    try:
        message = connection.recv()
    except EOFError:
        raise BenchError(f"{name}: its process was killed; free some memory, or measure fewer files") from None
    if isinstance(message, _Failed):
        raise BenchError(f"{name}: {message.reason}")
    return message


class _Watch:
    """The most memory that a process and those below it have held together, as far as looks can tell."""

    def __init__(self, name: str, root: psutil.Process, tell: Callable[[str], None]) -> None:
        self._name, self._root, self._tell = name, root, tell
        self.rss, self.pss, self._looks = 0, None, 0  # type: int, int | None, int
        self._began = self._told = time.monotonic()
        self.look()

    def look(self) -> None:
        """Add all processes' memory up."""
        processes = _tree(self._root)
        held = sum(_held(process) for process in processes)
        self.rss = max(self.rss, held)
        if self._looks % PSS_EVERY == 0:
            shares = [_share(process) for process in processes]
            known = [share for share in shares if share is not None]
            self.pss = max(self.pss or 0, sum(known)) if known else self.pss
        self._looks += 1
        now = time.monotonic()
        if now - self._told >= TELL:
            self._told = now
            self._tell(f"{self._name}: {now - self._began:.0f} s, {held >> 20} MB")


def _tree(root: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [root, *root.children(recursive=True)]
    return [root]


def _held(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _share(process: psutil.Process) -> int | None:
    """Memory of a process with shared pages divided among those that share them; only Linux tells."""
    with suppress(psutil.Error):
        found = getattr(process.memory_full_info(), "pss", None)
        return None if found is None else int(found)
    return None


def _run(connection: Connection, make: Callable[..., Side], arguments: tuple[Any, ...]) -> None:
    """The whole life of the process."""
    _settle()
    try:
        side = make(*arguments)
        connection.send("ready")
        started, cpu = time.perf_counter(), _cpu_seconds()
        side.work()
        connection.send(Timing(time.perf_counter() - started, _cpu_seconds() - cpu))
        connection.send(side.facts())
    except FootnoteError as error:
        connection.send(_Failed(str(error)))
    except Exception as error:
        connection.send(_Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
        raise


def _settle() -> None:
    """Silence, since libraries print while they work and stdout is for results; and an end with the parent's."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, see prctl(2)


def _cpu_seconds() -> float:
    """Of this process and of all that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
