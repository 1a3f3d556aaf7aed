"""Files -> read side by side -> embedded -> stored. Puts the stages together; nothing is shown here.

A thread of its own feeds the sandbox and takes in what it reads (`ingest.feed`); the thread that runs the ingestion
embeds and stores (`ingest.writer`). Between them lies a bounded queue, so that the next files are read while the
last ones are embedded, and memory does not grow with the files.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePath
from queue import Empty
from threading import Thread
from uuid import uuid4

from ingest.catalog import Catalog
from ingest.discover import Found, absolute, discover, plain
from ingest.feed import Copy, Doc, End, Feed, Gone, Readers, Step, Unchanged
from ingest.labels import Labels
from ingest.progress import Estimate, Progress
from ingest.results import FileResult, Summary
from ingest.sandbox import Chunks, Finished, Limits, Opened, Pool, Refused, Started
from ingest.spool import leased
from ingest.stages import Recipe
from ingest.writer import Open, Writer, is_there
from rag.embed import Embedder
from rag.filter import Pairs
from rag.settings import Settings
from rag.store.protocol import Store
from rag.tracing import OFF, Span, span

PATIENCE = 1.0
"""Seconds without a step after which what was gathered is embedded, so that a slow file holds up no other."""


class Ingestion:
    """Ingests files into one collection. An object is good for one run."""

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder,
        store: Store,
        catalog: Catalog,
        ledger: str = "",
        readers: Readers | None = None,
    ) -> None:
        """`ledger` is the name under which the catalog keeps the collection, where that is not its own.

        `readers` read the documents in the place of a sandbox on this machine; they may embed them, too.

        Raises:
            SettingsError: a chunk would not fit the embedder's window.
        """
        self._store, self._catalog, self._ledger = store, catalog, ledger or settings.collection
        recipe, self._spool = Recipe.of(settings, embedder), settings.home / "spool" / uuid4().hex
        workers = settings.parse_workers or settings.cores
        self._pool = readers or Pool(recipe, Limits.of(settings), workers, self._spool)
        anew = self._ledger != settings.collection
        self._labels = Labels(catalog.rows(settings.collection) if anew else ())
        self._feed = Feed(catalog, self._ledger, store, recipe, embedder.id, self._pool, self._labels)
        self._writer = Writer(embedder, store, catalog, self._ledger, self._feed.in_step)
        self._open: dict[str, Open] = {}
        self._estimate, self._of, self._stage, self._started = Estimate(), 0, "", 0.0
        self._sizes: dict[str, int] = {}
        self._run_span, self._doc_spans = OFF, dict[str, Span]()
        self._interrupted = False
        self.summary = Summary()

    def stop(self) -> None:
        """End the run at the next border between documents; what is done stays done. May be called from anywhere."""
        self._interrupted = True
        self._feed.stopped.set()

    def progress(self) -> Progress:
        """How far the run is; may be called from any thread."""
        done = self.summary
        return Progress(
            files=done.seen,
            of=max(self._of, done.seen),
            pages=done.pages,
            chunks=self._writer.stored,
            chunks_per_second=self._estimate.speed(),
            eta=self._estimate.eta(time.monotonic()),
            in_hand=tuple(self._pool.in_hand()),
            stage=self._stage,
        )

    def run(
        self, paths: Sequence[Path], prune: bool = False, metadata: Pairs = (), besides: Sequence[Path] = ()
    ) -> Iterator[FileResult]:
        """Ingest files and folders; yields one result a document, each when it is certain.

        Args:
            paths: files and folders.
            prune: remove the documents whose files have gone from the folders.
            metadata: what is said about the documents of this run, in the place of what was said before; a key
                without a value takes it away. Empty: what was said before goes on counting.
            besides: more files, about which nothing is said.

        Raises:
            IngestError: a path does not exist, or the catalog cannot be written.
            StoreError: the index cannot be written. Whatever was yielded is safe in both cases.
        """
        with span("ingest") as self._run_span:
            self._writer.above = self._run_span
            try:
                yield from self._work(paths, prune, metadata, besides)
            finally:
                self._tell()

    def _work(
        self, paths: Sequence[Path], prune: bool, metadata: Pairs, besides: Sequence[Path]
    ) -> Iterator[FileResult]:
        """See `run`."""
        self._started = time.perf_counter()
        seen: set[str] = set()
        self._stage = "looking for files"
        files = list(discover([*paths, *besides]))
        self._labels.say(metadata, paths)
        self._stage = ""
        with leased(self._spool), closing(self._results(files)) as results:
            for result in results:
                seen.add(result.doc)
                yield self._counted(result)
        if prune and not self._interrupted:
            for result in self._pruned([Path(plain(str(absolute(path)))) for path in paths], seen):
                yield self._counted(result)
        self._end()

    def _tell(self) -> None:
        """What is traced of a run at its end. Documents that are still being read will not be finished."""
        while self._doc_spans:
            with self._doc_spans.popitem()[1] as unfinished:
                unfinished.set(outcome="stopped")
        done = self.summary
        counts = {"indexed": done.indexed, "unchanged": done.unchanged, "removed": done.removed, "failed": done.failed}
        self._run_span.set(**counts, passages=done.chunks, outcome="stopped" if self._interrupted else None)

    def _end(self) -> None:
        self.summary.interrupted = self._interrupted
        if (self.summary.indexed or self.summary.removed) and not self.summary.interrupted:
            self._stage = "building the search index"
            with span("optimize", self._run_span):
                self._store.optimize()
        self._note_costs()

    def _counted(self, result: FileResult) -> FileResult:
        self.summary.add(result)
        self._note_costs()
        return result

    def _note_costs(self) -> None:
        self.summary.seconds = time.perf_counter() - self._started
        self.summary.peak_bytes = max(self.summary.peak_bytes, own_peak() + self._pool.peak)

    def _results(self, files: Sequence[Found]) -> Generator[FileResult]:
        """Results in the order in which they become certain. The feed's thread is gone when this ends."""
        self._of = len(files)
        self._sizes = {plain(str(found.path)): found.size for found in files}
        self._estimate.expect((PurePath(doc).suffix.lower(), size) for doc, size in self._sizes.items())
        self._estimate.store(time.monotonic(), 0)
        thread = Thread(target=self._feed.run, args=(files,), name="footnote-feed", daemon=True)
        thread.start()
        try:
            while not isinstance(step := self._next(), End):
                if not self._interrupted:
                    yield from self._taken(*step) if step else self._settled(self._writer.flush())
                self._estimate.store(time.monotonic(), self._writer.stored)
            if step.error is not None:
                raise step.error
            unfinished = [document for document in self._open.values() if not (document.complete or document.failed)]
            for document in unfinished:
                self._writer.forget(document)
            yield from self._settled(self._writer.flush())
            for document in unfinished:
                self._writer.undo(document)
        except BaseException:
            self._feed.stopped.set()
            raise
        finally:
            while thread.is_alive():
                self._next(0.05)

    def _next(self, patience: float = PATIENCE) -> Step | None:
        try:
            return self._feed.steps.get(timeout=patience)
        except Empty:
            return None

    def _taken(self, doc: Doc, event: object) -> Iterator[FileResult]:
        """Act on one step of the feed."""
        if isinstance(event, Started):
            self._begin(doc)
        elif isinstance(event, Unchanged | Copy | Gone):
            yield from self._settled(self._known(doc, event))
        else:
            document = self._open.get(doc.row.doc) or Open(doc.row, doc.known)
            if isinstance(event, Finished):
                self._doc_spans.get(doc.row.doc, OFF).event("read")
            yield from self._settled(self._read(doc, event, document))

    def _settled(self, results: Iterable[FileResult]) -> Iterator[FileResult]:
        """Let documents go of which the result is known; failed ones stay, since more of them may be on its way."""
        for result in results:
            if result.status != "failed":
                self._open.pop(result.doc, None)
            size = self._sizes.pop(result.doc, 0)
            with self._doc_spans.pop(result.doc, OFF) as traced:
                traced.set(outcome=result.status, stage=result.stage, pages=result.pages, passages=result.chunks)
            made = result.chunks if result.status == "indexed" else None
            self._estimate.settle(PurePath(result.doc).suffix.lower(), size, made)
            yield result

    def _begin(self, doc: Doc) -> None:
        """A document is being read, perhaps not for the first time in this run."""
        document, before = Open(doc.row, doc.known), self._open.get(doc.row.doc)
        if before is not None and before.failed:
            return
        if doc.row.doc not in self._doc_spans:
            self._doc_spans[doc.row.doc] = span("document", self._run_span, bytes=doc.row.size)
        if before is not None:
            self._writer.forget(before)
            document.hidden, document.outline = before.hidden, before.outline
        elif doc.anew:
            self._writer.clear(document)
        self._open[doc.row.doc] = document

    def _read(self, doc: Doc, event: object, document: Open) -> Iterator[FileResult]:
        """What comes of reading a document; where the index has it already, it was read for its members alone."""
        if document.failed:
            return
        if isinstance(event, Opened):
            self._of += len(event.outline.members) - len(document.outline.members)
            document.row, document.outline = doc.row, event.outline
        elif isinstance(event, Refused):
            self._of -= len(document.outline.members)
            yield self._writer.fail(document, event.stage, event.reason)
        elif isinstance(event, Finished) and doc.keep and doc.known:
            yield self._writer.keep(doc.known.kept(document.row, document.row.members), doc.known)
        elif isinstance(event, Finished):
            yield from self._writer.finish(document)
        elif isinstance(event, Chunks) and not doc.keep:
            yield from self._writer.gather(document, event.batch)

    def _known(self, doc: Doc, event: Unchanged | Copy | Gone) -> Iterator[FileResult]:
        """What needs no reading."""
        if isinstance(event, Unchanged):
            self._of += bool(event.row.parent and not event.met)
            yield self._writer.keep(event.row, doc.known or event.row)
        elif isinstance(event, Gone):
            yield from self._writer.remove(event.row)
        else:
            self._of += bool(doc.row.parent and not event.met)
            yield self._writer.copy(doc.row, doc.known, event.source)
            if event.moved:
                yield from self._writer.remove(event.source)

    def _pruned(self, roots: Sequence[Path], seen: Container[str]) -> Iterator[FileResult]:
        """Remove what has gone from the folders, with what was found in it."""
        for row in self._catalog.rows(self._ledger):
            below = any(Path(row.doc).is_relative_to(root) for root in roots)
            if below and not row.parent and row.doc not in seen and not is_there(row.doc):
                yield from self._writer.remove(row)


def own_peak() -> int:
    """The most memory this process has held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
