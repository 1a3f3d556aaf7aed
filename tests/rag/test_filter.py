"""What a filter matches, said once; the stores are held against it in test_store.py."""

from __future__ import annotations

from datetime import date

import pytest

from rag.filter import Filter, folders_of, merged
from tests.conftest import make_chunk

LETTER = "/home/ana/mail/letter.eml"
REPORT = make_chunk(
    "words",
    doc="/home/ana/mail/letter.eml/Report.PDF",
    date="2024-05-17",
    metadata=(("author", "Ana  Lund"), ("to", "Bo"), ("to", "bo@example.org")),
)


@pytest.mark.parametrize(
    "within",
    [
        Filter(),
        Filter(documents=(REPORT.doc,)),
        Filter(documents=("Report.PDF",)),
        Filter(documents=("other.md", "Report.PDF")),
        Filter(documents=(LETTER,)),
        Filter(folders=("/home/ana",)),
        Filter(folders=("/home/ana/mail/",)),
        Filter(folders=(LETTER,)),
        Filter(types=("md", ".Pdf")),
        Filter(since=date(2024, 5, 17), until=date(2024, 5, 17)),
        Filter(since=date(2024, 1, 1)),
        Filter(metadata=(("Author", "ana lund"),)),
        Filter(metadata=(("to", "BO@example.org"), ("to", "nobody"), ("author", "Ana Lund"))),
    ],
)
def test_it_matches(within: Filter) -> None:
    assert within.matches(REPORT)


@pytest.mark.parametrize(
    "within",
    [
        Filter(documents=("letter.eml",)),
        Filter(documents=("report.pdf",)),
        Filter(folders=("/home/an",)),
        Filter(folders=("mail",)),
        Filter(types=("eml",)),
        Filter(since=date(2024, 5, 18)),
        Filter(until=date(2024, 5, 16)),
        Filter(metadata=(("author", "Ana"),)),
        Filter(metadata=(("author", "Ana Lund"), ("project", "x"))),
        Filter(documents=("Report.PDF",), types=("eml",)),
    ],
)
def test_it_does_not_match(within: Filter) -> None:
    assert not within.matches(REPORT)


def test_a_document_without_a_date_lies_between_no_days() -> None:
    undated = make_chunk("words")
    assert not Filter(since=date.min).matches(undated)
    assert not Filter(until=date.max).matches(undated)
    assert Filter(types=("md",)).matches(undated)


def test_a_filter_that_leaves_nothing_out_is_empty() -> None:
    assert Filter().empty
    assert not Filter(types=("pdf",)).empty


def test_a_document_lies_in_all_folders_above_it() -> None:
    assert folders_of("/a/b/c.zip/d.txt") == ("/a/b/c.zip", "/a/b", "/a", "/")
    assert folders_of("a/b.txt") == ("a",)


def test_what_the_user_says_of_a_key_replaces_what_the_format_says() -> None:
    own = (("author", "scanner"), ("to", "Bo"), ("to", "bo@example.org"))
    assert merged(own, ()) == own
    assert merged(own, (("Author", "Ana"), ("tag", "a"), ("tag", "b"))) == (
        *own[1:],
        ("Author", "Ana"),
        ("tag", "a"),
        ("tag", "b"),
    )
    assert merged(own, (("to", ""),)) == own[:1]
