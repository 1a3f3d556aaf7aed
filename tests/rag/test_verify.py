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
from rag.types import Hit
from rag.verify import Support, Verifier
from tests.conftest import WordCountEmbedder, make_hit

WHALES = "Whales are mammals. They breathe air through a blowhole. A blue whale eats 4 tonnes of krill a day."
SHIPS = "Iron ships float on water. The Titanic sank in 1912 with 1,517 people."


@pytest.fixture
def verifier(embedder: WordCountEmbedder) -> Verifier:
    return Verifier(embedder)


def quote(support: Support) -> str:
    """What stands at the offsets, which are the document's and not the passage's."""
    chunk = support.hit.chunk
    return chunk.text[support.start - chunk.start : support.end - chunk.start]


def best(verifier: Verifier, claim: str, hits: Sequence[Hit]) -> Support:
    return verifier.check([claim], hits)[0][0]


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
    hits = [make_hit(WHALES, 3), make_hit(SHIPS, 7)]
    support = best(verifier, claim, hits)
    assert support.score == pytest.approx(1, abs=1e-5)
    assert quote(support) == claim
    assert support.hit == (hits[0] if claim in WHALES else hits[1])
    assert support.start == support.hit.chunk.start + support.hit.chunk.text.index(claim)


def test_a_sentence_made_of_two_points_at_both(verifier: Verifier) -> None:
    support = best(verifier, "Whales are mammals and breathe air through a blowhole.", [make_hit(WHALES, 2)])
    assert quote(support) == "Whales are mammals. They breathe air through a blowhole."


def test_passages_come_best_first_one_support_each(verifier: Verifier) -> None:
    hits = [make_hit(SHIPS, 1), make_hit(WHALES, 2), make_hit("Gravity pulls apples.", 3)]
    for claims in verifier.check(["Whales breathe air.", "The Titanic sank."], hits):
        scores = [support.score for support in claims]
        assert scores == sorted(scores, reverse=True)
        assert {support.hit.chunk.id for support in claims} == {hit.chunk.id for hit in hits}
        assert all(0 <= score <= 1 for score in scores)


def test_claims_are_answered_in_their_order(verifier: Verifier) -> None:
    supports = verifier.check(["Iron ships float on water.", "Whales are mammals."], [make_hit(WHALES + " " + SHIPS)])
    assert [quote(each[0]) for each in supports] == ["Iron ships float on water.", "Whales are mammals."]


def test_an_unrelated_sentence_scores_low(verifier: Verifier) -> None:
    score = best(
        verifier, "Quantum computers factor huge integers quickly.", [make_hit(WHALES), make_hit(SHIPS, 1)]
    ).score
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
    hits = [make_hit(f"{WHALES} {SHIPS}")]
    assert best(verifier, wrong, hits).score < best(verifier, right, hits).score - 0.2


def test_a_right_number_beside_a_wrong_one_costs_less(verifier: Verifier) -> None:
    hits = [make_hit(SHIPS)]
    one, both = (best(verifier, claim, hits).score for claim in ("In 1912 sank 9,999.", "In 1888 sank 9,999."))
    assert one > both


def test_nothing_to_check_or_to_check_against(verifier: Verifier) -> None:
    assert verifier.check([], [make_hit(WHALES)]) == []
    assert verifier.check([], []) == []
    assert verifier.check(["Whales are mammals.", "Ships float."], []) == [[], []]


@pytest.mark.parametrize("claim", ["", "?!", "It is.", "42", "word " * 2000])
def test_odd_sentences_get_a_score(verifier: Verifier, claim: str) -> None:
    assert 0 <= best(verifier, claim, [make_hit(WHALES)]).score <= 1


@pytest.mark.parametrize("text", [" ", "!", "x | y | z", "word " * 5000, "no end " * 300 + ".\n\nWhales are mammals."])
def test_passages_that_are_odd_or_longer_than_the_window_do_not_raise(verifier: Verifier, text: str) -> None:
    hit = make_hit(text, 5)
    support = best(verifier, "Whales are mammals.", [hit])
    assert hit.chunk.start <= support.start <= support.end <= hit.chunk.end
    assert (support.score > 0.9) == ("Whales" in text)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.lists(st.text(max_size=200), min_size=1, max_size=3))
def test_scores_and_places_are_in_bounds_for_any_text(claims: list[str], passages: list[str]) -> None:
    hits = [make_hit(text, number) for number, text in enumerate(passages)]
    checked = Verifier(WordCountEmbedder()).check(claims, hits)
    assert len(checked) == len(claims)
    for supports in checked:
        assert len(supports) == len(hits)
        for support in supports:
            assert 0 <= support.score <= 1
            assert support.hit.chunk.start <= support.start <= support.end <= support.hit.chunk.end
            assert quote(support) == quote(support).strip() or not support.hit.chunk.text.strip()


def test_the_same_answer_is_checked_the_same_way_twice(verifier: Verifier) -> None:
    claims, hits = ["Whales breathe.", "Ships sink in 1912."], [make_hit(WHALES), make_hit(SHIPS, 1)]
    assert verifier.check(claims, hits) == verifier.check(claims, hits)


def test_a_row_is_read_with_its_column_names_and_quoted_without(embedder) -> None:
    claim = "The Blues have won the Stanley Cup 1 time."
    rows = "Blues | STL | 1\nFlyers | PHI | 2"
    with_names = best(Verifier(embedder), claim, [make_hit(rows, 3, header="Team | Location | Stanley Cup")])
    without = best(Verifier(embedder), claim, [make_hit(rows, 3)])
    assert with_names.score > without.score
    assert rows[with_names.start - 300 : with_names.end - 300] in ("Blues | STL | 1", rows)


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
    scores = [best(verifier, str(row["claim"]), [make_hit(str(row["context"]))]).score for row in chosen]
    labels = [int(row["label"]) for row in chosen]  # type: ignore[call-overload]
    assert np.isfinite(scores).all()
    assert auroc(labels, scores) > 0.8
