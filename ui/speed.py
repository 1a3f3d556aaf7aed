"""How fast an answer was written. Knows nothing about pages."""

from __future__ import annotations

from rag.answer import Rag
from rag.types import Answer

SHORTEST = 0.1
"""Seconds of writing from which a speed can be told."""


def tokens_a_second(rag: Rag, answer: Answer) -> float | None:
    """How many tokens a second followed the first one; None where that cannot be told.

    Answers keep no count of their tokens, so the model that wrote one has to be at hand to count them. What it wrote
    and nobody kept, a loop or how it declined, is not counted.
    """
    times = answer.timings
    if not answer.model or times.generate is None or "the language model" in rag.missing:
        return None
    seconds = (times.generate - (times.first_token or 0.0)) / 1000
    written = answer.dropped if answer.abstained else (*answer.sentences, *answer.dropped)
    if seconds < SHORTEST or not written or rag.llm.name != answer.model:
        return None
    return (rag.llm.count_tokens(" ".join(sentence.text for sentence in written)) - 1) / seconds
