"""How far the checker of sentences can be trusted: its scores against people's labels, set by set.

Knows nothing about how the checker works, or about how a run is kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from eval import agreement
from eval.agreement import Estimate, average
from eval.baselines import Baseline
from eval.cases import Claim
from eval.claim_sets import Case, ClaimSet, Trained, checker_for, held_out
from eval.corpus import Say
from eval.run import Record, Run, made_with
from eval.stats import SEED, mean
from rag.errors import FootnoteError
from rag.settings import Settings
from rag.verify import Checker, Verdict
from rag.windows import Passage

KIND, CHECKER, CORRECT = "faithfulness", "checker", "correct"
FAILED, ABSTAINED = "failed", "abstained"
CANNOT_TELL = 0.5
"""The score that a claim has for the figures where the checker cannot tell."""
TOGETHER = 32
"""Claims that are checked at once, at most."""
TELL = 100
FEWEST = 10
"""Contexts that a set must have at least for its intervals to come from drawing contexts, not claims."""


def made_of(
    settings: Settings, sets: Sequence[ClaimSet], open_: Callable[[str], Trained], baselines: Sequence[str] = ()
) -> dict[str, Any]:
    """What such a run is made with; see `eval.run.made_with`."""
    checkers = {claims.name: checker_for(claims, open_) for claims in sets}
    return made_with(
        settings,
        dataset=_dataset(sets),
        cases=_digest([[claims.name, [row.model_dump(mode="json") for row in _rows(claims.cases)]] for claims in sets]),
        checkers={name: checker.id for name, checker in checkers.items()},
        trained_on={name: list(checker.trained_on) for name, checker in checkers.items()},
        baselines=list(baselines),
        seed=SEED,
    )


def _dataset(sets: Sequence[ClaimSet]) -> str:
    return sets[0].name if len(sets) == 1 else f"{sets[0].name}+{len(sets) - 1}"


def _rows(cases: Sequence[Case]) -> list[Claim]:
    return [row for case in cases for row in case.rows]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def evaluate(
    settings: Settings,
    sets: Sequence[ClaimSet],
    open_: Callable[[str], Trained],
    run: Run,
    say: Say,
    baselines: Mapping[str, Baseline] | None = None,
) -> dict[str, Any]:
    """Check every claim against its contexts; see `summary`.

    Args:
        settings: the support that a sentence needs.
        sets: labelled claims.
        open_: see `checker_for`.
        run: keeps the records; claims that it has are not checked again.
        say: told how far it is.
        baselines: what the checker is compared with.

    Raises:
        EvalError: the run cannot be written.
        FootnoteError: the checker or a baseline cannot be loaded.
    """
    there, total, at = len(run.records), sum(len(claims.cases) for claims in sets), 0
    if there:
        say(f"going on after {there:,} of {total:,} claims")
    for claims in sets:
        checker = checker_for(claims, open_)
        for batch in _batches(claims.cases):
            # A batch is checked as a whole also where some of it is there: another one may give other last digits.
            if at + len(batch) > there:
                for record, timing in _checked(checker, batch, baselines or {}, settings.min_support)[
                    max(0, there - at) :
                ]:
                    run.add(_named(record, claims, len(sets)), timing)
                if (at + len(batch)) // TELL > at // TELL:
                    say(f"checked {at + len(batch):,} of {total:,} claims ({claims.name})")
            at += len(batch)
    figures = summary(settings, sets, open_, run.records, run.timings)
    run.finish(figures)
    return figures


def _batches(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """Neighbouring claims with the same context and question; a claim with several contexts alone."""

    def key(case: Case) -> tuple[str, ...]:
        return (case.rows[0].context, case.rows[0].question or "") if len(case.rows) == 1 else (case.id,)

    for _, group in groupby(cases, key):
        batch = list(group)
        yield from (batch[start : start + TOGETHER] for start in range(0, len(batch), TOGETHER))


def _checked(
    checker: Checker, batch: Sequence[Case], baselines: Mapping[str, Baseline], threshold: float
) -> list[tuple[dict[str, Any], Any]]:
    """The record of each case, and how many milliseconds it took."""
    started = time.perf_counter()
    if len(batch) == 1:
        said = [[verdict for row in batch[0].rows for verdict in _asked(checker, [row])]]
    else:
        said = [[verdict] for verdict in _asked(checker, _rows(batch))]
    took = (time.perf_counter() - started) * 1000 / len(batch)
    beside = _beside(baselines, batch)
    return [
        (_record(case, verdicts, threshold) | {"baselines": plain}, {"ms": round(took, 2), "claims": len(case.rows)})
        for case, verdicts, plain in zip(batch, said, beside, strict=True)
    ]


def _asked(checker: Checker, rows: Sequence[Claim]) -> list[Verdict | str]:
    """A verdict a row, or why there is none; all rows have the same context and question."""
    try:
        return list(checker.check([row.claim for row in rows], [Passage(rows[0].context)], rows[0].question or ""))
    except FootnoteError as error:
        if len(rows) == 1:
            return [" ".join(str(error).split())]
        return [verdict for row in rows for verdict in _asked(checker, [row])]


def _beside(baselines: Mapping[str, Baseline], batch: Sequence[Case]) -> list[dict[str, float]]:
    """What each baseline gives each case."""
    found: list[dict[str, float]] = [{} for _ in batch]
    for name, baseline in baselines.items():
        if len(batch) == 1:
            scores = [max(baseline([row.claim], row.context)[0] for row in batch[0].rows)]
        else:
            rows = _rows(batch)
            scores = baseline([row.claim for row in rows], rows[0].context)
        for its, score in zip(found, scores, strict=True):
            its[name] = round(score, 6)
    return found


def _record(case: Case, verdicts: Sequence[Verdict | str], threshold: float) -> dict[str, Any]:
    """What the checker says of a case. One that failed has the worst score, whatever its other contexts gave."""
    failed = next((verdict for verdict in verdicts if isinstance(verdict, str)), "")
    given = [verdict for verdict in verdicts if isinstance(verdict, Verdict)]
    best = max(range(len(given)), key=lambda i: (given[i].score, -i), default=0)
    checkable = any(verdict.checkable for verdict in given)
    score = float(1 - case.label) if failed else round(given[best].score, 6) if checkable else CANNOT_TELL
    supported = score >= threshold
    correct = not failed and supported == bool(case.label)
    outcome = f"{'rightly' if correct else 'wrongly'} {'supported' if supported else 'unsupported'}"
    first = case.rows[0]
    return {
        "id": first.id,
        "claim": first.claim,
        "question": first.question or "",
        "label": case.label,
        "grounded": first.grounded,
        "score": score,
        "outcome": FAILED if failed else outcome if checkable else ABSTAINED,
        "reasons": [] if failed else list(given[best].reasons),
        "citation": None if failed else _citation(case, best, given[best]),
        "relevant": [],
        "scores": {CHECKER: {CORRECT: float(correct)}},
        "failures": {CHECKER: failed} if failed else {},
        "hits": [{"doc": row.id, "title": "Context", "page": None, "text": row.context} for row in case.rows],
        "covered": not failed and checkable,
    }


def _citation(case: Case, context: int, verdict: Verdict) -> dict[str, Any] | None:
    """Where the best support is, counted in characters of a context that is counted from 0."""
    if not verdict.supports:
        return None
    _, _, start, end = verdict.supports[0]
    return {"context": context, "start": start, "end": end, "quote": case.rows[context].context[start:end]}


def _named(record: Mapping[str, Any], claims: ClaimSet, sets: int) -> Record:
    """A record under its set; among several sets an id is that of its set alone."""
    return {**record, "id": record["id"] if sets == 1 else f"{claims.name}: {record['id']}", "set": claims.name}


def parts(records: Sequence[Record]) -> dict[str, list[int]]:
    """Name -> places of its records: every set and, where claims are marked so, its grounded ones."""
    found: dict[str, list[int]] = {}
    for name in dict.fromkeys(record["set"] for record in records):
        mine = [i for i, record in enumerate(records) if record["set"] == name]
        grounded = [i for i in mine if records[i]["grounded"]]
        found |= {name: mine} | ({f"{name} (grounded)": grounded} if grounded else {})
    return found


def summary(
    settings: Settings,
    sets: Sequence[ClaimSet],
    open_: Callable[[str], Trained],
    records: Sequence[Record],
    timings: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    """Figures with 95 % intervals, set by set, and their mean over the sets.

    A set whose rows say what was written with the context has a row for those claims, which stands for the set in the
    mean; sets that the checker has learned from are not in it. Claims that failed have the worst score, and those of
    which the checker cannot tell `CANNOT_TELL`.
    """
    by_name, found, estimates = {claims.name: claims for claims in sets}, {}, {}
    for name, places in parts(records).items():
        mine = [records[i] for i in places]
        checker = checker_for(by_name[mine[0]["set"]], open_)
        estimates[name] = agreement.figures(*_scored(mine), _clusters(mine), settings.min_support)
        found[name] = {
            **_counts(mine),
            "held_out": held_out(by_name[mine[0]["set"]], checker),
            "trained_on": list(checker.trained_on),
            "metrics": _intervals(estimates[name]),
            "baselines": _baselines(mine),
            "claims_per_second": _rate([timings[i] for i in places]),
        }
    counted = [name for name in found if f"{name} (grounded)" not in found and found[name]["held_out"]]
    correct = mean([record["scores"][CHECKER][CORRECT] for record in records])
    return {
        "kind": KIND,
        "dataset": _dataset(sets),
        "main": {"system": CHECKER, "metric": CORRECT},
        "threshold": settings.min_support,
        "n": len(records),
        "failed": sum(bool(record["failures"]) for record in records),
        "failures": [
            {"id": record["id"], "system": CHECKER, "reason": record["failures"][CHECKER]}
            for record in records
            if record["failures"]
        ],
        "sets": found,
        "mean": _mean([estimates[name] for name in counted]),
        "mean_of": counted,
        CORRECT: correct._asdict(),
        **({"metrics": found[sets[0].name]["metrics"]} if len(sets) == 1 else {}),
        "latency_ms": {name: _latency([timings[i] for i in places]) for name, places in parts(records).items()},
    }


def _counts(records: Sequence[Record]) -> dict[str, int]:
    return {
        "n": len(records),
        "supported": sum(record["label"] for record in records),
        "failed": sum(bool(record["failures"]) for record in records),
        "abstained": sum(record["outcome"] == ABSTAINED for record in records),
    }


def _clusters(records: Sequence[Record]) -> list[int]:
    """A number for each claim, the same for those about the same contexts, unless that leaves too few to draw."""
    numbers: dict[tuple[str, ...], int] = {}
    found = [numbers.setdefault(tuple(hit["text"] for hit in record["hits"]), len(numbers)) for record in records]
    return found if len(numbers) >= FEWEST else list(range(len(records)))


def _scored(records: Sequence[Record]) -> tuple[list[float], list[int]]:
    return [record["score"] for record in records], [record["label"] for record in records]


def _intervals(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {name: estimate.interval._asdict() for name, estimate in estimates.items()}


def _mean(sets: Sequence[Mapping[str, Estimate]]) -> dict[str, dict[str, float]]:
    """Each figure's mean over the sets that have it."""
    by_metric = {name: [each[name] for each in sets if name in each] for name in agreement.METRICS}
    return _intervals({name: average(found) for name, found in by_metric.items() if found})


def _baselines(records: Sequence[Record]) -> dict[str, dict[str, dict[str, float]]]:
    """Name -> AUROC: the one figure that needs no threshold."""
    labels, clusters = [record["label"] for record in records], _clusters(records)
    areas = {
        name: agreement.ranking([record["baselines"][name] for record in records], labels, clusters)
        for name in records[0]["baselines"]
    }
    return {name: {"auroc": area.interval._asdict()} for name, area in areas.items() if area}


def _rate(timings: Sequence[Mapping[str, float]]) -> float:
    """Claims a second, each context of a claim counted."""
    return round(1000 * sum(each["claims"] for each in timings) / max(sum(each["ms"] for each in timings), 1e-6), 2)


def _latency(timings: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    times = [each["ms"] for each in timings]
    return {"check": {f"p{share}": round(float(np.percentile(times, share)), 1) for share in (50, 95)}}


def curves(records: Sequence[Record]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of every part of a run: its ROC curve, where it has both labels, and its bins of scores for calibration."""
    found = {name: _scored([records[i] for i in places]) for name, places in parts(records).items()}
    rocs = {name: line for name, (scores, labels) in found.items() if (line := agreement.roc(scores, labels))}
    return rocs, {name: agreement.bins(scores, labels) for name, (scores, labels) in found.items()}
