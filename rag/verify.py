"""(sentence, passages) -> how likely the passages support it, where, and why not.

The passages are read once; beside each, a small model reads the windows of sentences that come nearest to the sentence
together with it; its verdicts and plainer evidence are weighed into a probability (docs/checking.md).
Knows nothing about language models or stores.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rag import sentences
from rag.align import STOP, Side, key, pair, side, stem, words
from rag.checkable import why_not
from rag.evidence import Blend, Values, figures, missing_names, missing_numbers, read_blends, strongest, verbatim
from rag.scorer import OpenVINOScorer, Scorer
from rag.settings import Settings
from rag.tokens import Encoder, TokenEncoder
from rag.weights import find_checker
from rag.windows import Passage, Segment, Window, nearest, read

MODEL, BLENDS = "model.safetensors", "blend.json"
"""The files of a checker's directory."""
WINDOWS = 2
"""Of each passage, how many the model judges at most."""
JUDGED = 3
"""Windows that it judges for each sentence, of all passages: judging is what takes the time."""
VERBATIM, VERBATIM_WORDS = 0.98, 4
"""The least probability of a sentence that stands in a passage word for word, and how long it has to be."""
CLEAR = 0.5
"""Below this probability a verdict says what is missing."""
FAULTY = 0.6
"""A word counts as not found from this probability of being at fault."""
NAMED = 3
"""Words that a reason names at most."""
SHORT = 4
"""An answer of fewer words is read together with its question."""
MARK = re.compile(r"(?:[-*•●◦▪–]|\d{1,3}[.)])\s+")
"""What a point of a list begins with: nothing that is claimed."""


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
    """Those of the passages that come nearest, best first; a checker that cannot say where has none."""
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


class _Part(NamedTuple):
    """A sentence of a claim: most claims have one."""

    claim: int
    text: str
    side: Side
    own: frozenset[str]
    """Stems of a few words that are read with their question; empty for a sentence that stands by itself."""


class _Beside(NamedTuple):
    """A part beside a passage."""

    passage: int
    """Its place among the passages."""
    values: Values
    """The figures of `rag.evidence`."""
    span: tuple[int, int]
    """The window that the model likes best: start and end in the passage's text."""
    faults: npt.NDArray[np.float32]
    """Of the part's tokens, see `Scored`."""


class Verifier:
    """The checker that comes with Footnote. The same input gives the same output."""

    def __init__(self, encoder: Encoder, scorer: Scorer, blend: Blend, name: str) -> None:
        """Of the model that judges pairs, and of the regression that weighs what it says; `name` names both."""
        self._encoder, self._scorer, self._blend = encoder, scorer, blend
        self.id = f"{name}+{encoder.id}"
        self.trained_on = blend.trained_on

    def check(self, claims: Sequence[str], passages: Sequence[Passage], question: str = "") -> list[Verdict]:
        """See `Checker.check`. A claim of several sentences is as well supported as the weakest of them."""
        reasons = [_why_not(claim) for claim in claims]
        parts = self._parts(claims, reasons, question)
        if not passages:
            return [Verdict(0.0, (), (why,) if why else ("there are no passages",), not why) for why in reasons]
        verdicts: list[list[Verdict]] = [[] for _ in claims]
        for part, beside in zip(parts, self._beside(parts, passages), strict=True):
            verdicts[part.claim].append(self._verdict(part, passages, beside))
        return [
            _weakest(of) if of else Verdict(0.0, (), (why,), checkable=False)
            for of, why in zip(verdicts, reasons, strict=True)
        ]

    def evidence(self, claims: Sequence[str], passage: Passage) -> list[list[Values]]:
        """The figures (`rag.evidence.FIGURES`) of each claim's sentences; none for one that cannot be checked."""
        found: list[list[Values]] = [[] for _ in claims]
        parts = self._parts(claims, [_why_not(claim) for claim in claims], "")
        for part, beside in zip(parts, self._beside(parts, [passage]), strict=True):
            found[part.claim].append(beside[0].values)
        return found

    def _parts(self, claims: Sequence[str], reasons: Sequence[str], question: str) -> list[_Part]:
        texts = [
            (number, *_in_full(part, question))
            for number, claim in enumerate(claims)
            if not reasons[number]
            for part in _split(claim)
        ]
        encoded = self._encoder.encode([text for _, text, _ in texts])
        return [
            _Part(number, text, side(text, its), own) for (number, text, own), its in zip(texts, encoded, strict=True)
        ]

    def _beside(self, parts: Sequence[_Part], passages: Sequence[Passage]) -> list[list[_Beside]]:
        """Every part beside the passages that come nearest to it."""
        segments = read(passages, self._encoder)
        windows = [_nearest_windows(part.side, segments) for part in parts]
        pairs = [
            pair(part.side, window.side)
            for part, of_part in zip(parts, windows, strict=True)
            for _, of_passage in of_part
            for window in of_passage
        ]
        scored = iter(self._scorer.score(pairs))
        found = []
        for part, of_part in zip(parts, windows, strict=True):
            row = []
            for number, near in of_part:
                said = [next(scored) for _ in near]
                best = strongest(said)
                values = figures(part.text, part.side, _whole(passages[number]), segments[number], near, said)
                row.append(_Beside(number, values, near[best].span, said[best].faults))
            found.append(row)
        return found

    def _verdict(self, part: _Part, passages: Sequence[Passage], beside: Sequence[_Beside]) -> Verdict:
        supports = []
        for each in beside:
            score = self._blend.probability(each.values) * _found(part.own, passages[each.passage])
            if len(part.side.keys) >= VERBATIM_WORDS and verbatim(part.text, _whole(passages[each.passage])):
                score = max(score, VERBATIM)
            supports.append((Support(score, each.passage, *each.span), each.faults))
        supports.sort(key=lambda found: (-found[0].score, found[0].passage))
        best, faults = supports[0]
        reasons = _reasons(part, passages, faults) if best.score < CLEAR else ()
        return Verdict(best.score, tuple(support for support, _ in supports), reasons)


def open_checker(settings: Settings, held_out: str = "") -> Verifier:
    """The checker that comes with Footnote.

    Args:
        settings: where conversions are kept, and how many threads there are.
        held_out: a labelled data set that nothing in the checker may have learned from, where it is measured with it.

    Raises:
        WeightsError: its weights are not on this machine.
    """
    weights = find_checker(settings.checker_model)
    path = weights.path / BLENDS
    blends = read_blends(path)
    encoder = TokenEncoder(settings.cache_dir, settings.cores)
    scorer = OpenVINOScorer(weights, settings.cache_dir, settings.cores)
    name = f"{scorer.id}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    return Verifier(encoder, scorer, blends.get(held_out, blends[""]), name)


def _nearest_windows(claim: Side, segments: Sequence[Sequence[Segment]]) -> list[tuple[int, list[Window]]]:
    """Places of the passages that come nearest to a claim, in their order, and their nearest windows, best first."""
    found = [(number, window) for number, each in enumerate(segments) for window in nearest(claim, each, WINDOWS)]
    chosen = sorted(found, key=lambda each: (-each[1].near, each[0]))[:JUDGED]
    return [
        (number, [window for _, window in group])
        for number, group in groupby(sorted(chosen, key=itemgetter(0)), itemgetter(0))
    ]


def _why_not(claim: str) -> str:
    """Why a claim cannot be checked; empty where some part of it can."""
    reasons = [why_not(part) for part in _split(claim)] or [why_not(claim)]
    return "" if not all(reasons) else reasons[0]


def _split(claim: str) -> list[str]:
    """The sentences of a claim that can be checked."""
    text = claim
    if text == text.lower():  # without capitals a sentence ends at every full stop
        parts = [part.strip() for part in re.split(r"(?<=[a-z0-9)][ ][.!?])\s|(?<=[a-z]{3}[.!?])\s", text)]
    else:
        parts = [text[start:end] for start, end in sentences.split(text)]
    bare = (MARK.sub("", part, count=1) if MARK.match(part) else part for part in parts)
    return [part for part in bare if part and not why_not(part)]


def _in_full(part: str, question: str) -> tuple[str, frozenset[str]]:
    """A few words that answer a question, with the question; and their own stems."""
    asked = question.strip()
    if not asked or len(part.split()) >= SHORT:
        return part, frozenset()
    return f"{asked.rstrip('?')}? {part}", frozenset(map(stem, set(words(part)) - STOP))


def _found(own: frozenset[str], passage: Passage) -> float:
    """The share of a few words that stand in a passage: those of their question may stand there without them."""
    return len(own & set(map(stem, words(_whole(passage))))) / len(own) if own else 1.0


def _whole(passage: Passage) -> str:
    return f"{passage.about}\n{passage.text}" if passage.about else passage.text


def _weakest(parts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim of several sentences."""
    if len(parts) == 1:
        return parts[0]
    weakest = min(parts, key=lambda verdict: verdict.score)
    return weakest._replace(reasons=tuple(dict.fromkeys(reason for part in parts for reason in part.reasons)))


def _reasons(part: _Part, passages: Sequence[Passage], faults: npt.NDArray[np.float32]) -> tuple[str, ...]:
    """What the passages lack, for a person."""
    everything = "\n".join(map(_whole, passages))
    numbers = missing_numbers(part.text, everything)
    names = [name for name in missing_names(part.text, everything) if key(name) not in numbers]
    found = [_listed(what, which) for what, which in (("number", numbers), ("name", names)) if which]
    if not found:
        named = {part.side.word_of[i] for i in np.flatnonzero(faults >= FAULTY).tolist()} - {-1}
        odd = [part.side.keys[number] for number in sorted(named) if part.side.keys[number] not in STOP]
        found = [_listed("word", odd)] if odd else ["no passage says this"]
    return tuple(found)


def _listed(what: str, which: Sequence[str]) -> str:
    few = ", ".join(which[:NAMED]) + (" and others" if len(which) > NAMED else "")
    plural = len(which) > 1
    where = "does not fit" if what == "word" and not plural else "do not fit" if what == "word" else ""
    if where:
        return f"the {what}{'s' * plural} {few} {where} what the passages say"
    return f"the {what}{'s' * plural} {few} {'are' if plural else 'is'} not in the passages"
