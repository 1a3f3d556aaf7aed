"""(sentence, passages) -> how well the passages support it, and where. Knows nothing about language models or stores.

The score is evidence without training: closeness of meaning and of words to the best window of one or two sentences,
the share of the sentence's words in the passage, and a penalty for numbers that the passage lacks. It orders
supported before unsupported sentences well (figures in docs/decisions.md) but is not a probability.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rag import sentences
from rag.embed import Embedder
from rag.sparse import tokens
from rag.types import Chunk, Hit, Vectors

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
MISSING_NUMBERS = 0.5
"""Share of the score that is lost when none of the sentence's numbers is in the passage."""
FILLER = frozenset(tokens("answer question passage document text follows following"))
"""Stems that speak about the answer and claim nothing: "The answer is no." holds nothing that words could support."""
WINDOW_TOKENS = 128
"""Windows longer than this are cut: sentences of real text are shorter, tables and lists may not be."""


class Support(NamedTuple):
    """How well one passage supports one sentence. `start` and `end` are offsets into the document."""

    score: float
    """0 to 1."""
    hit: Hit
    start: int
    end: int


class _Window(NamedTuple):
    passage: int
    start: int
    end: int
    text: str
    """What the sentence is compared with: the span of the passage, with its table's column names."""


class Verifier:
    """Checks the sentences of an answer against the passages it was written from."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def check(self, claims: Sequence[str], hits: Sequence[Hit]) -> list[list[Support]]:
        """For each sentence, the support that each passage gives, best first; empty where there are no passages."""
        if not claims or not hits:
            return [[] for _ in claims]
        windows = [window for i, hit in enumerate(hits) for window in _windows(i, hit.chunk)]
        vectors = self._embedder.embed([self._short(text) for text in (*claims, *(w.text for w in windows))])
        cosines = vectors[: len(claims)] @ vectors[len(claims) :].T
        words = [frozenset(tokens(window.text)) for window in windows]
        return [self._supports(claim, cosines[row], windows, words, hits) for row, claim in enumerate(claims)]

    def _short(self, text: str) -> str:
        """The text, cut by halves until it fits the window."""
        while self._embedder.count_tokens(text) > WINDOW_TOKENS:
            text = text[: len(text) // 2]
        return text

    def _supports(
        self,
        claim: str,
        cosines: Vectors,
        windows: Sequence[_Window],
        words: Sequence[frozenset[str]],
        hits: Sequence[Hit],
    ) -> list[Support]:
        wanted = frozenset(tokens(claim)) - FILLER
        near = np.array([(cosine + _share(wanted, found)) / 2 for cosine, found in zip(cosines, words, strict=True)])
        supports = []
        for i, hit in enumerate(hits):
            mine = [j for j, window in enumerate(windows) if window.passage == i]
            best = max(mine, key=lambda j: (near[j], -j))
            whole = _share(wanted, frozenset(tokens(hit.chunk.with_header)))
            score = (
                0.0
                if not wanted
                else (near[best] + whole) / 2 * (1 - MISSING_NUMBERS * _missing_numbers(claim, hit.chunk.with_header))
            )
            start = hit.chunk.start
            supports.append(
                Support(float(np.clip(score, 0, 1)), hit, start + windows[best].start, start + windows[best].end)
            )
        return sorted(supports, key=lambda support: -support.score)


def _windows(passage: int, chunk: Chunk) -> list[_Window]:
    """Every sentence of a passage, and every two neighbours; a row of a table is read with its column names.

    These come last: a text that is too long loses its end.
    """
    text, below = chunk.text, f"\n{chunk.header}" if chunk.header else ""
    spans = sentences.split(text) or [(0, len(text))]
    pairs = [(a[0], b[1]) for a, b in pairwise(spans)]
    return [_Window(passage, start, end, text[start:end] + below) for start, end in (*spans, *pairs)]


def _share(wanted: frozenset[str], found: frozenset[str]) -> float:
    """Share of the wanted words that were found; 0 where nothing is wanted."""
    return len(wanted & found) / len(wanted) if wanted else 0.0


def _missing_numbers(claim: str, text: str) -> float:
    """Share of the claim's numbers that the text lacks; 0 where it has none."""
    wanted = set(NUMBER.findall(claim))
    return len(wanted - set(NUMBER.findall(text))) / len(wanted) if wanted else 0.0
