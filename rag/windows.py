"""Passages -> segments that the encoder reads at once -> the few windows of sentences that come nearest to a claim.

Each passage is read once, whatever number of claims is checked against it: a window is a slice of its segment, so its
tokens know what stands around it. Knows nothing about verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rag import sentences
from rag.align import Side, cut, side, weights
from rag.tokens import Encoder

SEGMENT_TOKENS = 200
"""Tokens of sentences that are read at once; with what the passage is about they fit the encoder."""
ABOUT_TOKENS = 40
WINDOW_TOKENS = 130
"""A window is not made longer than this by another sentence."""
WINDOW_SENTENCES = 3
LONGER = 0.01
"""What a window has to come nearer for each further sentence."""
LINE = re.compile(r"[^\n]+")


class Passage(NamedTuple):
    """A text that a sentence is checked against."""

    text: str
    about: str = ""
    """What is read with the text and never cited, such as a table's column names."""


class Segment(NamedTuple):
    """Neighbouring sentences of a passage, encoded together below what the passage is about."""

    side: Side
    spans: tuple[tuple[int, int], ...]
    """The sentences: start and end in the passage's text."""
    first: tuple[int, ...]
    """The first token of each sentence, and behind them the number of the token that ends the last one."""


class Window(NamedTuple):
    """Neighbouring sentences of one segment."""

    segment: Segment
    first: int
    """Of its sentences, in the segment."""
    last: int
    """The same, exclusive."""
    near: float
    """Weighted mean over the claim's tokens of the cosine with the nearest token of the window (late interaction)."""

    @property
    def span(self) -> tuple[int, int]:
        """Start and end in the passage's text."""
        return self.segment.spans[self.first][0], self.segment.spans[self.last - 1][1]

    @property
    def side(self) -> Side:
        """Its tokens, behind those of what the passage is about, with the special one at the end."""
        whole, start, end = self.segment.side, self.segment.first[self.first], self.segment.first[self.last]
        places = np.r_[1 : self.segment.first[0], start:end, len(whole.ids) - 1]
        return cut(whole, places)


def read(passages: Sequence[Passage], encoder: Encoder) -> list[list[Segment]]:
    """The segments of each passage; at least one."""
    planned = [(number, *plan) for number, passage in enumerate(passages) for plan in _plans(passage, encoder)]
    encoded = encoder.encode([text for _, text, _, _ in planned])
    found: list[list[Segment]] = [[] for _ in passages]
    for (number, text, shift, spans), each in zip(planned, encoded, strict=True):
        starts = np.array([start for start, _ in each.offsets[1:-1]] or [0])
        first = [1 + int(np.searchsorted(starts, start - shift)) for start, _ in spans]
        found[number].append(Segment(side(text, each), tuple(spans), (*first, len(each.ids) - 1)))
    return found


def _plans(passage: Passage, encoder: Encoder) -> Iterator[tuple[str, int, list[tuple[int, int]]]]:
    """Texts to encode: each with how far the passage's offsets are ahead of the text's, and its sentences."""
    about = passage.about.strip()
    while about and encoder.count([about])[0] > ABOUT_TOKENS:
        about = about[: len(about) // 2]
    above = f"{about}\n" if about else ""
    for spans in _groups(passage.text, encoder):
        start, end = spans[0][0], spans[-1][1]
        yield above + passage.text[start:end], start - len(above), spans


def _groups(text: str, encoder: Encoder) -> Iterator[list[tuple[int, int]]]:
    """Neighbouring sentences that fit a segment."""
    spans = [piece for span in _sentences(text) for piece in _short(text, span, encoder)]
    group: list[tuple[int, int]] = []
    length = 0
    for span, count in zip(spans, encoder.count([text[start:end] for start, end in spans]), strict=True):
        if group and length + count > SEGMENT_TOKENS:
            yield group
            group, length = [], 0
        group.append(span)
        length += count
    yield group


def _sentences(text: str) -> list[tuple[int, int]]:
    """Sentences and, within them, lines: the rows of a table, the items of a list."""
    found = []
    for start, end in sentences.split(text):
        for line in LINE.finditer(text, start, end):
            stripped = line.group().strip()
            if stripped:
                at = line.start() + line.group().index(stripped)
                found.append((at, at + len(stripped)))
    return found or [(0, len(text))]


def _short(text: str, span: tuple[int, int], encoder: Encoder) -> list[tuple[int, int]]:
    """A sentence, cut by halves between words until its parts fit a segment."""
    start, end = span
    if end - start <= SEGMENT_TOKENS or encoder.count([text[start:end]])[0] <= SEGMENT_TOKENS:
        return [span]
    middle = text.rfind(" ", start + 1, (start + end) // 2)
    middle = middle if middle > start else (start + end) // 2
    return [*_short(text, (start, middle), encoder), *_short(text, (middle, end), encoder)]


def nearest(claim: Side, segments: Sequence[Segment], most: int) -> list[Window]:
    """The windows that come nearest to a claim, best first; none lies within another."""
    found = sorted(
        (window for segment in segments for window in _windows(claim, segment)), key=lambda window: -window.near
    )
    chosen: list[Window] = []
    for window in found:
        if not any(_overlap(window, other) for other in chosen):
            chosen.append(window)
            if len(chosen) == most:
                break
    return chosen


def _windows(claim: Side, segment: Segment) -> Iterator[Window]:
    """Every run of sentences that is short enough, and every sentence."""
    by_sentence, heavy = similarity(claim, segment), weights(claim)
    count = len(segment.spans)
    for size in range(1, WINDOW_SENTENCES + 1):
        for first in range(count - size + 1):
            last = first + size
            if size == 1 or segment.first[last] - segment.first[first] <= WINDOW_TOKENS:
                best = by_sentence[:, first:last].max(1)
                yield Window(segment, first, last, float(heavy @ best / heavy.sum()) - LONGER * size)


def similarity(claim: Side, segment: Segment) -> npt.NDArray[np.float32]:
    """Each token of a claim with the nearest token of each sentence: cosines, shape (tokens, sentences)."""
    cosines = claim.last @ segment.side.last.T
    columns = [
        cosines[:, start:end].max(1) if end > start else np.full(len(cosines), -1.0)
        for start, end in zip(segment.first[:-1], segment.first[1:], strict=True)
    ]
    return np.column_stack(columns).astype(np.float32)


def _overlap(one: Window, other: Window) -> bool:
    """True where one of the two lies within the other."""
    if one.segment is not other.segment:
        return False
    return (one.first >= other.first and one.last <= other.last) or (
        one.first <= other.first and one.last >= other.last
    )
