"""Closeness of answers to references, by hand and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.texts import best, contains, exact, normalised, recall, rouge_l, token_f1

TEXTS = st.text(alphabet="ab the. ,AN1", max_size=30)


@pytest.mark.parametrize(
    ("answer", "reference", "em", "f1", "inside", "share"),
    [
        ("The Panthers.", "panthers", 1, 1, 1, 1),
        ("They surrendered 308 points.", "308", 0, 2 / 5, 1, 1),
        ("They surrendered 1308 points.", "308", 0, 0, 0, 0),
        ("York, the new town", "New York", 0, 2 * 2 / 5, 0, 1),
        ("", "308", 0, 0, 0, 0),
    ],
)
def test_by_hand(answer: str, reference: str, em: float, f1: float, inside: float, share: float) -> None:
    assert exact(answer, reference) == em
    assert token_f1(answer, reference) == pytest.approx(f1)
    assert contains(answer, reference) == inside
    assert recall(answer, reference) == share


def test_rouge_l_by_hand() -> None:
    # The longest common subsequence of stems is "the cat the mat": 4 of 6 words and 4 of 5.
    assert rouge_l("the cats sat on the mat", "the cat left the mat") == pytest.approx(2 * 4 / (6 + 5))


def test_the_best_reference_counts_and_without_one_nothing() -> None:
    assert best(exact, "four", ["4", "Four."]) == 1
    assert best(exact, "four", []) == 0


@given(TEXTS, TEXTS)
def test_scores_are_shares_and_whoever_is_equal_contains(answer: str, reference: str) -> None:
    for metric in (exact, token_f1, contains, recall):
        assert 0 <= metric(answer, reference) <= 1
    if exact(answer, reference) and normalised(reference):
        assert token_f1(answer, reference) == contains(answer, reference) == recall(answer, reference) == 1
    if contains(answer, reference):
        assert recall(answer, reference) == 1
    assert token_f1(answer, reference) == pytest.approx(token_f1(reference, answer))
