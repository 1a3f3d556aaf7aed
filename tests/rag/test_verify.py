"""How well passages support a sentence, and where: on word counts by hand, and on labelled answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.embed import open_embedder
from rag.settings import Settings
from rag.verify import Passage, Support, Verdict, Verifier
from tests.conftest import WordCountEmbedder

WHALES = "Whales are mammals. They breathe air through a blowhole. A blue whale eats 4 tonnes of krill a day."
SHIPS = "Iron ships float on water. The Titanic sank in 1912 with 1,517 people."


@pytest.fixture
def verifier(embedder: WordCountEmbedder) -> Verifier:
    return Verifier(embedder)


def quote(support: Support, passages: Sequence[Passage]) -> str:
    return passages[support.passage].text[support.start : support.end]


def best(verifier: Verifier, claim: str, passages: Sequence[Passage]) -> Support:
    return verifier.check([claim], passages)[0].supports[0]


@pytest.mark.parametrize(
    "claim",
    [
        "Whales are mammals.",
        "They breathe air through a blowhole.",
        "A blue whale eats 4 tonnes of krill a day.",
        "Iron ships float on water.",
        "The Titanic sank in 1912 with 1,517 people.",
    ],
)
def test_a_sentence_of_a_passage_is_fully_supported_right_there(verifier: Verifier, claim: str) -> None:
    passages = [Passage(WHALES), Passage(SHIPS)]
    support = best(verifier, claim, passages)
    assert support.score == pytest.approx(1, abs=1e-5)
    assert quote(support, passages) == claim
    assert support.passage == (0 if claim in WHALES else 1)


def test_a_sentence_made_of_two_points_at_both(verifier: Verifier) -> None:
    passages = [Passage(WHALES)]
    support = best(verifier, "Whales are mammals and breathe air through a blowhole.", passages)
    assert quote(support, passages) == "Whales are mammals. They breathe air through a blowhole."


def test_passages_come_best_first_one_support_each(verifier: Verifier) -> None:
    passages = [Passage(SHIPS), Passage(WHALES), Passage("Gravity pulls apples.")]
    for verdict in verifier.check(["Whales breathe air.", "The Titanic sank."], passages):
        scores = [support.score for support in verdict.supports]
        assert scores == sorted(scores, reverse=True)
        assert {support.passage for support in verdict.supports} == {0, 1, 2}
        assert all(0 <= score <= 1 for score in scores)


def test_claims_are_answered_in_their_order(verifier: Verifier) -> None:
    claims, passages = ["Iron ships float on water.", "Whales are mammals."], [Passage(f"{WHALES} {SHIPS}")]
    assert [quote(verdict.supports[0], passages) for verdict in verifier.check(claims, passages)] == claims


def test_an_unrelated_sentence_scores_low(verifier: Verifier) -> None:
    score = best(verifier, "Quantum computers factor huge integers quickly.", [Passage(WHALES), Passage(SHIPS)]).score
    assert score < 0.3


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("The Titanic sank in 1912.", "The Titanic sank in 1915."),
        ("It sank with 1,517 people.", "It sank with 1,571 people."),
        ("A blue whale eats 4 tonnes.", "A blue whale eats 40 tonnes."),
    ],
)
def test_a_wrong_number_costs(verifier: Verifier, right: str, wrong: str) -> None:
    passages = [Passage(f"{WHALES} {SHIPS}")]
    assert best(verifier, wrong, passages).score < best(verifier, right, passages).score - 0.2


def test_a_right_number_beside_a_wrong_one_costs_less(verifier: Verifier) -> None:
    passages = [Passage(SHIPS)]
    one, both = (best(verifier, claim, passages).score for claim in ("In 1912 sank 9,999.", "In 1888 sank 9,999."))
    assert one > both


def test_nothing_to_check_or_to_check_against(verifier: Verifier) -> None:
    assert verifier.check([], [Passage(WHALES)]) == []
    assert verifier.check([], []) == []
    assert verifier.check(["Whales are mammals.", "Ships float."], []) == [Verdict(0.0), Verdict(0.0)]


@pytest.mark.parametrize("claim", ["", "?!", "It is.", "42", "word " * 2000])
def test_odd_sentences_get_a_score(verifier: Verifier, claim: str) -> None:
    assert 0 <= best(verifier, claim, [Passage(WHALES)]).score <= 1


@pytest.mark.parametrize("text", [" ", "!", "x | y | z", "word " * 5000, "no end " * 300 + ".\n\nWhales are mammals."])
def test_passages_that_are_odd_or_longer_than_the_window_do_not_raise(verifier: Verifier, text: str) -> None:
    support = best(verifier, "Whales are mammals.", [Passage(text)])
    assert 0 <= support.start <= support.end <= len(text)
    assert (support.score > 0.9) == ("Whales" in text)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.lists(st.text(max_size=200), min_size=1, max_size=3))
def test_scores_and_places_are_in_bounds_for_any_text(claims: list[str], texts: list[str]) -> None:
    passages = [Passage(text) for text in texts]
    checked = Verifier(WordCountEmbedder()).check(claims, passages)
    assert len(checked) == len(claims)
    for verdict in checked:
        assert len(verdict.supports) == len(passages)
        for support in verdict.supports:
            text = texts[support.passage]
            assert 0 <= support.score <= 1
            assert 0 <= support.start <= support.end <= len(text)
            assert text[support.start : support.end] == text[support.start : support.end].strip() or not text.strip()


def test_the_same_answer_is_checked_the_same_way_twice(verifier: Verifier) -> None:
    claims, passages = ["Whales breathe.", "Ships sink in 1912."], [Passage(WHALES), Passage(SHIPS)]
    assert verifier.check(claims, passages) == verifier.check(claims, passages)


def test_a_row_is_read_with_its_column_names_and_quoted_without(embedder) -> None:
    claim = "The Blues have won the Stanley Cup 1 time."
    rows = "Blues | STL | 1\nFlyers | PHI | 2"
    with_names = best(Verifier(embedder), claim, [Passage(rows, about="Team | Location | Stanley Cup")])
    without = best(Verifier(embedder), claim, [Passage(rows)])
    assert with_names.score > without.score
    assert rows[with_names.start : with_names.end] in ("Blues | STL | 1", rows)


def auroc(labels: Sequence[int], scores: Sequence[float]) -> float:
    """Chance that a supported row scores above an unsupported one (Mann-Whitney U, ties count half)."""
    supported = [score for label, score in zip(labels, scores, strict=True) if label]
    others = [score for label, score in zip(labels, scores, strict=True) if not label]
    won = sum((good > bad) + (good == bad) / 2 for good in supported for bad in others)
    return won / (len(supported) * len(others))


def rows(path: Path, each: int) -> list[dict[str, object]]:
    """As many rows of each label, spread evenly over the file."""
    with path.open(encoding="utf-8") as file:
        everything = [json.loads(line) for line in file]
    chosen = []
    for label in (0, 1):
        with_label = [row for row in everything if row["label"] == label]
        chosen += with_label[:: max(1, len(with_label) // each)][:each]
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["begin-cmu-dev", "lfqa-dev"])
def test_supported_sentences_of_real_answers_score_above_the_others(
    real_settings: Settings, shared: Path, name: str
) -> None:
    verifier = Verifier(open_embedder(real_settings))
    chosen = rows(shared / "data" / name / "claims.jsonl", 30)
    scores = [best(verifier, str(row["claim"]), [Passage(str(row["context"]))]).score for row in chosen]
    labels = [int(row["label"]) for row in chosen]  # type: ignore[call-overload]
    assert np.isfinite(scores).all()
    assert auroc(labels, scores) > 0.8
