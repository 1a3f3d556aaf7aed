"""Dates and metadata of documents: where they come from, how long they last, and that a change costs no embedding."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest.audit import Audit
from ingest.catalog import Catalog
from rag.errors import StoreError
from rag.filter import Filter, Pairs
from rag.settings import Settings
from rag.sparse import encode_query
from rag.store.opening import open_store
from rag.types import Chunk
from tests.ingest.inline import Bench, CountingEmbedder
from tests.ingest.test_members import all_, embedded, mail, packed

PROJECT = (("project", "Aurora"),)
OTHER = (("project", "Borealis"),)


@pytest.fixture
def bench(settings: Settings, catalog: Catalog, tmp_path: Path) -> Iterator[Bench]:
    """A text of a day, a mail with an attachment, and an archive; not ingested yet."""
    embedder = CountingEmbedder()
    store = open_store(settings, embedder, create=True)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    bench = Bench(settings, embedder, store, catalog, tmp_path / "in")
    aged(bench.write("deep/a.txt", "The ferry sails at nine."), 2021)
    letter = b"Date: Fri, 17 May 2024 23:30:00 -0500\n" + mail("Lunch is at noon.", note="Bring a knife.")
    bench.write("letter.eml", letter)
    aged(bench.write("box.zip", packed({"b.txt": "A member of the box.", "c.eml": letter})), 2022)
    yield bench
    store.close()


def aged(path: Path, year: int) -> None:
    os.utime(path, (0, date(year, 3, 4).toordinal() * 86400 - 719163 * 86400 + 43200))


def said(bench: Bench) -> dict[str, tuple[str, Pairs]]:
    """Date and metadata of every document, on whose passages and catalog agree."""
    found = {bench.name(chunk.doc): (chunk.date, chunk.metadata) for chunk, hidden in bench.chunks().values()}
    assert found == {name: (row.date, row.metadata) for name, row in bench.rows().items()}
    assert bench.audit(sample=9).holds
    return found


def found(bench: Bench, within: Filter) -> set[str]:
    """Names of the documents that a search within the filter finds."""
    question = "ferry lunch member knife"
    store, embedder = bench.store, bench.embedder
    ranking = store.candidates(embedder.embed_query(question), encode_query(question), 50, within).dense
    return {bench.name(chunk.doc) for chunk in store.fetch([id_ for id_, _ in ranking])}


def test_the_formats_date_counts_then_the_files_and_members_go_by_their_container(bench: Bench) -> None:
    bench.run()
    letter = (("from", "ann@example.org"), ("to", "bob@example.org"), ("subject", "Lunch"))
    assert said(bench) == {
        "deep/a.txt": ("2021-03-04", ()),
        "letter.eml": ("2024-05-17", letter),
        "letter.eml/note.txt": ("2024-05-17", ()),
        "box.zip": ("2022-03-04", ()),
        "box.zip/b.txt": ("2022-03-04", ()),
        "box.zip/c.eml": ("2024-05-17", letter),
        "box.zip/c.eml/note.txt": ("2024-05-17", ()),
    }
    assert found(bench, Filter(until=date(2021, 12, 31))) == {"deep/a.txt"}
    assert found(bench, Filter(types=("eml",))) == {"letter.eml", "box.zip/c.eml"}
    assert found(bench, Filter(metadata=(("to", "bob@example.org"),))) == {"letter.eml", "box.zip/c.eml"}
    assert found(bench, Filter(folders=(str(bench.folder / "deep"),))) == {"deep/a.txt"}


def test_a_file_that_is_only_touched_keeps_its_date(bench: Bench) -> None:
    bench.run()
    before = said(bench)
    aged(bench.folder / "deep/a.txt", 2023)
    assert set(bench.statuses().values()) == {"unchanged"}
    assert said(bench) == before
    assert bench.statuses() == all_("unchanged", *before)


def test_what_the_user_says_holds_until_something_else_is_said_and_costs_no_embedding(bench: Bench) -> None:
    bench.run()
    names, before = set(said(bench)), said(bench)
    texts = bench.texts()
    embedded(bench)
    assert bench.statuses(metadata=PROJECT) == all_("indexed", *names)
    assert said(bench) == {name: (day, (*own, *PROJECT)) for name, (day, own) in before.items()}
    assert (bench.texts(), bench.read, embedded(bench)) == (texts, [], "")
    assert found(bench, Filter(metadata=(("Project", "aurora"),))) == names
    assert bench.statuses() == all_("unchanged", *names)
    assert bench.statuses(metadata=PROJECT) == all_("unchanged", *names)
    assert bench.run(bench.folder / "deep", metadata=(("project", "B"), ("tag", "x")))["deep/a.txt"].status == "indexed"
    assert said(bench)["deep/a.txt"] == ("2021-03-04", (("project", "B"), ("tag", "x")))
    assert said(bench)["box.zip/b.txt"][1] == PROJECT
    bench.run(bench.folder / "letter.eml", metadata=(("from", "Ann"), ("to", ""), ("project", "")))
    assert said(bench)["letter.eml"][1] == (("subject", "Lunch"), ("from", "Ann"))
    bench.run(metadata=(("project", ""),))
    assert said(bench) == before
    assert embedded(bench) == ""


def test_a_changed_file_a_new_member_and_a_renamed_file_keep_what_was_said(bench: Bench) -> None:
    bench.run(metadata=PROJECT)
    embedded(bench)
    aged(bench.write("deep/a.txt", "The ferry sails at ten."), 2023)
    bench.write("box.zip", packed({"b.txt": "A member of the box.", "new.txt": "Another one."}))
    bench.write("late.txt", "Nothing was said about this.")
    bench.run(prune=True)
    assert said(bench)["deep/a.txt"] == ("2023-03-04", PROJECT)
    assert said(bench)["box.zip/new.txt"][1] == PROJECT
    assert said(bench)["late.txt"][1] == ()
    embedded(bench)
    (bench.folder / "deep/a.txt").rename(bench.folder / "moved.md.txt")
    (bench.folder / "late.txt").rename(bench.folder / "deep" / "late.txt")
    bench.run(prune=True)
    assert embedded(bench) == ""
    assert said(bench)["moved.md.txt"] == ("2023-03-04", PROJECT)
    assert found(bench, Filter(folders=(str(bench.folder / "deep"),))) == {"deep/late.txt"}


class Watched:
    """The store, with something done before every call that changes it."""

    def __init__(self, bench: Bench, check: Any) -> None:
        self._store, self._check = bench.store, check

    def __getattr__(self, name: str) -> Any:
        if name in ("upsert", "publish", "delete"):
            self._check()
        return getattr(self._store, name)


def test_a_document_can_be_found_all_the_time_while_what_is_said_about_it_changes(bench: Bench) -> None:
    bench.run()
    names, before = set(said(bench)), bench.store
    seen: list[set[str]] = []
    bench.store = Watched(bench, lambda: seen.append({bench.name(c.doc) for c, hidden in visible(before)}))  # type: ignore[assignment]
    bench.run(metadata=PROJECT)
    bench.store = before
    assert len(seen) >= 2 * len(names)
    assert all(each == names for each in seen)


def visible(store: Any) -> list[tuple[Chunk, bool]]:
    return [(item.chunk, item.hidden) for item in store.scan() if not item.hidden]


@pytest.mark.parametrize("then", [PROJECT, OTHER], ids=["the same again", "what it was before"])
@pytest.mark.parametrize("call", range(14))
def test_cut_short_at_any_call_the_next_run_ends_as_if_nothing_had_happened(
    bench: Bench, call: int, then: Pairs
) -> None:
    bench.run(metadata=OTHER)
    left, store = [call], bench.store

    def fail() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StoreError("the disk is full")

    bench.store = Watched(bench, fail)  # type: ignore[assignment]
    with pytest.raises(StoreError):
        bench.run(metadata=PROJECT)
    bench.store = store
    assert {bench.name(chunk.doc) for chunk, _ in visible(store)} <= set(bench.rows())
    bench.run(metadata=then)
    assert {metadata[-1:] for _, metadata in said(bench).values()} == {then}
    assert len(said(bench)) == 7


def test_other_metadata_in_the_index_than_in_the_catalog_is_found_and_mended(bench: Bench) -> None:
    bench.run(metadata=PROJECT)
    row = bench.rows()["deep/a.txt"]
    (item,) = bench.store.scan(row.doc_id)
    bench.store.upsert([replace(item, chunk=replace(item.chunk, date="2020-01-01"))])
    report = bench.audit()
    assert [(bench.name(fault.doc), fault.kind) for fault in report.faults] == [("deep/a.txt", "metadata")]
    assert report.bad_metadata == 1
    list(Audit(bench.settings, bench.embedder, bench.store, bench.catalog).repair(report))
    assert said(bench)["deep/a.txt"] == ("2021-03-04", PROJECT)
    assert np.allclose(item.dense, next(iter(bench.store.scan(row.doc_id))).dense)
