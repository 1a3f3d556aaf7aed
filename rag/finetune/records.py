"""The records that training is made of. Plain values; knows nothing about where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Span = tuple[int, int]


class Made(NamedTuple):
    """A claim with its label."""

    claim: str
    label: int
    """1 where the passage supports it."""
    faults: tuple[Span, ...] = ()
    """Characters of the claim that the passage does not support."""
    whole: bool = True
    """False where other words may be at fault, too."""


class Example(NamedTuple):
    """A passage and claims about it."""

    passage: str
    claims: tuple[Made, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """What a checker learns from."""

    documents: tuple[str, ...]
    """Texts that claims are made of."""
    examples: tuple[Example, ...]
    """Claims that people labelled, or that come from their questions and answers."""
    share: float = 0.3
    """Of the pairs, how many come from `examples`; the rest is made."""


class Progress(NamedTuple):
    """How far a training is."""

    pairs: int
    of: int
    loss: float
    """Of verdicts, a running mean."""
    token_loss: float
    accuracy: float
    pairs_per_second: float


class Labelled(NamedTuple):
    """A claim and what people said of it."""

    claim: str
    context: str
    label: int
    """1 where the context supports it."""
    group: str = ""
    """Rows of a group are one claim with several contexts: the best of them counts."""
