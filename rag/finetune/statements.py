"""Questions with answers -> statements: claims in other words than the passage's, since a person asked.

Knows nothing about how claims are checked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from rag import sentences
from rag.finetune.records import Example, Made

SUBJECT = re.compile(
    r"(?:Who|What|Which [\w ]{2,25}?|What (?:\w+ )?(?:type|kind|name|year|company|city|country|group|team|organization)"
    r"(?: of \w+)?) (?!did|does|do\b)([a-z]+) (.+)$"
)
OTHER = re.compile(
    r"(When|Where|In what \w+|In which \w+|How many [\w ]+?|What year|On what date|How much|What \w*) "
    r"(is|are|was|were|did|does|do|has|have|had|can|could|will|would|should) (.+)$",
    re.IGNORECASE,
)
WITH_IN = frozenset(("when", "where", "in what year", "what year"))
YES_NO = re.compile(r"(Is|Are|Was|Were|Do|Does|Did|Can|Could|Has|Have|Should|Will|Would) (.+)$")
LONGEST_ANSWER = 120
"""Characters."""
AROUND = (0, 0, 1, 2, 3)
"""Sentences that may stand on either side of the one with the answer."""


class Asked(NamedTuple):
    """A question that a document answers."""

    question: str
    answer: str
    document: str
    """The document's text, which holds the answer word for word."""


def stated(asked: Sequence[Asked], seed: int) -> list[Example]:
    """A true statement of each question, and a false one with the answer to another question about the document."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    by_document: dict[str, list[Asked]] = {}
    for each in asked:
        if len(each.answer) <= LONGEST_ANSWER:
            by_document.setdefault(each.document, []).append(each)
    found = []
    for document, questions in by_document.items():
        spans = sentences.split(document)
        for each in questions:
            wrong = [other.answer for other in questions if _differ(other.answer, each.answer)]
            passage = _around(document, spans, each.answer, rng)
            if passage:
                made = [_stated(each.question, each.answer, 1, rng)]
                made += [_stated(each.question, rng.choice(wrong), 0, rng)] if wrong else []
                found.append(Example(passage, tuple(made)))
    return found


def decided(question: str, yes: bool, passage: str) -> Example | None:
    """A yes-or-no question as a statement about the passage that decides it; None where its form is not known."""
    match = YES_NO.match(question.strip().rstrip("? "))
    if not match:
        return None
    rest = match.group(2)
    claim = f"{rest[:1].upper()}{rest[1:]}."
    return Example(passage, (Made(claim, int(yes), (), whole=False),))


def _differ(one: str, other: str) -> bool:
    one, other = one.lower(), other.lower()
    return one not in other and other not in one


def _around(document: str, spans: Sequence[tuple[int, int]], answer: str, rng: random.Random) -> str:
    """The sentence that holds the answer with some of its neighbours; empty where none does."""
    at = document.find(answer)
    number = next((i for i, (start, end) in enumerate(spans) if start <= at and at + len(answer) <= end), None)
    if at < 0 or number is None:
        return ""
    first, last = max(0, number - rng.choice(AROUND)), min(len(spans), number + 1 + rng.choice(AROUND))
    return " ".join(document[spans[first][0] : spans[last - 1][1]].split())


def _stated(question: str, answer: str, label: int, rng: random.Random) -> Made:
    question, answer = question.strip().rstrip("? ."), answer.strip().rstrip(".")
    chance = rng.random()
    before, behind = f'The answer to "{question}" is ', "."
    if (match := SUBJECT.match(question)) and chance < 0.55:
        before, behind = "", f" {match.group(1)} {match.group(2)}."
        answer = answer[:1].upper() + answer[1:]
    elif (match := OTHER.match(question)) and chance < 0.7:
        asked, auxiliary, rest = match.groups()
        bare = answer.lower().startswith(("in ", "on ", "at ", "by ")) or asked.lower() not in WITH_IN
        said = "" if auxiliary.lower() in ("did", "does", "do") else f" {auxiliary}"
        before = f"{rest[:1].upper()}{rest[1:]}{said} {'' if bare else 'in '}"
    elif chance < 0.85:
        before = f"{question}? "
    span = (len(before), len(before) + len(answer))
    return Made(f"{before}{answer}{behind}", label, () if label else (span,))
