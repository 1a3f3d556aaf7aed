"""A job as it goes on, and what is new of it to a listener. Knows nothing about how jobs are carried out or kept."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from ingest.progress import Progress
from ingest.results import FileResult, Summary
from ui.server.joblist import Job, State, record

EVERY = 0.5
"""Seconds between two events of progress."""
MOST_RESULTS = 2000
"""Results of documents that are kept in memory for each job."""
END = "end"
"""Kind, and id, of the last event of a job."""


class Event(NamedTuple):
    """Something to tell about a job."""

    id: str
    """To go on from; empty where there is nothing to go on from yet."""
    kind: str
    """`progress`, `result`, `end`, or `beat` where nothing happened for a while."""
    data: dict[str, Any]


class Work(Protocol):
    """What carries a job out."""

    @property
    def summary(self) -> Summary:
        """Counts, kept up to date."""

    def stop(self) -> None:
        """End at the next border between documents. May be called from any thread."""

    def progress(self) -> Progress:
        """How far it is. May be called from any thread."""


class Live:
    """One run of a job. Written by the thread that works, read by any."""

    def __init__(self) -> None:
        self.token = uuid4().hex[:8]
        """Names this run: where the job is taken up after a restart, its results are counted anew."""
        self.over = False
        """True where nothing follows; the list says next what came of it."""
        self.stopped = False
        """True where a person stopped it."""
        self._work: Work | None = None
        self._last: Progress | None = None
        self._lock, self._count = Lock(), 0
        self._results: deque[FileResult] = deque(maxlen=MOST_RESULTS)

    def take(self, work: Work) -> None:
        """This is what carries the job out."""
        self._work = work
        if self.stopped:  # it was told before there was anything to stop
            work.stop()

    def stop(self) -> None:
        """A person wants it to end at the next border between documents."""
        self.stopped = True
        self.halt()

    def halt(self) -> None:
        """It ends there because the process ends."""
        work = self._work
        if work is not None:
            work.stop()

    def tell(self, result: FileResult) -> None:
        """A document is done."""
        with self._lock:
            self._results.append(result)
            self._count += 1

    def finish(self) -> None:
        """Nothing follows. What carried the job out is let go: it knows every document of the collection."""
        self._last, self._work = self.progress(), None
        self.over = True

    def since(self, number: int) -> list[tuple[int, FileResult]]:
        """Results after that one, with their numbers, counted from 1; those that were not kept are left out."""
        with self._lock:
            if number >= self._count:
                return []
            first = self._count - len(self._results) + 1
            return [(first + i, result) for i, result in enumerate(self._results) if first + i > number]

    def progress(self) -> Progress | None:
        """How far it is; None before it began."""
        work = self._work  # may be let go meanwhile
        return self._last if work is None else work.progress()

    def number_of(self, event_id: str) -> int:
        """The result that an event's id names; 0 where it names none of this run."""
        token, _, number = event_id.rpartition("-")
        return int(number) if token == self.token and number.isascii() and number.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Told:
    """What one listener knows."""

    after: str = ""
    """Id of the last event."""
    progress: dict[str, Any] | None = None
    at: float = 0.0
    """When it was told of progress, on the monotonic clock."""


def news(live: Live | None, job: Job | None, told: Told) -> tuple[list[Event], Told]:
    """What is new to a listener, in order, and what it knows then.

    Args:
        live: the job's run, if it has begun in this process.
        job: the job, where its run is over or has not begun.
        told: what the listener knows.
    """
    events, after, now = [], told.after, time.monotonic()
    for number, result in live.since(live.number_of(after)) if live else ():
        after = f"{live.token}-{number}" if live else after
        events.append(Event(after, "result", asdict(result)))
    over = job is not None and job.over
    how_far = progress(job.state if job else "running", live.progress() if live else None)
    if how_far != told.progress and (over or now - told.at >= EVERY):
        events.append(Event(after if live else "", "progress", how_far))
        told = Told(after, how_far, now)
    if job is not None and over:
        events.append(Event(END, END, record(job)))
    return events, Told(after, told.progress, told.at)


def progress(state: State, found: Progress | None) -> dict[str, Any]:
    """How far a job is, as a plain dictionary."""
    so_far = found or Progress(0, 0, 0, 0, 0.0, None, (), state if state == "waiting" else "")
    return {"state": state, **so_far._asdict(), "in_hand": [item._asdict() for item in so_far.in_hand]}
