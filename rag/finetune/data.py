"""Documents and questions -> sheets to learn from: passages as the retriever returns them, and what is asked of them.

A question whose passage was not found, or was taken out, is one to decline: what is right depends on the passages
alone. Knows nothing about files, models or how sheets are learned.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import ceil
from typing import NamedTuple

from rag import sentences
from rag.align import WORD
from rag.finetune.disguise import Names, disguised
from rag.finetune.questions import Question, questions
from rag.finetune.sheets import Asked, Sheet, Shown
from rag.types import Hit

Search = Callable[[str, int], Sequence[Hit]]
"""A question and how many passages -> the best ones."""
Supported = Callable[[str, str, Sequence[Hit]], bool]
"""Question, answer, passages -> whether the checker finds the answer in them."""

PASSAGES = (1, 2, 3, 4, 4)
"""How many passages a sheet has."""
CUT = 0.25
"""How often passages are short: a few sentences of each, as in notes and mails."""
CUT_SENTENCES = (1, 1, 2, 3)
DISGUISED = 0.5
"""How often names and numbers are others than in the documents."""
SPARE = 4
"""Passages beyond those that are searched for, to fill the places of what is taken out."""
TAKEN_OUT = 0.3
"""How often the passages that hold the answer to a sheet's first question are taken out."""
SHUFFLED = 0.6
"""How often passages stand in another order than the retriever's."""
DECLINED = 0.35
"""Questions to decline for each answered one, about."""
TRIES = 30
"""Sentences that are drawn for each sheet by rule, at most: few make a question, and some questions find nothing."""
PER_SENTENCE = 2
"""Questions by rule about a sentence of a sheet, at most."""
DRAWN = 6
"""Sentences that are drawn for each question about what a passage's document says elsewhere, at most."""


class Wanted(NamedTuple):
    """A question that somebody answered."""

    question: str
    answer: str
    """As it stands in a document; empty for a question that the documents do not answer."""
    documents: tuple[str, ...]
    """Those that hold the answer; empty where nobody knows."""
    kind: str = "person"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents that can be searched, and questions about them."""

    name: str
    documents: Mapping[str, str]
    """Id -> text."""
    search: Search
    wanted: Sequence[Wanted] = ()
    vocabulary: frozenset[str] = field(default_factory=frozenset)
    supported: Supported | None = None
    """Looks at questions made by rule, where the answers should be checked."""

    @classmethod
    def of(
        cls,
        name: str,
        documents: Mapping[str, str],
        search: Search,
        wanted: Sequence[Wanted] = (),
        supported: Supported | None = None,
    ) -> Corpus:
        """With the words of the documents as vocabulary."""
        vocabulary = frozenset(word.lower() for text in documents.values() for word in WORD.findall(text))
        return cls(name, documents, search, wanted, vocabulary, supported)


class Amounts(NamedTuple):
    """How much of what is made."""

    asked: int = 0
    """Sheets that begin with a person's question; no question begins two."""
    made: int = 0
    """Sheets that begin with a question made by rule."""
    by_rule: int = 9
    """Questions made by rule in a sheet, at most."""
    people: int = 24
    """People's questions in a sheet, at most."""
    disguised: bool = True
    """Some sheets have other names and numbers than their documents."""

    def measured(self, part: float = 1.0) -> Amounts:
        """A part of it for data that training is measured on: as the documents are."""
        return self._replace(asked=ceil(self.asked * part), made=ceil(self.made * part), disguised=False)


def sheets(corpus: Corpus, amounts: Amounts, seed: int) -> Iterator[Sheet]:
    """Sheets of a corpus. The same input gives the same sheets.

    Args:
        corpus: what to ask about.
        amounts: how much of what.
        seed: of everything that is random.
    """
    maker = _Maker(corpus, amounts, random.Random(f"{seed}-{corpus.name}"))  # noqa: S311 - no secret
    yield from maker.by_people()
    yield from maker.by_rule()


class _Maker:
    def __init__(self, corpus: Corpus, amounts: Amounts, rng: random.Random) -> None:
        self._corpus, self._amounts, self._random = corpus, amounts, rng
        self._by_document: dict[str, list[Wanted]] = {}
        for each in corpus.wanted:
            for document in each.documents:
                self._by_document.setdefault(document, []).append(each)
        self._documents = {id_: text for id_, text in corpus.documents.items() if text.strip()}
        self._ids = sorted(self._documents)
        self._sentences: dict[str, list[str]] = {}
        self._names = Names(self._documents.values())

    def by_people(self) -> Iterator[Sheet]:
        """Sheets that begin with people's questions."""
        wanted = self._random.sample(list(self._corpus.wanted), len(self._corpus.wanted))
        yield from islice(filter(None, map(self._sheet, wanted)), self._amounts.asked)

    def by_rule(self) -> Iterator[Sheet]:
        """Sheets about sentences drawn from the documents."""
        made = 0
        for _ in range(TRIES * self._amounts.made if self._ids else 0):
            if made == self._amounts.made:
                return
            document = self._random.choice(self._ids)
            for asked in self._asked_about(self._drawn(document), 1):
                if sheet := self._sheet(Wanted(*asked, (document,), "rule")):
                    made += 1
                    yield sheet

    def _sheet(self, first: Wanted) -> Sheet | None:
        """A sheet that begins with a question; None where it is of no use."""
        k = self._random.choice(PASSAGES)
        found = self._corpus.search(first.question, k + SPARE)
        holding = [hit for hit in found if _holds(hit, first)]
        if first.kind == "rule" and not any(hit in holding for hit in found[:k]):
            return None
        out = bool(holding) and self._random.random() < TAKEN_OUT
        hits = [hit for hit in found if not (out and hit in holding)][:k]
        if not hits:
            return None
        if self._random.random() < CUT:
            hits = [self._cut(hit, first) for hit in hits]
        if self._random.random() < SHUFFLED:
            self._random.shuffle(hits)
        asked = [each for each in (self._judged(first, hits), *self._people(first, hits), *self._rules(hits)) if each]
        kept = {each.question.lower(): each for each in reversed(asked)}
        if not kept:
            return None
        sheet = Sheet(tuple(Shown.of(hit.chunk) for hit in hits), tuple(reversed(kept.values())))
        other = self._random.random() < DISGUISED and self._amounts.disguised
        return disguised(sheet, self._names, self._random) if other else sheet

    def _cut(self, hit: Hit, wanted: Wanted) -> Hit:
        """A few sentences of a passage in its place, those with an answer where it holds one."""
        text = hit.chunk.text
        spans = sentences.split(text)
        answer = _plain(wanted.answer)
        first = next(
            (i for i, (start, end) in enumerate(spans) if answer and _stands_in(answer, _plain(text[start:end]))),
            self._random.randrange(len(spans)) if spans else 0,
        )
        size = self._random.choice(CUT_SENTENCES)
        begin = max(0, first - self._random.randrange(size))
        kept = spans[begin : begin + size]
        return replace(hit, chunk=replace(hit.chunk, text=text[kept[0][0] : kept[-1][1]])) if kept else hit

    def _judged(self, wanted: Wanted, hits: Sequence[Hit]) -> Asked | None:
        """A question with what is right to say about these passages; None where that is not clear."""
        if wanted.answer and any(_holds(hit, wanted) for hit in hits):
            supported = self._corpus.supported
            if supported and wanted.kind != "person" and not supported(wanted.question, wanted.answer, hits):
                return None
            return self._as_asked(wanted, wanted.answer)
        partly = any(_overlaps(hit, wanted) for hit in hits)
        return None if wanted.answer and partly else self._as_asked(wanted, "")

    def _as_asked(self, wanted: Wanted, answer: str) -> Asked:
        document = wanted.documents[0] if wanted.documents else ""
        return Asked(wanted.question, answer, wanted.kind, self._corpus.name, document)

    def _people(self, first: Wanted, hits: Sequence[Hit]) -> list[Asked]:
        """Other people's questions about the same documents, or about their neighbours of the same title."""
        documents = dict.fromkeys(hit.chunk.doc for hit in hits)
        titles = {hit.chunk.title for hit in hits}
        about = [each for document in documents for each in self._by_document.get(document, ()) if each != first]
        judged = [each for each in (self._judged(wanted, hits) for wanted in about) if each]
        near = [hit.chunk.doc for hit in self._corpus.search(first.question, 12) if hit.chunk.title in titles]
        away = [
            each
            for document in dict.fromkeys(near)
            if document not in documents
            for each in self._by_document.get(document, ())
        ]
        declined = [each for each in judged if not each.answer]
        declined += [each for each in (self._judged(wanted, hits) for wanted in away) if each and not each.answer]
        return self._mixed([each for each in judged if each.answer], declined, self._amounts.people)

    def _rules(self, hits: Sequence[Hit]) -> list[Asked]:
        """Questions by rule about these passages, and about what else their documents say."""
        text = " ".join(" ".join(hit.chunk.text.split()) for hit in hits)
        answered, declined = [], []
        for hit in hits:
            inside = [" ".join(hit.chunk.text[a:b].split()) for a, b in sentences.split(hit.chunk.text)]
            for sentence in self._random.sample(inside, len(inside)):
                for made in self._asked_about(sentence, PER_SENTENCE):
                    answered.append(self._judged(Wanted(*made, (hit.chunk.doc,), "rule"), hits))
            for made in self._asked_elsewhere(hit.chunk.doc, text):
                declined.append(self._judged(Wanted(*made, (hit.chunk.doc,), "rule"), hits))
        return self._mixed(
            [each for each in answered if each and each.answer],
            [each for each in declined if each and not each.answer],
            self._amounts.by_rule,
        )

    def _mixed(self, answered: Sequence[Asked], declined: Sequence[Asked], most: int) -> list[Asked]:
        """So many answered ones at most, and a share of that to decline."""
        some = self._random.sample(answered, min(most, len(answered)))
        return some + self._random.sample(declined, min(1 + int(DECLINED * len(some)), len(declined)))

    def _asked_about(self, sentence: str, most: int) -> list[Question]:
        made = questions(sentence, self._random, self._corpus.vocabulary)
        return self._random.sample(made, min(most, len(made)))

    def _asked_elsewhere(self, document: str, shown: str) -> list[Question]:
        """A question about a sentence of a document that is not shown; none where none is found soon."""
        drawn = (self._drawn(document) for _ in range(DRAWN))
        asked = (self._asked_about(sentence, 1) for sentence in drawn if sentence not in shown)
        return next(filter(None, asked), [])

    def _drawn(self, document: str) -> str:
        """A sentence of a document."""
        if document not in self._sentences:
            text = self._documents.get(document, "")
            self._sentences[document] = [" ".join(text[a:b].split()) for a, b in sentences.split(text)] or [""]
        return self._random.choice(self._sentences[document])


def _holds(hit: Hit, wanted: Wanted) -> bool:
    """True where a passage of the right document has the answer, word for word."""
    right = not wanted.documents or hit.chunk.doc in wanted.documents
    return right and bool(wanted.answer) and _stands_in(_plain(wanted.answer), _plain(hit.chunk.with_header))


def _stands_in(words: str, text: str) -> bool:
    """True where whole words stand in a text: 10 is not in 2010."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def _overlaps(hit: Hit, wanted: Wanted) -> bool:
    """True where a passage may hold the answer after all: its letters are there, or part of a long one."""
    text, answer = _plain(hit.chunk.with_header), _plain(wanted.answer)
    if answer in text:
        return True
    half = answer.split()
    middle = len(half) // 2
    parts = (" ".join(half[:middle]), " ".join(half[middle:])) if len(half) > 5 else ()
    return hit.chunk.doc in wanted.documents and any(part in text for part in parts)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
