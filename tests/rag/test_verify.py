"""How well passages support a sentence, and where: on word counts by hand, and on labelled answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.align import Pair
from rag.evidence import FIGURES, Blend
from rag.scorer import Scored
from rag.settings import Settings
from rag.verify import Support, Verdict, Verifier, open_checker
from rag.windows import Passage
from tests.conftest import FlagScorer, WordEncoder

WHALES = "Whales are mammals. They breathe air through a blowhole. A blue whale eats 4 tonnes of krill a day."
SHIPS = "Iron ships float on water. The Titanic sank in 1912 with 1,517 people."
WEIGHTS = tuple(float(name == "logit") for name in FIGURES)
LOGIT_ALONE = Blend((0.0,) * len(FIGURES), (1.0,) * len(FIGURES), WEIGHTS, 0.0, ("nothing",))


def make_verifier() -> Verifier:
    return Verifier(WordEncoder(), FlagScorer(), LOGIT_ALONE, "flags")


@pytest.fixture
def verifier() -> Verifier:
    return make_verifier()


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
    assert support.score > 0.97
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
        assert len({support.passage for support in verdict.supports}) == len(verdict.supports)
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
    assert (
        verifier.check(["Whales are mammals.", "Ships float."], [])
        == [Verdict(0.0, (), ("there are no passages",))] * 2
    )


@pytest.mark.parametrize(
    "claim", ["42", "x = f(y) + 1", "| a | b |", "- whales", "word " * 2000, "クジラは哺乳類です。"]
)
def test_odd_sentences_get_a_score(verifier: Verifier, claim: str) -> None:
    assert 0 <= best(verifier, claim, [Passage(WHALES)]).score <= 1


@pytest.mark.parametrize(
    "claim", ["", "?!", "It is.", "Do whales breathe?", "That is great!", "Hello, can I help you?"]
)
def test_what_claims_nothing_is_not_checked(verifier: Verifier, claim: str) -> None:
    (verdict,) = verifier.check([claim], [Passage(WHALES)])
    assert (verdict.score, verdict.supports, verdict.checkable) == (0.0, (), False)
    assert verdict.reasons


def test_a_claim_of_several_sentences_is_as_good_as_the_worst_of_them(verifier: Verifier) -> None:
    claims = [
        "Whales are mammals. Whales juggle torches.",
        "Whales juggle torches.",
        "Whales are mammals. Nice, is it?",
    ]
    both, bad, good = verifier.check(claims, [Passage(WHALES)])
    assert both.score == bad.score < 0.5
    assert good.score > 0.9


def test_reasons_name_what_is_missing(verifier: Verifier) -> None:
    claims = ["The Titanic sank in 1888 with 9 people.", "In 1912 the Olympic sank.", "Iron ships dissolve quickly."]
    numbers, name, word = verifier.check(claims, [Passage(SHIPS)])
    assert numbers.reasons == ("the numbers 1888, 9 are not in the passages",)
    assert name.reasons == ("the name Olympic is not in the passages",)
    assert word.reasons == ("the words dissolve, quickly do not fit what the passages say",)


def test_a_few_words_are_read_with_their_question(verifier: Verifier) -> None:
    (alone,), (asked,) = (
        verifier.check(["In 1912."], [Passage("It was built in 1912."), Passage(SHIPS)], question)
        for question in ("", "When did the Titanic sink?")
    )
    assert alone.supports[0].passage == 0
    assert asked.supports[0].passage == 1


def test_a_few_words_that_stand_nowhere_do_not_live_on_their_question(verifier: Verifier) -> None:
    """A heading often is the question itself."""
    passages = [Passage("To change the port, run footnote chat --port 8080.", "How do I change the port?")]
    right, wrong = verifier.check(["footnote chat", "php footnote_php"], passages, "How do I change the port?")
    assert right.score >= 0.5
    assert wrong.score < 0.3


@pytest.mark.parametrize("mark", ["1. ", "2) ", "- ", "• ", "12. "])
def test_the_mark_of_a_list_is_not_part_of_what_is_claimed(verifier: Verifier, mark: str) -> None:
    claim, passages = "A blue whale eats 4 tonnes of krill a day.", [Passage(WHALES)]
    assert verifier.check([mark + claim], passages) == verifier.check([claim], passages)


def test_the_words_of_a_passage_are_supported_whatever_the_model_says() -> None:
    class Doubter(FlagScorer):
        def score(self, pairs: Sequence[Pair]) -> list[Scored]:
            return [Scored(-9.0, scored.faults) for scored in super().score(pairs)]

    verifier = Verifier(WordEncoder(), Doubter(), LOGIT_ALONE, "doubts")
    said, changed = "鯨 は 哺乳類 です", "鯨 は 魚 です"
    exact, other = verifier.check([said, changed], [Passage(f"昔 から {said} 。")])
    assert exact.score > 0.9 > other.score


@pytest.mark.parametrize("text", [" ", "!", "x | y | z", "word " * 5000, "no end " * 300 + ".\n\nWhales are mammals."])
def test_passages_that_are_odd_or_longer_than_the_window_do_not_raise(verifier: Verifier, text: str) -> None:
    support = best(verifier, "Whales are mammals.", [Passage(text)])
    assert 0 <= support.start <= support.end <= len(text)
    assert (support.score > 0.9) == ("Whales" in text)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.lists(st.text(max_size=200), min_size=1, max_size=3))
def test_scores_and_places_are_in_bounds_for_any_text(claims: list[str], texts: list[str]) -> None:
    passages = [Passage(text) for text in texts]
    checked = make_verifier().check(claims, passages)
    assert len(checked) == len(claims)
    for verdict in checked:
        assert bool(verdict.supports) == verdict.checkable
        assert len(verdict.supports) <= len(passages)
        assert bool(verdict.reasons) or verdict.score >= 0.5
        for support in verdict.supports:
            text = texts[support.passage]
            assert 0 <= support.score <= 1
            assert 0 <= support.start <= support.end <= len(text)
            assert text[support.start : support.end] == text[support.start : support.end].strip() or not text.strip()


def test_the_same_answer_is_checked_the_same_way_twice(verifier: Verifier) -> None:
    claims, passages = ["Whales breathe.", "Ships sink in 1912."], [Passage(WHALES), Passage(SHIPS)]
    assert verifier.check(claims, passages) == verifier.check(claims, passages)


def test_a_row_is_read_with_its_column_names_and_quoted_without() -> None:
    claim = "The Blues have won the Stanley Cup 1 time."
    rows = "Blues | STL | 1\nFlyers | PHI | 2"
    with_names = best(make_verifier(), claim, [Passage(rows, about="Team | Location | Stanley Cup")])
    without = best(make_verifier(), claim, [Passage(rows)])
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
    verifier = open_checker(real_settings)
    chosen = rows(shared / "data" / name / "claims.jsonl", 30)
    scores = [verifier.check([str(row["claim"])], [Passage(str(row["context"]))])[0].score for row in chosen]
    labels = [int(row["label"]) for row in chosen]  # type: ignore[call-overload]
    assert np.isfinite(scores).all()
    assert auroc(labels, scores) > 0.8
