"""Labelled data on disk -> records: questions with judgements, with answers, in conversations; claims; answers.

A row that cannot be used is named with its file, line and field. Knows nothing about models, stores or metrics.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from rag.errors import EvalError

LONGEST_LINE = 8_000_000
"""Bytes. A longer line is no document but a file of another kind."""

CORPUS, QUESTIONS, LEFT_OUT, QA = "corpus.jsonl", "queries.jsonl", "qrels_source.tsv", "qa.jsonl"
CONVERSATIONS = "conversations.jsonl"
QRELS = ("qrels.tsv", "qrels/test.tsv")
"""Where judgements are looked for; the second is BEIR's own place."""

Id = Annotated[str, Field(min_length=1), BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def _as_context(value: object) -> object:
    return {"text": value} if isinstance(value, str) else value


class Entry(_Row):
    """A document of a labelled corpus."""

    id: Id = Field(alias="_id")
    title: str = ""
    text: str

    @property
    def empty(self) -> bool:
        """True where there is nothing to be found by."""
        return not (self.text.strip() or self.title.strip())


class _Question(_Row):
    id: Id = Field(alias="_id")
    text: str = Field(min_length=1)


class Asked(_Row):
    """One turn of a conversation: what is asked, what was answered, and where the answer stands."""

    kind: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answer: str
    document: str
    quote: str = Field(min_length=1)
    """A few words of the document, as they stand there; a passage that holds them answers the question."""


class Conversation(_Row):
    """Questions that follow each other."""

    id: Id = Field(alias="_id")
    split: str = ""
    turns: list[Asked] = Field(min_length=1)


class _Judgement(_Row):
    question: str = Field(alias="query-id", min_length=1)
    document: str = Field(alias="corpus-id", min_length=1)
    score: Annotated[int, BeforeValidator(lambda value: int(value))]


class Question(_Row):
    """A question with its reference answers."""

    id: Id
    question: str = Field(min_length=1)
    answers: tuple[str, ...] = ()
    answerable: bool = True
    relevant: tuple[Id, ...] = ()
    """The documents that hold the answer: their ids in the corpus, or paths or file names in a collection."""
    pages: tuple[int, ...] = ()
    """The pages that hold it, where they are known."""
    decision: str = ""
    """`yes`, `no` or `maybe`, where that is what was asked."""
    long: bool = False
    """True where the reference is a text of its own, not a few words to be found in the answer."""

    @model_validator(mode="after")
    def _has_a_reference(self) -> Question:
        if self.answerable and not any(answer.strip() for answer in self.answers):
            raise ValueError("an answerable question needs a reference answer in `answers`")
        return self


class Claim(_Row):
    """A statement that people judged against a text."""

    id: Id
    context: str
    claim: str = Field(min_length=1)
    label: Literal[0, 1]
    """1 where the context supports the claim."""
    question: str | None = None
    group: Id | None = None
    """Rows of a group are the same claim with several contexts; the best one counts."""
    set: str = ""
    """The name of the data set that the row was taken from."""
    grounded: bool | None = None
    """False where the claim was written without the context."""


class Context(_Row):
    """A passage that an answer was written from."""

    text: str
    doc: str = ""
    page: int | None = None


class Answered(_Row):
    """What some system answered, and the passages it had."""

    id: Id = ""
    """The number of its line or element where it has none."""
    question: str
    answer: str
    contexts: tuple[Annotated[Context, BeforeValidator(_as_context)], ...]


Row = TypeVar("Row", bound=_Row)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Documents, questions, and which documents answer which question how well."""

    name: str
    corpus: tuple[Entry, ...]
    questions: Mapping[str, str]
    """Id -> text, in the file's order; those without a relevant document are left out."""
    relevant: Mapping[str, Mapping[str, int]]
    """Question's id -> document's id -> grade; above 0 is relevant."""
    left_out: Mapping[str, frozenset[str]]
    """Question's id -> documents that count neither as found nor as missing, such as the one it was written from."""
    unjudged: int
    """Questions without a relevant document."""


@dataclass(frozen=True, slots=True)
class ConversationSet:
    """Documents, and conversations about them."""

    name: str
    corpus: tuple[Entry, ...]
    conversations: tuple[Conversation, ...]


def read_conversations(directory: Path) -> ConversationSet:
    """A directory with corpus.jsonl, as in BEIR layout, and conversations.jsonl.

    Raises:
        EvalError: a file is missing or cannot be read, or a row of it cannot be used.
    """
    if not directory.is_dir():
        raise EvalError(f"{directory} is no directory; give one with {CORPUS} and {CONVERSATIONS}")
    corpus, path = _distinct(directory / CORPUS, Entry), directory / CONVERSATIONS
    conversations = _distinct(path, Conversation)
    for line, conversation in _rows(path, Conversation):
        for number, turn in enumerate(conversation.turns):
            where = f"{path}:{line}: field turns.{number}"
            if turn.document not in corpus:
                raise EvalError(f"{where}.document: {turn.document!r} is not in {CORPUS}; correct the id")
            if turn.quote not in corpus[turn.document].text:
                raise EvalError(
                    f"{where}.quote: {turn.quote!r} is not in the text of {turn.document!r}; copy it from there"
                )
    return ConversationSet(directory.resolve().name, tuple(corpus.values()), tuple(conversations.values()))


def read_retrieval(directory: Path, qrels: Path | None = None) -> RetrievalSet:
    """A directory in BEIR layout: corpus.jsonl, queries.jsonl, and qrels.tsv or qrels/test.tsv.

    A file qrels_source.tsv of the same form names documents that are taken out of a question's ranking before it is
    scored.

    Args:
        directory: where it is.
        qrels: judgements to use in the place of the directory's own.

    Raises:
        EvalError: a file is missing or cannot be read, or a row of it cannot be used.
    """
    if not directory.is_dir():
        raise EvalError(f"{directory} is no directory; give one with {CORPUS}, {QUESTIONS} and {QRELS[0]}")
    corpus = _distinct(directory / CORPUS, Entry)
    questions = {id_: row.text for id_, row in _distinct(directory / QUESTIONS, _Question).items()}
    relevant: dict[str, dict[str, int]] = {}
    for judgement in _judgements(qrels or _found(directory, QRELS), questions, corpus):
        relevant.setdefault(judgement.question, {})[judgement.document] = judgement.score
    left_out: dict[str, set[str]] = {}
    if (directory / LEFT_OUT).exists():
        for judgement in _judgements(directory / LEFT_OUT, questions, corpus):
            left_out.setdefault(judgement.question, set()).add(judgement.document)
    judged = {id_: text for id_, text in questions.items() if any(g > 0 for g in relevant.get(id_, {}).values())}
    if not judged:
        raise EvalError(f"{directory} has no question with a relevant document; check its judgements")
    return RetrievalSet(
        directory.resolve().name,
        tuple(corpus.values()),
        judged,
        {id_: relevant[id_] for id_ in judged},
        {id_: frozenset(documents) for id_, documents in left_out.items()},
        len(questions) - len(judged),
    )


@dataclass(frozen=True, slots=True)
class QASet:
    """Questions with reference answers, over a labelled corpus or over documents that are somewhere else."""

    name: str
    corpus: tuple[Entry, ...]
    """Empty where the questions are about a collection of the user's own."""
    questions: tuple[Question, ...]


def read_qa(path: Path) -> QASet:
    """Questions with answers: a directory with corpus.jsonl and qa.jsonl, or a file of the latter's form alone.

    Raises:
        EvalError: a file is missing or cannot be read, a row of it cannot be used, or a question's document is not in
            the corpus.
    """
    if not path.exists():
        raise EvalError(f"{path} does not exist; give a directory with {CORPUS} and {QA}, or a file like {QA}")
    if path.is_file():
        return QASet(path.resolve().stem, (), tuple(_distinct(path, Question).values()))
    corpus, questions = _distinct(path / CORPUS, Entry), _distinct(path / QA, Question)
    for question in questions.values():
        if unknown := [id_ for id_ in question.relevant if id_ not in corpus]:
            raise EvalError(
                f"{path / QA}: question {question.id!r}: field relevant: {unknown[0]!r} is not in {CORPUS}; "
                "correct the id, or remove the row"
            )
    return QASet(path.resolve().name, tuple(corpus.values()), tuple(questions.values()))


def spread(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """So many of the items, evenly spread over all, in their order: the first ones are often of one subject."""
    n = len(items)
    return tuple(items) if limit is None or limit >= n else tuple(items[i * n // limit] for i in range(limit))


def read_claims(path: Path) -> tuple[Claim, ...]:
    """Judged claims: a file with one a line, or a directory with claims.jsonl. Raises EvalError as `read_qa` does."""
    return tuple(_distinct(path / "claims.jsonl" if path.is_dir() else path, Claim).values())


def _found(directory: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (directory / name).exists():
            return directory / name
    raise EvalError(f"{directory} has no {' and no '.join(names)}; judgements are needed there, or with --qrels FILE")


def _judgements(path: Path, questions: Mapping[str, str], corpus: Mapping[str, Entry]) -> Iterator[_Judgement]:
    for line, judgement in _table(path):
        for field, id_, known, file in (
            ("query-id", judgement.question, questions, QUESTIONS),
            ("corpus-id", judgement.document, corpus, CORPUS),
        ):
            if id_ not in known:
                raise EvalError(f"{path}:{line}: {field} {id_!r} is not in {file}; correct the id, or remove the row")
        yield judgement


def _table(path: Path) -> Iterator[tuple[int, _Judgement]]:
    """The rows of a table of tabs with their lines; the first line names the columns."""
    rows = csv.reader((text for _, text in _lines(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = next(rows, [])
    expected = ["query-id", "corpus-id", "score"]
    if columns[:3] != expected:
        raise EvalError(f"{path}:1: found the columns {columns[:3]}, expected {expected}, separated by tabs")
    for line, row in enumerate(rows, start=2):
        if row:
            yield line, _valid(_Judgement, dict(zip(expected, row, strict=False)), path, line)


def _distinct(path: Path, kind: type[Row]) -> dict[str, Row]:
    """Id -> row of a file with a JSON object a line."""
    found: dict[str, Row] = {}
    lines: dict[str, int] = {}
    for line, row in _rows(path, kind):
        id_: str = row.id  # type: ignore[attr-defined]
        if id_ in found:
            field = kind.model_fields["id"].alias or "id"
            raise EvalError(f"{path}:{line}: {field} {id_!r} is that of line {lines[id_]} too; ids must be distinct")
        found[id_], lines[id_] = row, line
    if not found:
        raise EvalError(f"{path} is empty; expected a JSON object a line")
    return found


def _rows(path: Path, kind: type[Row]) -> Iterator[tuple[int, Row]]:
    """The rows of a file with a JSON object a line, with their lines."""
    for line, text in _lines(path):
        if text.strip():
            yield line, _valid(kind, text, path, line)


def _valid(kind: type[Row], row: str | dict[str, str], path: Path, line: int) -> Row:
    try:
        return kind.model_validate_json(row) if isinstance(row, str) else kind.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        where = f"field {field}: " if field else ""
        raise EvalError(f"{path}:{line}: {where}{first['msg']}; correct the row, or remove it") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, decoded."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
                if len(line) > LONGEST_LINE:
                    raise EvalError(
                        f"{path}:{number}: the line has more than {LONGEST_LINE:,} bytes; split the document, or "
                        "check that the file has a JSON object a line"
                    )
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise EvalError(f"{path}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
    except OSError as error:
        raise EvalError(f"{path} cannot be read: {error.strerror or error}; check the path") from None
