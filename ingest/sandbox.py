"""Reads documents in disposable processes, each with a memory and a time limit. One bad file costs that file.

A worker that crashes, hangs, is killed or takes too much is replaced; its document is tried once more, alone in a
fresh process, and then fails. Knows nothing about the catalog, embedding or the store.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from ingest.progress import InHand
from ingest.stages import Batch, Outline, Recipe, Task
from ingest.worker import Beat, Failure, too_much, work
from rag.errors import IngestError
from rag.settings import Settings

FILES = 500
"""A worker is replaced after so many files: what libraries leak goes with it."""
TRIES = 2
_WATCH = 1.0
"""Seconds between two looks at the workers' memory."""
_CRASHED = "the process that read it {how}; {remedy}"
_SAVE_ANEW = "open it in the program that it comes from and save it anew, or leave it out"


class Limits(NamedTuple):
    """What reading one file may take."""

    memory: int
    """Bytes, for the worker and for what it starts, together."""
    seconds: float
    """For one file, or one page of those that take long; a second is added for each MB of the file."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that the settings give."""
        return cls(settings.parse_memory_mb << 20, settings.parse_seconds)

    def time(self, size: int) -> float:
        """Seconds for a file of `size` bytes."""
        return self.seconds + size / (1 << 20)


class Started(NamedTuple):
    """A worker began to read a document. After a first `Started` a second one means: forget what came of the first."""

    doc: str


class Opened(NamedTuple):
    """A document was parsed."""

    doc: str
    outline: Outline


class Chunks(NamedTuple):
    """Some chunks of a document, in order."""

    doc: str
    batch: Batch


class Finished(NamedTuple):
    """All chunks of a document have come."""

    doc: str


class Refused(NamedTuple):
    """A document that cannot be read. No event of it follows."""

    doc: str
    stage: str
    reason: str


Event = Started | Opened | Chunks | Finished | Refused


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    task: Task | None = None
    tries: int = 0
    since: float = 0.0
    """When the file, or its last page, was begun."""
    begun: float = 0.0
    files: int = 0
    beat: Beat = field(default_factory=Beat)
    opened: bool = False


@dataclass(slots=True)
class _Waiting:
    task: Task
    tries: int = 0


@dataclass(slots=True)
class Pool:
    """Workers that read documents. To be used from one thread, except `in_hand` and `peak`."""

    recipe: Recipe
    limits: Limits
    workers: int
    spool: Path
    """Where documents' members are unpacked; a folder for each task, which the caller removes with `forget`."""
    peak: int = 0
    """Most bytes that the workers, and what they started, have held together."""
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _alive: list[_Worker] = field(default_factory=list)
    _looked: float = 0.0
    _left: float = field(default_factory=time.monotonic)

    def submit(self, task: Task) -> None:
        """Queue a document; its events come from `poll`."""
        self._waiting.append(_Waiting(task))

    @property
    def has_room(self) -> bool:
        """True where a document submitted now would soon be read."""
        return len(self._waiting) < self.workers

    @property
    def is_idle(self) -> bool:
        """True where nothing is being read or waits for it."""
        return not self._waiting and all(worker.task is None for worker in self._alive)

    def in_hand(self) -> list[InHand]:
        """What is being read now, the longest first."""
        now = time.monotonic()
        busy = [(worker, worker.task) for worker in list(self._alive)]
        found = [InHand(task.doc, now - worker.begun, *worker.beat) for worker, task in busy if task is not None]
        return sorted(found, key=lambda item: -item.seconds)

    def poll(self, timeout: float) -> list[Event]:
        """Events that have come, waiting up to `timeout` seconds for the first.

        Time between two calls is nobody's: workers wait for the caller meanwhile, and their clocks stand.
        """
        away = time.monotonic() - self._left
        for worker in self._alive:
            worker.since += away
        events = list(self._dispatch())
        ready = set(wait([worker.connection for worker in self._alive if worker.task], 0 if events else timeout))
        for worker in [worker for worker in self._alive if worker.connection in ready]:
            events += self._received(worker)
        events += self._watch()
        self._left = time.monotonic()
        return events

    def forget(self, doc_id: str) -> None:
        """Remove what a document left in the spool."""
        shutil.rmtree(self.spool / doc_id, ignore_errors=True)

    def close(self) -> None:
        """Kill the workers and empty the spool."""
        for worker in self._alive:
            _kill(worker.process)
            worker.connection.close()
        self._alive.clear()
        self._waiting.clear()
        shutil.rmtree(self.spool, ignore_errors=True)

    def _dispatch(self) -> Iterator[Event]:
        """Give waiting documents to idle workers, starting those that are missing."""
        while self._waiting:
            worker = next((worker for worker in self._alive if worker.task is None), None)
            if worker is None and len(self._alive) == self.workers:
                return
            waiting = self._waiting.popleft()
            if worker is not None and (worker.files >= FILES or waiting.tries):
                self._dismiss(worker)
                worker = None
            worker = worker or self._start()
            worker.task, worker.tries, worker.opened = waiting.task, waiting.tries + 1, False
            worker.since = worker.begun = time.monotonic()
            worker.beat, worker.files = Beat(), worker.files + 1
            with suppress(OSError):  # a worker that died while idle: its end is seen in `poll`
                worker.connection.send(waiting.task)
            yield Started(waiting.task.doc)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self.recipe, self.limits.memory, self.spool, os.getpid())
        process = context.Process(target=work, args=arguments, name="footnote-parse", daemon=True)
        try:
            process.start()
        except OSError as error:
            raise IngestError(f"cannot start a process to read files: {error.strerror}; free some memory") from error
        theirs.close()
        worker = _Worker(process, ours)
        self._alive.append(worker)
        return worker

    def _dismiss(self, worker: _Worker) -> None:
        _kill(worker.process)
        worker.connection.close()
        self._alive.remove(worker)

    def _received(self, worker: _Worker) -> Iterator[Event]:
        task = worker.task
        assert task is not None
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._lost(worker, _ending(worker.process))
            return
        if isinstance(message, Beat):
            worker.beat, worker.since = message, time.monotonic()
        elif isinstance(message, Outline):
            worker.opened = True
            yield Opened(task.doc, message)
        elif isinstance(message, Failure):
            yield from self._failed(worker, message)
        elif message is None:
            worker.task = None
            yield Finished(task.doc)
        else:
            yield Chunks(task.doc, message)

    def _failed(self, worker: _Worker, failure: Failure) -> Iterator[Event]:
        task = worker.task
        assert task is not None
        if failure.lasting:
            worker.task = None
            yield Refused(task.doc, _stage(worker), failure.reason)
        else:
            yield from self._lost(worker, failure.reason)

    def _lost(self, worker: _Worker, reason: str) -> Iterator[Event]:
        """Replace a worker; its document is tried once more, or fails."""
        task, tries, stage = worker.task, worker.tries, _stage(worker)
        self._dismiss(worker)
        assert task is not None
        self.forget(task.doc_id)
        if tries < TRIES:
            self._waiting.append(_Waiting(task, tries))
        else:
            yield Refused(task.doc, stage, reason)

    def _watch(self) -> Iterator[Event]:
        """Replace workers that hang or hold too much memory."""
        now = time.monotonic()
        for worker in [worker for worker in self._alive if worker.task]:
            assert worker.task is not None
            limit = self.limits.time(worker.task.size)
            if now - worker.since > limit:
                yield from self._lost(worker, f"reading it took longer than {limit:.0f} s; {_SAVE_ANEW}")
        if now - self._looked >= _WATCH:
            self._looked = now
            yield from self._weigh()

    def _weigh(self) -> Iterator[Event]:
        sizes = [(worker, _held(worker.process)) for worker in list(self._alive)]
        self.peak = max(self.peak, sum(size for _, size in sizes))
        for worker, size in sizes:
            if worker.task and size > self.limits.memory:
                yield from self._lost(worker, too_much(self.limits.memory))


def _stage(worker: _Worker) -> str:
    return "chunk" if worker.opened else "parse"


def _ending(process: BaseProcess) -> str:
    """How a process came to its end, for a person."""
    process.join(5)
    code = process.exitcode or 0
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        how = f"was killed ({name})"
    else:
        how = f"ended by itself (exit code {code})"
    return _CRASHED.format(how=how, remedy=_SAVE_ANEW)


def _kill(process: BaseProcess) -> None:
    """End a worker and whatever it started: each worker leads a process group."""
    pid = process.pid
    if pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    process.kill()  # where it was killed before it made its group
    process.join()
    process.close()


def _held(process: BaseProcess) -> int:
    """Bytes of memory that a worker and what it started hold."""
    import psutil

    total = 0
    with suppress(psutil.Error, ValueError):
        root = psutil.Process(process.pid)
        for each in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                total += each.memory_info().rss
    return total
