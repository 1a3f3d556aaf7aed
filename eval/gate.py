"""Is a run worse than its baseline? Knows nothing about how either was made."""

from __future__ import annotations

from typing import Any

from eval.run import Finished
from eval.stats import Difference, paired
from rag.errors import EvalError

SIGNIFICANT = 0.05
"""A difference counts where its p is below."""


def gate(
    run: Finished,
    baseline: Finished,
    max_drop: float,
    min_coverage: float = 0.0,
    system: str | None = None,
    metric: str | None = None,
) -> dict[str, Any]:
    """Compare two runs case by case. The gate holds where nothing failed and nothing got significantly worse.

    Args:
        run: the new one.
        baseline: the old one, over the same cases.
        max_drop: how much worse the mean may be; a larger drop counts where its p is below .05.
        min_coverage: share of the new run's cases that must have a result: documents found, or an answer given.
        system: whose scores, such as `hybrid+rerank`; the one that the run is about without.
        metric: which score, such as `ndcg@10`; the run's main one without.

    Raises:
        EvalError: the runs are of different cases, or lack the score.
    """
    system, metric = system or run.summary["main"]["system"], metric or run.summary["main"]["metric"]
    difference = compared(run, baseline, system, metric)
    coverage = sum(record["covered"] for record in run.records) / len(run.records)
    reasons = []
    if run.summary["failed"]:
        reasons.append(f"{run.summary['failed']} of {run.summary['n']} cases failed")
    if -difference.value > max_drop and difference.p < SIGNIFICANT:
        dropped = f"{-difference.value:.4f} (p {difference.p:.4f})"
        reasons.append(f"{metric} of {system} dropped by {dropped}, {max_drop} is allowed")
    if coverage < min_coverage:
        reasons.append(f"{coverage:.1%} of the cases have a result, {min_coverage:.1%} are asked for")
    return {
        "holds": not reasons,
        "reasons": reasons,
        "run": run.name,
        "baseline": baseline.name,
        "system": system,
        "metric": metric,
        "difference": difference._asdict(),
        "coverage": coverage,
        "n": run.summary["n"],
        "failed": run.summary["failed"],
    }


def compared(run: Finished, baseline: Finished, system: str, metric: str) -> Difference:
    """How much better a run is than another over the same cases. Raises EvalError as `gate` does."""
    if not same_cases(run, baseline):
        raise EvalError(
            f"runs {run.name!r} and {baseline.name!r} are not over the same cases ({run.made_with['dataset']}, "
            f"{len(run.records)}, and {baseline.made_with['dataset']}, {len(baseline.records)}); "
            "make both on the same data"
        )
    if (mine := judged_by(run, system)) != (theirs := judged_by(baseline, system)):
        raise EvalError(
            f"{system} judged run {run.name!r} as {mine}, and run {baseline.name!r} as {theirs}; "
            "judge both with the same"
        )
    one, other = scores(run, system, metric), scores(baseline, system, metric)
    both = [id_ for id_ in one if id_ in other]
    if not both:
        raise EvalError(
            f"no case has {metric!r} of {system!r} in both {run.name!r} and {baseline.name!r}; choose another --metric"
        )
    return paired([one[id_] for id_ in both], [other[id_] for id_ in both])


def same_cases(run: Finished, baseline: Finished) -> bool:
    """True where two runs asked the same."""
    cases, others = ([record["id"] for record in each.records] for each in (run, baseline))
    return cases == others and run.made_with["cases"] == baseline.made_with["cases"]


def judged_by(run: Finished, system: str) -> str:
    """What gave a system's scores where that is a judge: scores of different ones are on different scales."""
    return str(run.made_with.get("judges", {}).get(system, ""))


def scores(run: Finished, system: str, metric: str) -> dict[str, float]:
    """A score of every case that it has a meaning for. Raises EvalError where no case has it."""
    found = {
        record["id"]: record["scores"][system][metric]
        for record in run.records
        if metric in record["scores"].get(system, {})
    }
    if not found:
        known = run.records[0]["scores"]
        raise EvalError(
            f"run {run.name!r} has no {metric!r} of {system!r}; it has {', '.join(known)}, "
            f"each with {', '.join(next(iter(known.values())))}"
        )
    return found
