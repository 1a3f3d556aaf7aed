"""How good answers are: question -> retrieval -> language model -> checked answer, against reference answers.

The answers come from the product's own `Rag`. Knows nothing about files, flags or how a run is kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np

from eval.cases import QASet, Question
from eval.corpus import Say, open_corpus
from eval.run import Record, Run, made_with
from eval.stats import SEED, mean, reliability, risk_coverage
from eval.texts import best, contains, exact, recall, rouge_l, token_f1
from rag.answer import Rag
from rag.embed import open_embedder
from rag.errors import FootnoteError
from rag.filter import Filter
from rag.settings import Settings
from rag.types import Answer, Hit, Message, Sentence, Timings

PRODUCT, CLOSED_BOOK, ORACLE = "footnote", "closed-book", "oracle"
"""The whole of Footnote; its language model alone; the whole, searching nothing but the right documents."""
CLOSED_BOOK_PROMPT = "Reply to the question with one or two short sentences and nothing else."
ENOUGH = 0.5
"""A long answer counts as correct from this share of its reference's words."""
CORRECT, WRONG, DECLINED, RIGHTLY_DECLINED, FAILED = "correct", "wrong", "declined", "rightly declined", "failed"
ANSWERED = (CORRECT, WRONG)

Reply = Callable[[Question], Answer]


def asking(settings: Settings, data: QASet, say: Say) -> Rag:
    """What answers the questions: over the data set's corpus, or, where it has none, over the user's own collection.

    To be closed. Raises FootnoteError.
    """
    if not data.corpus:
        return Rag.open(settings)
    embedder = open_embedder(settings)
    return Rag(settings, embedder, open_corpus(settings, embedder, data.corpus, say))


def evaluate(rag: Rag, data: QASet, run: Run, systems: Sequence[str], say: Say) -> dict[str, Any]:
    """The figures of every system over a data set; see `summary`.

    Args:
        rag: what answers.
        data: what to ask.
        run: keeps the records; questions that it has are not asked again.
        systems: `footnote`, and what is to bracket it: `closed-book`, `oracle`.
        say: told how far it is.

    Raises:
        EvalError: the run cannot be written.
    """
    replies = {name: reply for name, reply in _systems(rag).items() if name in systems}
    if run.records:
        say(f"going on after {len(run.records):,} of {len(data.questions):,} questions")
    for question in data.questions[len(run.records) :]:
        run.add(*_asked(replies, rag, question))
        if len(run.records) % 10 == 0:
            say(f"asked {len(run.records):,} of {len(data.questions):,} questions")
    figures = summary(data, run.records, run.timings)
    run.finish(figures)
    return figures


def made_of(rag: Rag, data: QASet, systems: Sequence[str]) -> dict[str, Any]:
    """What such a run is made with; see `eval.run.made_with`. Loads the language model, whose weights it names."""
    asked = [question.model_dump() for question in data.questions]
    return made_with(
        rag.settings,
        dataset=data.name,
        corpus=hashlib.sha256("".join(sorted(rag.store.ids())).encode()).hexdigest()[:16],
        cases=hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16],
        systems=list(systems),
        embedder=rag.embedder.id,
        backend=rag.embedder.backend,
        llm=rag.llm.name,
        seed=SEED,
    )


def without(data: QASet, share: float) -> QASet:
    """The data set without a share of its documents, whose questions no document answers any more.

    Which ones depends on their ids alone, so that runs can be compared.
    """

    def drawn(id_: str) -> bool:
        return int.from_bytes(hashlib.sha256(id_.encode()).digest()[:8]) < share * 2**64

    gone = {entry.id for entry in data.corpus if drawn(entry.id)}
    corpus = tuple(entry for entry in data.corpus if entry.id not in gone)
    questions = tuple(
        question.model_copy(update={"answerable": False})
        if question.relevant and gone.issuperset(question.relevant)
        else question
        for question in data.questions
    )
    return replace(data, corpus=corpus, questions=questions)


def _systems(rag: Rag) -> dict[str, Reply]:
    def closed_book(question: Question) -> Answer:
        messages = [Message("system", CLOSED_BOOK_PROMPT), Message("user", f"Question: {question.question}")]
        started = time.perf_counter()
        text = "".join(rag.llm.stream(messages)).strip()
        took = Timings(0.0, total=round((time.perf_counter() - started) * 1000, 1))
        return Answer(question.question, text, not text, (Sentence(text, 0.0),), (), took, rag.llm.name)

    def oracle(question: Question) -> Answer:
        # Nothing matches the name "": an unanswerable question has no right document to search.
        return rag.answer(question.question, within=Filter(documents=question.relevant or ("",)))

    return {PRODUCT: lambda question: rag.answer(question.question), CLOSED_BOOK: closed_book, ORACLE: oracle}


def _asked(replies: Mapping[str, Reply], rag: Rag, question: Question) -> tuple[Record, Any]:
    """The record of a question, and how long each system took."""
    answers: dict[str, Any] = {}
    scores: dict[str, Mapping[str, float]] = {}
    failures: dict[str, str] = {}
    took: dict[str, Any] = {}
    for name, reply in replies.items():
        try:
            answer = reply(question)
        except FootnoteError as error:
            failures[name] = " ".join(str(error).split())
            answers[name], scores[name] = {"outcome": FAILED}, dict.fromkeys(_scored(question, None, rag), 0.0)
            continue
        scores[name] = _scored(question, answer, rag)
        answers[name] = _as_record(question, answer)
        timings = answer.timings
        took[name] = {"retrieve": timings.retrieve, "first_token": timings.first_token, "total": timings.total}
    return {
        **described(question),
        "answers": answers,
        "scores": scores,
        "failures": failures,
        "covered": answers[PRODUCT]["outcome"] in ANSWERED,
    }, took


def _as_record(question: Question, answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "outcome": outcome(question, answer),
        "confidence": confidence(answer),
        "sentences": [
            {
                "text": sentence.text,
                "support": sentence.support,
                "checkable": sentence.checkable,
                "reasons": list(sentence.reasons),
                "citations": [
                    {"doc": citation.doc, "page": citation.page, "quote": citation.quote}
                    for citation in sentence.citations
                ],
            }
            for sentence in answer.sentences
        ],
        "written": [
            {"text": sentence.text, "support": sentence.support, "checkable": sentence.checkable}
            for sentence in _written(answer)
        ],
        "hits": [
            {"doc": hit.chunk.doc, "title": hit.chunk.title, "page": hit.chunk.page, "text": hit.chunk.with_header}
            for hit in answer.hits
        ],
    }


def _written(answer: Answer) -> Sequence[Sentence]:
    """What the model wrote, also where it was declined; in the order of writing unless some was dropped."""
    return answer.dropped if answer.abstained else (*answer.sentences, *answer.dropped)


def outcome(question: Question, answer: Answer) -> str:
    """What became of a question: `correct`, `wrong`, `declined` or `rightly declined`.

    An answer is correct where the words of a reference stand in it, or, for a long reference, half of them do. Any
    answer to a question that the documents do not answer is wrong.
    """
    if answer.abstained:
        return DECLINED if question.answerable else RIGHTLY_DECLINED
    if not question.answerable:
        return WRONG
    metric = recall if question.long else contains
    return CORRECT if best(metric, answer.text, question.answers) >= (ENOUGH if question.long else 1) else WRONG


def confidence(answer: Answer) -> float:
    """How sure an answer is: the mean support of its sentences that claim something, 0 to 1."""
    support = [sentence.support for sentence in answer.sentences if sentence.checkable]
    return round(float(np.mean(support)), 4) if support else 0.0


def _scored(question: Question, answer: Answer | None, rag: Rag) -> dict[str, float]:
    """Every metric that has a meaning for the question; all are better the higher. None scores like nothing said."""
    text = answer.text if answer and not answer.abstained else ""
    found: dict[str, float] = {}
    if question.answerable:
        for name, metric in (("em", exact), ("f1", token_f1), ("contains", contains)):
            found[name] = best(metric, text, question.answers) if text else 0.0
        if question.long:
            found["rouge_l"] = best(rouge_l, text, question.answers)
            found["similarity"] = _similarity(rag, text, question.answers)
        found |= _found(question, answer, rag.settings.passages)
    correct = answer is not None and outcome(question, answer) in (CORRECT, RIGHTLY_DECLINED)
    return {"correct": float(correct), **found}


def _similarity(rag: Rag, text: str, references: Sequence[str]) -> float:
    """Cosine of the closest reference, by the embedder that searches; negative ones count as 0."""
    if not text:
        return 0.0
    said, *wanted = (rag.embedder.embed_query(each) for each in (text, *references))
    return round(float(np.clip(max(said @ each for each in wanted), 0, 1)), 4)


def _found(question: Question, answer: Answer | None, k: int) -> dict[str, float]:
    """Whether the right documents were retrieved and cited."""
    if not question.relevant or (answer is not None and not answer.hits and not answer.abstained):
        return {}
    hits = answer.hits if answer else ()
    scores = {"hit@1": float(any(_right(question, hit) for hit in hits[:1]))}
    scores[f"hit@{k}"] = float(any(_right(question, hit) for hit in hits))
    if question.pages:
        scores[f"page_hit@{k}"] = float(any(_right(question, hit) and hit.chunk.page in question.pages for hit in hits))
    cited = [citation.doc for sentence in answer.sentences for citation in sentence.citations] if answer else []
    right = [_is(question.relevant, doc) for doc in cited]
    if cited or answer is None:
        scores["citation_precision"] = sum(right) / max(1, len(right))
    if answer is None or not answer.abstained:
        scores["citation_recall"] = float(any(right))
    return scores


def _right(question: Question, hit: Hit) -> bool:
    return _is(question.relevant, hit.chunk.doc)


def _is(relevant: Sequence[str], doc: str) -> bool:
    """True where a document is named by its id or path, or by its file name."""
    return doc in relevant or PurePath(doc).name in relevant


def summary(data: QASet, records: Sequence[Record], timings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means with 95 % intervals, rates, curves and times of every system.

    A figure's `n` is the number of questions that it has a meaning for. Where a system failed, it scored 0.
    """
    systems = list(records[0]["scores"])
    return {
        "dataset": data.name,
        "main": {"system": PRODUCT, "metric": "correct"},
        **counts(data, records),
        "metrics": {system: _metrics(system, records) for system in systems},
        "risk_coverage": {system: _curve(system, records) for system in systems},
        "reliability": _reliability(records),
        "latency_ms": {system: _latency(system, timings) for system in systems},
    }


def counts(data: QASet, records: Sequence[Record]) -> dict[str, Any]:
    """How many documents and questions there are, and which of them failed."""
    return {
        "documents": len(data.corpus),
        "n": len(records),
        "unanswerable": sum(not record["references"] for record in records),
        "failed": sum(bool(record["failures"]) for record in records),
        "failures": [
            {"id": record["id"], "system": system, "reason": reason}
            for record in records
            for system, reason in record["failures"].items()
        ],
    }


def described(question: Question) -> dict[str, Any]:
    """What a record says of its question."""
    return {
        "id": question.id,
        "question": question.question,
        "references": list(question.answers) if question.answerable else [],
        "relevant": list(question.relevant),
        "long": question.long,
    }


def _metrics(system: str, records: Sequence[Record]) -> dict[str, Any]:
    values: dict[str, list[float]] = {}
    for record in records:
        for name, score in record["scores"][system].items():
            values.setdefault(name, []).append(score)
    outcomes = [(record["answers"][system]["outcome"], bool(record["references"])) for record in records]
    values["answer_rate"] = [outcome in ANSWERED for outcome, _ in outcomes]
    values["wrong_answer_rate"] = [outcome in (WRONG, FAILED) for outcome, _ in outcomes]
    values["over_refusal"] = [outcome == DECLINED for outcome, answerable in outcomes if answerable]
    values["unanswerable_answered"] = [outcome in (WRONG, FAILED) for outcome, answerable in outcomes if not answerable]
    return {name: {**mean(each)._asdict(), "n": len(each)} for name, each in values.items() if each}


def _sure(system: str, records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Confidence and correctness of what was answered."""
    answers = [record["answers"][system] for record in records]
    given = [answer for answer in answers if answer["outcome"] in ANSWERED]
    return [answer["confidence"] for answer in given], [float(answer["outcome"] == CORRECT) for answer in given]


def _curve(system: str, records: Sequence[Record]) -> dict[str, Any]:
    return risk_coverage(*_sure(system, records), cases=len(records))._asdict()


def _reliability(records: Sequence[Record]) -> dict[str, Any]:
    found = reliability(*_sure(PRODUCT, records))
    return {"bins": [each._asdict() for each in found.bins], "error": found.error}


def _latency(system: str, timings: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    rows = [timing[system] for timing in timings if system in timing]
    found = {}
    for name in ("retrieve", "first_token", "total"):
        if times := [row[name] for row in rows if row[name]]:
            found[name] = {f"p{share}": round(float(np.percentile(times, share)), 1) for share in (50, 95)}
    return found
