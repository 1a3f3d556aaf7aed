"""Takes in the work that other processes hand to the one that serves: ingestion and removal, one piece at a time.

A piece of work runs on a thread of its own, so that questions go on being answered. Knows nothing about HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from hmac import compare_digest
from pathlib import Path
from threading import Lock, Thread

from ingest import quarantine
from ingest.catalog import Catalog
from rag.answer import Rag
from rag.errors import FootnoteError
from rag.filter import Pairs
from rag.priority import give_way
from ui import wire
from ui.workplace import Here, Run

log = logging.getLogger("footnote.desk")

BUSY = "the index is being written already; wait until that is done, and try again"
TICK = 0.1
"""Seconds between two looks at what there is to tell."""
PATIENCE = 30.0
"""Seconds that a run may take to end; a killed one loses nothing either."""
EVERY = 0.5
"""Seconds between two lines of progress."""


class Job:
    """One run on its own thread, with the lines that tell of it."""

    def __init__(self, run: Run, paths: Sequence[Path], prune: bool, metadata: Pairs, done: Callable[[], None]) -> None:
        """Starts at once; `done` is called when it is over, however it ends."""
        self._run, self._done = run, done
        self._lines: deque[bytes] = deque()
        self._thread = Thread(target=self._work, args=(paths, prune, metadata), name="footnote-ingest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End at the next border between documents."""
        self._run.stop()

    def wait(self, seconds: float) -> None:
        """Until it is over, but no longer than this."""
        self._thread.join(seconds)

    async def lines(self) -> AsyncIterator[bytes]:
        """What there is to tell, as it comes. The run is stopped where nobody listens any more."""
        told = 0.0
        try:
            going_on = True
            while going_on:
                going_on = self._thread.is_alive()
                while self._lines:
                    yield self._lines.popleft()
                if going_on and time.monotonic() - told >= EVERY:
                    told = time.monotonic()
                    yield wire.progress(self._run.progress())
                if going_on:
                    await asyncio.sleep(TICK)
        finally:
            self.stop()

    def _work(self, paths: Sequence[Path], prune: bool, metadata: Pairs) -> None:
        give_way()
        try:
            for result in self._run.run(paths, prune, metadata):
                self._lines.append(wire.result(result))
            end = wire.summary(self._run.summary)
        except FootnoteError as error:
            end = wire.error(str(error), type(error).__name__)
        except Exception as error:  # told to the process that waits for it, and logged with its traceback
            log.exception("an ingestion that was handed over failed")
            end = wire.error(f"the process that serves failed: {error!r}; see what it printed", "IngestError")
        finally:
            self._done()
        self._lines.append(wire.progress(self._run.progress()))
        self._lines.append(end)


class Desk:
    """The work of one collection, behind a token that the index's owner's note tells to processes of this user."""

    def __init__(self, rag: Rag, catalog: Catalog, token: str = "") -> None:
        """Without a token nobody is admitted."""
        self._here, self._settings, self._catalog = Here(rag, catalog), rag.settings, catalog
        self.token = token
        self._job: Job | None = None
        self.writing = Lock()
        """Held by whoever writes the index. Work from other processes is refused meanwhile; the server's jobs wait."""

    def admits(self, token: str) -> bool:
        """Whether someone who shows this token may hand in work."""
        return bool(self.token) and compare_digest(self.token.encode(), token.encode())

    def ingest(self, paths: Sequence[Path], prune: bool, metadata: Pairs = ()) -> Job | None:
        """Start ingesting; None where other work is going on.

        Raises:
            SettingsError: a chunk would not fit the embedder's window.
        """
        if not self.writing.acquire(blocking=False):
            return None
        try:
            self._job = Job(self._here.begin(), paths, prune, metadata, self._done)
        except BaseException:
            self.writing.release()
            raise
        return self._job

    def remove(self, docs: Sequence[str]) -> list[str] | None:
        """Take documents out, by their exact names; returns those that were there. None where other work goes on."""
        if not self.writing.acquire(blocking=False):
            return None
        try:
            return self._here.remove(docs)
        finally:
            self._done()

    def stop(self) -> None:
        """Stop what is going on at the next border between documents."""
        if self._job is not None:
            self._job.stop()

    def close(self) -> None:
        """Stop what is going on, and wait for it: the index may be closed then. What hangs is not waited for."""
        if self._job is not None:
            self._job.stop()
            self._job.wait(PATIENCE)

    def _done(self) -> None:
        with suppress(FootnoteError):  # the process that handed the work in writes it too, and tells what is wrong
            quarantine.write(self._settings, self._catalog)
        self.writing.release()
