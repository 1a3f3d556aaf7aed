"""Follow-up questions made to stand alone: by rules, and by a language model that is held to what was said."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import LLMError
from rag.prompt import ABSTENTION
from rag.rewrite import LONGEST_REPLY, LONGEST_TERM, MOST_TERMS, Rewriter, by_llm, by_rules, depends
from rag.settings import Settings
from rag.types import Message
from tests.conftest import ParrotLLM

WORDS = st.lists(
    st.sampled_from(
        "And what about the second one? It Why Birch Lane 14 rent, deposit. that's E07 他 Größe".split(" ")
    ),
    max_size=12,
).map(" ".join)
TEXTS = st.one_of(WORDS, st.text(max_size=80))
HISTORIES = st.lists(st.builds(Message, st.sampled_from(["user", "assistant", "system"]), TEXTS), max_size=8)


def said(*texts: str) -> list[Message]:
    """Questions and answers in turn."""
    return [Message(("user", "assistant")[number % 2], text) for number, text in enumerate(texts)]


LEASE = said("How much is the rent at 14 Birch Lane?", "The rent is 870 euros a month.")
CLOCK = said("Who built the tower clock of Saint Olof?", "Jakob Wendt built it in 1661.")
SHIPS = said("When does the Aurelia leave Port Ellan?", "At 7.30.", "And the Marlin?", "At 6.00.")


@pytest.mark.parametrize(
    "question",
    [
        "And the deposit?",
        "And in 2019?",
        "why",
        "What about the second one?",
        "How old was he then?",
        "when does she get it back?",
        "Who runs that company?",
        "is this still so",
        "The other one?",
        "And the lentil one?",
        "how heavy is the bike",
        "In winter?",
        "On Sundays?",
        "What do I get if I forgot?",
        "How much does it cost on Sundays?",
        "What did the new well cost?",
        "Did that hurt anyone?",
        "How high in 1.5?",
        "Is that e.g. cheap?",
        "Und sonntags?",
        "押金呢？",
    ],
)
def test_questions_that_depend_on_what_was_said(question: str) -> None:
    assert depends(question)


@pytest.mark.parametrize(
    "question",
    [
        "How much is the rent at 14 Birch Lane?",
        "how many workers drowned building the lighthouse",
        "who is the captain of the Marlin",
        "When did Marta Lindqvist marry, and when did she die?",
        "Which lichen buffer contains PVP and why?",
        "When was it that the Titanic sank and who was its captain?",
        "How long does it take to cross from Sandholm to Vik?",
        "Are there boats to Sandholm on Sundays?",
        "The works that makes the blades of Nordvent Turbines, where is it?",
        "Was kostet die Waschmaschine?",
        "Who can read feedback.jsonl?",
        "what does min_relevance do",
        "Where is docs/ingest.md?",
        "白桦巷十四号的租金每月是多少欧元",
    ],
)
def test_questions_that_stand_alone_stay_as_they_are(question: str) -> None:
    assert not depends(question)
    for history in (LEASE, CLOCK, SHIPS):
        assert by_rules(question, history) == question


def test_what_is_left_out_comes_from_the_question_before() -> None:
    rewritten = by_rules("And the deposit?", LEASE)
    assert rewritten.startswith("And the deposit? (")
    assert "14 Birch Lane" in rewritten
    assert "rent" in rewritten


def test_a_pronoun_may_mean_someone_in_the_answer() -> None:
    assert "Jakob Wendt" in by_rules("How old was he then?", CLOCK)


def test_names_are_kept_through_a_chain_of_follow_ups() -> None:
    chain = [*LEASE, *said("And the deposit?", "1,740 euros.", "when does she get it back?", "Within ten weeks.")]
    rewritten = by_rules("why so late?", chain)
    assert "14 Birch Lane" in rewritten
    assert "deposit" in rewritten


def test_another_subject_takes_the_place_of_the_first() -> None:
    asked = by_rules("What about the Castor?", SHIPS[:2])
    assert "Aurelia" not in asked
    assert "leave" in asked
    later = by_rules("and in winter?", SHIPS)
    assert "Marlin" in later
    assert "Aurelia" not in later


def test_a_topic_ends_where_a_question_began_another() -> None:
    rewritten = by_rules("And what did he build?", [*LEASE, *CLOCK])
    assert "Saint Olof" in rewritten
    assert "Birch Lane" not in rewritten


def test_a_topic_that_was_declined_counts_too() -> None:
    declined = [*LEASE, *said("How long does the Petrel take to Torsnes?", ABSTENTION)]
    rewritten = by_rules("And when does it leave?", declined)
    assert "Petrel" in rewritten
    assert "Birch Lane" not in rewritten
    assert "documents" not in rewritten


def test_other_languages_come_through_whole() -> None:
    history = said("Wie hoch ist die Miete in der Gartenstraße 8?", "870 Euro.")
    assert by_rules("Und die Kaution?", history).startswith("Und die Kaution? (")
    assert "Gartenstraße" in by_rules("Und die Kaution?", history)
    assert "白桦巷" in by_rules("押金呢？", said("白桦巷的租金是多少？", "八百七十欧元。"))


def test_a_long_history_is_looked_at_in_part_and_quickly() -> None:
    history = said(*["The Harbour " * 50_000] * 20)
    assert len(by_rules("And then?", history)) < 100


@given(TEXTS, HISTORIES)
def test_rules_never_fail_and_add_a_few_terms_at_the_end(question: str, history: list[Message]) -> None:
    rewritten = by_rules(question, history)
    assert rewritten == by_rules(question, history)
    assert rewritten.startswith(question)
    assert len(rewritten) <= len(question) + MOST_TERMS * (LONGEST_TERM + 2) + 3


@given(TEXTS)
def test_without_a_history_nothing_changes(question: str) -> None:
    assert by_rules(question, []) == question
    assert by_rules(question, [Message("system", "Be brief."), Message("assistant", "Hello.")]) == question


# With a language model.

STANDALONE = "What is the deposit for 14 Birch Lane?"


@pytest.mark.parametrize(
    ("says", "taken"),
    [
        (STANDALONE, STANDALONE),
        (f"  {STANDALONE}\n", STANDALONE),
        (f'"{STANDALONE}"', STANDALONE),
        (f"Rewritten question: {STANDALONE}", STANDALONE),
        ("Standalone question: “And the deposit?”", "And the deposit?"),
    ],
)
def test_the_models_question_is_taken(says: str, taken: str) -> None:
    assert by_llm("And the deposit?", LEASE, ParrotLLM(says)) == taken


@pytest.mark.parametrize(
    "says",
    [
        "The deposit is 1,740 euros.",
        f"{STANDALONE}\nThe deposit is 1,740 euros.",
        f"{STANDALONE} And who pays it?",
        "What is the deposit of 1,740 euros for?",
        "Which movies did Greta Garbo star in?",
        ABSTENTION,
        "deposit " * LONGEST_REPLY + "?",
        "\n\n",
    ],
)
def test_what_is_no_question_from_the_conversation_is_not_taken(says: str) -> None:
    assert by_llm("And the deposit?", LEASE, ParrotLLM(says)) is None


def test_an_answer_is_not_taken_for_a_question_that_was_typed_without_its_mark() -> None:
    assert by_llm("and the deposit", LEASE, ParrotLLM("The deposit for 14 Birch Lane is the rent.")) is None
    assert by_llm("and the deposit", LEASE, ParrotLLM("deposit for 14 Birch Lane")) == "deposit for 14 Birch Lane"


def test_a_model_that_goes_on_and_on_is_stopped() -> None:
    llm = ParrotLLM("word " * 100_000)
    assert by_llm("And the deposit?", LEASE, llm) is None
    assert llm.stopped


def test_the_model_is_shown_the_newest_turns_and_no_control_tokens() -> None:
    llm = ParrotLLM(STANDALONE)
    turns = said(*[text for n in range(9) for text in (f"Question {n} <|im_end|>?", "long " * 5000)])
    by_llm("And the deposit?", [*turns, *LEASE], llm)
    ((_system, asked),) = llm.asked
    assert asked.content.endswith("Last question: And the deposit?")
    assert "14 Birch Lane" in asked.content
    assert "Question 8" in asked.content
    assert "Question 0" not in asked.content
    assert "<|im_end|>" not in asked.content
    assert len(asked.content) < 5000


def rewriter(settings: Settings, llm: ParrotLLM, **changes: object) -> Rewriter:
    return Rewriter(settings.model_copy(update=changes), lambda: llm)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, False),
        ({"llm_model": "someone/bigger"}, True),
        ({"follow_ups": "llm"}, True),
        ({"follow_ups": "rules", "llm_model": "someone/bigger"}, False),
        ({"follow_ups": "off", "llm_model": "someone/bigger"}, False),
    ],
)
def test_who_rewrites_is_a_setting(settings: Settings, changes: dict[str, object], asked: bool) -> None:
    llm = ParrotLLM(STANDALONE)
    rewritten = rewriter(settings, llm, **changes).standalone("And the deposit?", LEASE)
    assert bool(llm.asked) is asked
    assert (rewritten == STANDALONE) is asked
    assert (rewritten == "And the deposit?") is (changes.get("follow_ups") == "off")


def test_the_model_is_not_asked_about_a_first_question(settings: Settings) -> None:
    llm = ParrotLLM(STANDALONE)
    assert rewriter(settings, llm, follow_ups="llm").standalone("And the deposit?", []) == "And the deposit?"
    assert llm.asked == []


def test_the_rules_step_in_where_the_model_talks_nonsense(settings: Settings) -> None:
    llm = ParrotLLM("Sure! Here is an answer.")
    found = rewriter(settings, llm, follow_ups="llm").standalone("And the deposit?", LEASE)
    assert found == by_rules("And the deposit?", LEASE)


def test_the_rules_step_in_where_the_model_fails_and_that_is_said_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    failing = rewriter(settings, ParrotLLM(fails="the server is on fire"), follow_ups="llm")
    with caplog.at_level(logging.WARNING, "footnote"):
        for _ in range(3):
            assert failing.standalone("And the deposit?", LEASE) == by_rules("And the deposit?", LEASE)
    assert [record.getMessage() for record in caplog.records] == [
        "follow-up questions are rewritten by rules, since the language model fails: the server is on fire"
    ]


def test_an_error_while_the_model_is_opened_does_not_cost_the_search(settings: Settings) -> None:
    def unopened() -> ParrotLLM:
        raise LLMError("no such model")

    chosen = settings.model_copy(update={"follow_ups": "llm"})
    assert Rewriter(chosen, unopened).standalone("And the deposit?", LEASE) == by_rules("And the deposit?", LEASE)
