"""The audit finds every kind of damage, counts it right, and mends it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingest.audit import Audit, Report
from ingest.catalog import Catalog
from rag.settings import Settings
from rag.store.opening import open_store
from rag.types import IndexedChunk
from tests.ingest.inline import Bench, CountingEmbedder


@pytest.fixture
def bench(settings: Settings, catalog: Catalog, tmp_path: Path) -> Iterator[Bench]:
    """Three documents: one chunk, several, and an archive with a member."""
    embedder = CountingEmbedder()
    chosen = settings.model_copy(update={"chunk_tokens": 40, "chunk_overlap": 5})
    store = open_store(chosen, embedder, create=True)
    (tmp_path / "in").mkdir()
    bench = Bench(chosen, embedder, store, catalog, tmp_path / "in")
    bench.write("a.txt", "The rent is 900 euros.")
    bench.write("b.txt", "\n\n".join(f"Paragraph {n} speaks of the matter {n}. " * 6 for n in range(6)))
    with zipfile.ZipFile(bench.folder / "c.zip", "w") as archive:
        archive.writestr("d.txt", "A member.")
    bench.run()
    yield bench
    store.close()


def items(bench: Bench, name: str) -> list[IndexedChunk]:
    return list(bench.store.scan(bench.rows()[name].doc_id))


def mended(bench: Bench, report: Report) -> dict[str, str]:
    """Repair, and make sure that nothing is wrong any more; what was done about which document."""
    audit = Audit(bench.settings, bench.embedder, bench.store, bench.catalog)
    done = {bench.name(result.doc): result.status for result in audit.repair(report)}
    assert bench.audit(sample=9).holds
    assert bench.store.count() == bench.catalog.chunks(bench.settings.collection)
    return done


def kinds(bench: Bench, report: Report) -> list[tuple[str, str]]:
    return [(bench.name(fault.doc), fault.kind) for fault in report.faults]


def test_nothing_is_wrong_after_a_run(bench: Bench) -> None:
    report = bench.audit(sample=9)
    count = bench.store.count()
    assert report == Report(documents=4, chunks=count, points=count, sampled=3)
    assert report.holds
    assert bench.audit(sample=2).sampled == 2
    assert bench.audit().sampled == 0
    assert not list((bench.settings.home / "spool").glob("*"))


def test_lost_chunks(bench: Bench) -> None:
    lost = items(bench, "b.txt")
    bench.store.delete(lost[0].chunk.doc_id)
    bench.store.upsert(lost[:2])
    report = bench.audit()
    assert (report.missing, report.orphans) == (len(lost) - 2, 0)
    assert kinds(bench, report) == [("b.txt", "missing")]
    assert mended(bench, report) == {"b.txt": "indexed"}
    assert [item.chunk for item in items(bench, "b.txt")] == [item.chunk for item in lost]


def test_a_row_without_any_chunks(bench: Bench) -> None:
    bench.store.delete(bench.rows()["a.txt"].doc_id)
    report = bench.audit()
    assert (report.missing, kinds(bench, report)) == (1, [("a.txt", "missing")])
    assert mended(bench, report) == {"a.txt": "indexed"}


def test_a_lost_member(bench: Bench) -> None:
    bench.store.delete(bench.rows()["c.zip/d.txt"].doc_id)
    report = bench.audit()
    assert kinds(bench, report) == [("c.zip/d.txt", "missing")]
    assert mended(bench, report) == {"c.zip": "unchanged", "c.zip/d.txt": "indexed"}


def test_a_document_that_the_catalog_does_not_know(bench: Bench) -> None:
    row = bench.rows()["b.txt"]
    bench.catalog.remove(bench.settings.collection, row.doc)
    report = bench.audit()
    assert (report.orphans, report.missing) == (row.chunks, 0)
    assert kinds(bench, report) == [("b.txt", "orphan")]
    assert mended(bench, report) == {}
    assert "b.txt" not in bench.texts()


def test_chunks_of_a_failed_document(bench: Bench) -> None:
    row = bench.rows()["b.txt"]
    bench.catalog.put(bench.settings.collection, replace(row, status="failed", chunks=0))
    report = bench.audit()
    assert (report.orphans, kinds(bench, report)) == (row.chunks, [("b.txt", "orphan")])
    assert mended(bench, report) == {"b.txt": "indexed"}


@pytest.mark.parametrize("hidden", [True, False])
def test_leftovers_of_another_revision(bench: Bench, hidden: bool) -> None:
    (item,) = items(bench, "a.txt")
    other = "00000000-0000-0000-0000-000000000001"
    bench.store.upsert([replace(item, chunk=replace(item.chunk, id=other, revision="old"), hidden=hidden)])
    report = bench.audit()
    assert (report.orphans, report.missing, report.points) == (1, 0, report.chunks + 1)
    assert kinds(bench, report) == [("a.txt", "orphan")]
    mended(bench, report)
    assert len(items(bench, "a.txt")) == 1


def test_a_document_that_was_left_hidden(bench: Bench) -> None:
    (item,) = items(bench, "a.txt")
    bench.store.upsert([replace(item, hidden=True)])
    report = bench.audit()
    assert (report.orphans, report.missing) == (1, 1)
    mended(bench, report)
    assert bench.texts()["a.txt"] == [item.chunk.text]


def test_as_many_chunks_but_others(bench: Bench) -> None:
    row, (item,) = bench.rows()["a.txt"], items(bench, "a.txt")
    bench.store.delete(row.doc_id)
    bench.store.upsert([replace(item, chunk=replace(item.chunk, id="00000000-0000-0000-0000-000000000001"))])
    report = bench.audit()
    assert (report.orphans, report.missing) == (1, 1)
    assert mended(bench, report) == {"a.txt": "indexed"}
    assert [each.chunk.id for each in items(bench, "a.txt")] == [item.chunk.id]


def test_a_changed_text_is_found_by_reading_anew(bench: Bench) -> None:
    (item,) = items(bench, "a.txt")
    bench.store.upsert([replace(item, chunk=replace(item.chunk, text="The rent is 100 euros."))])
    assert bench.audit().holds
    report = bench.audit(sample=9)
    assert (report.bad_texts, kinds(bench, report)) == (1, [("a.txt", "text")])
    assert mended(bench, report) == {"a.txt": "indexed"}
    assert bench.texts()["a.txt"] == ["The rent is 900 euros."]


def test_a_file_that_was_changed_or_has_gone_since_is_no_fault(bench: Bench) -> None:
    bench.write("a.txt", "The rent is 950 euros.")
    (bench.folder / "b.txt").unlink()
    report = bench.audit(sample=9)
    assert report.holds
    assert (report.sampled, report.changed) == (3, 2)


def test_damage_to_a_document_whose_file_has_gone(bench: Bench) -> None:
    (bench.folder / "a.txt").unlink()
    bench.store.delete(bench.rows()["a.txt"].doc_id)
    report = bench.audit()
    (result,) = Audit(bench.settings, bench.embedder, bench.store, bench.catalog).repair(report)
    assert (bench.name(result.doc), result.status, result.stage) == ("a.txt", "failed", "audit")
    assert "has gone; restore it" in result.reason
    row = bench.rows()["a.txt"]
    assert (row.status, row.chunks, row.reason) == ("failed", 0, result.reason)
    assert bench.audit().holds


class Damaged:
    """A store of which one vector is read otherwise than it was written."""

    def __init__(self, bench: Bench, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._store, self._bench, self._name, self._change = bench.store, bench, name, change

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def scan(self, doc_id: str | None = None) -> Iterator[IndexedChunk]:
        for item in self._store.scan(doc_id):
            hit = self._bench.name(item.chunk.doc) == self._name
            yield replace(item, dense=self._change(np.asarray(item.dense))) if hit else item


@pytest.mark.parametrize("change", [lambda v: v * 1.01, lambda v: v[:-1], lambda v: v * np.nan, lambda v: v * 0])
def test_vectors_of_a_wrong_length_or_width(bench: Bench, change: Callable[[np.ndarray], np.ndarray]) -> None:
    damaged = Damaged(bench, "a.txt", change)
    report = Audit(bench.settings, bench.embedder, damaged, bench.catalog).run(0)  # type: ignore[arg-type]
    assert (report.bad_vectors, kinds(bench, report)) == (1, [("a.txt", "vector")])
    assert mended(bench, report) == {"a.txt": "indexed"}


def test_everything_at_once_is_counted_apart(bench: Bench) -> None:
    stray = bench.write("stray.txt", "Nobody's.")
    bench.run()
    bench.catalog.remove(bench.settings.collection, str(stray))
    bench.store.delete(bench.rows()["c.zip/d.txt"].doc_id)
    (item,) = items(bench, "a.txt")
    bench.store.upsert([replace(item, chunk=replace(item.chunk, text="Other."))])
    report = bench.audit(sample=9)
    assert (report.missing, report.orphans, report.bad_texts, len(report.faults)) == (1, 1, 1, 3)
    mended(bench, report)
