"""Real documents -> made claims with labels: sentences that were reworded, and sentences that were made wrong.

Where a claim was made wrong is known to the character, so the checker's model learns from every word. Nothing here
needs a model. Knows nothing about how claims are checked.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from rag import sentences
from rag.align import NUMBERS, STOP, WORD
from rag.finetune.lexicon import (
    AUXILIARY,
    BEFORE,
    BEHIND,
    MONTHS,
    NEGATION,
    OPPOSITES,
    SAME,
    SHORTENED,
)
from rag.finetune.records import Example, Made, Span
from rag.finetune.wording import SHORTEST, SMALL, reworded

NAME = re.compile(r"[A-Z][\w'’.-]*\w(?:\s+(?:of the |of |the |de |van |von )?[A-Z][\w'’-]*\w)*")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
JOINT = re.compile(r", | (?:and|that|which|because|with|in|by|for|from|to) ")
PHRASES = re.compile(r"(?: in| by| with| for| at| on| from| during| and| because| of) [^,.;()]{6,50}(?=[,.;])")
ENDINGS = ("tion", "ness", "ment", "ing", "ed", "ly", "ies", "es", "s", "al", "ic", "ous", "er", "ity")
LONGEST = 80
"""Words of a sentence that claims are made of, at most."""
PASSAGE_WORDS = 150
SUPPORTED, CUT, FOREIGN = 0.42, 0.06, 0.06
"""Shares of claims: reworded; whose sentence was taken out of the passage; of another place. The rest is made wrong."""


class Maker:
    """Makes claims from documents."""

    def __init__(self, documents: Sequence[str]) -> None:
        self._random = random.Random()  # noqa: S311 - no secret
        split = [[" ".join(text[a:b].split()) for a, b in sentences.split(text)] for text in documents]
        self._documents = [[each for each in document if 0 < len(each.split()) <= LONGEST] for document in split]
        self._documents = [document for document in self._documents if document]
        self._sizes = [len(document) for document in self._documents]
        everything = [each for document in self._documents for each in document]
        self._names = [match.group() for each in everything for match in NAME.finditer(each) if match.start()]
        self._by_ending: dict[str, list[str]] = defaultdict(list)
        for word in sorted({word for each in everything for word in WORD.findall(each) if _plain(word)}):
            self._by_ending[_ending(word)].append(word)
        self._faults: tuple[Callable[[str, _Place], Made | None], ...] = (
            *(self._wrong_number,) * 3,
            *(self._wrong_name,) * 4,
            *(self._opposite,) * 3,
            *(self._negated,) * 2,
            *(self._wrong_word,) * 5,
            *(self._swapped,) * 2,
            *(self._mixed,) * 3,
            *(self._added,) * 2,
            self._wrong_month,
        )

    def examples(self, rng: random.Random, count: int) -> Iterator[Example]:
        """Passages with so many claims each, without end. Random numbers in the same state give the same ones."""
        self._random = rng
        while True:
            document = self._random.choices(self._documents, self._sizes)[0]
            place = _Place(document, *self._stretch(document))
            made = [each for _ in range(count) if (each := self._made(place))]
            if made:
                yield Example(self._typed(place.text), tuple(made))

    def _stretch(self, document: Sequence[str]) -> Span:
        """Neighbouring sentences: as often one as a whole passage."""
        start = self._random.randrange(len(document))
        wanted, end, words = self._random.choice((1, 2, 3, 5, 8, 12)), start, 0
        while end < len(document) and end - start < wanted and words < PASSAGE_WORDS:
            words += len(document[end].split())
            end += 1
        return start, end

    def _made(self, place: _Place) -> Made | None:
        chance, sentence = self._random.random(), self._random.choice(place.inside)
        if len(WORD.findall(sentence)) < SHORTEST:
            return None
        if chance < SUPPORTED:
            made: Made | None = Made(reworded(sentence, self._random), 1)
        elif chance < SUPPORTED + CUT + FOREIGN:
            made = self._unsupported(place)
        else:
            said = reworded(sentence, self._random) if self._random.random() < 0.6 else sentence
            made = self._wrong(said, place)
        return self._styled(made) if made and len(WORD.findall(made.claim)) > 2 else None

    def _unsupported(self, place: _Place) -> Made | None:
        """A true sentence of the same document, or of another one, that the passage does not hold."""
        document = place.document if self._random.random() < 0.8 else self._random.choice(self._documents)
        outside = [each for each in document if each not in place.text and len(WORD.findall(each)) >= SHORTEST]
        if not outside:
            return None
        claim = reworded(self._random.choice(outside), self._random)
        faults = place.missing(claim)
        return Made(claim, 0, faults, whole=False) if len(faults) > 1 else None

    # The look changes.

    def _styled(self, made: Made) -> Made:
        """As chats and old data sets write: chatter around it, lower case, spaces before full stops."""
        if self._random.random() < 0.13:
            made = _shifted(made, self._random.choice(BEFORE))
        claim = made.claim + (self._random.choice(BEHIND) if self._random.random() < 0.06 else "")
        if self._random.random() < 0.18:
            claim = claim.lower()
        if self._random.random() < 0.2:
            claim = claim.rstrip(" .")
        made = made._replace(claim=claim)
        return _spaced(made) if self._random.random() < 0.15 else made

    def _typed(self, text: str) -> str:
        chance = self._random.random()
        return text.lower() if chance < 0.06 else re.sub(r"([.,;:()])", r" \1 ", text) if chance < 0.12 else text

    # The meaning changes.

    def _wrong(self, sentence: str, place: _Place) -> Made | None:
        for _ in range(12):
            made = self._random.choice(self._faults)(sentence, place)
            if made and made.faults and made.claim.lower() != sentence.lower():
                return made
        return None

    def _wrong_number(self, sentence: str, place: _Place) -> Made | None:
        found = [*NUMBER.finditer(sentence), *SMALL.finditer(sentence)]
        if not found:
            return None
        match = self._random.choice(found)
        new = self._other_number(match.group(), place)
        there = re.search(rf"(?<![\d.,]){re.escape(new)}(?!\d)", place.text)
        return None if new == match.group() or (there and self._random.random() < 0.8) else _with(sentence, match, new)

    def _other_number(self, old: str, place: _Place) -> str:
        if old in NUMBERS:
            others = [word for word in NUMBERS if word not in place.lower and word != "zero"]
            return self._random.choice(others or [old])
        alike: list[str] = [each for each in NUMBER.findall(place.whole) if each != old and len(each) == len(old)]
        if alike and self._random.random() < 0.4:
            return self._random.choice(alike)
        if re.fullmatch(r"1[789]\d\d|20\d\d", old):
            return str(int(old) + self._random.choice((-30, -10, -5, -3, -2, -1, 1, 2, 3, 4, 10, 20)))
        at = self._random.choice([i for i, letter in enumerate(old) if letter.isdigit()])
        return old[:at] + self._random.choice("123456789".replace(old[at], "")) + old[at + 1 :]

    def _wrong_month(self, sentence: str, place: _Place) -> Made | None:
        match = re.search(rf"\b({'|'.join(MONTHS)})\b", sentence)
        others = [month for month in MONTHS if month.lower() not in place.lower]
        return _with(sentence, match, self._random.choice(others)) if match and others else None

    def _wrong_name(self, sentence: str, place: _Place) -> Made | None:
        found = _names(sentence)
        if not found:
            return None
        match = self._random.choice(found)
        near = [each.group() for each in NAME.finditer(place.whole) if each.start()]
        pool = near if self._random.random() < 0.6 else self._random.sample(self._names, min(40, len(self._names)))
        old, said = match.group().lower(), sentence.lower()
        others = [
            name
            for name in pool
            if name.lower() not in said
            and name.split()[0].lower() not in STOP
            and abs(len(name.split()) - len(old.split())) < 2
            and old not in name.lower()
        ]
        return _with(sentence, match, self._random.choice(others)) if others else None

    def _opposite(self, sentence: str, place: _Place) -> Made | None:
        found = [match for match in WORD.finditer(sentence) if match.group() in OPPOSITES]
        if not found:
            return None
        match = self._random.choice(found)
        new = self._random.choice(OPPOSITES[match.group()])
        there = re.search(rf"\b{new.lower()}\b", place.lower) and len(new) > 4
        return None if there else _with(sentence, match, new)

    def _negated(self, sentence: str, place: _Place) -> Made | None:
        """With a "not" that the passage lacks, or without one that it has."""
        del place
        if match := NEGATION.search(sentence):
            if match.group() == "no":
                return _with(sentence, match, self._random.choice(("some", "many", "a")))
            left = sentence[: match.start()].rstrip()
            claim = left + sentence[match.end() :]
            return Made(claim, 0, ((left.rfind(" ") + 1, _word_end(claim, len(left) + 1)),))
        found = list(AUXILIARY.finditer(sentence))
        if not found:
            return None
        match = self._random.choice(found)
        if match.group() in SHORTENED and self._random.random() < 0.2:
            return _with(sentence, match, match.group() + "n't")
        new = self._random.choice((" not", " not", " never"))
        claim = sentence[: match.end()] + new + sentence[match.end() :]
        return Made(claim, 0, ((match.end() + 1, match.end() + len(new)),))

    def _wrong_word(self, sentence: str, place: _Place) -> Made | None:
        """Another word with the same ending, of this document as often as of any."""
        found = [match for match in WORD.finditer(sentence) if _plain(match.group())]
        if not found:
            return None
        match = self._random.choice(found)
        old, ending = match.group(), _ending(match.group())
        near = [word for word in WORD.findall(place.whole) if _plain(word) and _ending(word) == ending]
        pool = near if near and self._random.random() < 0.6 else self._by_ending[ending]
        for new in self._random.choices(pool, k=6) if pool else ():
            if new[:4] != old[:4] and new not in SAME.get(old, ()) and new[:5] not in place.lower:
                return _with(sentence, match, new)
        return None

    def _swapped(self, sentence: str, place: _Place) -> Made | None:
        """Two names in each other's place."""
        del place
        found = _names(sentence)
        if len(found) < 2:
            return None
        one, other = sorted(self._random.sample(found, 2), key=lambda match: match.start())
        between = sentence[one.end() : other.start()]
        if one.group() == other.group() or between.strip(" ,") in ("", "and", "or", "&"):
            return None
        head, tail = sentence[: one.start()], sentence[other.end() :]
        claim = f"{head}{other.group()}{between}{one.group()}{tail}"
        second = len(head) + len(other.group()) + len(between)
        return Made(claim, 0, ((len(head), len(head) + len(other.group())), (second, second + len(one.group()))))

    def _elsewhere(self, place: _Place) -> str:
        document = place.document if self._random.random() < 0.7 else self._random.choice(self._documents)
        return self._random.choice(document)

    def _mixed(self, sentence: str, place: _Place) -> Made | None:
        """The beginning of one sentence with the end of another."""
        other = self._elsewhere(place)
        ends = [match for match in JOINT.finditer(sentence) if 15 < match.start() < len(sentence) - 10]
        starts = [match for match in JOINT.finditer(other) if 10 < match.start() < len(other) - 15]
        if not ends or not starts or other in place.text:
            return None
        end = self._random.choice(ends).start()
        claim = sentence[:end] + other[self._random.choice(starts).start() :]
        faults = tuple(span for span in place.missing(claim) if span[0] >= end)
        return Made(claim, 0, faults, whole=False) if len(faults) > 1 else None

    def _added(self, sentence: str, place: _Place) -> Made | None:
        """With a phrase of another sentence at its end."""
        other = self._elsewhere(place)
        phrases = PHRASES.findall(other)
        if not phrases or other in place.text:
            return None
        head = sentence.rstrip(" .")
        claim = f"{head}{self._random.choice(phrases)}."
        faults = tuple(span for span in place.missing(claim) if span[0] >= len(head))
        return Made(claim, 0, faults, whole=False) if faults else None


class _Place:
    """A passage within its document."""

    def __init__(self, document: Sequence[str], start: int, end: int) -> None:
        self.document, self.inside = document, document[start:end]
        self.text, self.whole = " ".join(self.inside), " ".join(document)
        self.lower = self.text.lower()

    def missing(self, claim: str) -> tuple[Span, ...]:
        """The claim's words that the passage does not hold, without stop words."""
        return tuple(
            match.span()
            for match in WORD.finditer(claim)
            if match.group().lower() not in self.lower and match.group().lower() not in STOP
        )


def _plain(word: str) -> bool:
    return word.islower() and word.isalpha() and len(word) > 3 and word not in STOP


def _ending(word: str) -> str:
    return next((ending for ending in ENDINGS if word.endswith(ending)), "")


def _names(sentence: str) -> list[re.Match[str]]:
    """Names, without a single word at the beginning, which anything may be."""
    return [
        match
        for match in NAME.finditer(sentence)
        if len(match.group()) > 2
        and (match.start() > 0 or " " in match.group())
        and match.group().split()[0].lower() not in STOP
    ]


def _with(sentence: str, match: re.Match[str], new: str) -> Made:
    """A claim in which one place was changed for the worse."""
    start, end = match.span()
    return Made(sentence[:start] + new + sentence[end:], 0, ((start, start + len(new)),))


def _word_end(text: str, start: int) -> int:
    end = text.find(" ", start)
    return len(text) if end < 0 else end


def _shifted(made: Made, before: str) -> Made:
    """With something before it."""
    faults = tuple((start + len(before), end + len(before)) for start, end in made.faults)
    return made._replace(claim=before + made.claim, faults=faults)


def _spaced(made: Made) -> Made:
    """With spaces before punctuation."""
    out = ""
    places: list[int] = []
    for letter in made.claim:
        places.append(len(out))
        apart = letter in '.,!?;:()"' and out and out[-1] != " " and not out[-1].isdigit()
        out += f" {letter}" if apart else letter
    places.append(len(out))
    return made._replace(claim=out, faults=tuple((places[start], places[end]) for start, end in made.faults))
