"""Files -> parsed -> chunks -> vectors -> store, with the catalog kept in step. Knows nothing about how it is shown.

Order of writing, so that a kill at any moment loses nothing: a document's new chunks go in, then its stale ones
go out, then its catalog row says `indexed`. Chunk ids are deterministic, so the next run repeats what was cut off
and lands on the same points.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from ingest.catalog import Catalog, Row
from ingest.chunk import CHUNKER_VERSION, Chunker
from ingest.discover import Found, discover, doc_id_of, plain, sha256_of
from ingest.parse.document import ParsedDocument
from ingest.parse.table import PARSER_VERSION, parse
from rag.embed import Embedder
from rag.errors import EmbedError, ParseError, SettingsError
from rag.settings import Settings
from rag.sparse import encode_document
from rag.store.protocol import Store
from rag.types import Chunk, Document, IndexedChunk

FLUSH_AT = 256
"""Chunks gathered from several documents before they are embedded: enough to sort by length, little to lose."""
SAME = ("sha256", "parser_version", "chunker_version", "embedder_id")
"""What must not have changed for a document to be left as it is."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file. `stage` and `reason` say why it failed; `reason` also what an indexed one left out."""

    doc: str
    status: str
    """`indexed`, `unchanged` or `failed`."""
    pages: int = 0
    chunks: int = 0
    stage: str = ""
    reason: str = ""


@dataclass(slots=True)
class Summary:
    """Counts of one run, kept up to date while it goes on."""

    seen: int = 0
    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: int = 0
    chunks: int = 0
    pages: int = 0
    seconds: float = 0.0
    failures: list[FileResult] = field(default_factory=list)

    def add(self, result: FileResult) -> None:
        """Count one file."""
        self.seen += 1
        setattr(self, result.status, getattr(self, result.status) + 1)
        if result.status == "indexed":
            self.chunks += result.chunks
            self.pages += result.pages
        if result.status == "failed":
            self.failures.append(result)


@dataclass(frozen=True, slots=True)
class _Pending:
    row: Row
    parsed: ParsedDocument
    chunks: tuple[Chunk, ...]


class Ingestion:
    """Ingests files into one collection."""

    def __init__(self, settings: Settings, embedder: Embedder, store: Store, catalog: Catalog) -> None:
        room = embedder.window - 2
        if settings.chunk_tokens > room:
            raise SettingsError(
                f"chunk_tokens is {settings.chunk_tokens}, but the embedder's window takes {room}; lower chunk_tokens"
            )
        self._collection, self._embedder, self._store, self._catalog = settings.collection, embedder, store, catalog
        self._chunker = Chunker(embedder.tokens, settings.chunk_tokens, settings.chunk_overlap)
        self._chunking = f"{CHUNKER_VERSION}:{settings.chunk_tokens}:{settings.chunk_overlap}"
        self.summary = Summary()

    def run(self, paths: Sequence[Path]) -> Iterator[FileResult]:
        """Ingest files and folders; yields one result a file, each when it is certain.

        Raises:
            IngestError: a path does not exist.
            StoreError: the index cannot be written.
        """
        started = time.perf_counter()
        for result in self._results(list(discover(paths))):
            self.summary.add(result)
            self.summary.seconds = time.perf_counter() - started
            yield result
        self.summary.seconds = time.perf_counter() - started

    def _results(self, files: Sequence[Found]) -> Iterator[FileResult]:
        pending: list[_Pending] = []
        for found in files:
            outcome = self._prepared(found)
            if isinstance(outcome, FileResult):
                yield outcome
            else:
                pending.append(outcome)
            if sum(len(p.chunks) for p in pending) >= FLUSH_AT:
                yield from self._written(pending)
                pending = []
        yield from self._written(pending)

    def _prepared(self, found: Found) -> FileResult | _Pending:
        """A document ready to be embedded, or the result of a file that goes no further."""
        row, stage = self._row(found), "read"
        try:
            row = replace(row, sha256=sha256_of(found.path))
            known = self._catalog.get(self._collection, row.doc)
            if known and self._unchanged(known, row):
                return FileResult(row.doc, "unchanged", known.pages, known.chunks)
            stage = "parse"
            parsed = parse(found.path)
            stage = "chunk"
            chunks = tuple(self._chunker.chunks(parsed, row.doc_id, row.doc))
            if not chunks:
                raise ParseError("no text in it; nothing to index")
        except ParseError as error:
            return self._failed(row, stage, str(error))
        return _Pending(row, parsed, chunks)

    def _unchanged(self, known: Row, row: Row) -> bool:
        """True where the same content was indexed in the same way, and its chunks are still in this store."""
        same = all(getattr(known, name) == getattr(row, name) for name in SAME)
        return same and known.status == "indexed" and len(self._store.ids(row.doc_id)) == known.chunks

    def _failed(self, row: Row, stage: str, reason: str) -> FileResult:
        """A failed file has nothing in the index: passages that it no longer holds must not be cited."""
        self._store.delete(row.doc_id)
        self._catalog.put(self._collection, replace(row, stage=stage, reason=reason))
        return FileResult(row.doc, "failed", stage=stage, reason=reason)

    def _written(self, pending: Sequence[_Pending]) -> Iterator[FileResult]:
        """Embed and store several documents at once."""
        chunks = [chunk for document in pending for chunk in document.chunks]
        if not chunks:
            return
        try:
            vectors = self._embedder.embed([chunk.text for chunk in chunks])
        except EmbedError as error:
            yield from (self._failed(document.row, "embed", str(error)) for document in pending)
            return
        self._store.upsert([IndexedChunk(c, v, encode_document(c.text)) for c, v in zip(chunks, vectors, strict=True)])
        for document in pending:
            self._store.delete(document.row.doc_id, keep=[chunk.id for chunk in document.chunks])
            parsed, count, notes = document.parsed, len(document.chunks), "; ".join(document.parsed.notes)
            row = replace(
                document.row, title=parsed.title, status="indexed", pages=parsed.pages, chunks=count, reason=notes
            )
            self._catalog.put(self._collection, row)
            yield FileResult(row.doc, "indexed", row.pages, row.chunks, reason=notes)

    def _row(self, found: Found) -> Row:
        """A file's catalog row as long as nothing has come of it."""
        return Row(
            doc=plain(str(found.path)),
            doc_id=doc_id_of(found.path),
            title=plain(found.path.stem),
            sha256="",
            size=found.size,
            mtime_ns=found.mtime_ns,
            status="failed",
            stage="",
            reason="",
            pages=0,
            chunks=0,
            parser_version=PARSER_VERSION,
            chunker_version=self._chunking,
            embedder_id=self._embedder.id,
            updated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def remove(document: Document, collection: str, store: Store, catalog: Catalog) -> None:
    """Take a document out of the index, then out of the catalog, so that a kill between leaves it listed."""
    store.delete(document.id)
    catalog.remove(collection, document.doc)


def peak_rss_mb() -> float:
    """The most memory this process has held so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
