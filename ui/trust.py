"""How far the checker behind faithfulness agrees with people: by a run of this home, or as it was when it was made.

Knows nothing about pages or requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from eval import faithfulness
from eval.run import Finished
from rag.errors import EvalError
from ui.server.evaluations import Evaluations
from ui.server.runlist import Figure

METRICS = ("auroc", "balanced_accuracy", "f1_unsupported", "calibration_error")
MEAN = "mean"
MADE = "measured when this checker was made, on claims that people labelled"
HERE = "measured on this machine by `footnote eval faithfulness`, on claims that people labelled"
NOBODY = "nobody measured this checker; `footnote eval faithfulness SET...` does, on claims that people labelled"


class Agreement(NamedTuple):
    """One set of labelled claims."""

    name: str
    claims: int | None
    """None for the mean over the sets."""
    figures: Mapping[str, Figure]


class Trust(NamedTuple):
    """The figures, and where they come from."""

    source: str
    run: str
    """The id of the run that they are of; empty where they came with Footnote."""
    rows: tuple[Agreement, ...]


def _row(name: str, claims: int | None, *figures: tuple[float, float, float]) -> Agreement:
    return Agreement(name, claims, {metric: Figure(*each) for metric, each in zip(METRICS, figures, strict=True)})


BUNDLED = (
    _row("lfqa-dev", 1767, (0.870, 0.85, 0.89), (0.767, 0.75, 0.79), (0.757, 0.72, 0.79), (0.114, 0.09, 0.14)),
    _row(
        "lfqa-dev (grounded)", 1136, (0.873, 0.85, 0.90), (0.782, 0.75, 0.81), (0.628, 0.57, 0.68), (0.170, 0.15, 0.20)
    ),
    _row("factcheck-gpt", 3098, (0.796, 0.78, 0.82), (0.704, 0.68, 0.73), (0.856, 0.84, 0.87), (0.185, 0.17, 0.20)),
    _row(
        "fever-symmetric-dev", 708, (0.714, 0.69, 0.74), (0.609, 0.58, 0.64), (0.567, 0.53, 0.60), (0.120, 0.09, 0.15)
    ),
    _row("wice-oracle-dev", 349, (0.845, 0.80, 0.88), (0.661, 0.62, 0.71), (0.844, 0.81, 0.88), (0.082, 0.07, 0.13)),
    _row("q2-wow", 1088, (0.707, 0.67, 0.74), (0.654, 0.62, 0.68), (0.598, 0.56, 0.63), (0.098, 0.08, 0.13)),
    _row("qags-xsum", 239, (0.710, 0.64, 0.77), (0.637, 0.58, 0.69), (0.556, 0.47, 0.63), (0.093, 0.06, 0.16)),
    _row(MEAN, None, (0.774, 0.76, 0.79), (0.674, 0.66, 0.69), (0.675, 0.65, 0.69), (0.125, 0.12, 0.14)),
)
"""Of the checker that comes with Footnote, at its threshold: the table of docs/evaluate.md."""


def trust(evaluations: Evaluations) -> Trust:
    """The newest run over labelled claims that is of the checker in use, or else what is known of that checker."""
    rag = evaluations.rag
    checker = "" if "the checker" in rag.missing else rag.checker.id
    for run in _measured(evaluations):
        if checker in {"", *run.made_with["checkers"].values()}:
            return Trust(HERE, run.name, _rows(run))
    bundled = rag.settings.checker_model == "bundled"
    return Trust(MADE, "", BUNDLED) if bundled else Trust(NOBODY, "", ())


def _measured(evaluations: Evaluations) -> Iterator[Finished]:
    """The finished runs over labelled claims, the newest first."""
    for listed in evaluations.runs.listed():
        if listed.kind == faithfulness.KIND and listed.finished:
            with suppress(EvalError):  # damaged: told to whoever opens that run
                yield evaluations.read(listed.id)


def _rows(run: Finished) -> tuple[Agreement, ...]:
    summary = run.summary
    sets = [Agreement(name, each["n"], _figures(each["metrics"])) for name, each in summary["sets"].items()]
    mean = [Agreement(MEAN, None, _figures(summary["mean"]))] if len(summary["mean_of"]) > 1 else []
    return (*sets, *mean)


def _figures(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, Figure]:
    return {name: Figure(**metrics[name]) for name in METRICS if name in metrics}


def as_record(found: Trust) -> dict[str, Any]:
    """As a plain dictionary."""
    sets = [
        {
            "name": row.name,
            "claims": row.claims,
            "figures": {name: figure._asdict() for name, figure in row.figures.items()},
        }
        for row in found.rows
    ]
    return {"source": found.source, "evaluation": found.run, "sets": sets}
