"""What is put above a passage for the search: title and headings, once each, and no more than fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.chunk import Chunker
from ingest.context import context_of
from ingest.parse.document import Piece, assemble


def count(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("title", "headings", "limit", "expected"),
    [
        ("Lease", ("Rent", "Due dates"), 10, "Lease\nRent\nDue dates"),
        ("Lease", ("Lease", "Rent"), 10, "Lease\nRent"),
        ("", ("Rent",), 10, "Rent"),
        ("", (), 10, ""),
        ("Lease", ("Rent", "Due dates"), 3, "Lease\nDue dates"),
        ("Lease", ("Rent", "Due dates"), 2, "Lease"),
        ("A title of many more words than fit", ("Rent",), 4, "A title of many"),
        ("Lease", ("Rent",), 0, ""),
        ("Lease", ("The text",), 10, "Lease"),
    ],
)
def test_title_first_then_the_innermost_headings(
    title: str, headings: tuple[str, ...], limit: int, expected: str
) -> None:
    assert context_of(title, headings, "# The text begins here.", count, limit) == expected


NAMES = st.text(alphabet="ab c", max_size=12)


@given(NAMES, st.lists(NAMES, max_size=5), st.integers(0, 8))
def test_it_fits_and_says_nothing_twice(title: str, headings: list[str], limit: int) -> None:
    context = context_of(title, headings, "text", count, limit)
    assert count(context) <= limit
    lines = context.splitlines()
    assert len(set(lines)) == len(lines)


def test_a_passage_is_searched_below_its_context() -> None:
    parsed = assemble("Lease", [Piece("The rent is 900 euros.", headings=("Rent",))])
    chunks = list(Chunker(count, 20, 0, context_tokens=5).chunks(parsed, "id", "doc"))
    assert [chunk.searchable for chunk in chunks] == ["Lease\nRent\nThe rent is 900 euros."]
    (chunk,) = Chunker(count, 20, 0, context_tokens=5).chunks(parsed, "id", "doc", about="")
    assert chunk.context == "Rent"
    assert chunk.title == "Lease"
    (chunk,) = Chunker(count, 20, 0).chunks(parsed, "id", "doc")
    assert chunk.searchable == chunk.with_header == chunk.text
