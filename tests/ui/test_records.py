"""The JSON of the command line and of the REST API: complete, plain, and the same in both."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from ingest.results import FileResult, Summary
from rag.types import Answer, Chunk, Citation, Document, Hit, Sentence, Timings, Via
from tests.conftest import make_hit
from ui import records

TEXT = 'Größe 你好 🐋 "quoted" \\ back\nline \u2028 \x00 <b>'
HIT = Hit(
    make_hit(TEXT, 3, page=7, headings=("One", "Two")).chunk, 0.123456789, (Via("dense", 1, 0.9), Via("bm25", 4, 7.25))
)
CITATION = Citation(1, "/documents/doc.md", "Doc", 7, ("One", "Two"), 300, 305, "Größe")
ANSWER = Answer(
    "Why?",
    "So. Or not.",
    False,
    (Sentence("So.", 0.91, (CITATION,)), Sentence("Or not.", 0.2, (), ("no",))),
    (HIT,),
    Timings(1.5, 20.0, 30.0, 4.0, 55.5),
    "model@0123",
)


def round_trip(record: dict[str, Any]) -> dict[str, Any]:
    """What a script reads from what we print."""
    back: dict[str, Any] = json.loads(json.dumps(record, ensure_ascii=False, allow_nan=False))
    assert list(back) == list(record)
    return back


def test_a_hit_holds_what_the_contract_names() -> None:
    assert round_trip(records.hit(HIT)) == {
        "doc": "/documents/doc.md",
        "title": "Doc",
        "page": 7,
        "headings": ["One", "Two"],
        "start": 300,
        "end": 300 + len(TEXT),
        "score": 0.123457,
        "text": TEXT,
        "via": {"dense": 0.9, "bm25": 7.25},
    }


def test_an_answer_holds_what_the_contract_names() -> None:
    found = round_trip(records.answer(ANSWER))
    assert {"answer", "abstained", "sentences", "hits", "timings_ms"} <= set(found)
    assert (found["question"], found["answer"], found["abstained"], found["model"]) == (
        "Why?",
        "So. Or not.",
        False,
        "model@0123",
    )
    assert found["searched"] == ""
    assert records.answer(replace(ANSWER, searched="Why? (rent)"))["searched"] == "Why? (rent)"
    right, wrong = found["sentences"]
    assert (right["text"], right["support"], right["supported"]) == ("So.", 0.91, True)
    assert right["citations"] == [
        {
            "number": 1,
            "doc": "/documents/doc.md",
            "title": "Doc",
            "page": 7,
            "headings": ["One", "Two"],
            "start": 300,
            "end": 305,
            "quote": "Größe",
        }
    ]
    assert (wrong["supported"], wrong["citations"], wrong["checkable"], wrong["reasons"]) == (False, [], True, ["no"])
    assert found["dropped"] == []
    dropped = round_trip(records.answer(replace(ANSWER, dropped=ANSWER.sentences)))["dropped"]
    assert dropped == found["sentences"]
    assert found["hits"] == [records.hit(HIT)]
    assert found["timings_ms"] == {
        "retrieve": 1.5,
        "first_token": 20.0,
        "generate": 30.0,
        "verify": 4.0,
        "total": 55.5,
    }


def test_what_did_not_run_is_null() -> None:
    declined = replace(ANSWER, abstained=True, timings=Timings(1.0, total=2.0), hits=(), sentences=())
    times = round_trip(records.answer(declined))["timings_ms"]
    assert times == {"retrieve": 1.0, "first_token": None, "generate": None, "verify": None, "total": 2.0}


def test_a_page_that_does_not_exist_is_null() -> None:
    assert round_trip(records.hit(make_hit("text", 1)))["page"] is None


def test_a_document_holds_every_field() -> None:
    said = (("author", "Ana"), ("to", "Bo"), ("to", "cy"))
    document = Document(
        "id", "/documents/a.pdf", "A", "failed", 1, 2, "abc", 3, "parse", "encrypted", "2024-05-17", said
    )
    found = round_trip(records.document(document))
    assert set(found) == {field.name for field in fields(Document)}
    assert found.pop("metadata") == {"author": ["Ana"], "to": ["Bo", "cy"]}
    assert all(found[name] == getattr(document, name) for name in found)


def test_a_summary_counts_files_and_lists_failures() -> None:
    summary = Summary(seconds=2.0)
    for result in (
        FileResult("/documents/a.pdf", "indexed", 3, 10),
        FileResult("/documents/b.pdf", "unchanged", 1, 4),
        FileResult("/documents/c.pdf", "failed", stage="parse", reason="encrypted"),
    ):
        summary.add(result)
    summary.peak_bytes = 1234 << 20
    found = round_trip(records.summary(summary, Path("/h/quarantine/default.jsonl")))
    assert found["files"] == {"seen": 3, "indexed": 1, "unchanged": 1, "removed": 0, "failed": 1}
    assert (found["chunks"], found["pages"], found["chunks_per_second"]) == (10, 3, 5.0)
    assert (found["seconds"], found["peak_rss_mb"]) == (2.0, 1234.0)
    assert (found["quarantine"], found["interrupted"]) == ("/h/quarantine/default.jsonl", False)
    assert found["failures"] == [{"path": "/documents/c.pdf", "stage": "parse", "reason": "encrypted"}]


def test_a_run_that_did_nothing_divides_by_nothing() -> None:
    assert round_trip(records.summary(Summary(), None))["chunks_per_second"] == 0.0


def chunk(**changes: object) -> Chunk:
    return make_hit("text", 1, **changes).chunk


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "doc.md"),
        ({"page": 3}, "doc.md › page 3"),
        ({"headings": ("One", "Two")}, "doc.md › One › Two"),
        ({"page": 1, "headings": ("One",)}, "doc.md › page 1 › One"),
        ({"doc": "C:/books/Möby Dick.pdf", "page": 12}, "Möby Dick.pdf › page 12"),
        ({"headings": ("Same", "Same")}, "doc.md › Same"),
    ],
)
def test_a_place_is_file_page_and_section(changes: dict[str, object], expected: str) -> None:
    at = chunk(**changes)
    assert records.place(Hit(at, 1.0)) == expected
    assert records.place(Citation(1, at.doc, at.title, at.page, at.headings, at.start, at.end, at.text)) == expected
