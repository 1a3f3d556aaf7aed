"""Records of the base model and the tuned one -> scores, figures with intervals, and paired differences.

Knows nothing about models or how they are asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.answers import ANSWERED, CORRECT, DECLINED, FAILED, ORACLE, RIGHTLY_DECLINED, WRONG, counts
from eval.cases import QASet
from eval.judge import share_of_all
from eval.run import Record
from eval.stats import mean, paired
from eval.texts import Metric, contains, exact, token_f1

BASE, TUNED = "base", "tuned"
RETRIEVED, REMOVED = "retrieved", "removed"
CONDITIONS = (RETRIEVED, ORACLE, REMOVED)
"""End to end; searching nothing but the right documents; end to end while those are hidden."""
ALONE, SHOWN = "alone", "shown"
"""What the model wrote, and what a person is shown once passages and sentences were checked."""
RETRIEVAL, MODEL, CHECKER = "retrieval", "model", "checker"
"""Who declined: no passage was close enough; the model said so, or nothing; all that it wrote was unsupported."""
TEXTS: Mapping[str, Metric] = {"em": exact, "f1": token_f1, "contains": contains}
"""What is compared with the references, word by word."""
OF_HELD = ("contains", "over_refusal")
"""Counted once more over the questions whose reference stands, word for word, in a passage that the model was given:
where it does not, there may be nothing to find, though the document is the right one."""
OF_ORACLE = (*TEXTS, "correct", "over_refusal", "faithfulness")
RIGHT = (CORRECT, RIGHTLY_DECLINED)
EXAMPLES = 5


def scores_of(found: Mapping[str, Mapping[str, Any]], answerable: bool, by: str) -> dict[str, float]:
    """Every metric of one model that has a meaning for a question.

    Args:
        found: condition -> what became of the question; `None` under `by` where the model was not asked.
        answerable: whether the documents answer the question.
        by: `alone` or `shown`.
    """
    scores = _scored(found[RETRIEVED], by)
    if ORACLE in found:
        right = _scored(found[ORACLE], by)
        scores |= {f"{ORACLE}_{name}": right[name] for name in OF_ORACLE if name in right}
    # A question that was never answerable is declined as rightly as one whose documents are hidden.
    unanswerable = found.get(REMOVED) if answerable else found[RETRIEVED]
    if unanswerable and unanswerable[by]:
        scores["declines"] = float(unanswerable[by]["outcome"] == RIGHTLY_DECLINED)
    if {"declines", "over_refusal"} <= scores.keys():
        scores["balanced_abstention"] = scores["declines"] - scores["over_refusal"]
    if by == ALONE and found[RETRIEVED].get("tokens"):
        scores["tokens"] = float(found[RETRIEVED]["tokens"])
    return scores


def _scored(answer: Mapping[str, Any], by: str) -> dict[str, float]:
    seen = answer[by]
    if seen is None:
        return {}
    became = seen["outcome"]
    found = {name: seen[name] for name in TEXTS if name in seen}
    found["correct"] = float(became in RIGHT)
    found["answer_rate"] = float(became in ANSWERED)
    found["wrong_answer_rate"] = float(became in (WRONG, FAILED))
    if "em" in seen:
        found["over_refusal"] = float(became == DECLINED)
        if "held" in answer:
            found["context_recall"] = float(answer["held"])
        if answer.get("held"):
            found |= {f"held_{name}": found[name] for name in OF_HELD}
    if tally := _tally(answer, by):
        found["faithfulness"] = tally[0] / tally[1]
    return found


def _tally(answer: Mapping[str, Any], by: str) -> tuple[int, int] | None:
    """How many sentences are supported, and of how many that can be checked; None where nothing was answered."""
    if answer[by] is None or answer[by]["outcome"] not in (*ANSWERED, FAILED):
        return None
    counted = [each for each in answer["sentences"] if each["checkable"] and (each["shown"] or by == ALONE)]
    return (sum(each["supported"] for each in counted), len(counted)) if counted else None


def summary(
    data: QASet, models: Mapping[str, str], records: Sequence[Record], timings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Means with 95 % intervals of both models, and their paired differences, tuned minus base.

    A figure's `n` is the number of questions that it has a meaning for; of a difference, for both models. What failed
    is wrong, and supported by nothing.

    Args:
        data: what was asked.
        models: `base` and `tuned` -> the name of the model.
        records: of every question.
        timings: of every question.
    """
    return {
        "dataset": data.name,
        "main": {"system": f"{TUNED} {SHOWN}", "metric": "correct"},
        "models": dict(models),
        **counts(data, records),
        "metrics": {f"{model} {by}": _metrics(model, by, records) for model in models for by in (ALONE, SHOWN)},
        "differences": {by: _differences(by, records) for by in (ALONE, SHOWN)},
        "declined_by": {model: _declined(model, records) for model in models},
        "latency_ms": {model: _latency(_times_of(model, timings)) for model in models},
        "tokens_per_second": {model: _rate(_times_of(model, timings)) for model in models},
        "examples": _examples(records),
    }


def _metrics(model: str, by: str, records: Sequence[Record]) -> dict[str, Any]:
    values: dict[str, list[float]] = {}
    for record in records:
        for name, score in record["scores"][f"{model} {by}"].items():
            values.setdefault(name, []).append(score)
    found = {name: {**mean(each)._asdict(), "n": len(each)} for name, each in values.items()}
    for name, condition in (("faithfulness", RETRIEVED), (f"{ORACLE}_faithfulness", ORACLE)):
        given = [record["answers"][model][condition] for record in records if condition in record["answers"][model]]
        # Sentences of one answer are no independent draws: answers are resampled.
        if tallies := [tally for answer in given if (tally := _tally(answer, by))]:
            found[name] = {**share_of_all(tallies)._asdict(), "n": len(tallies)}
    return found


def _differences(by: str, records: Sequence[Record]) -> dict[str, Any]:
    pairs: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        tuned, base = (record["scores"][f"{model} {by}"] for model in (TUNED, BASE))
        for name in tuned.keys() & base.keys():
            pairs.setdefault(name, []).append((tuned[name], base[name]))
    return {
        name: {**paired([tuned for tuned, _ in each], [base for _, base in each])._asdict(), "n": len(each)}
        for name, each in sorted(pairs.items())
    }


def _declined(model: str, records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """Condition -> who declined -> how often."""
    counts: dict[str, dict[str, int]] = {}
    for record in records:
        for condition, answer in record["answers"][model].items():
            count = counts.setdefault(condition, dict.fromkeys((RETRIEVAL, MODEL, CHECKER), 0))
            if answer["declined_by"]:
                count[answer["declined_by"]] += 1
    return counts


def _times_of(model: str, timings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the product's answers that the model wrote."""
    rows = [timing[model][RETRIEVED] for timing in timings if RETRIEVED in timing[model]]
    return [row for row in rows if row["first_token"] is not None]


def _latency(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        name: {f"p{share}": round(float(np.percentile([row[name] for row in rows], share)), 1) for share in (50, 95)}
        for name in (("first_token", "total") if rows else ())
    }


def _rate(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Tokens a second after the first one; None where no answer has more."""
    longer = [row for row in rows if row["tokens"] > 1 and row["generate"] > row["first_token"]]
    seconds = sum(row["generate"] - row["first_token"] for row in longer) / 1000
    return round(sum(row["tokens"] - 1 for row in longer) / seconds, 1) if seconds else None


def _examples(records: Sequence[Record]) -> dict[str, list[dict[str, Any]]]:
    """Questions that only the tuned model got right, that it got wrong, and that it declined in vain.

    They go by what the models wrote; first come those that only the base model got right.
    """
    rows: list[tuple[str, str, Record]] = []
    for record in records:
        base, tuned = ((record["answers"][model][RETRIEVED][ALONE] or {}).get("outcome") for model in (BASE, TUNED))
        rows.append((str(base), str(tuned), record))
    lost = sorted(rows, key=lambda row: row[0] != CORRECT)
    return {
        "gained": [_example(record) for base, tuned, record in rows if base == WRONG and tuned in RIGHT][:EXAMPLES],
        "wrong": [_example(record) for _, tuned, record in lost if tuned == WRONG][:EXAMPLES],
        "declined_in_vain": [_example(record) for _, tuned, record in lost if tuned == DECLINED][:EXAMPLES],
    }


def _example(record: Record) -> dict[str, Any]:
    said = {model: record["answers"][model][RETRIEVED].get("said", "") for model in (BASE, TUNED)}
    return {name: record[name] for name in ("id", "question", "references")} | said
