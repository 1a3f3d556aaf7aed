"""Questions by rule: what plain sentences are asked, that answers are verbatim, and that odd input makes none."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag import sentences
from rag.align import WORD
from rag.finetune import lexicon
from rag.finetune.questions import Question, questions
from tests.conftest import ROOT

VOCABULARY = frozenset("hunt reduce open plant cross publish launch".split())
WORDS = sorted({*lexicon.PAST, *lexicon.PRESENT, *lexicon.PARTICIPLES, *lexicon.NEVER, *lexicon.PREPOSITIONS})


def asked(sentence: str) -> set[tuple[str, str]]:
    """Whatever is asked of a sentence, in all ways to ask it; without question marks."""
    found = (each for seed in range(30) for each in questions(sentence, random.Random(seed), VOCABULARY))
    return {(each.question.rstrip("?"), each.answer) for each in found}


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("The Titanic was built by Harland and Wolff.", "Who was the Titanic built by", "Harland and Wolff"),
        (
            "In 1912, the Titanic struck an iceberg in the Atlantic.",
            "When did the Titanic strike an iceberg in the Atlantic",
            "1912",
        ),
        ("The wreck of the Titanic was found in 1985.", "In what year was the wreck of the Titanic found", "1985"),
        ("Temüjin was elected khan on 3 May 1206.", "When was Temüjin elected khan", "3 May 1206"),
        (
            "On October 6, 1973, Egypt launched an attack on the Sinai peninsula.",
            "When did Egypt launch an attack on the Sinai peninsula",
            "October 6, 1973",
        ),
        ("The museum in Kensington has 145 galleries.", "How many galleries does the museum in Kensington have", "145"),
        (
            "A total of 316 patients met the inclusion criteria.",
            "How many patients met the inclusion criteria",
            "316",
        ),
        (
            "A genetic mutation was identified in 23 patients, and BRAF was the most frequent one.",
            "In how many patients was a genetic mutation identified",
            "23",
        ),
        ("There are two main barriers to delivery.", "How many main barriers are there to delivery", "two"),
        (
            "About 28% of patients were treated at home.",
            "What percentage of patients were treated at home",
            "About 28%",
        ),
        ("A Norman named Oursel led a force into Syria.", "What led a force into Syria", "A Norman named Oursel"),
        ("DECnet is a suite of network protocols.", "What is DECnet", "a suite of network protocols"),
        (
            "Henry Cole, the museum's first director, published a guide to the collection.",
            "Who was Henry Cole",
            "the museum's first director",
        ),
        (
            "Marie Curie was a physicist who worked in Paris.",
            "Who was Marie Curie",
            "a physicist",
        ),
        ("Polonia's home venue is located in Warsaw.", "Where is Polonia's home venue located", "Warsaw"),
        ("The property of being prime is called primality.", "What is the property of being prime called", "primality"),
        (
            "The match in Leeds was cancelled because the pitch was frozen.",
            "Why was the match in Leeds cancelled",
            "the pitch was frozen",
        ),
        (
            "Fishermen reduced the population of blue whales before 1966.",
            "What did Fishermen reduce",
            "the population of blue whales",
        ),
        (
            "The control group consisted of 44 women.",
            "What did the control group consist of",
            "44 women",
        ),
        (
            "Galor and Zeira found that inequality slows growth.",
            "What did Galor and Zeira find",
            "inequality slows growth",
        ),
        (
            "Oxygen was separated from air by cooling it in large tanks.",
            "How was Oxygen separated from air",
            "by cooling it in large tanks",
        ),
        (
            "RESULTS: The wreck of the Titanic was found in the Atlantic, which had long been searched.",
            "Was the wreck of the Titanic found in the Atlantic",
            "The wreck of the Titanic was found in the Atlantic, which had long been searched.",
        ),
        (
            "The museum in Kensington has 145 galleries.",
            "Does the museum in Kensington have 145 galleries",
            "The museum in Kensington has 145 galleries.",
        ),
        ("The Ozone case was used to assess the process.", "What was the Ozone case used to do", "assess the process"),
        (
            "The energy crisis led to greater interest in renewable energy.",
            "What led to greater interest in renewable energy",
            "The energy crisis",
        ),
    ],
)
def test_what_is_asked_of_a_plain_sentence(sentence: str, question: str, answer: str) -> None:
    assert (question, answer) in asked(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "It was built in Belfast by Harland and Wolff.",  # what was?
        "This reduction in weight was caused by the second treatment.",
        "Their descendants moved to North America in 1685.",
        "Is the Titanic the largest ship of its time or not?",
        "The values of ENC were calculated as ENC = 2 + s + 29.",
        "Although whales breathe air, they live in the sea.",
        "The site was occupied by Brompton Park House, Kensington and",  # cut off
        "The Titanic was not built in 1905 but in 1909.",
        "Where g ij is the observed number of the ith codon.",
        'The statement was in Latin, apart from "We are beggars.',
        "The data collected by the nurses in the wards suggest",
        "Contents Chapter 1 Chapter 2 Chapter 3 Index",
        "",
    ],
)
def test_a_sentence_that_is_not_plain_makes_no_question(sentence: str) -> None:
    assert asked(sentence) == set()


@pytest.mark.parametrize(
    "sentence",
    [
        "The data collected in 2010 were analysed by the nurses of Leeds.",
        "Patients treated with folic acid showed fewer lesions.",
        "A Norman named Oursel led a force into Syria.",
        "Five experienced nurses treated the patients of Leeds.",
    ],
)
def test_a_participle_is_not_taken_for_the_verb(sentence: str) -> None:
    found = {question for question, _ in asked(sentence)}
    assert not [each for each in found if re.search(r"did .*\b(?:collect|treat folic|name|experience)\b", each)]


def documented() -> Iterator[str]:
    """The sentences of the guide."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        yield from (" ".join(text[start:end].split()) for start, end in sentences.split(text))


def made(seed: int) -> list[tuple[str, list[Question]]]:
    rng, vocabulary = random.Random(seed), {word.lower() for each in documented() for word in WORD.findall(each)}
    return [(sentence, questions(sentence, rng, vocabulary)) for sentence in documented()]


def test_answers_stand_in_the_sentence_and_not_in_the_question() -> None:
    found = [(sentence, each) for sentence, all_ in made(1) for each in all_]
    assert len(found) > 50
    for sentence, each in found:
        assert each.answer in sentence
        assert each.answer.lower() not in each.question.lower()
        assert each.answer == each.answer.strip(" ,;:") != ""
        assert each.question[0].isupper()


def test_a_span_is_asked_for_once() -> None:
    for _, found in made(2):
        assert len({each.answer for each in found}) == len(found)


def test_the_same_seed_asks_the_same_and_another_one_other_questions() -> None:
    assert made(3) == made(3) != made(4)


def test_a_doubted_number_is_another_one_at_times_and_the_sentence_says_which_one_is_right() -> None:
    sentence = "The museum in Kensington has 145 galleries."
    doubted = {question for question, answer in asked(sentence) if answer == sentence}
    assert "Does the museum in Kensington have 145 galleries" in doubted
    assert len(doubted) > 2


@given(st.one_of(st.text(), st.text("aB .,;:()[]\"“”'’—-1%?!\n", max_size=200)), st.integers(0, 9))
def test_odd_text_makes_no_trouble(text: str, seed: int) -> None:
    for each in questions(text, random.Random(seed)):
        assert each.answer in text


@given(st.lists(st.sampled_from([*WORDS, "Rome", "1912", "23", "whales", "ship,"]), min_size=4, max_size=20))
def test_any_order_of_words_makes_no_trouble(words: list[str]) -> None:
    sentence = f"The {' '.join(words)}."
    for each in questions(sentence, random.Random(0), frozenset(WORDS)):
        assert each.answer.lower() in sentence.lower()


def test_a_long_line_takes_no_time() -> None:
    for line in (
        "a" * 100_000,
        "The " + "a, " * 50_000 + ".",
        "( " * 50_000,
        " " * 100_000,
        "The " + "A" * 90_000 + " was.",
    ):
        assert questions(line, random.Random(0)) == []
