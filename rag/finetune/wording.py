"""A sentence -> the same in other words. Rules for English; knows nothing about passages or labels."""

from __future__ import annotations

import random
import re

from rag.align import NUMBERS, WORD
from rag.finetune.lexicon import PHRASE, SAME

SMALL = re.compile(r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b")
SUBJECT = re.compile(
    r"(?:The |An? )?[A-Z][\w'-]+(?: [A-Z][\w'-]+)*(?= (?:is|was|has|had|became|also|are|were|did|won|died) )"
)
FRONTED = re.compile(r"((?:In|On|At|By|During|After|Since|From|For) [^,]{3,40}), (.{20,})\.$")
SHORTEST = 5
"""Words that a sentence needs to be worth checking."""


def reworded(sentence: str, rng: random.Random) -> str:
    """A sentence that says the same in other words, or a little less."""
    ways = (_clause, _phrases, _numerals, _shorter, _fronted, _pronoun, _unbracketed)
    for way in rng.sample(ways, rng.choice((0, 1, 2, 3, 4, 5))):
        sentence = way(sentence, rng) or sentence
    return sentence


def _clause(sentence: str, rng: random.Random) -> str | None:
    """What stands before or behind a comma, where it looks like a sentence of its own."""
    commas = [match.start() for match in re.finditer(r", |; | – | - ", sentence)]
    if not commas:
        return None
    if rng.random() < 0.5:
        head = sentence[: rng.choice(commas)]
        verb = re.search(r"\b(is|was|were|are|has|had|have|can|\w+ed|\w+s)\b", head[10:])
        return head + "." if verb and len(WORD.findall(head)) >= SHORTEST else None
    tail = sentence[commas[0] + 2 :]
    starts = re.match(r"(the|a|an|it|he|she|they|we|this|these|there|[A-Z])", tail)
    return tail[:1].upper() + tail[1:] if starts and len(WORD.findall(tail)) > SHORTEST else None


def _phrases(sentence: str, rng: random.Random) -> str:
    def other(match: re.Match[str]) -> str:
        return rng.choice(SAME[match.group().lower()]) if rng.random() < 0.7 else match.group()

    return PHRASE.sub(other, sentence)


def _numerals(sentence: str, rng: random.Random) -> str:
    """1,000 and 1000, three and 3."""
    if rng.random() < 0.7:
        sentence = re.sub(r"(\d),(\d{3})", r"\1\2", sentence)
    if rng.random() < 0.6:
        return SMALL.sub(lambda match: NUMBERS[match.group()], sentence)
    names = {digits: word for word, digits in NUMBERS.items()}
    return re.sub(r"(?<![\d.,-])([2-9]|1[0-2])(?![\d.,%-])", lambda match: names[match.group()], sentence)


def _shorter(sentence: str, rng: random.Random) -> str:
    """Without some words that only colour others."""
    dispensable = r"(?<=\s)(\w+ly|very|also|large|major|important|several|other|recent|famous|modern|early)\s(?=[a-z])"
    return re.sub(dispensable, lambda match: "" if rng.random() < 0.7 else match.group(), sentence)


def _fronted(sentence: str, rng: random.Random) -> str | None:
    """What a sentence begins with comes last."""
    match = FRONTED.match(sentence)
    if not match:
        return None
    first, rest = match.groups()
    return f"{rest[:1].upper()}{rest[1:]} {first[:1].lower()}{first[1:]}."


def _pronoun(sentence: str, rng: random.Random) -> str | None:
    match = SUBJECT.match(sentence)
    said = rng.choice(("It", "He", "She", "They", "This"))
    return said + sentence[match.end() :] if match and rng.random() < 0.4 else None


def _unbracketed(sentence: str, rng: random.Random) -> str:
    del rng
    return re.sub(r"\s*\([^()]*\)|\s*\[[^\[\]]*\]", "", sentence)
