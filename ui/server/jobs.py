"""Ingest jobs that survive a restart: a queue on disk, worked through one by one on a thread, and told of as they go.

A job that was cut short waits again at the next start and does only what is left, since the catalog knows what is
done. Knows nothing about HTTP or uploads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from ingest import quarantine
from ingest.catalog import Catalog, Row
from ingest.discover import absolute, plain
from ingest.progress import Progress
from ingest.results import FileResult, Summary
from ingest.writer import path_of
from rag.errors import FootnoteError, IngestError
from rag.filter import Pairs
from rag.priority import give_way
from rag.settings import Settings
from ui import records
from ui.server.joblist import KEPT, Job, JobConflict, JobList, Kind, NoSuchJob, State, now
from ui.server.jobwatch import EVERY, Event, Live, Told, Work, news
from ui.workplace import Run, Workplace

log = logging.getLogger("footnote.jobs")

TICK = 0.1
"""Seconds between two looks at what there is to tell, and at whether the index may be written."""
PAUSE = 5.0
"""Seconds before the list is tried again, after it could not be used."""
BEAT = 15.0
"""Seconds of silence after which a listener is told that the connection lives."""
PATIENCE = 30.0
"""Seconds that a job may take to come to a border between documents; a killed one loses nothing either."""
MOST_FAILURES = 1000
"""Failures that the list keeps of a job; the catalog has them all."""
LIVES = 4
"""Jobs of which results are kept in memory: the one that runs, and the last ones before it."""
GONE = "no such file or folder; it went after this job was asked for: upload it again, or remove the document"

Discard = Callable[[Path, str], None]
"""Told of a removed document's file, and when the removal was asked for: an upload is deleted, a user's file is not."""


class Removal:
    """Takes documents out of the index, and their files out of the uploads. Good for one run."""

    def __init__(self, place: Workplace, docs: Sequence[str], discard: Callable[[Path], None]) -> None:
        self._place, self._docs, self._discard = place, docs, discard
        self._done, self._stopped = 0, False
        self.summary = Summary()

    def run(self) -> Iterator[FileResult]:
        """Yield one result a document, those that were found in it included."""
        begun = time.perf_counter()
        for doc in self._docs:
            if self._stopped:
                self.summary.interrupted = True
                return
            file = path_of(doc)
            for name in self._place.remove([doc]):
                result = FileResult(name, "removed")
                self.summary.add(result)
                yield result
            if file is not None:  # last: a kill before leaves the file, and the job that comes back deletes it
                self._discard(file)
            self._done += 1
            self.summary.seconds = time.perf_counter() - begun

    def stop(self) -> None:
        """End at the next border between documents."""
        self._stopped = True

    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self._done, len(self._docs), 0, 0, 0.0, None, (), "removing")


class Jobs:
    """The jobs of the collection that this process serves, carried out by one thread from `start` to `close`."""

    def __init__(self, settings: Settings, catalog: Catalog, place: Workplace, writing: Lock, discard: Discard) -> None:
        """Open the list `jobs.db` in the home directory.

        Args:
            settings: which collection.
            catalog: where its documents are kept.
            place: writes it.
            writing: held by whoever writes the index; see `ui.desk.Desk.writing`.
            discard: told of files of documents that were removed.

        Raises:
            IngestError: the list cannot be used.
        """
        self._settings, self._catalog, self._place = settings, catalog, place
        self.collection = settings.collection
        self._writing, self._discard = writing, discard
        self._list = JobList.open(settings.home / "jobs.db")
        self._lives: OrderedDict[str, Live] = OrderedDict()
        self._wake, self._closing = Flag(), Flag()
        self._thread = Thread(target=self._work, name="footnote-jobs", daemon=True)

    def start(self) -> None:
        """Take up what was cut short, then what waits."""
        self._thread.start()

    def close(self) -> None:
        """Stop at the next border between documents; what is not done goes on at the next start.

        Listeners are let go. What hangs is not waited for.
        """
        self._closing.set()
        self._wake.set()
        for live in list(self._lives.values()):
            live.halt()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)
        if not self._thread.is_alive():
            self._list.close()

    def elsewhere(self) -> list[str]:
        """Other collections of this home with jobs that wait, or that were cut short."""
        return [name for name in self._list.unfinished() if name != self.collection]

    def forget(self, collection: str) -> None:
        """Remove all jobs of another collection, which nobody works on any more."""
        self._list.forget(collection)
        (self._settings.home / f"jobs.{collection}.lock").unlink(missing_ok=True)

    def ingest(self, paths: Sequence[Path], prune: bool = False, metadata: Pairs = (), who: str = "") -> Job:
        """A new job that ingests files and folders; see `ingest.pipeline.Ingestion.run`."""
        return self._add("ingest", [str(absolute(path)) for path in paths], prune, metadata, who)

    def remove(self, docs: Sequence[str], who: str = "") -> Job:
        """A new job that takes documents out, by their exact names, with what was found in them."""
        return self._add("remove", docs, False, (), who)

    def get(self, id_: str) -> Job:
        """A job.

        Raises:
            NoSuchJob: there is none by this id in this collection.
        """
        job = self._list.get(id_)
        if job.collection != self.collection:
            raise NoSuchJob(f"job {id_} belongs to collection {job.collection!r}, this server has {self.collection!r}")
        return job

    def newest(self, state: State | None = None, most: int = KEPT) -> list[Job]:
        """The last jobs, newest first."""
        return self._list.newest(self.collection, state, most)

    def count(self, state: State) -> int:
        """How many jobs are in a state."""
        return self._list.count(self.collection, state)

    def stop(self, id_: str) -> Job:
        """A waiting job will not run; a running one ends at the next border between documents.

        Raises:
            NoSuchJob: there is none by this id.
            JobConflict: it is over.
        """
        self.get(id_)  # of this collection
        if not self._list.cancel(id_):
            job, live = self.get(id_), self._lives.get(id_)  # known from before the list says that it runs
            if live is None or job.over:
                raise JobConflict(f"job {id_} is {job.state}, only one that waits or runs here can be stopped")
            live.stop()
        return self.get(id_)

    def retry(self, id_: str, failed_only: bool = False, who: str = "") -> Job:
        """A new job that does the same once more; documents that are done and unchanged take no time.

        Args:
            id_: a job that is over.
            failed_only: ingest those documents alone that are failed now.
            who: who asks for it.

        Raises:
            NoSuchJob: there is none by this id.
            JobConflict: it is not over, or nothing of it is failed now.
        """
        job = self.get(id_)
        if not job.over:
            raise JobConflict(f"job {id_} is {job.state}; wait until it is over, or stop it, before it is tried again")
        names = self._failed_in(job) if failed_only else list(job.names)
        if not names:
            raise JobConflict(f"no document of job {id_} is failed now; there is nothing to try again")
        return self._add(job.kind, names, job.prune and not failed_only, job.metadata, who)

    def progress(self, id_: str) -> Progress | None:
        """How far a job is, or was when it ended; None where it has not begun, or was forgotten."""
        live = self._lives.get(id_)
        return None if live is None else live.progress()

    def results(self, id_: str) -> list[FileResult]:
        """What became of a job's documents so far, the last ones where there are many; none where it was forgotten."""
        live = self._lives.get(id_)
        return [] if live is None else [result for _, result in live.since(0)]

    async def settled(self, id_: str, seconds: float) -> Job:
        """A job when it is over, or as it is after so many seconds."""
        end = time.monotonic() + seconds
        job = await asyncio.to_thread(self.get, id_)
        while not job.over and time.monotonic() < end and not self._closing.is_set():
            await asyncio.sleep(TICK / 4)
            job = await asyncio.to_thread(self.get, id_)
        return job

    async def watch(self, id_: str, after: str = "", beat: float = BEAT) -> AsyncGenerator[Event]:
        """What happens to a job, until it is over or this process ends. Whoever stops listening stops nothing else.

        Args:
            id_: a job.
            after: id of the last event that was heard: earlier results are not told again.
            beat: seconds of silence after which a `beat` is told.
        """
        told, quiet = Told(after), time.monotonic()
        while not self._closing.is_set():
            live = self._lives.get(id_)
            going_on = live is not None and not live.over
            job = None if going_on else await asyncio.to_thread(self._found, id_)
            live = live or self._lives.get(id_)  # it may have begun, and ended, meanwhile
            events, told = news(live, job, told)
            for event in events:
                yield event
            if not going_on and (job is None or job.over):
                return
            if events:
                quiet = time.monotonic()
            elif time.monotonic() - quiet >= beat:
                quiet = time.monotonic()
                yield Event("", "beat", {})
            await asyncio.sleep(TICK if live else EVERY)

    def _found(self, id_: str) -> Job | None:
        try:
            return self.get(id_)
        except NoSuchJob:
            return None
        except IngestError:
            if self._closing.is_set():  # the list is closed, and nobody is told anything any more
                return None
            raise

    def _add(self, kind: Kind, names: Sequence[str], prune: bool, metadata: Pairs, who: str) -> Job:
        job = Job(uuid4().hex, self.collection, kind, tuple(names), prune, metadata, who, created=now())
        self._list.add(job)
        self._wake.set()
        return job

    def _failed_in(self, job: Job) -> list[str]:
        """Files of the documents at or below a job's paths that are failed now; of what was found in one, that one."""
        rows = {row.doc: row for row in self._catalog.rows(self.collection)}
        roots = [Path(plain(name)) for name in job.names] if job.kind == "ingest" else []
        failed = [row for row in rows.values() if row.status == "failed"]
        below = [row for row in failed if any(Path(row.doc).is_relative_to(root) for root in roots)]
        files = dict.fromkeys(path_of(_file_of(row, rows).doc) for row in below)
        return [str(file) for file in files if file is not None]

    def _work(self) -> None:
        """Until the end, whatever happens; one process of this home at a time works on a collection's jobs."""
        give_way()
        alone = FileLock(self._settings.home / f"jobs.{self.collection}.lock", timeout=0, thread_local=False)
        while not self._closing.is_set():
            try:
                with alone:
                    self._list.put_back(self.collection)
                    self._work_through()
            except Timeout:
                self._closing.wait(EVERY)
            except Exception:  # the next job may go better; nobody waits for this thread to hear of it
                log.exception("the list of jobs cannot be worked through; it is tried again")
                self._closing.wait(PAUSE)

    def _work_through(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            job = self._list.next(self.collection)
            if job is None:
                self._wake.wait(PAUSE)
            elif self._writing.acquire(timeout=TICK):  # not longer: the job may be stopped meanwhile
                try:
                    self._do(job)
                finally:
                    self._writing.release()

    def _do(self, job: Job) -> None:
        live = self._lives[job.id] = Live()
        if not self._list.begin(job.id):
            del self._lives[job.id]
            return
        while len(self._lives) > LIVES:
            self._lives.popitem(last=False)
        state, error, counts = self._carried_out(job, live)
        live.finish()  # before the list says so: listeners hear the end from the list
        if state == "waiting":
            self._list.put_back(self.collection)
        else:
            self._list.end(job.id, state, counts, error)

    def _carried_out(self, job: Job, live: Live) -> tuple[State, str, dict[str, Any] | None]:
        """Do the work; what the job's state is then, what went wrong, and its counts."""
        state: State = "done"
        error, work, report = "", None, None
        try:
            work, results = self._begun(job)
            live.take(work)
            if self._closing.is_set():
                work.stop()
            for result in results:
                live.tell(result)
            report = quarantine.write(self._settings, self._catalog)
        except FootnoteError as raised:
            state, error = "failed", " ".join(str(raised).split())
        except Exception as raised:  # told to those who watch, and logged with its traceback
            log.exception("a job failed")
            state, error = "failed", f"the job failed: {raised!r}; see what the server printed"
        if work is None:
            return "failed", error, None
        if state == "done" and work.summary.interrupted:
            state = "stopped" if live.stopped else "waiting"
        counts = records.summary(work.summary, report)
        return state, error, {**counts, "failures": counts["failures"][:MOST_FAILURES]}

    def _begun(self, job: Job) -> tuple[Work, Iterator[FileResult]]:
        if job.kind == "remove":
            removal = Removal(self._place, job.names, lambda file: self._discard(file, job.created))
            return removal, removal.run()
        run = self._place.begin()
        return run, _ingested(run, [Path(name) for name in job.names], job)


def _ingested(run: Run, paths: Sequence[Path], job: Job) -> Iterator[FileResult]:
    """What becomes of documents; a file that has gone since the job was asked for does not hold up the others."""
    there = [path for path in paths if os.path.lexists(path)]
    yield from run.run(there or paths, job.prune, job.metadata)
    for path in sorted({*paths} - {*there}) if there and not run.summary.interrupted else ():
        result = FileResult(plain(str(path)), "failed", stage="read", reason=GONE)
        run.summary.add(result)
        yield result


def _file_of(row: Row, rows: Mapping[str, Row]) -> Row:
    """The file that a document is, or was found in."""
    return _file_of(rows[row.parent], rows) if row.parent in rows else row
