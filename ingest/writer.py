"""Chunks -> vectors -> store, and the catalog row last. The order that makes a kill at any moment harmless.

The catalog says `unfinished`; a document's new chunks go in, hidden where a search must not see them yet; they are made
visible and the old ones go; then the catalog says `indexed`. Before passages go, too, the catalog says so: the index
may have more than the catalog says after a kill, never less. Knows nothing about files, parsing or processes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from ingest.catalog import Catalog, Fingerprint, Row
from ingest.chunk import id_of
from ingest.results import FileResult
from ingest.stages import Batch, Outline, Prepared, embed
from rag.embed import Embedder
from rag.errors import EmbedError
from rag.store.protocol import Store
from rag.tracing import OFF, span
from rag.types import IndexedChunk

FLUSH_AT = 256
"""Chunks gathered from several documents before they are embedded: enough to sort by length, little to lose."""

_UNFINISHED = "indexing it was cut short; ingest it again"
_REMOVED = "removing it was cut short; remove it again, or ingest its folder with --prune"
IN_HAND = frozenset({_UNFINISHED, _REMOVED})
"""Reasons of documents that are being written or removed; where nobody does that, it was cut short."""
_CHANGED = "{source}, which has the same content, changed while it was copied from; ingest again"
_SPELLED_OUT = re.compile(r"\\u(dc[89a-f][0-9a-f])")


@dataclass(slots=True, eq=False)
class Open:
    """A document whose chunks are coming in."""

    row: Row
    """As the catalog will have it, but for what comes of it."""
    known: Row | None
    outline: Outline = field(default_factory=Outline)
    gathered: int = 0
    """Chunks that wait to be embedded."""
    stored: int = 0
    fingerprint: Fingerprint = field(default_factory=Fingerprint)
    complete: bool = False
    """True where no more chunks will come."""
    hidden: bool = False
    """True where chunks were stored hidden, so that the document has to be published."""
    failed: bool = False


class Writer:
    """Writes one collection. `in_step`: the store held what the catalog says when the run began."""

    def __init__(self, embedder: Embedder, store: Store, catalog: Catalog, ledger: str, in_step: bool) -> None:
        self._embedder, self._store, self._catalog = embedder, store, catalog
        self._ledger, self._in_step = ledger, in_step
        self._gathered: list[tuple[Open, Prepared]] = []
        self.above = OFF
        """The span of the run."""
        self.stored = 0
        """Chunks stored in this run."""

    def gather(self, document: Open, batch: Batch) -> Iterator[FileResult]:
        """Take chunks of a document; results of those documents that became certain by it."""
        if document.failed:
            return
        document.gathered += len(batch)
        self._gathered += [(document, prepared) for prepared in batch]
        if len(self._gathered) >= FLUSH_AT:
            yield from self.flush()

    def finish(self, document: Open) -> Iterator[FileResult]:
        """No more chunks of a document will come."""
        document.complete = True
        if not document.gathered and not document.failed:
            yield from self._committed([document])

    def flush(self) -> Iterator[FileResult]:
        """Embed and store what was gathered."""
        items, self._gathered = self._gathered, []
        yield from self._written(items)

    def forget(self, document: Open) -> None:
        """Leave out what was gathered of a document."""
        self._gathered = [item for item in self._gathered if item[0] is not document]
        document.gathered = 0

    def fail(self, document: Open, stage: str, reason: str) -> FileResult:
        """A failed document has nothing in the index: passages that it no longer holds must not be cited."""
        self.forget(document)
        document.failed = True
        self._catalog.put(self._ledger, replace(document.row, stage=stage, reason=reason))
        if document.known or document.hidden or not self._in_step:
            self._store.delete(document.row.doc_id)
        return FileResult(document.row.doc, "failed", stage=stage, reason=reason)

    def _announce(self, *rows: Row) -> None:
        """Write down, before the index says something else than the catalog, that these documents are under way.

        After a kill nothing is in the index that the catalog does not name, nor taken for what it is not.
        """
        if rows:
            self._catalog.put(self._ledger, *(replace(row, stage="store", reason=_UNFINISHED) for row in rows))

    def clear(self, document: Open) -> None:
        """Take what the index has of a document out of it before it is read again."""
        self._announce(document.row)
        self._store.delete(document.row.doc_id)

    def undo(self, document: Open) -> None:
        """Take back what was stored of a document that will not be finished."""
        if not document.hidden:
            return
        if document.known and document.known.status == "indexed" and not _is_new(document):
            self._store.publish(document.row.doc_id, document.known.revision)
        else:
            self._store.delete(document.row.doc_id)
        if not document.known:
            self._catalog.remove(self._ledger, document.row.doc)

    def keep(self, row: Row, known: Row) -> FileResult:
        """The index has the document already; its row is put right."""
        if row != known:
            self._catalog.put(self._ledger, row)
        return FileResult(row.doc, "unchanged", row.pages, row.chunks, reason=row.reason)

    def copy(self, row: Row, known: Row | None, source: Row) -> FileResult:
        """Index a document with the chunks and vectors of one that has the same content: another, or itself.

        Itself where what the user says about it changed; then it can be found as it was until it is as it shall be.
        """
        row = _dated(row, source)
        if row.doc_id != source.doc_id:
            self._announce(*self._waiting_above(row), row)
        stem = PurePath(source.doc).stem
        title = row.title if source.title == stem else source.title
        fingerprint, count = Fingerprint(), 0
        for items in _batches(self._store.scan(source.doc_id), FLUSH_AT):
            renamed = [_renamed(item, row, title) for item in items if item.chunk.revision == source.revision]
            self._store.upsert(renamed)
            for item in renamed:
                fingerprint.add(item.chunk.id)
            count += len(renamed)
        if count != source.chunks:
            return self.fail(Open(row, known, hidden=True), "store", _CHANGED.format(source=source.doc))
        if row.doc_id == source.doc_id:
            self._announce(row)
        self._store.publish(row.doc_id, row.revision)
        done = replace(
            row, title=title, status="indexed", pages=source.pages, chunks=count, reason=source.reason,
            fingerprint=str(fingerprint),
        )  # fmt: skip
        self._catalog.put(self._ledger, done)
        self.stored += count
        return FileResult(row.doc, "indexed", done.pages, done.chunks, reason=done.reason)

    def _waiting_above(self, row: Row) -> Iterator[Row]:
        """Rows of the containers of a document that the catalog does not name yet, since they wait to be embedded.

        Without them, nobody would miss the document when it is found in them no more.
        """
        waiting = {document.row.doc: document for document, _ in self._gathered}
        while (above := waiting.get(row.parent)) and above.known is None and not above.stored:
            yield (row := above.row)

    def remove(self, row: Row) -> list[FileResult]:
        """Remove a document and those found in it."""
        return [FileResult(name, "removed") for name in remove(row, self._ledger, self._store, self._catalog)]

    def _written(self, items: Sequence[tuple[Open, Prepared]]) -> Iterator[FileResult]:
        """Store chunks; where they cannot be embedded together, each document's by themselves."""
        documents = list(dict.fromkeys(document for document, _ in items))
        if not documents:
            return
        for document in documents:
            whole = document.complete and document.stored == 0
            document.hidden |= not (whole and self._in_step and document.known is None)
        try:
            with span("embed", self.above, passages=len(items)):
                chunks = embed(self._embedder, [item for _, item in items], [document.hidden for document, _ in items])
        except EmbedError as error:
            if len(documents) == 1:
                yield self.fail(documents[0], "embed", str(error))
                return
            for document in documents:
                yield from self._written([item for item in items if item[0] is document])
            return
        self._announce(*(document.row for document in documents if not document.stored and _is_new(document)))
        with span("write", self.above, passages=len(chunks)):
            self._store.upsert(chunks)
        self.stored += len(chunks)
        for document, prepared in items:
            document.fingerprint.add(prepared.chunk.id)
            document.stored += 1
            document.gathered -= 1
        yield from self._committed([document for document in documents if document.complete])

    def _committed(self, documents: Sequence[Open]) -> Iterator[FileResult]:
        """Make complete documents visible, and write their rows in one go."""
        hidden = [document for document in documents if document.hidden]
        self._announce(*(document.row for document in hidden if document.known))
        for document in hidden:
            self._store.publish(document.row.doc_id, document.row.revision)
        rows = [_done(document) for document in documents]
        self._catalog.put(self._ledger, *rows)
        for row in rows:
            yield FileResult(row.doc, "indexed", row.pages, row.chunks, reason=row.reason)


def remove(row: Row, ledger: str, store: Store, catalog: Catalog) -> list[str]:
    """Take a document, and those found in it, out of the index; returns their names.

    The catalog says so before, and forgets each when it has gone, the container last: after a kill those that are left
    are listed, as failed.
    """
    going = [row, *catalog.inside(ledger, row.doc)]
    catalog.put(
        ledger,
        *(replace(each, status="failed", stage="store", reason=_REMOVED, chunks=0, fingerprint="") for each in going),
    )
    for each in reversed(going):
        store.delete(each.doc_id)
        catalog.remove(ledger, each.doc)
    return [each.doc for each in going]


def path_of(doc: str) -> Path | None:
    """The file by a document's name, in which bytes that are no UTF-8 are spelled out; None where there is none."""
    names = (doc, _SPELLED_OUT.sub(lambda found: chr(int(found[1], 16)), doc))
    return next((Path(name) for name in names if os.path.lexists(name)), None)


def is_there(doc: str) -> bool:
    """Whether there is a file by a document's name."""
    return path_of(doc) is not None


def _is_new(document: Open) -> bool:
    """True unless the index goes on holding another revision of the document meanwhile."""
    return document.known is None or document.known.revision == document.row.revision


def _done(document: Open) -> Row:
    outline = document.outline
    return replace(
        document.row,
        title=outline.title,
        status="indexed",
        pages=outline.pages,
        chunks=document.stored,
        reason="; ".join(outline.notes),
        fingerprint=str(document.fingerprint),
    )


def _dated(row: Row, source: Row) -> Row:
    """A document with what the format says, which is the same as for its source."""
    same = source.dated or source.doc_id == row.doc_id
    return replace(row, date=source.date if same else row.date, dated=source.dated, own=source.own)


def _renamed(item: IndexedChunk, row: Row, title: str) -> IndexedChunk:
    old = item.chunk
    chunk = replace(
        old,
        id=id_of(row.doc_id, row.revision, old.start, old.end),
        doc_id=row.doc_id,
        doc=row.doc,
        title=title,
        revision=row.revision,
        date=row.date,
        metadata=row.metadata,
    )
    return IndexedChunk(chunk, item.dense, item.sparse, hidden=True)


def _batches(items: Iterable[IndexedChunk], size: int) -> Iterator[list[IndexedChunk]]:
    batch: list[IndexedChunk] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
