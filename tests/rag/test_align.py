"""A claim beside a window: which words are the same, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.align import (
    MISSING,
    NUMBER_MISSING,
    OTHER,
    SAME,
    STEM,
    STOP_MISSING,
    STOP_SAME,
    TOKEN_FEATURES,
    Side,
    cut,
    flags,
    pair,
    side,
    stacked,
    weights,
    words,
)
from tests.conftest import WordEncoder

TEXTS = st.text(max_size=80)


def read(text: str) -> Side:
    return side(text, WordEncoder().encode([text])[0])


@pytest.mark.parametrize(
    ("claim", "window", "expected"),
    [
        ("The whale breathes.", "Whales breathe the air.", [STOP_SAME, STEM, STEM]),
        ("It ate 4 fish", "four fish eat", [STOP_MISSING, MISSING, SAME, SAME]),
        ("It cost 1,200 or 1300", "1200 in all", [STOP_MISSING, MISSING, SAME, SAME, STOP_MISSING, NUMBER_MISSING]),
        ("not mammals", "mammals", [MISSING, SAME]),
    ],
)
def test_each_word_is_found_or_not(claim: str, window: str, expected: list[int]) -> None:
    found = flags(read(claim), read(window))
    assert found.tolist() == [OTHER, *expected, OTHER]


def test_numbers_are_the_same_however_they_are_written() -> None:
    assert words("Two of 1,000.") == words("2 of 1000") == ["2", "of", "1000"]


def test_rare_words_weigh_more_than_stop_words() -> None:
    weight = weights(read("the whale"))
    assert weight[2] > 5 * weight[1]
    assert weight[0] == weight[3] == weight.min()


@given(TEXTS, TEXTS)
def test_a_pair_has_a_row_for_every_token_whatever_the_texts(claim: str, window: str) -> None:
    one, other = read(claim), read(window)
    made = pair(one, other)
    tokens = len(one.ids) + len(other.ids)
    assert made.states.shape[0] == made.segment.shape[0] == made.flag.shape[0] == tokens
    assert made.features.shape == (tokens, TOKEN_FEATURES)
    assert made.claim.sum() > 0
    assert not made.claim[len(one.ids) :].any()
    assert np.isfinite(made.features).all()


@given(TEXTS, st.data())
def test_a_cut_keeps_its_tokens_words(text: str, data: st.DataObject) -> None:
    whole = read(text)
    n = len(whole.ids)
    start = data.draw(st.integers(0, n - 1))
    part = cut(whole, np.arange(start, data.draw(st.integers(start, n))))
    for number, (word, id_) in enumerate(zip(part.word_of.tolist(), part.ids.tolist(), strict=True)):
        old = whole.word_of[start + number]
        assert id_ == whole.ids[start + number]
        assert (part.keys[word] if word >= 0 else None) == (whole.keys[old] if old >= 0 else None)


def test_a_batch_is_padded_and_says_so() -> None:
    pairs = [pair(read("Whales breathe"), read("Whales breathe air")), pair(read("It"), read("Is"))]
    batch = stacked(pairs)
    lengths = [len(each.flag) for each in pairs]
    assert batch["states"].shape[:2] == batch["mask"].shape
    assert batch["mask"].sum(1).tolist() == lengths
    assert not batch["states"][1, lengths[1] :].any()
