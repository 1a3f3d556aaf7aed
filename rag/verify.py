"""(sentence, passages) -> how well the passages support it, and where. Knows nothing about language models or stores.

The score is evidence without training: closeness of meaning and of words to the best window of one or two sentences,
the share of the sentence's words in the passage, and a penalty for numbers that the passage lacks. It orders
supported before unsupported sentences well (figures in docs/decisions.md) but is not a probability.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from rag import sentences
from rag.embed import Embedder
from rag.sparse import tokens
from rag.types import Vectors

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
MISSING_NUMBERS = 0.5
"""Share of the score that is lost when none of the sentence's numbers is in the passage."""
FILLER = frozenset(tokens("answer question passage document text follows following"))
"""Stems that speak about the answer and claim nothing: "The answer is no." holds nothing that words could support."""
WINDOW_TOKENS = 128
"""Windows longer than this are cut: sentences of real text are shorter, tables and lists may not be."""


class Passage(NamedTuple):
    """A text that a sentence is checked against."""

    text: str
    about: str = ""
    """What is read with the text and never cited, such as a table's column names."""


class Support(NamedTuple):
    """How well one passage supports one sentence, and where: `start` and `end` are offsets into the passage's text."""

    score: float
    """0 to 1."""
    passage: int
    """Counted from 0, in the order of the passages."""
    start: int
    end: int


class Verdict(NamedTuple):
    """What a checker says of a sentence."""

    score: float
    """0 to 1; 0 where there is no passage, or nothing that could be checked."""
    supports: tuple[Support, ...] = ()
    """Each passage's, best first; a checker that cannot say where has none."""
    reasons: tuple[str, ...] = ()
    """Why the score is low, or why it cannot be told; for a person."""
    checkable: bool = True
    """False where the sentence claims nothing that passages could support, such as a question or a greeting."""


class Checker(Protocol):
    """What says whether passages support sentences. Never raises because of a text."""

    id: str
    """Names what gives the scores: those of different ids must not be compared."""

    def check(self, claims: Sequence[str], passages: Sequence[Passage], question: str = "") -> list[Verdict]:
        """A verdict a sentence, in their order.

        Args:
            claims: sentences of an answer.
            passages: what it was written from.
            question: what was asked, which says what a short answer is about; empty where nobody asked.

        Raises:
            FootnoteError: the model behind it cannot be loaded or reached.
        """


class _Window(NamedTuple):
    passage: int
    start: int
    end: int
    text: str
    """What the sentence is compared with: the span of the passage, with its table's column names."""


class Verifier:
    """The checker that comes with Footnote. The same input gives the same output."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.id = f"evidence-1+{embedder.id}"

    def check(self, claims: Sequence[str], passages: Sequence[Passage], question: str = "") -> list[Verdict]:
        """See `Checker.check`."""
        if not claims or not passages:
            return [Verdict(0.0) for _ in claims]
        windows = [window for i, passage in enumerate(passages) for window in _windows(i, passage)]
        vectors = self._embedder.embed([self._short(text) for text in (*claims, *(w.text for w in windows))])
        cosines = vectors[: len(claims)] @ vectors[len(claims) :].T
        words = [frozenset(tokens(window.text)) for window in windows]
        return [self._verdict(claim, cosines[row], windows, words, passages) for row, claim in enumerate(claims)]

    def _short(self, text: str) -> str:
        """The text, cut by halves until it fits the window."""
        while self._embedder.count_tokens(text) > WINDOW_TOKENS:
            text = text[: len(text) // 2]
        return text

    def _verdict(
        self,
        claim: str,
        cosines: Vectors,
        windows: Sequence[_Window],
        words: Sequence[frozenset[str]],
        passages: Sequence[Passage],
    ) -> Verdict:
        wanted = frozenset(tokens(claim)) - FILLER
        near = np.array([(cosine + _share(wanted, found)) / 2 for cosine, found in zip(cosines, words, strict=True)])
        supports = []
        for i, passage in enumerate(passages):
            mine = [j for j, window in enumerate(windows) if window.passage == i]
            best = max(mine, key=lambda j: (near[j], -j))
            read = _read(passage)
            whole = _share(wanted, frozenset(tokens(read)))
            score = (
                0.0 if not wanted else (near[best] + whole) / 2 * (1 - MISSING_NUMBERS * _missing_numbers(claim, read))
            )
            supports.append(Support(float(np.clip(score, 0, 1)), i, windows[best].start, windows[best].end))
        supports.sort(key=lambda support: -support.score)
        return Verdict(supports[0].score, tuple(supports), checkable=bool(wanted))


def _read(passage: Passage) -> str:
    return f"{passage.about}\n{passage.text}" if passage.about else passage.text


def _windows(number: int, passage: Passage) -> list[_Window]:
    """Every sentence of a passage, and every two neighbours; a row of a table is read with its column names.

    These come last: a text that is too long loses its end.
    """
    text, below = passage.text, f"\n{passage.about}" if passage.about else ""
    spans = sentences.split(text) or [(0, len(text))]
    pairs = [(a[0], b[1]) for a, b in pairwise(spans)]
    return [_Window(number, start, end, text[start:end] + below) for start, end in (*spans, *pairs)]


def _share(wanted: frozenset[str], found: frozenset[str]) -> float:
    """Share of the wanted words that were found; 0 where nothing is wanted."""
    return len(wanted & found) / len(wanted) if wanted else 0.0


def _missing_numbers(claim: str, text: str) -> float:
    """Share of the claim's numbers that the text lacks; 0 where it has none."""
    wanted = set(NUMBER.findall(claim))
    return len(wanted - set(NUMBER.findall(text))) / len(wanted) if wanted else 0.0
