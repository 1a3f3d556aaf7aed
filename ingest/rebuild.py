"""Another embedder or another way of cutting: the whole collection, indexed anew beside the index in use.

The new index replaces the old one only when every document is in it; until then the old one answers. Interrupted,
it goes on where it was. Knows nothing about how results are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ingest.catalog import Catalog, Fingerprint, Row
from ingest.discover import absolute, day_of
from ingest.pipeline import Ingestion
from ingest.progress import Progress
from ingest.results import FileResult, Summary
from ingest.stages import Recipe
from ingest.writer import FLUSH_AT, is_there, path_of
from rag.embed import Embedder
from rag.errors import EmbedError
from rag.filter import Pairs
from rag.settings import Settings
from rag.sparse import encode_document
from rag.store.opening import beside_label, index_identity, open_store, put_in_place
from rag.store.protocol import Store
from rag.types import IndexedChunk

KEPT = "its file has gone, so its passages are those of the index before"


class _Identity(NamedTuple):
    """As much of an embedder as opening its index takes."""

    dim: int
    id: str


def next_ledger(collection: str) -> str:
    """The name under which the catalog keeps a collection that is being built anew; no collection is called so."""
    return f"{collection}@next"


def why(settings: Settings, embedder: Embedder, catalog: Catalog) -> str:
    """Why a collection has to be indexed anew, for a person; empty where it need not be."""
    found = index_identity(settings)
    rows = [row for row in catalog.rows(settings.collection) if row.status == "indexed"]
    if not rows and found in (None, (embedder.dim, embedder.id)):
        return ""
    chunking = Recipe.of(settings, embedder).chunking
    if found is not None and found != (embedder.dim, embedder.id):
        return f"the embedder changed from {found[1]} to {embedder.id}"
    if other := next((row.chunker_version for row in rows if row.chunker_version != chunking), ""):
        return f"the way of cutting text into passages changed from {other} to {chunking}"
    return ""


def finish(settings: Settings, catalog: Catalog) -> None:
    """Bring the catalog up to date where a rebuild was killed after the new index had replaced the old one."""
    ledger = next_ledger(settings.collection)
    if catalog.rows(ledger) and not beside_label(settings):
        catalog.move(ledger, settings.collection)


class Rebuild:
    """A run over a whole collection, with the face of an `Ingestion`."""

    def __init__(self, settings: Settings, embedder: Embedder, catalog: Catalog) -> None:
        """Opens the index that is being built.

        Raises:
            StoreError: it cannot be opened, or another process is building it.
        """
        self._settings, self._embedder, self._catalog = settings, embedder, catalog
        self._ledger, self._chunking = next_ledger(settings.collection), Recipe.of(settings, embedder).chunking
        for row in catalog.rows(self._ledger):
            if (row.embedder_id, row.chunker_version) != (embedder.id, self._chunking):
                catalog.remove(self._ledger, row.doc)
        label = f"{embedder.id} {self._chunking}"
        self._beside = open_store(settings, embedder, create=True, beside=label)
        self._run = Ingestion(settings, embedder, self._beside, catalog, self._ledger)

    @property
    def summary(self) -> Summary:
        """See `Ingestion.summary`."""
        return self._run.summary

    def stop(self) -> None:
        """See `Ingestion.stop`; the next run goes on."""
        self._run.stop()

    def progress(self) -> Progress:
        """See `Ingestion.progress`."""
        return self._run.progress()

    def run(self, paths: Sequence[Path], prune: bool = False, metadata: Pairs = ()) -> Iterator[FileResult]:
        """Index the paths and every other document of the collection, then put the new index in place.

        With `prune`, documents below the paths whose files have gone are left behind. `metadata` is said about the
        documents of the paths alone.

        Raises:
            IngestError, StoreError: as `Ingestion.run`; the old index is as it was.
        """
        old = self._catalog.rows(self._settings.collection)
        known = [path for row in old if not row.parent and (path := path_of(row.doc)) is not None]
        try:
            yield from self._run.run(paths, metadata=metadata, besides=known)
            if self.summary.interrupted:
                return
            yield from self._carried(self._left_over(old, [absolute(path) for path in paths] if prune else []))
            put_in_place(self._settings, self._embedder, self._beside, None).close()
            self._catalog.move(self._ledger, self._settings.collection)
        finally:
            self._beside.close()

    def _left_over(self, old: Sequence[Row], pruned: Sequence[Path]) -> list[Row]:
        """Documents of the index in use whose files have gone, and that shall not be lost."""
        done = {row.doc for row in self._catalog.rows(self._ledger) if row.status == "indexed"}
        roots = {row.doc: row for row in old}
        return [
            row
            for row in old
            if row.status == "indexed"
            and row.doc not in done
            and _has_gone(row, roots)
            and not any(Path(row.doc).is_relative_to(root) for root in pruned)
        ]

    def _carried(self, rows: Sequence[Row]) -> Iterator[FileResult]:
        """Embed the passages that the index in use has of documents that can be read no more."""
        identity = index_identity(self._settings)
        if not rows or identity is None:
            return
        with closing(open_store(self._settings, _Identity(*identity))) as live:
            for row in rows:
                result = self._carry(row, live)
                self.summary.add(result)
                yield result

    def _carry(self, row: Row, live: Store) -> FileResult:
        row = replace(row, date=row.date or day_of(row.mtime_ns))  # an index of an earlier version has no dates
        chunks = [
            replace(item.chunk, date=row.date, metadata=row.metadata)
            for item in live.scan(row.doc_id)
            if item.chunk.revision == row.revision
        ]
        fingerprint = Fingerprint()
        for start in range(0, len(chunks), FLUSH_AT):
            part = chunks[start : start + FLUSH_AT]
            try:
                vectors = self._embedder.embed([chunk.searchable for chunk in part])
            except EmbedError as error:
                return self._left_behind(row, str(error))
            self._beside.upsert(
                [IndexedChunk(c, v, encode_document(c.searchable)) for c, v in zip(part, vectors, strict=True)]
            )
            for chunk in part:
                fingerprint.add(chunk.id)
        kept = replace(
            row,
            chunks=len(chunks),
            fingerprint=str(fingerprint),
            reason=KEPT,
            embedder_id=self._embedder.id,
            chunker_version=self._chunking,
        )
        self._catalog.put(self._ledger, kept)
        return FileResult(row.doc, "indexed", row.pages, len(chunks), reason=KEPT)

    def _left_behind(self, row: Row, error: str) -> FileResult:
        """A document whose passages the new embedder cannot take, and whose file is not there to be cut anew."""
        self._beside.delete(row.doc_id)
        reason = f"its file has gone, and of its passages: {error}"
        failed = replace(
            row, status="failed", stage="embed", reason=reason, chunks=0, fingerprint="", embedder_id=self._embedder.id,
            chunker_version=self._chunking,
        )  # fmt: skip
        self._catalog.put(self._ledger, failed)
        return FileResult(row.doc, "failed", stage="embed", reason=reason)


def _has_gone(row: Row, rows: dict[str, Row]) -> bool:
    while row.parent and row.parent in rows:
        row = rows[row.parent]
    return not is_there(row.doc)
