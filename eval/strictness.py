"""What each strictness and threshold would have made of the answers of a run, without writing them again.

A run of `footnote eval answers` keeps every sentence that was written with its support, so another threshold is a
count. Knows nothing about models, checkers or how a run is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import compress
from typing import Any, get_args

from eval.answers import ANSWERED, CORRECT, DECLINED, FAILED, PRODUCT, RIGHTLY_DECLINED, WRONG, outcome
from eval.cases import Question
from eval.run import Finished, Record
from eval.stats import mean
from rag.checking import kept
from rag.errors import EvalError
from rag.settings import Strictness
from rag.types import Answer, Timings

MODES: tuple[Strictness, ...] = get_args(Strictness)
THRESHOLDS = tuple(tenths / 10 for tenths in range(10))
"""At 0 every sentence that claims something counts as supported: what an answer would be without a check."""
METRICS: Mapping[str, tuple[str, ...]] = {
    "answer_rate": ANSWERED,
    "wrong_answer_rate": (WRONG, FAILED),
    "correct": (CORRECT, RIGHTLY_DECLINED),
}
"""Figure -> the outcomes that count for it; the same as in a run of answers."""
OVER_REFUSAL = "over_refusal"
"""Share of the answerable questions that were declined."""


def strictness(run: Finished, thresholds: Sequence[float] = THRESHOLDS) -> dict[str, Any]:
    """The share of questions answered, answered wrongly, dealt with correctly, and declined in vain, in every mode.

    Args:
        run: a finished run of answers.
        thresholds: the support that a sentence needs; the one that the run was made with is added.

    Raises:
        EvalError: it is another kind of run, or its records do not hold what was written.
    """
    records = _usable(run)
    made = run.made_with["settings"]
    return {
        "run": run.name,
        "dataset": run.summary["dataset"],
        "n": len(records),
        "unanswerable": run.summary["unanswerable"],
        "failed": run.summary["failed"],
        "made_with": {name: made[name] for name in ("strictness", "min_support")},
        "rows": [
            {"strictness": mode, "min_support": threshold, **_figures(records, mode, threshold)}
            for mode in MODES
            for threshold in sorted({*thresholds, made["min_support"]})
        ],
    }


def remaining(written: Sequence[Mapping[str, Any]], mode: Strictness, threshold: float) -> str:
    """What of the sentences that were written would be shown; empty where the question would be declined."""
    supported = [each["support"] >= threshold if each["checkable"] else None for each in written]
    return " ".join(each["text"] for each in compress(written, kept(supported, mode)))


def _usable(run: Finished) -> Sequence[Record]:
    """The run's records, if they hold what is needed."""
    if run.kind != "answers":
        raise EvalError(f"run {run.name!r} measured {run.kind}; strictness needs a run of `footnote eval answers`")
    given = [record["answers"][PRODUCT] for record in run.records]
    if not all("written" in each for each in given if each["outcome"] != FAILED):
        raise EvalError(f"run {run.name!r} does not hold the support of what was written; make it anew with --fresh")
    if run.made_with["settings"]["strictness"] == "drop":
        raise EvalError(
            f"run {run.name!r} was made with strictness drop, which keeps no order of the sentences; "
            "make one with FOOTNOTE_STRICTNESS=mark"
        )
    return run.records


def _figures(records: Sequence[Record], mode: Strictness, threshold: float) -> dict[str, Any]:
    outcomes = [_outcome(record, mode, threshold) for record in records]
    counts = {name: tuple(each in counted for each in outcomes) for name, counted in METRICS.items()}
    answerable = compress(outcomes, [bool(record["references"]) for record in records])
    counts[OVER_REFUSAL] = tuple(each == DECLINED for each in answerable)
    return {name: {**_share(count), "n": len(count)} for name, count in counts.items() if count}


@cache
def _share(of: tuple[bool, ...]) -> dict[str, float]:
    """The share with its interval; the same in many rows, and slow."""
    return mean(of)._asdict()


def _outcome(record: Record, mode: Strictness, threshold: float) -> str:
    given, references = record["answers"][PRODUCT], tuple(record["references"])
    if given["outcome"] == FAILED:
        return FAILED
    text = remaining(given["written"], mode, threshold)
    question = Question(
        id=record["id"],
        question=record["question"],
        answers=references,
        answerable=bool(references),
        long=record["long"],
    )
    return outcome(question, Answer(question.question, text, not text, (), (), Timings(0.0)))
