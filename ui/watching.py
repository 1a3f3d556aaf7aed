"""Keeps the index in step with folders, until told to stop. Knows nothing about flags or how folders are watched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import chain, repeat
from os.path import lexists
from pathlib import Path
from threading import Event

from ingest.catalog import Catalog
from ingest.results import FileResult, Summary
from ingest.watch import Batch, missing, watch
from rag.errors import FootnoteError
from rag.filter import Pairs
from rag.settings import Settings
from ui.ingesting import Outcome, all_exist, outcome, report, say, say_where_it_stopped, stderr
from ui.interrupt import stoppable
from ui.progress import shown
from ui.workplace import Opening, Run, Workplace, to_write

PAUSES = (2.0, 5.0, 10.0, 30.0)
"""Seconds before a batch that failed is tried again; the last one over and over."""


class Watching:
    """The index and some folders. What changed in them is brought into the index, what has gone is taken out."""

    def __init__(self, settings: Settings, catalog: Catalog, opening: Opening = to_write, metadata: Pairs = ()) -> None:
        """`metadata` is said about every document in the folders."""
        self._settings, self._catalog, self._opening, self._console = settings, catalog, opening, stderr()
        self._metadata = metadata
        self._over, self._held = Event(), ExitStack()
        self._place: Workplace | None = None
        self._run: Run | None = None

    def stop(self) -> None:
        """End at the next document, or at once where nothing is going on. May be called from anywhere."""
        self._over.set()
        if self._run is not None:
            self._run.stop()

    def steps(self, folders: Sequence[Path]) -> Iterator[Outcome]:
        """Ingest the folders, then yield what became of each batch of changes.

        A later batch that fails, because the disk is full or the process that owns the index has ended, is tried
        again and again: a watch goes on for months.

        Raises:
            FootnoteError: the folders cannot be ingested or watched.
        """
        all_exist(folders)
        with self._held, stoppable(self.stop) as stopping:
            for number, batch in enumerate(watch(folders, self._over)):
                summary = self._done(batch, stopping) if number else self._step(batch, stopping)
                if not number or summary.interrupted or summary.indexed + summary.removed + summary.failed:
                    yield outcome(self._settings, self._catalog, summary)
                if not number and not self._over.is_set():
                    say(self._console, "watching for changes; press Ctrl-C to end")

    def _done(self, batch: Batch, stopping: Event) -> Summary:
        """Work on a batch until it succeeds, or the watch is stopped."""
        for pause in chain(PAUSES, repeat(PAUSES[-1])):
            try:
                return self._step(batch, stopping)
            except FootnoteError as error:
                say(self._console, f"{error}; trying again in {pause:.0f} s")
                self._let_go()
                if self._over.wait(pause):
                    raise
        raise AssertionError("there is always another pause")

    def _step(self, batch: Batch, stopping: Event) -> Summary:
        place = self._place = self._place or self._held.enter_context(self._opening(self._settings, self._catalog))
        run = self._run = place.begin()
        if self._over.is_set():  # told to stop just now, when there was no run yet
            run.stop()
        there = [path for path in batch if lexists(path)]
        with shown(run.progress, stopping, self._console):
            for result in run.run(there, prune=True, metadata=self._metadata):
                report(self._console, result)
            gone = [path for path in batch if path not in there]
            if gone and not run.summary.interrupted:
                self._remove_below(gone, place, run.summary)
        if run.summary.interrupted:
            say_where_it_stopped(self._console, run)
        return run.summary

    def _remove_below(self, gone: Sequence[Path], place: Workplace, summary: Summary) -> None:
        """Take out what is left of paths that are not there; what was renamed is known by its new name already."""
        docs = [row.doc for row in missing(self._catalog, self._settings.collection, gone)]
        for name in place.remove(docs) if docs else ():
            summary.add(FileResult(name, "removed"))

    def _let_go(self) -> None:
        """The next try finds out anew who owns the index."""
        self._place = None
        with suppress(FootnoteError):  # what was wrong has been said
            self._held.close()
