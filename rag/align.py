"""A claim beside a window of a passage, token by token: which words are the same, and how near the others come.

Knows nothing about models: vectors come in, arrays for the checker's model and a few plain figures go out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rag.embed import rounded
from rag.sparse import tokens
from rag.tokens import Encoded, States

WORD = re.compile(r"\d+(?:[.,]\d+)*|\w+(?:['’-]\w+)*")
NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
    )
}
STOP = frozenset(
    "a an the of in on at to for from by with and or but as is are was were be been being it its this that these those "
    "he she they his her their him them i you we my your our me us do does did has have had so than then there here "
    "which who whom whose what when where why how also just very can could will would may might should must into out "
    "up down over about".split()
)
"""Words that claim little by themselves. Negations and quantities are not among them."""
COMMON, RARE = 7.0, 3.0
"""Natural logarithm of a vocabulary rank: BERT's vocabulary is ordered by frequency, so a high id is a rare token."""

OTHER, STOP_SAME, SAME, STEM, MISSING, NUMBER_MISSING, STOP_MISSING = range(7)
"""What a token is on the other side: no word; there; there; there by its stem; not there; not there."""
FLAGS = 7
TOKEN_FEATURES = 12
NEAR = 3
"""Tokens apart: neighbours of a claim that match neighbours of the window stand in the same order there."""


class Side(NamedTuple):
    """A claim, or a window of a passage."""

    ids: npt.NDArray[np.int64]
    keys: tuple[str, ...]
    """Its words as they are compared: in lower case, numbers as digits without separators."""
    stems: tuple[str, ...]
    word_of: npt.NDArray[np.int64]
    """Which word a token belongs to, -1 for none; shape (tokens,)."""
    middle: States
    last: States


class Pair(NamedTuple):
    """The arrays that the checker's model reads for one claim and one window; the claim comes first."""

    states: States
    """(tokens, dim)"""
    segment: npt.NDArray[np.int64]
    """0 for the claim's tokens, 1 for the window's."""
    flag: npt.NDArray[np.int64]
    """What each token is on the other side."""
    claim: npt.NDArray[np.float32]
    """1 at the tokens of the claim's words, which are judged one by one."""
    features: npt.NDArray[np.float32]
    """(tokens, TOKEN_FEATURES), 0 at the window's."""


@lru_cache(100_000)
def stem(word: str) -> str:
    """The stem that the search counts, or the word itself where it counts none."""
    return next(iter(tokens(word)), word)


def key(word: str) -> str:
    """A word as it is compared."""
    word = word.lower()
    return word.replace(",", "").rstrip(".") if word[0].isdigit() else NUMBERS.get(word, word)


def words(text: str) -> list[str]:
    """The words of a text as they are compared, in their order."""
    return [key(match.group()) for match in WORD.finditer(text)]


def side(text: str, encoded: Encoded) -> Side:
    """A whole text as one side of a pair."""
    found = [(match.start(), match.end(), key(match.group())) for match in WORD.finditer(text)]
    word_of, at = [], 0
    for start, end in encoded.offsets:
        while at < len(found) and found[at][1] <= start:
            at += 1
        word_of.append(at if end > start and at < len(found) and found[at][0] < end else -1)
    keys = tuple(word for _, _, word in found)
    return Side(
        np.array(encoded.ids, dtype=np.int64),
        keys,
        tuple(map(stem, keys)),
        np.array(word_of, dtype=np.int64),
        encoded.middle,
        encoded.last,
    )


def cut(whole: Side, places: npt.NDArray[np.int64]) -> Side:
    """Some of a side's tokens, as a side of their own."""
    of = whole.word_of[places]
    kept = sorted(set(of[of >= 0].tolist()))
    new = {old: number for number, old in enumerate(kept)}
    return Side(
        whole.ids[places],
        tuple(whole.keys[old] for old in kept),
        tuple(whole.stems[old] for old in kept),
        np.array([new.get(old, -1) for old in of.tolist()], dtype=np.int64),
        whole.middle[places],
        whole.last[places],
    )


def rarity(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """0 for the most frequent tokens to 1 for rare ones."""
    found: npt.NDArray[np.float64] = np.clip((np.log(ids + 1) - COMMON) / RARE, 0, 1)
    return found


def weights(claim: Side) -> npt.NDArray[np.float64]:
    """How much each token of a claim counts: rare words most, stop words and punctuation next to nothing."""
    counted = np.array([number >= 0 and claim.keys[number] not in STOP for number in claim.word_of.tolist()])
    return np.where(counted, np.maximum(rarity(claim.ids), 0.15), 0.02)


def flags(one: Side, other: Side) -> npt.NDArray[np.int64]:
    """What each token of one side is on the other."""
    keys, stems = set(other.keys), set(other.stems)

    def flag(word: str, stemmed: str) -> int:
        if word in STOP:
            return STOP_SAME if word in keys else STOP_MISSING
        if word in keys:
            return SAME
        if stemmed in stems:
            return STEM
        return NUMBER_MISSING if word[0].isdigit() else MISSING

    of_words = [*map(flag, one.keys, one.stems), OTHER]
    return np.array([of_words[number] for number in one.word_of.tolist()], dtype=np.int64)


def pair(claim: Side, window: Side) -> Pair:
    """A claim and a window, ready for the checker's model. The claim keeps its special tokens, the window its last."""
    n, m = len(claim.ids), len(window.ids)
    mine, theirs = flags(claim, window), flags(window, claim)
    judged = (claim.word_of >= 0).astype(np.float32)
    if not judged.any():
        judged[:] = 1.0
    features = np.zeros((n + m, TOKEN_FEATURES), dtype=np.float32)
    features[:n] = _features(claim, window, mine)
    return Pair(
        np.concatenate([claim.middle, window.middle]),
        np.repeat([0, 1], [n, m]),
        np.concatenate([mine, theirs]),
        np.concatenate([judged, np.zeros(m, dtype=np.float32)]),
        features,
    )


def _features(claim: Side, window: Side, flag: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    last, middle = claim.last @ window.last.T, _unit(claim.middle) @ _unit(window.middle).T
    places = last.argmax(1)
    in_order = np.abs(np.diff(places, prepend=places[0])) <= NEAR
    one_hot = np.eye(FLAGS, dtype=np.float32)[flag]
    ones = np.ones(len(flag))
    columns = [last.max(1), middle.max(1), in_order, rarity(claim.ids)]
    return np.column_stack([*columns, one_hot, ones]).astype(np.float32)


def _unit(vectors: States) -> States:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    found: States = vectors / lengths
    return found


def stacked(pairs: Sequence[Pair]) -> dict[str, npt.NDArray[np.generic]]:
    """Pairs as one batch, padded: arrays of shape (pairs, longest, ...) under the names of the model's inputs."""
    n, longest = len(pairs), rounded(max(len(each.flag) for each in pairs))
    dim = pairs[0].states.shape[1]
    batch: dict[str, npt.NDArray[np.generic]] = {
        "states": np.zeros((n, longest, dim), dtype=np.float32),
        "segment": np.zeros((n, longest), dtype=np.int64),
        "flag": np.zeros((n, longest), dtype=np.int64),
        "mask": np.zeros((n, longest), dtype=np.float32),
        "claim": np.zeros((n, longest), dtype=np.float32),
        "features": np.zeros((n, longest, TOKEN_FEATURES), dtype=np.float32),
    }
    for row, each in enumerate(pairs):
        length = len(each.flag)
        batch["mask"][row, :length] = 1
        for name in ("states", "segment", "flag", "claim", "features"):
            batch[name][row, :length] = getattr(each, name)
    return batch
