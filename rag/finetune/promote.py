"""How a tuned model was judged -> whether it may take the base model's place, and if not, why. Pure.

Knows nothing about files, models or how they were asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MARGIN = 0.02
"""How much worse a tuned model may be at most, at the low end of the interval of its difference to the base model."""
FEWEST = 30
"""Questions that a difference must rest on."""
NO_WORSE = {"faithfulness": "faithfulness", "correct": "share of correct answers", "f1": "F1 of the answers"}
"""What must not get worse, as a person reads it."""
BETTER = ("faithfulness", "correct")
"""One of these must get better; F1 alone would do so from brevity."""
ABSTENTION = {
    "declines": "share of unanswerable questions declined",
    "balanced_abstention": "balanced abstention (declined rightly less declined in vain)",
}
"""One of these must get better, too."""


WITH_DOCUMENTS = " that names the documents which answer its questions"


class Verdict(NamedTuple):
    """Whether a tuned model is better."""

    holds: bool
    reasons: tuple[str, ...]
    """Why not, a sentence each, with what to do about it; none where it holds."""


def verdict(evaluation: Mapping[str, Any], adapter: str = "", by: str = "alone") -> Verdict:
    """Judge a tuned model by its paired differences to the base model, on every set that it was evaluated on.

    It holds where nothing of `NO_WORSE` is worse than by `MARGIN`, something of `BETTER` is significantly better, and
    so is something of `ABSTENTION`: an interval's low end counts, never the mean.

    Args:
        evaluation: `sets`: name -> `eval.gains.summary`; `adapter`: the hash of the adapter that was evaluated.
        adapter: the hash of the adapter that is to be promoted; empty to judge the evaluation alone.
        by: `alone`, by what the models wrote; `shown`, by what is left of it once it was checked.
    """
    reasons = [*_stale(str(evaluation.get("adapter", "")), adapter)]
    sets = evaluation.get("sets") or {}
    if not sets:
        reasons.append("nothing was evaluated; run `footnote finetune evaluate RUN SET` first")
    for name, summary in sets.items():
        reasons += [f"{name}: {reason}" for reason in _of_set(summary, by)]
    return Verdict(not reasons, tuple(reasons))


def _stale(evaluated: str, adapter: str) -> Iterator[str]:
    if adapter and evaluated != adapter:
        yield (
            f"adapter {evaluated[:12] or 'unknown'} was evaluated, the training's is {adapter[:12]}; "
            "run `footnote finetune evaluate RUN SET` again"
        )


def _of_set(summary: Mapping[str, Any], by: str) -> list[str]:
    n, failed = summary.get("n", 0), summary.get("failed", 0)
    if n < FEWEST:
        return [f"{n} questions were asked, at least {FEWEST} are needed; raise --limit, or take a larger set"]
    if failed:
        return [f"{failed} of {n} questions failed; mend what is listed under `failures`, and evaluate again"]
    differences = summary.get("differences", {}).get(by, {})
    unknown = [*_unknown(differences)]
    return unknown or [*_worse(differences), *_no_better(differences), *_no_abstention(differences)]


def _unknown(differences: Mapping[str, Any]) -> Iterator[str]:
    """Differences that are needed and missing, or rest on too few questions."""
    for name, label in {**NO_WORSE, **ABSTENTION}.items():
        n = differences.get(name, {}).get("n", 0)
        if n < FEWEST:
            yield (
                f"the {label} of the two models can be compared on {n} questions, at least {FEWEST} are needed; "
                f"evaluate on a larger set{WITH_DOCUMENTS if name in ABSTENTION else ''}"
            )


def _worse(differences: Mapping[str, Any]) -> Iterator[str]:
    for name, label in NO_WORSE.items():
        if not differences[name]["low"] >= -MARGIN:
            yield (
                f"the {label} may be worse: {_told(differences[name])}, the interval must not reach below "
                f"{-MARGIN:+.2f}; train on more data, or evaluate on more questions"
            )


def _no_better(differences: Mapping[str, Any]) -> Iterator[str]:
    if not any(differences[name]["low"] > 0 for name in BETTER):
        found = " and ".join(f"{NO_WORSE[name]} {_told(differences[name])}" for name in BETTER)
        yield f"neither is significantly better: {found}; train on more data, or evaluate on more questions"


def _no_abstention(differences: Mapping[str, Any]) -> Iterator[str]:
    if not any(differences[name]["low"] > 0 for name in ABSTENTION):
        found = " and ".join(f"{label} {_told(differences[name])}" for name, label in ABSTENTION.items())
        yield f"it is not significantly better at declining: {found}; train on more questions to decline"


def _told(difference: Mapping[str, float]) -> str:
    return f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
