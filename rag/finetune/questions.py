"""A sentence -> questions that it answers, and the words that answer them. Rules for English.

A sentence whose form is not plain is passed over: few good questions are worth more than many that nobody would ask.
The words of an answer stand in the sentence as they are. Knows nothing about documents, passages or models.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from rag.align import STOP, WORD
from rag.finetune import lexicon as en
from rag.finetune.clause import COUNT_FIRST, Clause, clause_of, is_person

LONGEST, SHORTEST, LETTERS = 45, 6, 400
"""Words of a sentence that questions are made of, and its characters at most."""
REST_WORDS, ANSWER_WORDS = 18, 22
"""At most: of what stands behind the verb in a question; of an answer."""
ODD = re.compile(r"[=<>|±@{}\\_*#`?\[\]()~^]|https?:|www\.|\.\.|\betc\b|[a-z]\.[A-Z]")
"""Signs of formulas, markup, speech and broken text."""
LABEL = re.compile(r"^[A-Z][A-Z &/]{3,40}: ?")
"""Such as `RESULTS:`."""

COUNTED = r"(?:[a-z-]+ )?[a-z]{2,}(?:s|people|children|men|women)"
END = r"(?=$| (?:in|on|at|to|for|from|by|with|of|per|during|across|who|that|and|as|around|within|against|out)\b)"
NUMBER = re.compile(
    rf"(?:(?P<lead>[a-z]+) )?(?<![\w.,-])(?P<span>{en.NUMERAL}(?P<sign>{en.SIGN})?) "
    rf"(?P<noun>(?:of (?:the |all )?)?{COUNTED}){END}"
)
THERE = re.compile(
    rf"There (?P<verb>are|were) (?:a total of )?(?P<span>{en.NUMERAL}) (?P<noun>{COUNTED})"
    r"(?P<rest>(?: [\w'’-]+){2,12})$"
)
MEASURE = re.compile(rf"{en.NUMERAL}(?:{en.SIGN}|-?°?[CF]|(?: (?:square |cubic )?[a-z]+(?:s|feet|kg|km|mg|cm|mm))?)$")
DATE = re.compile(
    r"\b(?P<lead>in|on|during) "
    r"(?P<span>(?:the )?(?:(?:early|late|mid|mid-|summer of|winter of|spring of|autumn of) ?)?(?:the )?"
    rf"(?:(?:\d{{1,2}} )?{en.MONTH}(?: \d{{1,2}},?)? ?(?:{en.YEAR})?|{en.YEAR}s?|\d{{1,2}}(?:st|nd|rd|th) century))"
    r"(?!\w|[-–/]|,? (?:and|or|to) (?:the )?\d)"
)
BY = re.compile(rf"\b(?P<lead>by) (?P<span>(?:the )?{en.CAPITALISED}(?: and {en.CAPITALISED})?){END}")
PLACE = re.compile(rf"\b(?P<lead>in|at|near) (?P<span>(?:the )?{en.CAPITALISED}(?:, {en.CAPITALISED})?){END}")
CALLED = re.compile(
    r"(?P<how>(?:[a-z]+ly |also |often |sometimes )?(?:called|known as|named|termed|nicknamed|referred to as)) "
    r"(?P<span>(?:the |an? )?[\w'’-]+(?: (?!and |or |by |in |for |because )[\w'’-]+){0,3})$"
)
ABOUT = re.compile(r"(?:[a-z]+ly |also )?(?P<how>(?:best )?[a-z]+(?: up)? [a-z]+) (?P<span>.+)")
MEANS = re.compile(r" ?\b(?P<span>(?:by (?:[a-z]+ly )?[a-z]{2,}ing|using|via|with the (?:help|aid|use) of) .+)$")
VAGUE = re.compile(r"the [a-z-]+$|(?:some|many|most|all|both|each|several|every|an? (?:total|number)|one|\d+)\b")
"""Subjects that are no answers, because others would do as well or nobody knows what they are."""

POLAR, WRONGLY = 0.3, 0.5
"""How often a sentence is asked for as a whole; how often with another number in it, where it has one."""


class Question(NamedTuple):
    """A question with the words of the sentence that answer it."""

    question: str
    answer: str


def questions(sentence: str, rng: random.Random, vocabulary: Collection[str] = frozenset()) -> list[Question]:
    """Questions that a sentence answers, at most one about each of its spans; none where its form is not known.

    A question that wants yes or no is answered by the whole sentence, which says what is so.

    Args:
        sentence: one sentence, with single spaces.
        rng: chooses between ways to ask.
        vocabulary: words in lower case that occur somewhere: base forms of verbs are looked up there.
    """
    plain = _plain(sentence)
    found: dict[str, Question] = {}
    whole = LABEL.sub("", " ".join(sentence.split()))
    for each in _all(plain, whole, rng, vocabulary) if plain else ():
        said = _finished(each, rng)
        if said and said.answer in sentence:
            found.setdefault(said.answer, said)
    return list(found.values())


def _plain(sentence: str) -> str:
    """A sentence without what stands in brackets; empty where it is not a whole or plain one."""
    text = re.sub(r" ?(?:\([^()]*\)|\[[^\[\]]*\])", "", LABEL.sub("", " ".join(sentence.split())))
    text = re.sub(r" +([,.;:])", r"\1", " ".join(text.split()))
    right_size = SHORTEST <= text.count(" ") + 1 <= LONGEST and len(text) <= LETTERS
    whole = (text[:1].isupper() or text[:1].isdigit()) and text.endswith((".", "!"))
    return text.rstrip(".!") if right_size and whole and _closed(text) and not ODD.search(text) else ""


def _closed(text: str) -> bool:
    """True where every quotation that begins ends."""
    return text.count('"') % 2 == 0 and text.count("“") == text.count("”") and text[-2] not in '"”'


def _all(sentence: str, whole: str, rng: random.Random, vocabulary: Collection[str]) -> Iterator[Question]:
    if match := THERE.match(sentence):
        yield Question(f"how many {match['noun']} {match['verb']} there{match['rest']}", match["span"])
    match = en.INSERTED.match(sentence)
    if match and _inserted(match["span"]) and en.finite(match["verb"], vocabulary):
        subject, span = match["subject"], match["span"]
        if re.fullmatch(en.CAPITALISED, subject) and re.match(r"(?:an?|the) ", span):
            yield Question(f"who was {subject}" if is_person(span) else f"what is {subject}", span)
        sentence = f"{subject} {sentence[match.start('verb') :]}"
    clause = clause_of(sentence, vocabulary)
    if clause is not None and not re.search(r"\b(?:not|never|cannot)\b|n't", clause.rest):
        for way in rng.sample(WAYS, len(WAYS)):
            yield from way(clause, rng)
        if rng.random() < POLAR and not clause.lead and len(clause.rest.split()) <= REST_WORDS:
            yield Question(_doubted(clause, rng), whole)


def _inserted(span: str) -> bool:
    """True for what stands between subject and verb and is no further subject."""
    first = span.split()[0]
    opens = first in en.PREPOSITIONS or first in ("a", "an", "the", "who", "which", "whose", "where")
    return opens or en.participle(first)


def _finished(made: Question, rng: random.Random) -> Question | None:
    """The question in some other words, as people ask; None for one that is too vague, or says its answer."""
    text, answer = " ".join(made.question.split()), made.answer.strip(" ,;:")
    words = WORD.findall(text)
    telling = [word for word in words if word.lower() not in STOP]
    named = any(word[:1].isupper() or word[:1].isdigit() for word in words[1:])
    vague = len(telling) < (1 if named else 3) or len(words) > 30 or en.POINTING.search(text)
    if vague or not 0 < len(answer.split()) <= ANSWER_WORDS or answer.lower() in text.lower():
        return None
    if en.POINTING.match(answer) or not _closed(f"{answer}. ") or not _closed(f"{text}. "):
        return None
    if rng.random() < 0.6:
        text = en.PHRASE.sub(lambda match: _other(match, rng), text)
    return Question(text[:1].upper() + text[1:] + ("?" if rng.random() < 0.92 else ""), answer)


def _other(match: re.Match[str], rng: random.Random) -> str:
    """Another word for the same, where it fits as well."""
    said, before = match.group(), match.string[: match.start()].split()[-1:]
    fits = said in en.FITTING and before not in (["a"], ["an"]) and rng.random() < 0.5
    return rng.choice(en.SAME[said]) if fits else said


# What is asked about a clause.


def _without(clause: Clause, match: re.Match[str]) -> str | None:
    """What is left of a clause's rest without a phrase, where that phrase belongs to the verb."""
    before, after = clause.rest[: match.start()].strip(), clause.rest[match.end() :].strip()
    inner = before.split()[1:] if clause.passive else before.split()
    loose = en.BROKEN.search(before) or any(en.participle(word) or word.endswith("ing") for word in inner)
    goes_on = after and (after.split()[0] not in en.PREPOSITIONS - en.OF_NOUNS or en.BROKEN.search(after))
    copula = not clause.base and not clause.passive
    return None if loose or goes_on or copula or len(clause.rest.split()) > REST_WORDS else f"{before} {after}".strip()


def _dates(clause: Clause, rng: random.Random) -> Iterator[Question]:
    fronted = DATE.fullmatch(clause.lead)
    match = fronted or DATE.search(clause.rest)
    if match is None or clause.helper not in ("was", "were", "did"):
        return
    left = clause.rest if fronted else _without(clause, match)
    if left is None or re.search(en.YEAR, left) or not (clause.passive or clause.base):
        return
    year = re.fullmatch(en.YEAR, match["span"]) and match["lead"] == "in"
    when = rng.choice(("when", "when", "in what year", "what year")) if year else "when"
    yield Question(f"{when} {clause.asked(left, lead=not fronted)}", match["span"])


def _numbers(clause: Clause, rng: random.Random) -> Iterator[Question]:
    match = COUNT_FIRST.match(clause.subject)
    if match and len(clause.rest.split()) <= REST_WORDS:
        yield Question(f"{_how_many(match)} {clause.adverb} {clause.verb} {clause.rest} {clause.lead}", match["span"])
    if clause.verb in ("is", "was") and MEASURE.match(clause.rest):
        yield Question(f"what {clause.verb} {clause.subject} {clause.lead}", clause.rest)
    for match in NUMBER.finditer(clause.rest):
        lead, left = match["lead"] or "", _without(clause, match)
        if left is None or (lead and lead not in en.PREPOSITIONS):
            continue
        if clause.base and match.start() == 0:
            yield Question(f"{_how_many(match)} {clause.asked(f'{lead} {left}')}", match["span"])
        elif clause.passive and lead in ("in", "at", "by", "from", "into", "for", "on"):
            yield Question(f"{lead} {_how_many(match)} {clause.asked(left)}", match["span"])


def _how_many(match: re.Match[str]) -> str:
    noun = match["noun"]
    if match["sign"]:
        return f"what percentage {noun}" if noun.startswith("of ") else f"what percentage of {noun}"
    return f"how many {noun}"


def _definition(clause: Clause, rng: random.Random) -> Iterator[Question]:
    if clause.verb in ("is", "are", "was") and re.match(r"(?:an?|the|one of) ", clause.rest) and not clause.lead:
        span = re.split(r" (?:which|that|who) ", clause.rest)[0] if rng.random() < 0.5 else clause.rest
        who = "who" if clause.named and is_person(clause.rest) else "what"
        yield Question(f"{who} {clause.verb} {clause.subject}", span)


def _subject(clause: Clause, rng: random.Random) -> Iterator[Question]:
    words = clause.rest.split()
    plural = clause.verb in ("are", "were", "have") or en.PRESENT.get(clause.verb) == clause.verb
    unclear = words[0] in ("having", "being") or re.search(r"\b(?:its|their|his|her)\b", clause.rest)
    counted = VAGUE.match(clause.subject) or COUNT_FIRST.match(clause.subject)
    if not (plural or unclear or counted) and 2 < len(words) <= REST_WORDS and (who := _who(clause)):
        answer = clause.subject[:1].upper() + clause.subject[1:]
        yield Question(f"{who} {clause.adverb} {clause.verb} {clause.rest} {clause.lead}", answer)


def _who(clause: Clause) -> str:
    """How to ask for the subject; empty where it may be a person or not."""
    if is_person(clause.subject) or clause.passive in en.DONE_TO or (clause.verb in en.BE and is_person(clause.rest)):
        return "who"
    if clause.named and clause.verb in en.DOERS:
        return "who"
    return "what" if not clause.named or clause.passive else ""


def _object(clause: Clause, rng: random.Random) -> Iterator[Question]:
    """What stands behind the verb is asked for."""
    base, rest = clause.base, clause.rest
    if clause.verb in en.MODALS and " " in rest:
        base, rest = rest.split(" ", 1)
    first, _, behind = rest.partition(" ")
    if not base or base in ("have", "be") or en.adverb(base) or re.match(rf"(?:\d+ )?{en.MONTH}\b", rest):
        return
    asked = f"what {clause.helper} {clause.subject} {clause.adverb} {base}"
    if f"{base} {first}" in en.ASKED_ABOUT and behind:
        yield Question(f"{asked} {first}", behind)
    elif base in en.SAYING and first == "that":
        yield Question(f"{asked} {clause.lead}", behind)
    elif first not in en.PREPOSITIONS | en.NEVER and not en.adverb(first) and base not in en.INTRANSITIVE:
        yield Question(f"{asked} {clause.lead}", rest)


def _about(clause: Clause, rng: random.Random) -> Iterator[Question]:
    """What something is known for, similar to, or used to do."""
    match = ABOUT.match(clause.rest)
    if not match or clause.verb not in en.BE:
        return
    how = match["how"]
    if how in en.ASKED_ABOUT:
        yield Question(f"what {clause.asked(how)}", match["span"])
    elif how.endswith(" to") and how.removesuffix(" to") in en.MEANT:
        yield Question(f"what {clause.asked(how)} do", match["span"])


def _by(clause: Clause, rng: random.Random) -> Iterator[Question]:
    match = BY.search(clause.rest)
    left = _without(clause, match) if match and clause.passive else None
    if match and left is not None:
        who, whom = ("who", "by whom") if clause.passive in en.DOERS else ("what", "by what")
        ends = clause.rest.endswith(match.group()) and not clause.lead
        yield Question(f"{who} {clause.asked(left)} by" if ends else f"{whom} {clause.asked(left)}", match["span"])


def _where(clause: Clause, rng: random.Random) -> Iterator[Question]:
    for match in PLACE.finditer(clause.rest) if {clause.passive, clause.verb} & en.PLACED else ():
        span, left = match["span"], _without(clause, match)
        a_place = span not in en.NO_PLACES and span.split()[0] not in en.MONTHS and re.search(r"[a-z]{2}", span)
        if a_place and left is not None and not en.PREPOSITIONS & set(clause.rest[: match.start()].split()):
            yield Question(f"where {clause.asked(left)}", span)


def _means(clause: Clause, rng: random.Random) -> Iterator[Question]:
    match = MEANS.search(clause.rest)
    if match and (clause.passive or clause.base) and (clause.passive or match.start()):
        yield Question(f"how {clause.asked(clause.rest[: match.start()])}", match["span"])


def _doubted(clause: Clause, rng: random.Random) -> str:
    """Whether it is so: `was X founded in 1912`."""
    rest = clause.rest
    number = re.search(r"(?<![\w.,-])\d{2,4}(?![\w.,-])", rest)
    if number and rng.random() < WRONGLY:
        other = int(number.group()) + rng.choice((-20, -12, -5, -3, -2, -1, 1, 2, 3, 5, 10, 20))
        rest = f"{rest[: number.start()]}{abs(other)}{rest[number.end() :]}"
    return clause.asked(rest)


def _called(clause: Clause, rng: random.Random) -> Iterator[Question]:
    match = CALLED.match(clause.rest)
    if match and clause.verb in en.BE:
        yield Question(f"what {clause.asked(match['how'])}", match["span"])


def _reason(clause: Clause, rng: random.Random) -> Iterator[Question]:
    if len(clause.why.split()) > 3 and len(clause.rest.split()) <= REST_WORDS:
        reason = clause.why.removeprefix("because ") if rng.random() < 0.5 else clause.why
        yield Question(f"why {clause.asked(clause.rest)}", reason)


Way = Callable[[Clause, random.Random], Iterator[Question]]
WAYS: tuple[Way, ...] = (
    _dates,
    _numbers,
    _definition,
    _subject,
    _object,
    _about,
    _by,
    _where,
    _called,
    _reason,
    _means,
)
