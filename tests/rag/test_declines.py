"""Which answers are abstentions: the table is the rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rag.declines import declines
from rag.prompt import ABSTENTION

ABSTENTIONS = (
    ABSTENTION,
    ABSTENTION.removesuffix("."),
    "I don't know.",
    "I don’t know",
    "I do not know the answer to that question.",
    "I'm sorry, but I don't know.",
    "Sorry, I can't answer that based on the provided documents.",
    "I cannot answer this question with the given context.",
    "I'm not sure.",
    "I am unable to find the answer in the passages.",
    "I couldn't find any information about the deposit in your documents.",
    "I don't have enough information to answer that.",
    "We do not have sufficient information to determine the date.",
    "I have no information about that.",
    "I can't find the answer to your question. Could you rephrase it?",
    "The documents do not say.",
    "The documents do not say when the lease ends.",
    "The passages don't mention the price of the ticket.",
    "The provided context does not contain information about the merger.",
    "The context provided does not specify who signed the contract.",
    "The given text does not mention it.",
    "The text does not explicitly state the population.",
    "None of the passages mention a deposit.",
    "Nothing in the documents says how long it takes.",
    "There is no information in the passages about the captain's age.",
    "There is no mention of a refund in the provided documents.",
    "There isn't enough information in the context to answer the question.",
    "Unfortunately, there is not enough information to determine the answer.",
    "No information about the deposit is given in the context.",
    "No relevant information was found.",
    "Not enough information.",
    "Not mentioned in the context.",
    "Unknown.",
    "N/A",
    "The answer is not in the provided passages.",
    "The answer cannot be found in the documents.",
    "This question cannot be answered based on the given information.",
    "The date of the merger is not specified in the documents.",
    "It is not clear from the context who won.",
    "Based on the provided context, it is not possible to determine the cause.",
    "Based on the passages, I cannot determine the answer.",
    "According to the documents, the price is not stated in the text.",
    "The passages discuss whales, but they do not mention how long they live.",
    "Although the documents describe the ferry, they do not say what a ticket costs.",
    "The context does not mention the price, so I cannot answer the question.",
    "I don't know, the passages do not say.",
    "I'm sorry, I can't help with that request.",
    "The provided context does not contain the answer. Please provide more details. I would be happy to help.",
    "I do not know. The passages only discuss the harbour.",
)
ANSWERS = (
    "",
    "   ",
    "The rent is 900 euros a month.",
    "The rent is 900 euros a month. The documents do not mention the deposit.",
    "The lease ends in May 2027, but the passages do not say on which day.",
    "I don't know for certain, but the rent is probably 900 euros.",
    "I don't know, it is probably 900 euros.",
    "I'm not sure, but it is likely to be in May.",
    "The provided context does not contain the answer. However, whales can live for 200 years.",
    "The documents do not say it directly, but the deposit follows from clause 4: 1,800 euros.",
    "The passages do not mention a price. The ferry leaves at noon.",
    "On the Kelvin scale it is not possible to go below zero.",
    "It is not clear what caused the fire.",
    "There is no cure for the disease.",
    "There is no evidence that vaccines cause autism.",
    "There is insufficient evidence to conclude that the drug works.",
    "The data do not show a significant difference between the groups.",
    "The results did not support the hypothesis.",
    "No, the lease does not allow pets.",
    "No.",
    "No information was lost in the crash of 1998.",
    "Nobody knows who built the tower.",
    "Scientists do not know why whales sing.",
    "The origin of the word is unknown.",
    "The company could not find a buyer.",
    "He could not answer the judge's questions.",
    "Police were unable to identify the man.",
    "The contract does not include a penalty clause.",
    "The passport does not contain a chip.",
    "Negative temperatures cannot be achieved naturally.",
    "Unfortunately, the vest does not cover the head.",
    "Sorry, the shop is closed on Sundays.",
    "I can't recommend it: the room was cold.",
    "I know the answer: it is 42.",
    "If the gravitational pull is too weak, rings cannot form.",
    "You cannot return a ticket after departure.",
    "You may need a technician to diagnose the problem.",
    "According to the documents, the ferry carries 240 people.",
    "Based on the passages, the ferry leaves at noon.",
    "The document says that there is no deposit.",
    "The answer is not 12 but 14.",
    "It cannot be answered by a letter: the tenant has to come in person.",
    "Research has not provided any evidence that words themselves can cause harm.",
    "The information that the ferry carries 240 people comes from the operator.",
    "At this point it is still unclear what the substance is, but there are a few theories.",
    "The results of the vote are not known yet.",
    "Texts without a date cannot be sorted.",
    "Sources of the Nile were not found until 1858.",
    "I'm not sure, I just assume that it is more interesting.",
    "I did not know that it was a film of 1990.",
    "It fails to explain how the feedback works.",
    "There is no indication of a rebound 14 days after the treatment.",
    "Data is not available in real time on the free plan.",
)


@pytest.mark.parametrize("text", ABSTENTIONS)
def test_what_says_that_there_is_no_answer(text: str) -> None:
    assert declines(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_what_answers_hedges_or_speaks_of_the_world(text: str) -> None:
    assert not declines(text)


def test_a_long_answer_is_one_whatever_it_lacks() -> None:
    assert not declines("The passages do not mention the price. " * 40)


def test_odd_texts_are_told_quickly() -> None:
    for text in ("the " * 290, "i " * 590, "it is not " * 110, "\n" * 1100, "while the " * 110, "no a " * 230):
        assert declines(text) in (True, False)


@pytest.mark.slow
def test_no_false_alarm_in_sentences_of_real_long_answers(shared: Path) -> None:
    rows = (shared / "data" / "lfqa-dev" / "claims.jsonl").read_text(encoding="utf-8").splitlines()
    assert [claim for row in rows if declines(claim := json.loads(row)["claim"])] == []
