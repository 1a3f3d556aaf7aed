"""How far answers keep to the passages that they were written from: any system's answers, sentence by sentence.

Knows nothing about who judges, about files, or about how a run is kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from eval.cases import Answered
from eval.corpus import Say
from eval.importers import AnswerSet
from eval.judges import LOCAL, Judge
from eval.run import Finished, Record, Run, made_with
from eval.stats import RESAMPLES, SEED, Interval, mean
from rag import sentences
from rag.answer import MARKS
from rag.declines import declines
from rag.errors import EvalError, FootnoteError
from rag.settings import Settings
from rag.verify import Support, Verdict
from rag.windows import Passage

FAITHFUL, PARTLY, UNFAITHFUL = "faithful", "partly faithful", "unfaithful"
ABSTAINED, NOTHING, FAILED = "abstained", "claims nothing", "failed"
JUDGED = (FAITHFUL, PARTLY, UNFAITHFUL)
NO_ANSWER, NO_CONTEXTS = "the answer is empty", "no context holds any text, so nothing can support the answer"
EXAMPLES = 5
PORTIONS = 100
"""The resamples are drawn in so many portions, which bounds the memory."""

Verdicts = Mapping[str, "list[Verdict] | str"]
"""Judge's name -> its verdicts, or why it failed."""


def evaluate(judges: Sequence[Judge], data: AnswerSet, run: Run, say: Say) -> dict[str, Any]:
    """The figures of every judge over answers; see `summary`.

    Args:
        judges: the one whose figures count, then the local one that it is compared with; or that one alone.
        data: what to judge.
        run: keeps the records; answers that it has are not judged again.
        say: told how far it is.

    Raises:
        EvalError: the run cannot be written.
    """
    if run.records:
        say(f"going on after {len(run.records):,} of {len(data.answers):,} answers")
    for answer in data.answers[len(run.records) :]:
        run.add(*_judged(judges, answer))
        if len(run.records) % 50 == 0:
            say(f"judged {len(run.records):,} of {len(data.answers):,} answers")
    figures = summary(data, judges, run.records, run.timings)
    run.finish(figures)
    return figures


def made_of(settings: Settings, judges: Sequence[Judge], data: AnswerSet) -> dict[str, Any]:
    """What such a run is made with; see `eval.run.made_with`.

    Answers of two systems to the same questions are the same cases, so that a gate can compare the systems.
    """
    asked = [[answer.id, answer.question] for answer in data.answers]
    given = [answer.model_dump(mode="json") for answer in data.answers]
    return made_with(
        settings,
        dataset=data.name,
        cases=_digest(asked),
        answers=_digest(given),
        judges={judge.name: f"{judge.checker.id}, from {judge.threshold:g}" for judge in judges},
        seed=SEED,
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _judged(judges: Sequence[Judge], answer: Answered) -> tuple[Record, Any]:
    """The record of an answer, and how many milliseconds each judge took."""
    parts = [answer.answer[start:end] for start, end in sentences.split(answer.answer)]
    # Another system's own footnote marks are no part of what it claims.
    claims = [MARKS.sub("", part).strip() for part in parts]
    abstained = declines(MARKS.sub("", answer.answer))
    took: dict[str, float] = {}
    verdicts = {} if abstained else _asked(judges, answer, claims, took)
    answers = {judge.name: _said(judge, answer, parts, verdicts) for judge in judges}
    return {
        "id": answer.id,
        "question": answer.question,
        "relevant": [],
        "answers": answers,
        "scores": {name: _scores(each) for name, each in answers.items()},
        "failures": {name: each["reason"] for name, each in answers.items() if each["outcome"] == FAILED},
        "hits": [
            {"doc": each.doc, "title": "Context", "page": each.page, "text": each.text} for each in answer.contexts
        ],
        "covered": answers[judges[0].name]["outcome"] in JUDGED,
    }, took


def _asked(judges: Sequence[Judge], answer: Answered, claims: Sequence[str], took: dict[str, float]) -> Verdicts:
    """What every judge says of each claim; why, where one failed or nothing can be judged."""
    why = NO_ANSWER if not claims else "" if any(each.text.strip() for each in answer.contexts) else NO_CONTEXTS
    if why:
        return {judge.name: why for judge in judges}
    found: dict[str, list[Verdict] | str] = {}
    for judge in judges:
        started = time.perf_counter()
        try:
            passages = [Passage(each.text) for each in answer.contexts]
            found[judge.name] = judge.checker.check(claims, passages, answer.question)
        except EvalError:
            raise
        except FootnoteError as error:
            found[judge.name] = " ".join(str(error).split())
        took[judge.name] = round((time.perf_counter() - started) * 1000, 1)
    return found


def _said(judge: Judge, answer: Answered, parts: Sequence[str], verdicts: Verdicts) -> dict[str, Any]:
    """What a judge makes of an answer; without verdicts it is an abstention."""
    if not verdicts:
        return {"outcome": ABSTAINED, "text": answer.answer}
    mine, local = verdicts[judge.name], verdicts[LOCAL]
    # The local checker says which sentences can be checked: without it nothing can be counted.
    why = mine if isinstance(mine, str) else local
    if isinstance(mine, str) or isinstance(local, str):
        return {"outcome": FAILED, "text": answer.answer, "reason": why, "failed_sentences": max(1, len(parts))}
    return _told(judge, answer, parts, mine, local)


def _told(
    judge: Judge, answer: Answered, parts: Sequence[str], said: Sequence[Verdict], local: Sequence[Verdict]
) -> dict[str, Any]:
    """An answer's sentences and its share. Whether a sentence can be checked is the local checker's to say, for all."""
    rows = [_sentence(judge, answer, *each) for each in zip(parts, said, local, strict=True)]
    checkable = [row for row in rows if row["checkable"]]
    supported = sum(row["supported"] for row in checkable)
    share = supported / len(checkable) if checkable else None
    outcome = NOTHING if share is None else FAITHFUL if share == 1 else PARTLY if share else UNFAITHFUL
    return {
        "outcome": outcome,
        "text": answer.answer,
        "faithful_share": None if share is None else round(share, 4),
        "checkable": len(checkable),
        "supported": supported,
        "sentences": rows,
    }


def _sentence(judge: Judge, answer: Answered, text: str, verdict: Verdict, local: Verdict) -> dict[str, Any]:
    supported = bool(local.checkable and verdict.score >= judge.threshold)
    return {
        "text": text,
        "support": round(verdict.score, 4),
        "supported": supported,
        "checkable": local.checkable,
        "citation": _citation(answer, verdict, local) if supported and verdict.supports else None,
        "reasons": list(verdict.reasons),
    }


def _citation(answer: Answered, verdict: Verdict, local: Verdict) -> dict[str, Any]:
    """Where the best support is; the local checker says the place in a context that a judge names as a whole."""
    best = verdict.supports[0]
    context = answer.contexts[best.passage]
    if (best.start, best.end) == (0, len(context.text)):
        best = next((each for each in local.supports if each.passage == best.passage), best)
    return {
        "context": best.passage,
        "doc": context.doc,
        "page": context.page,
        **_span(context.text, best),
    }


def _span(text: str, support: Support) -> dict[str, Any]:
    return {"start": support.start, "end": support.end, "quote": text[support.start : support.end]}


def _scores(answer: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of an answer, better the higher; none where there is nothing to judge, the worst where that failed."""
    if answer["outcome"] == FAILED:
        return {"faithful_share": 0.0, "fully_faithful": 0.0}
    if answer["outcome"] not in JUDGED:
        return {}
    return {"faithful_share": answer["faithful_share"], "fully_faithful": float(answer["outcome"] == FAITHFUL)}


def summary(
    data: AnswerSet, judges: Sequence[Judge], records: Sequence[Record], timings: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Shares with 95 % intervals, counts, and where two judges disagree.

    Returns:
        `n` is `judged`, `abstained`, `claims_nothing` and `failed` together. Abstentions and answers that claim
        nothing count neither way; what failed counts as not supported, with each of its sentences.
    """
    main = judges[0].name
    outcomes = [record["answers"][main]["outcome"] for record in records]
    return {
        "dataset": data.name,
        "main": {"system": main, "metric": "faithful_share"},
        "judges": [{"name": judge.name, "id": judge.checker.id, "threshold": judge.threshold} for judge in judges],
        "n": len(records),
        "judged": sum(outcome in JUDGED for outcome in outcomes),
        "abstained": outcomes.count(ABSTAINED),
        "claims_nothing": outcomes.count(NOTHING),
        "failed": sum(bool(record["failures"]) for record in records),
        "failures": [
            {"id": record["id"], "system": system, "reason": reason}
            for record in records
            for system, reason in record["failures"].items()
        ],
        "metrics": {judge.name: _metrics(judge.name, records) for judge in judges},
        "sentences": {judge.name: _counts(judge.name, records) for judge in judges},
        "least_faithful": _least(main, records),
        **({"disagreement": _disagreement(main, records)} if len(judges) > 1 else {}),
        "latency_ms": {judge.name: _latency(judge.name, timings) for judge in judges},
    }


def by_sentence(run: Finished) -> list[dict[str, Any]]:
    """Each answer of a finished run with its outcome, its share and its sentences, by the judge that counts."""
    main = run.summary["main"]["system"]
    return [
        {"id": record["id"], "outcome": answer["outcome"]}
        | {name: answer.get(name) for name in ("faithful_share", "sentences")}
        for record in run.records
        for answer in (record["answers"][main],)
    ]


class _Tally(NamedTuple):
    """An answer's sentences."""

    supported: int
    counted: int


def _tally(answer: Mapping[str, Any]) -> _Tally | None:
    """None where the answer counts neither way."""
    if answer["outcome"] == FAILED:
        return _Tally(0, answer["failed_sentences"])
    return _Tally(answer["supported"], answer["checkable"]) if answer["outcome"] in JUDGED else None


def _metrics(system: str, records: Sequence[Record]) -> dict[str, Any]:
    scored = [record["scores"][system] for record in records if record["scores"][system]]
    abstained = [float(record["answers"][system]["outcome"] == ABSTAINED) for record in records]
    tallies = [tally for record in records if (tally := _tally(record["answers"][system]))]
    found: dict[str, Any] = {}
    if scored:
        counted = sum(tally.counted for tally in tallies)
        found["faithful_share"] = {**mean([each["faithful_share"] for each in scored])._asdict(), "n": len(scored)}
        found["sentence_share"] = {**share_of_all(tallies)._asdict(), "n": counted}
        found["fully_faithful"] = {**mean([each["fully_faithful"] for each in scored])._asdict(), "n": len(scored)}
    return found | {"abstention_rate": {**mean(abstained)._asdict(), "n": len(abstained)}}


def share_of_all(tallies: Sequence[tuple[int, int]]) -> Interval:
    """The share of all sentences that hold, with its 95 % interval, by resampling answers and not sentences.

    Sentences of one answer are no independent draws: a bootstrap over sentences would make the interval too narrow
    (cluster bootstrap; Davison and Hinkley 1997, section 3.8).

    Args:
        tallies: of each answer how many sentences hold, and how many there are, at least one.
    """
    array, rng = np.asarray(tallies, dtype=np.float64), np.random.default_rng(SEED)
    even = np.full(len(array), 1 / len(array))
    drawn = (rng.multinomial(len(array), even, size=RESAMPLES // PORTIONS) @ array for _ in range(PORTIONS))
    shares = np.concatenate([sums[:, 0] / sums[:, 1] for sums in drawn])
    low, high = np.percentile(shares, [2.5, 97.5])
    hold, counted = array.sum(axis=0)
    return Interval(float(hold / counted), float(low), float(high))


def _counts(system: str, records: Sequence[Record]) -> dict[str, int]:
    answers = [record["answers"][system] for record in records]
    rows = [row for answer in answers for row in answer.get("sentences", ())]
    supported = sum(row["supported"] for row in rows)
    checkable = sum(row["checkable"] for row in rows)
    return {
        "supported": supported,
        "unsupported": checkable - supported,
        "not_checkable": len(rows) - checkable,
        "failed": sum(answer.get("failed_sentences", 0) for answer in answers),
    }


def _least(system: str, records: Sequence[Record]) -> list[dict[str, Any]]:
    """The answers with the smallest share of supported sentences, the first ones of equal ones."""
    judged = [record for record in records if record["answers"][system]["outcome"] in (PARTLY, UNFAITHFUL)]
    judged.sort(
        key=lambda record: (record["answers"][system]["faithful_share"], -record["answers"][system]["checkable"])
    )
    return [
        {"id": record["id"], "question": record["question"]}
        | {name: record["answers"][system][name] for name in ("faithful_share", "supported", "checkable")}
        for record in judged[:EXAMPLES]
    ]


def _disagreement(main: str, records: Sequence[Record]) -> dict[str, Any]:
    """How often a judge and the local checker differ on a sentence that both judged, beyond what chance gives."""
    from sklearn.metrics import cohen_kappa_score

    rows = [
        (record, number, one, other)
        for record in records
        for number, (one, other) in enumerate(
            zip(*(record["answers"][name].get("sentences", ()) for name in (main, LOCAL)), strict=False), start=1
        )
        if one["checkable"]
    ]
    if not rows:
        return {"n": 0, "share": None, "kappa": None, "judge_only": 0, "local_only": 0, "examples": []}
    said = [(bool(one["supported"]), bool(other["supported"])) for _, _, one, other in rows]
    differ = [row for row, (one, other) in zip(rows, said, strict=True) if one != other]
    by_answer: dict[str, list[int]] = {}
    for (record, *_), (one, other) in zip(rows, said, strict=True):
        tally = by_answer.setdefault(record["id"], [0, 0])
        tally[0], tally[1] = tally[0] + (one != other), tally[1] + 1
    # Kappa has no value where both say the same of all: there is nothing that chance could explain.
    constant = len({verdict for pair in said for verdict in pair}) == 1
    return {
        "n": len(rows),
        "share": share_of_all([(differ, all_) for differ, all_ in by_answer.values()])._asdict(),
        "kappa": None if constant else round(float(cohen_kappa_score(*zip(*said, strict=True))), 4),
        "judge_only": sum(one and not other for one, other in said),
        "local_only": sum(other and not one for one, other in said),
        "examples": [_example(*row) for row in differ[:EXAMPLES]],
    }


def _example(record: Record, number: int, one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": record["id"],
        "sentence": number,
        "text": one["text"],
        "judge": one["support"],
        "local": other["support"],
        "reasons": [*one["reasons"], *other["reasons"]],
    }


def _latency(system: str, timings: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    times = [timing[system] for timing in timings if system in timing]
    if not times:
        return {}
    return {"check": {f"p{share}": round(float(np.percentile(times, share)), 1) for share in (50, 95)}}
