"""How fast the checker of sentences is. There is no peer: nothing else gives the same verdicts with places."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from eval.bench.texts import passages
from rag.embed import open_embedder
from rag.settings import Settings
from rag.verify import Checker, open_checker
from rag.windows import Passage

CLAIMS, PASSAGES = 4, 5
"""Sentences of an answer, and what each is checked against."""
TOKENS, WORDS = 200, 20
"""Tokens of a passage, words of a sentence."""
WARM_UP = 3
"""Answers that are checked before the clock starts: kernels are compiled for the shapes that come up."""


class Job(NamedTuple):
    """An answer that is checked in one call."""

    claims: list[str]
    passages: list[Passage]


def run(settings: Settings, answers: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Pairs of sentence and passage a second, and how long an answer takes.

    Args:
        settings: where conversions are kept, and how many threads there are.
        answers: how many are checked, each against passages of its own.
        progress: told what goes on.

    Raises:
        WeightsError: the weights are not on this machine.
    """
    progress("loading")
    made = jobs(answers + WARM_UP, open_embedder(settings).count_tokens)
    return measured(open_checker(settings), made, progress)


def jobs(count: int, length: Callable[[str], int]) -> list[Job]:
    """Answers that differ: half of each one's sentences stand in its passages, half in those of the one before.

    Args:
        count: how many.
        length: a text's length in tokens.
    """
    texts = passages(count * PASSAGES, length, TOKENS)
    groups = [texts[start : start + PASSAGES] for start in range(0, len(texts), PASSAGES)]
    half = CLAIMS // 2
    return [
        Job(
            [*map(_sentence, group[:half]), *map(_sentence, groups[number - 1][half:CLAIMS])],
            [Passage(text) for text in group],
        )
        for number, group in enumerate(groups)
    ]


def _sentence(text: str) -> str:
    """The first words as one sentence."""
    words = [word.rstrip(".,;:!?") for word in text.split()[:WORDS]]
    return " ".join(words) + "."


def measured(checker: Checker, made: Sequence[Job], progress: Callable[[str], None]) -> dict[str, Any]:
    """The figures of answers, of which the first `WARM_UP` are not counted."""
    times = []
    for number, job in enumerate(made):
        started = time.perf_counter()
        checker.check(job.claims, job.passages)
        times.append(time.perf_counter() - started)
        if number % 10 == WARM_UP:
            progress(f"answer {number - WARM_UP + 1} of {len(made) - WARM_UP}: {times[-1] * 1000:.0f} ms")
    counted = times[WARM_UP:]
    pairs = sum(len(job.claims) * len(job.passages) for job in made[WARM_UP:])
    return {
        "checker": checker.id,
        "answers": len(counted),
        "claims_per_answer": CLAIMS,
        "passages_per_answer": PASSAGES,
        "tokens_per_passage": TOKENS,
        "pairs_per_second": round(pairs / sum(counted), 2),
        "answer_ms": round(1000 * float(np.median(counted)), 1),
        "answer_ms_p95": round(1000 * float(np.percentile(counted, 95)), 1),
    }
