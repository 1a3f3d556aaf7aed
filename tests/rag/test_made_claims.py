"""Claims made from real text: right labels, faults where they are said to be, the same ones for the same seed."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from rag.align import STOP, words
from rag.finetune.claims import Maker
from rag.finetune.lexicon import OPPOSITES, SAME
from rag.finetune.records import Example, Made
from rag.finetune.statements import Asked, decided, stated

TITANIC = (
    "The Titanic was built by Harland and Wolff in Belfast. In April 1912, it sank in the Atlantic after it had hit an "
    "iceberg. About 1,517 people died, and many survivors were rescued by the Carpathia. Captain Edward Smith, who "
    "went down with the ship, had never lost a vessel before. The wreck was found by Robert Ballard in 1985."
)
WHALES = (
    "The blue whale is the largest animal on Earth. It eats approximately 4 tonnes of krill every day during the "
    "summer. Whales breathe air, because they are mammals. Calves are born after eleven months, and they drink their "
    "mothers' milk. Hunting reduced the population from 200,000 to fewer than 1,000 before it was banned in 1966."
)


def made(seed: int, count: int = 150) -> list[Example]:
    return list(islice(Maker([TITANIC, WHALES]).examples(random.Random(seed), 5), count))


def test_the_same_seed_makes_the_same_claims_and_another_one_others() -> None:
    assert made(1) == made(1) != made(2)


def test_both_labels_are_common_and_true_claims_have_no_faults() -> None:
    claims = [claim for example in made(3) for claim in example.claims]
    share = sum(claim.label for claim in claims) / len(claims)
    assert 0.3 < share < 0.6
    assert not any(claim.faults for claim in claims if claim.label)
    assert all(claim.faults for claim in claims if not claim.label)


def test_faults_are_words_of_the_claim_and_seldom_in_the_passage() -> None:
    there = total = 0
    for example in made(4):
        for claim in example.claims:
            for start, end in claim.faults:
                assert 0 <= start < end <= len(claim.claim)
                fault = claim.claim[start:end]
                assert fault == fault.strip()
                total += 1
                there += all(word in words(example.passage) for word in words(fault) if word not in STOP)
    # Names that changed places and a verb that lost its "not" stand in the passage and are wrong all the same.
    assert there / total < 0.35


def test_every_kind_of_fault_occurs() -> None:
    claims = " ".join(claim.claim.lower() for example in made(5, 600) for claim in example.claims if not claim.label)
    for sign in (" not ", "never", "june", "fewer", "smallest", "carpathia"):
        assert sign in claims, sign


def test_opposites_go_both_ways_and_no_word_has_itself_for_another() -> None:
    assert all(word in OPPOSITES[other] for word, others in OPPOSITES.items() for other in others)
    assert all(phrase not in (other.lower() for other in others) for phrase, others in SAME.items())


def test_questions_become_statements_with_a_false_one_beside() -> None:
    asked = [
        Asked("Who built the Titanic?", "Harland and Wolff", TITANIC),
        Asked("When did the Titanic sink?", "April 1912", TITANIC),
    ]
    found = stated(asked, 0)
    assert len(found) == 2
    for example, each, other in zip(found, asked, reversed(asked), strict=True):
        true, false = example.claims
        assert each.answer in example.passage
        assert each.answer.lower() in true.claim.lower()
        assert (true.label, true.faults) == (1, ())
        ((start, end),) = false.faults
        assert false.claim[start:end].lower() == other.answer.lower()


def test_an_answer_that_no_sentence_holds_makes_no_claim() -> None:
    assert stated([Asked("Who?", "nobody at all", TITANIC)], 0) == []


@pytest.mark.parametrize(
    ("question", "claim"),
    [("Do whales sing?", "Whales sing."), ("Is ice cold?", "Ice cold."), ("Why is that?", None)],
)
def test_a_decided_question_is_a_statement(question: str, claim: str | None) -> None:
    example = decided(question, False, WHALES)
    assert (example and example.claims) == (claim and (Made(claim, 0, (), whole=False),))
