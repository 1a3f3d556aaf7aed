"""The list of ingest jobs in SQLite: what was asked for, by whom, and what came of it.

Knows nothing about how a job is carried out, or about HTTP.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any, Literal, get_args

from ingest.catalog import NOTHING, packed, unpacked
from ingest.discover import plain
from ingest.ledger import explained
from rag.errors import IngestError
from rag.filter import Pairs

SCHEMA = 1
"""Kept in SQLite's `user_version`; goes up with every change of the table."""
WAIT = 30.0
"""Seconds to wait for another process that is writing."""
KEPT = 200
"""Jobs of a collection that are over and still told of; older ones are forgotten."""

Kind = Literal["ingest", "remove"]
State = Literal["waiting", "running", "done", "failed", "stopped"]
STATES: tuple[State, ...] = get_args(State)
OVER: tuple[State, ...] = ("done", "failed", "stopped")

_CREATE = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    collection TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('ingest', 'remove')),
    names TEXT NOT NULL,
    prune INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    who TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'stopped')),
    created TEXT NOT NULL,
    started TEXT NOT NULL,
    ended TEXT NOT NULL,
    counts TEXT NOT NULL,
    error TEXT NOT NULL
);
CREATE INDEX by_state ON jobs (collection, state, number);
"""
_COLUMNS = "id, collection, kind, names, prune, metadata, who, state, created, started, ended, counts, error"
_OVER = "('done', 'failed', 'stopped')"


class NoSuchJob(IngestError):
    """A job that there never was, or one that is over for so long that it was forgotten."""

    status = 404


class JobConflict(IngestError):
    """What was asked of a job does not go with the state that it is in."""

    status = 409


@dataclass(frozen=True, slots=True)
class Job:
    """Work on one collection that was asked for. Times are ISO 8601, UTC; empty as long as they are to come."""

    id: str
    collection: str
    kind: Kind
    names: tuple[str, ...]
    """Absolute paths to ingest, or exact names of documents to remove."""
    prune: bool = False
    metadata: Pairs = ()
    who: str = ""
    """Who asked for it, as the server knows them; empty where it knows nobody."""
    state: State = "waiting"
    created: str = ""
    started: str = ""
    """Of the last time, where it was interrupted and taken up again."""
    ended: str = ""
    counts: dict[str, Any] | None = None
    """See `ui.records.summary`; None before it ended."""
    error: str = ""

    @property
    def over(self) -> bool:
        """True where nothing more will come of it."""
        return self.state in OVER


class JobList:
    """The open list; safe to use from several threads.

    Every method raises `IngestError` where the file cannot be read or written.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Use `open`."""
        self._path, self._connection, self._lock = path, connection, RLock()

    @classmethod
    def open(cls, path: Path) -> JobList:
        """Open the list, or make a new one that nobody else of this machine may read.

        Raises:
            IngestError: it is no list of jobs, was written by a newer Footnote, or cannot be opened.
        """
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives the files beside it the same mode
            path.chmod(0o600)
            connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
            try:
                _bring_up_to_date(path, connection)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def add(self, job: Job) -> None:
        """Put a new job at the end."""
        values = (
            *(job.id, job.collection, job.kind, json.dumps(job.names), job.prune, packed(job.metadata)),
            *(plain(job.who), job.state, job.created, "", "", "null", ""),
        )
        marks = ", ".join("?" for _ in values)
        self._execute(f"INSERT INTO jobs ({_COLUMNS}) VALUES ({marks})", *values)  # noqa: S608

    def get(self, id_: str) -> Job:
        """A job.

        Raises:
            NoSuchJob: there is none by this id.
        """
        found = self._select("id = ?", id_)
        if not found:
            raise NoSuchJob(f"there is no job {plain(id_)[:80]!r}; the last {KEPT} that are over are kept")
        return found[0]

    def newest(self, collection: str, state: State | None = None, most: int = KEPT) -> list[Job]:
        """The last jobs of a collection, newest first; those in one state, or all."""
        where, values = ("AND state = ?", (state,)) if state else ("", ())
        return self._select(f"collection = ? {where} ORDER BY number DESC LIMIT ?", collection, *values, most)

    def next(self, collection: str) -> Job | None:
        """The job that waits longest; None where none does."""
        found = self._select("collection = ? AND state = 'waiting' ORDER BY number LIMIT 1", collection)
        return found[0] if found else None

    def count(self, collection: str, state: State) -> int:
        """How many jobs are in a state."""
        rows = self._execute("SELECT COUNT(*) FROM jobs WHERE collection = ? AND state = ?", collection, state)
        return int(rows[0][0])

    def unfinished(self) -> list[str]:
        """Collections with jobs that wait, or that were cut short, sorted."""
        rows = self._execute(f"SELECT DISTINCT collection FROM jobs WHERE state NOT IN {_OVER} ORDER BY collection")  # noqa: S608
        return [str(name) for (name,) in rows]

    def begin(self, id_: str) -> bool:
        """A waiting job runs from now on; False where it does not wait, because it was stopped."""
        change = "UPDATE jobs SET state = 'running', started = ? WHERE id = ? AND state = 'waiting' RETURNING id"
        return bool(self._execute(change, now(), id_))

    def cancel(self, id_: str) -> bool:
        """A waiting job will not run; False where it does not wait."""
        change = "UPDATE jobs SET state = 'stopped', ended = ? WHERE id = ? AND state = 'waiting' RETURNING id"
        return bool(self._execute(change, now(), id_))

    def end(self, id_: str, state: State, counts: dict[str, Any] | None, error: str) -> None:
        """A job is over; the oldest that are over are forgotten."""
        change = "UPDATE jobs SET state = ?, ended = ?, counts = ?, error = ? WHERE id = ? RETURNING collection"
        for (collection,) in self._execute(change, state, now(), json.dumps(counts), plain(error), id_):
            self._execute(
                f"DELETE FROM jobs WHERE collection = ? AND state IN {_OVER} AND number NOT IN "  # noqa: S608
                f"(SELECT number FROM jobs WHERE collection = ? AND state IN {_OVER} ORDER BY number DESC LIMIT ?)",
                *(collection, collection, KEPT),
            )

    def put_back(self, collection: str) -> None:
        """Jobs that were cut short wait again, in their old place."""
        change = "UPDATE jobs SET state = 'waiting', started = '' WHERE collection = ? AND state = 'running'"
        self._execute(change, collection)

    def forget(self, collection: str) -> None:
        """Remove all jobs of a collection."""
        self._execute("DELETE FROM jobs WHERE collection = ?", collection)

    def close(self) -> None:
        """Let go of the file. The list cannot be used after that."""
        with self._lock:
            self._connection.close()

    def _select(self, where: str, *values: str | int) -> list[Job]:
        statement = f"SELECT {_COLUMNS} FROM jobs WHERE {where}"  # noqa: S608
        return [_job(*row) for row in self._execute(statement, *values)]

    def _execute(self, statement: str, *values: str | int) -> list[Any]:
        with self._lock, _explained(self._path):
            return self._connection.execute(statement, values).fetchall()


def record(job: Job, most: int = 20) -> dict[str, Any]:
    """A job as a plain dictionary; with at most so many of its names, and of its failures."""
    said: dict[str, list[str]] = {}
    for key, value in job.metadata:
        said.setdefault(key, []).append(value)
    counts = job.counts and {**job.counts, "failures": job.counts["failures"][:most]}
    fields = ("id", "kind", "state", "prune", "who", "created", "started", "ended", "error")
    names = [plain(name) for name in job.names[:most]]
    told = {name: getattr(job, name) for name in fields}
    return {**told, "names": names, "names_in_all": len(job.names), "metadata": said, "counts": counts}


def now() -> str:
    """This moment, as jobs tell it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _job(id_: str, collection: str, kind: Kind, names: str, prune: int, metadata: str, *rest: Any) -> Job:
    """A row of the table, columns in their order."""
    who, state, created, started, ended, counts, error = rest
    said, told = unpacked(metadata or NOTHING), json.loads(counts)
    asked = (id_, collection, kind, tuple(json.loads(names)), bool(prune), said, who)
    return Job(*asked, state, created, started, ended, told, error)


def _bring_up_to_date(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")  # two processes may both find a new file: the second sees the table
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > SCHEMA:
        raise IngestError(
            f"the list of jobs {path} has version {found}, this Footnote knows versions up to {SCHEMA}; "
            "update Footnote, or use another --home"
        )
    if found < SCHEMA:
        for statement in filter(str.strip, _CREATE.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")


def _explained(path: Path) -> AbstractContextManager[None]:
    return explained(path, "the list of jobs", IngestError, "move it away and start again")
