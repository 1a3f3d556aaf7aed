"""Proof that the catalog and the index say the same, and its repair. Knows nothing about how results are shown.

Every chunk in the store is read once: it must belong to a document of the catalog, in the revision that the catalog
names, visible, with a vector of the right width and of length 1; and the ids of a document's chunks must add up to
the fingerprint that was written down when it was indexed. A sample of documents is read anew from their files, and
the stored text compared with what is found there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from ingest.catalog import Catalog, Fingerprint, Row, unpacked
from ingest.discover import sha256_of
from ingest.pipeline import Ingestion
from ingest.results import FileResult
from ingest.sandbox import Chunks, Limits, Pool, Refused
from ingest.spool import leased
from ingest.stages import Recipe, Task
from ingest.writer import path_of
from rag.embed import Embedder
from rag.errors import ParseError
from rag.settings import Settings
from rag.store.protocol import Store
from rag.types import Chunk

NORM = 1e-3
"""How far a vector's length may be from 1; what is stored is rounded to 32 bits."""


class Fault(NamedTuple):
    """One thing that does not hold."""

    doc: str
    """The document's name; of an orphan, the name that its chunk carries."""
    kind: str
    """`missing`, `orphan`, `vector`, `metadata` or `text`."""
    detail: str


@dataclass(slots=True)
class Report:
    """What an audit found."""

    documents: int = 0
    """Indexed ones, as the catalog has them."""
    chunks: int = 0
    """As the catalog has them."""
    points: int = 0
    """Chunks that are in the store."""
    missing: int = 0
    """Chunks that the catalog has and the store has not."""
    orphans: int = 0
    """Chunks that the store has and the catalog has not."""
    bad_vectors: int = 0
    sampled: int = 0
    """Documents that were read anew."""
    changed: int = 0
    """Those of the sample whose files have changed or gone since; they prove nothing."""
    bad_texts: int = 0
    bad_metadata: int = 0
    """Chunks with another date or other metadata than the catalog has."""
    faults: list[Fault] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """True where everything holds."""
        return not self.faults


@dataclass(slots=True)
class _Seen:
    """What the store has of one document."""

    count: int = 0
    fingerprint: Fingerprint = field(default_factory=Fingerprint)
    orphans: int = 0
    bad_vectors: int = 0
    bad_metadata: int = 0


class Audit:
    """An audit of one collection."""

    def __init__(self, settings: Settings, embedder: Embedder, store: Store, catalog: Catalog) -> None:
        self._settings, self._embedder, self._store, self._catalog = settings, embedder, store, catalog
        self._collection, self._recipe = settings.collection, Recipe.of(settings, embedder)

    def run(self, sample: int) -> Report:
        """Compare everything, and read `sample` documents anew.

        Raises:
            StoreError, IngestError: the index or the catalog cannot be read.
        """
        rows = {row.doc_id: row for row in self._catalog.rows(self._collection) if row.status == "indexed"}
        report = Report(len(rows), sum(row.chunks for row in rows.values()))
        self._compare(rows, report)
        self._read_anew(self._sample(rows, sample), report)
        return report

    def repair(self, report: Report) -> Iterator[FileResult]:
        """Remove what belongs to no document, and index anew what does not hold; one result a document."""
        rows = {row.doc: row for row in self._catalog.rows(self._collection)}
        known = {row.doc_id for row in rows.values() if row.status == "indexed"}
        for doc_id in {item.chunk.doc_id for item in self._store.scan()} - known:
            self._store.delete(doc_id)
        again: set[Path] = set()
        for doc in dict.fromkeys(fault.doc for fault in report.faults if fault.doc in rows):
            row, file = rows[doc], _file_of(rows[doc], rows)
            path = path_of(file)
            reason = "its passages were damaged" if path else f"damaged, and {file} has gone; restore it"
            broken = replace(row, status="failed", stage="audit", reason=reason, chunks=0)
            self._catalog.put(self._collection, broken)
            self._store.delete(row.doc_id)
            if path:
                again.add(path)
            else:
                yield FileResult(doc, "failed", stage="audit", reason=reason)
        if again:
            yield from Ingestion(self._settings, self._embedder, self._store, self._catalog).run(sorted(again))

    def _compare(self, rows: dict[str, Row], report: Report) -> None:
        seen: dict[str, _Seen] = {}
        strays: dict[str, int] = {}
        for item in self._store.scan():
            report.points += 1
            chunk, row = item.chunk, rows.get(item.chunk.doc_id)
            if row is None:
                strays[chunk.doc] = strays.get(chunk.doc, 0) + 1
                continue
            of = seen.setdefault(chunk.doc_id, _Seen())
            if item.hidden or chunk.revision != row.revision:
                of.orphans += 1
                continue
            of.count += 1
            of.fingerprint.add(chunk.id)
            of.bad_vectors += not self._is_sound(np.asarray(item.dense))
            of.bad_metadata += (chunk.doc, chunk.date, chunk.metadata) != (row.doc, row.date, row.metadata)
        for doc, count in sorted(strays.items()):
            report.orphans += count
            report.faults.append(Fault(doc, "orphan", f"{count} passages of a document that is not in the catalog"))
        for doc_id, row in rows.items():
            _judge(row, seen.get(doc_id, _Seen()), report)

    def _is_sound(self, vector: npt.NDArray[np.float32]) -> bool:
        return vector.shape == (self._embedder.dim,) and bool(abs(np.linalg.norm(vector) - 1) < NORM)

    def _sample(self, rows: dict[str, Row], sample: int) -> list[Row]:
        """Documents that are files, chosen at random but the same every time."""
        files = sorted((row for row in rows.values() if not row.parent), key=lambda row: row.doc)
        return random.Random(0).sample(files, min(sample, len(files)))  # noqa: S311 - no secret

    def _read_anew(self, rows: list[Row], report: Report) -> None:
        limits, spool = Limits.of(self._settings), self._settings.home / "spool" / uuid4().hex
        pool = Pool(self._recipe, limits, self._settings.parse_workers or self._settings.cores, spool)
        found: dict[str, dict[str, Chunk]] = {}
        by_name = {row.doc: row for row in rows}
        with leased(spool), closing(pool):
            for row in rows:
                report.sampled += 1
                path = path_of(row.doc)
                if path is None or _has_changed(path, row):
                    report.changed += 1
                    continue
                found[row.doc] = {}
                given = unpacked(row.given)
                name = Path(row.doc).stem
                pool.submit(Task(path, name, row.doc, row.doc_id, row.revision, row.size, row.date, given))
            while not pool.is_idle:
                for event in pool.poll(1.0):
                    if isinstance(event, Chunks):
                        found[event.doc].update((item.chunk.id, item.chunk) for item in event.batch)
                    elif isinstance(event, Refused):
                        found[event.doc] = {}
        for doc, chunks in found.items():
            self._compare_text(by_name[doc], chunks, report)

    def _compare_text(self, row: Row, found: dict[str, Chunk], report: Report) -> None:
        stored = {item.chunk.id: item.chunk for item in self._store.scan(row.doc_id) if not item.hidden}
        differ = sum(stored.get(id_) != chunk for id_, chunk in found.items()) + len(stored.keys() - found.keys())
        if differ:
            report.bad_texts += differ
            report.faults.append(Fault(row.doc, "text", f"{differ} passages differ from what its file holds"))


def _judge(row: Row, seen: _Seen, report: Report) -> None:
    """Compare what the catalog says about a document with what the store has of it."""
    report.bad_vectors += seen.bad_vectors
    if seen.bad_vectors:
        report.faults.append(Fault(row.doc, "vector", f"{seen.bad_vectors} vectors of a wrong width or length"))
    report.bad_metadata += seen.bad_metadata
    if seen.bad_metadata:
        what = f"{seen.bad_metadata} passages with another name, date or metadata than the catalog has"
        report.faults.append(Fault(row.doc, "metadata", what))
    report.orphans += seen.orphans
    if seen.orphans:
        report.faults.append(Fault(row.doc, "orphan", f"{seen.orphans} passages of another revision, or unfinished"))
    if seen.count == row.chunks and str(seen.fingerprint) == row.fingerprint:
        return
    missing, more = max(row.chunks - seen.count, 0), max(seen.count - row.chunks, 0)
    if not missing and not more:  # as many, but others
        missing = more = 1
    report.missing += missing
    report.orphans += more
    kind = "missing" if missing else "orphan"
    report.faults.append(Fault(row.doc, kind, f"{row.chunks} passages were indexed, {seen.count} are there"))


def _has_changed(path: Path, row: Row) -> bool:
    try:
        return sha256_of(path) != row.sha256
    except ParseError:
        return True


def _file_of(row: Row, rows: dict[str, Row]) -> str:
    """The file in which a document was found."""
    while row.parent and row.parent in rows:
        row = rows[row.parent]
    return row.doc
