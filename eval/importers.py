"""Answers of any system -> records to be judged: our own rows and runs, and the rows of RAGAS and DeepEval.

A file is JSON lines, a JSON list, or a JSON object that holds the list. A row that cannot be used is named with its
file, line or element, and field. Knows nothing about how answers are judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from eval.cases import Answered, Context
from eval.run import Finished
from rag.errors import EvalError

AUTO, FOOTNOTE, RAGAS, DEEPEVAL = "auto", "footnote", "ragas", "deepeval"
HOLDERS = ("test_cases", "testCases", "samples")
"""Fields of an object that hold the rows: DeepEval's data sets and test runs, and a RAGAS `EvaluationDataset`."""


def _alone(value: object) -> object:
    if isinstance(value, list):
        raise ValueError("a list of messages is a conversation; only single questions with answers can be judged")
    return value


def _as_text(value: object) -> object:
    """DeepEval names a passage's source beside its text, in an object."""
    return value["context"] if isinstance(value, dict) and isinstance(value.get("context"), str) else value


Asked = Annotated[str, BeforeValidator(_alone)]


class _Foreign(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Ragas(_Foreign):
    """`SingleTurnSample`, with the names of RAGAS 0.2 and later or of 0.1; it leaves out fields that are None."""

    question: Asked = Field(validation_alias=AliasChoices("user_input", "question"))
    answer: str | None = Field(None, validation_alias=AliasChoices("response", "answer"))
    contexts: list[str] | None = Field(None, validation_alias=AliasChoices("retrieved_contexts", "contexts"))


class _DeepEval(_Foreign):
    """`LLMTestCase` or a golden, with the field names of Python or of the JSON that it is sent as."""

    question: Asked = Field(validation_alias=AliasChoices("input"))
    answer: str | None = Field(None, validation_alias=AliasChoices("actual_output", "actualOutput"))
    contexts: list[Annotated[str, BeforeValidator(_as_text)]] | None = Field(
        None, validation_alias=AliasChoices("retrieval_context", "retrievalContext")
    )


FORMATS: Mapping[str, type[BaseModel]] = {FOOTNOTE: Answered, RAGAS: _Ragas, DEEPEVAL: _DeepEval}


class _Row(NamedTuple):
    where: str
    """File with line or element."""
    number: int
    """Counted from 1."""
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnswerSet:
    """Answers to be judged."""

    name: str
    answers: tuple[Answered, ...]


def read_answers(path: Path, format: str = AUTO) -> AnswerSet:
    """Any system's answers with the passages that they were written from.

    A RAGAS or DeepEval row without an answer or without passages is read with an empty one: that its system gave none
    is for the judge to say. A row's id is its `id` field in our own format, else its line or element.

    Args:
        path: JSON lines, a JSON list, or a JSON object with the list in one of `HOLDERS`.
        format: `auto`, or one of `FORMATS`; `auto` goes by the first row's fields.

    Raises:
        EvalError: the file cannot be read, a row of it cannot be used, or no row has an answer or passages.
    """
    rows = list(_rows(path))
    if not rows:
        raise EvalError(f"{path} is empty; expected an answer a line, or a JSON list of them")
    kind = FORMATS[_told(rows[0]) if format == AUTO else format]
    answers: dict[str, Answered] = {}
    for row in rows:
        answer = _answered(kind, row)
        if answer.id in answers:
            raise EvalError(f"{row.where}: field id: {answer.id!r} is an earlier row's; ids must be distinct")
        answers[answer.id] = answer
    _check_complete(path, kind, rows, list(answers.values()))
    return AnswerSet(path.resolve().stem, tuple(answers.values()))


def answers_of(run: Finished, system: str) -> AnswerSet:
    """What a run of `footnote eval answers` was answered, with the passages that each answer was written from.

    Raises:
        EvalError: it is another kind of run, or lacks the system.
    """
    if run.kind != "answers":
        raise EvalError(f"run {run.name!r} measured {run.kind}; only answers can be judged: give one of `eval answers`")
    if system not in (known := run.records[0]["answers"]):
        raise EvalError(f"run {run.name!r} has no answers of {system!r}; it has those of {', '.join(known)}")
    return AnswerSet(
        run.summary["dataset"], tuple(_of_record(record, record["answers"][system]) for record in run.records)
    )


def _of_record(record: Mapping[str, Any], given: Mapping[str, Any]) -> Answered:
    contexts = tuple(Context(text=hit["text"], doc=hit["doc"], page=hit["page"]) for hit in given.get("hits", ()))
    return Answered(id=record["id"], question=record["question"], answer=given.get("text", ""), contexts=contexts)


def _told(row: _Row) -> str:
    """The format of a row, by its fields."""
    fields = row.fields
    if "user_input" in fields:
        return RAGAS
    if "input" in fields:
        return DEEPEVAL
    if "question" in fields:
        # RAGAS named its columns like ours at first, and left out what is None.
        return FOOTNOTE if {"answer", "contexts"} <= fields.keys() else RAGAS
    raise EvalError(
        f"{row.where}: found the fields {', '.join(fields) or 'none'}; expected question, answer and contexts, or "
        "those of RAGAS (user_input, response, retrieved_contexts) or of DeepEval (input, actual_output, "
        "retrieval_context)"
    )


def _answered(kind: type[BaseModel], row: _Row) -> Answered:
    try:
        found: Any = kind.model_validate_json(json.dumps(row.fields))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        where = f"{row.where}: field {field}" if field else row.where
        message = first["msg"].removeprefix("Value error, ")
        raise EvalError(f"{where}: {message}; correct the row, or remove it") from None
    if isinstance(found, Answered):
        return found if found.id else found.model_copy(update={"id": str(row.number)})
    contexts = tuple(Context(text=text) for text in found.contexts or ())
    return Answered(id=str(row.number), question=found.question, answer=found.answer or "", contexts=contexts)


def _check_complete(path: Path, kind: type[BaseModel], rows: Sequence[_Row], answers: Sequence[Answered]) -> None:
    """Refuse a file of questions alone: that nobody answered any of them is hardly what a user wants to hear."""
    for name in ("answer", "contexts"):
        if not any(getattr(answer, name) for answer in answers):
            alias = kind.model_fields[name].validation_alias
            expected = " or ".join(map(str, alias.choices)) if isinstance(alias, AliasChoices) else name
            raise EvalError(
                f"{path}: no row has a field {expected} that is not empty (found {', '.join(rows[0].fields)}); "
                "an answer is judged by the passages that it was written from: give both, or another --format"
            )


def _rows(path: Path) -> Iterator[_Row]:
    """The rows of a file, whichever shape it has."""
    text = _text(path)
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        yield from _lines(path, text, error)
        return
    if isinstance(whole, dict):
        held = next((whole[name] for name in HOLDERS if isinstance(whole.get(name), list)), None)
        if held is None:
            yield _row(f"{path}:1", 1, whole)
            return
        whole = held
    if not isinstance(whole, list):
        raise EvalError(f"{path} holds no answers; expected one a line, or a JSON list of them")
    for number, element in enumerate(whole, start=1):
        yield _row(f"{path}: element {number}", number, element)


def _lines(path: Path, text: str, error: json.JSONDecodeError) -> Iterator[_Row]:
    """The rows of JSON lines; `error` is why the text is not JSON as a whole, which holds where line one is none."""
    begun = False
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as wrong:
            where, why = (f"{path}:{number}", wrong.msg) if begun else (f"{path}:{error.lineno}", error.msg)
            raise EvalError(f"{where}: not JSON ({why}); correct the row, or remove it") from None
        begun = True
        yield _row(f"{path}:{number}", number, value)


def _row(where: str, number: int, value: object) -> _Row:
    if not isinstance(value, dict):
        raise EvalError(f"{where}: found {type(value).__name__}, expected an object with an answer; correct the row")
    return _Row(where, number, value)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EvalError(f"{path}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
    except OSError as error:
        raise EvalError(f"{path} cannot be read: {error.strerror or error}; check the path") from None
