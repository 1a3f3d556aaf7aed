"""The base model against the tuned one: the same questions, passages and checker; nothing but the model differs.

Every question is asked as the product answers it, and, where it is known which documents answer it, once with those
alone and once without them. Knows nothing about files, flags or how a model is tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eval import answers
from eval.answers import ANSWERED, FAILED, ORACLE, described, outcome
from eval.cases import QASet, Question
from eval.corpus import Say
from eval.gains import (
    ALONE,
    BASE,
    CHECKER,
    CONDITIONS,
    MODEL,
    REMOVED,
    RETRIEVAL,
    RETRIEVED,
    SHOWN,
    TEXTS,
    TUNED,
    scores_of,
    summary,
)
from eval.run import Record, Run
from eval.texts import best
from rag.answer import Rag
from rag.errors import EvalError, FootnoteError
from rag.filter import Filter
from rag.prompt import PROMPT
from rag.store.protocol import Candidates, Ranking, Store
from rag.types import Answer, Finished, Piece, SparseVector, Timings

KIND = "tuned"
Reply = Callable[[Question], "_Given"]


class _Given(NamedTuple):
    answer: Answer
    said: str
    """What the model wrote, also where that is not shown; empty where none was called."""
    tokens: int


class Hiding:
    """A store that acts as if some documents were not there; everything else is asked of the store below."""

    def __init__(self, store: Store) -> None:
        self._store, self._hidden = store, Filter(documents=("",))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def hide(self, documents: Sequence[str]) -> None:
        """Find no passage of these from now on, and those of all others again."""
        self._hidden = Filter(documents=tuple(documents) or ("",))

    def candidates(
        self, dense: npt.NDArray[np.float32], sparse: SparseVector, limit: int, within: Filter | None = None
    ) -> Candidates:
        """See `Store.candidates`; asks for more until as many as are wanted are not hidden."""
        more = 0
        while True:
            found = self._store.candidates(dense, sparse, limit + more, within)
            left = Candidates(*map(self._left, found))
            lost = [len(ranking) - len(kept) for ranking, kept in zip(found, left, strict=True)]
            if max(lost) <= more or all(len(ranking) < limit + more for ranking in found):
                return Candidates(left.dense[:limit], left.bm25[:limit])
            more = max(lost)

    def _left(self, ranking: Ranking) -> Ranking:
        chunks = self._store.fetch([id_ for id_, _ in ranking])
        hidden = {chunk.id for chunk in chunks if self._hidden.matches(chunk)}
        return [(id_, score) for id_, score in ranking if id_ not in hidden]


def about(data: QASet, documents: Collection[str]) -> QASet:
    """The questions whose relevant documents are all among these; with no documents, every question.

    Raises:
        EvalError: there is none.
    """
    wanted = frozenset(documents)
    if not wanted:
        return data
    questions = tuple(each for each in data.questions if each.relevant and wanted.issuperset(each.relevant))
    if not questions:
        raise EvalError(
            f"{data.name}: none of its {len(data.questions):,} questions is about the {len(wanted):,} documents that "
            "were held out; give another set, or hold out documents of this one"
        )
    return replace(data, questions=questions)


def made_of(base: Rag, tuned: Rag, data: QASet, conditions: Sequence[str] = CONDITIONS) -> dict[str, Any]:
    """What such a run is made with; see `eval.run.made_with`."""
    return answers.made_of(base, data, conditions) | {
        "llm": {BASE: base.llm.name, TUNED: tuned.llm.name},
        "checker": base.checker.id,
        "prompt": PROMPT,
    }


def evaluate(
    base: Rag, tuned: Rag, data: QASet, run: Run, say: Say, conditions: Sequence[str] = CONDITIONS
) -> dict[str, Any]:
    """The figures of both models over a data set, and how they differ; see `summary`.

    Args:
        base: answers with the model as it came; shares embedder, store and checker with the other one.
        tuned: answers with the tuned model.
        data: what to ask.
        run: keeps the records; questions that it has are not asked again.
        say: told how far it is.
        conditions: of `CONDITIONS`; `retrieved` always is one.

    Raises:
        EvalError: the run cannot be written.
    """
    replies = {name: _replies(rag, conditions) for name, rag in ((BASE, base), (TUNED, tuned))}
    if run.records:
        say(f"going on after {len(run.records):,} of {len(data.questions):,} questions")
    for question in data.questions[len(run.records) :]:
        run.add(*_asked(replies, question, base.settings.min_support))
        if len(run.records) % 10 == 0:
            say(f"asked {len(run.records):,} of {len(data.questions):,} questions")
    figures = summary(data, {BASE: base.llm.name, TUNED: tuned.llm.name}, run.records, run.timings)
    run.finish(figures)
    return figures


def _replies(rag: Rag, conditions: Sequence[str]) -> dict[str, Reply]:
    hiding = Hiding(rag.store)
    without = Rag(rag.settings, rag.embedder, hiding, rag.llm, rag.checker)

    def removed(question: Question) -> _Given:
        hiding.hide(question.relevant)
        return _given(without, question)

    replies: dict[str, Reply] = {
        RETRIEVED: lambda question: _given(rag, question),
        ORACLE: lambda question: _given(rag, question, Filter(documents=question.relevant)),
        REMOVED: removed,
    }
    return {name: reply for name, reply in replies.items() if name == RETRIEVED or name in conditions}


def _given(rag: Rag, question: Question, within: Filter | None = None) -> _Given:
    *events, last = rag.stream(question.question, within=within)
    assert isinstance(last, Finished)
    said = "".join(event.text for event in events if isinstance(event, Piece)).strip() if last.answer.model else ""
    return _Given(last.answer, said, rag.llm.count_tokens(said) if said else 0)


def _asked(
    replies: Mapping[str, Mapping[str, Reply]], question: Question, min_support: float
) -> tuple[Record, Mapping[str, Any]]:
    """The record of a question, and how long each answer took."""
    found: dict[str, dict[str, Any]] = {}
    took: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    placed = question.answerable and bool(question.relevant)
    for model, ways in replies.items():
        found[model], took[model] = {}, {}
        for condition, reply in ways.items() if placed else [(RETRIEVED, ways[RETRIEVED])]:
            asked = question.model_copy(update={"answerable": False}) if condition == REMOVED else question
            try:
                given = reply(question)
            except FootnoteError as error:
                failures[f"{model} {condition}"] = " ".join(str(error).split())
                found[model][condition] = _failed(asked)
                continue
            found[model][condition], took[model][condition] = _as_record(asked, given, min_support), _times(given)
    return {
        **described(question),
        "answers": found,
        "scores": {
            f"{model} {by}": scores_of(found[model], question.answerable, by)
            for model in found
            for by in (ALONE, SHOWN)
        },
        "failures": failures,
        "outcome": found[TUNED][RETRIEVED][SHOWN]["outcome"],
        "covered": found[TUNED][RETRIEVED][SHOWN]["outcome"] in ANSWERED,
    }, took


def _as_record(question: Question, given: _Given, min_support: float) -> dict[str, Any]:
    answer, by = given.answer, _declined_by(given.answer)
    sentences = [
        {
            "text": each.text,
            "support": each.support,
            "checkable": each.checkable,
            "supported": each.checkable and each.support >= min_support,
            "shown": shown,
        }
        for shown, part in ((True, () if answer.abstained else answer.sentences), (False, answer.dropped))
        for each in part
    ]
    written = " ".join(str(each["text"]) for each in sentences)
    held = any(best(TEXTS["contains"], hit.chunk.text, question.answers) for hit in answer.hits)
    return {
        "text": answer.text,
        "said": given.said,
        "tokens": given.tokens,
        "declined_by": by,
        "sentences": sentences,
        "hits": [hit.chunk.doc for hit in answer.hits],
        **({"held": held} if question.answerable else {}),
        ALONE: None if by == RETRIEVAL else _seen(question, written, by == MODEL),
        SHOWN: _seen(question, answer.text, answer.abstained),
    }


def _failed(question: Question) -> dict[str, Any]:
    """Wrong in every respect: one sentence that nothing supports, though the passages held the answer."""
    seen = {"outcome": FAILED, **(dict.fromkeys(TEXTS, 0.0) if question.answerable else {})}
    said = {"text": "", "support": 0.0, "checkable": True, "supported": False, "shown": True}
    held = {"held": True} if question.answerable else {}
    return {"declined_by": "", "sentences": [said], "hits": [], **held, ALONE: seen, SHOWN: seen}


def _times(given: _Given) -> dict[str, Any]:
    timings = given.answer.timings
    return {name: getattr(timings, name) for name in ("retrieve", "first_token", "generate", "total")} | {
        "tokens": given.tokens
    }


def _declined_by(answer: Answer) -> str:
    """Who declined; empty for an answer."""
    if not answer.abstained:
        return ""
    return CHECKER if answer.dropped else MODEL if answer.model else RETRIEVAL


def _seen(question: Question, text: str, declined: bool) -> dict[str, Any]:
    """What becomes of a question with this text, and how close it is to the references."""
    found: dict[str, Any] = {"outcome": outcome(question, Answer(text, text, declined, (), (), Timings(0.0)))}
    if question.answerable:
        for name, metric in TEXTS.items():
            found[name] = 0.0 if declined else best(metric, text, question.answers)
    return found
