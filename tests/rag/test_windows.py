"""Which sentences of a passage a claim is held against, and where they stand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rag.align import side
from rag.windows import SEGMENT_TOKENS, WINDOW_SENTENCES, Passage, Window, nearest, read
from tests.conftest import WordEncoder

TEXT = "Whales are mammals. They breathe air.\n\nIron ships float on water. The Titanic sank in 1912."
ENCODER = WordEncoder()


def near(claim: str, passage: Passage, most: int = 3) -> list[Window]:
    return nearest(side(claim, ENCODER.encode([claim])[0]), read([passage], ENCODER)[0], most)


def test_the_nearest_window_is_the_sentence_that_says_it() -> None:
    window = near("The Titanic sank.", Passage(TEXT))[0]
    assert TEXT[slice(*window.span)] == "The Titanic sank in 1912."
    assert window.side.keys == ("the", "titanic", "sank", "in", "1912")


def test_what_two_sentences_say_together_is_found_in_both() -> None:
    window = near("Whales are mammals and breathe air.", Passage(TEXT))[0]
    assert TEXT[slice(*window.span)] == "Whales are mammals. They breathe air."


def test_rows_are_read_with_their_column_names_and_stand_alone() -> None:
    rows = "Blues | STL | 1\nFlyers | PHI | 2"
    window = near("The team Flyers won the cup 2 times.", Passage(rows, "Team | City | Cup"))[0]
    assert rows[slice(*window.span)] == "Flyers | PHI | 2"
    assert window.side.keys == ("team", "city", "cup", "flyers", "phi", "2")


def test_no_window_lies_within_another() -> None:
    spans = [window.span for window in near("Iron whales breathe water.", Passage(TEXT), 9)]
    assert not any(a != b and a[0] >= b[0] and a[1] <= b[1] for a in spans for b in spans)


@given(
    st.lists(st.sampled_from(["whale ", "1912 ", "sank. ", "Air! ", "\n\n", "| ", "x" * 50 + " ", "鯨 "]), max_size=600)
)
def test_segments_hold_every_word_of_any_passage_and_fit_the_encoder(pieces: list[str]) -> None:
    text = "".join(pieces)
    (segments,) = read([Passage(text)], ENCODER)
    spans = [span for segment in segments for span in segment.spans]
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())
    assert all(len(segment.side.ids) <= SEGMENT_TOKENS + 2 for segment in segments)
    for window in near("A whale sank in 1912.", Passage(text)):
        assert 0 <= window.span[0] <= window.span[1] <= len(text)
        assert 1 <= window.last - window.first <= WINDOW_SENTENCES
