"""What people said of answers -> sheets to learn from.

A line of a feedback file holds a question, the passages that it was answered from, the answer, and a verdict: `up`, or
`down` with or without the answer that would have been right. A verdict that was changed has a later line with the same
id. Knows nothing about how feedback is collected.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rag.declines import declines
from rag.errors import FinetuneError
from rag.finetune.sheets import Asked, Sheet, Shown


class _Passage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str = Field(min_length=1)
    title: str = ""
    headings: tuple[str, ...] = ()
    header: str = ""
    doc: str = ""


class Feedback(BaseModel):
    """A line of a feedback file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    question: str = Field(min_length=1)
    answer: str
    """What was answered."""
    verdict: Literal["up", "down"]
    correction: str = ""
    """What would have been right; a refusal where the passages hold no answer."""
    passages: tuple[_Passage, ...]
    """What it was answered from; nothing is learned where there were none."""
    collection: str = ""
    """Which documents it was asked of; empty where nobody said."""
    id: str = ""
    """Whose verdict on which answer it is; a line without one stands for itself."""
    searched: str = ""
    """The question as it was made to stand alone; empty where it does."""
    cited: tuple[int, ...] = ()
    """Which passages the answer's footnotes point to, counted from 0."""

    @property
    def right(self) -> str:
        """The answer that was liked, or the correction; empty where nobody said what is right."""
        return (self.answer if self.verdict == "up" else self.correction).strip()


Line = TypeVar("Line", bound=Feedback)


def read_feedback(path: Path) -> list[Sheet]:
    """A sheet for each line that teaches something: an answer that was liked or corrected.

    The answer that was not liked is kept beside the correction, as the rejected one.

    Raises:
        FinetuneError: the file cannot be read, or a line is no feedback.
    """
    return [sheet for feedback in read_lines(path, Feedback) if (sheet := _sheet(feedback, path.name))]


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """What was said last of every answer, in that order.

    A last line that breaks off was never written as a whole, and does not count.

    Raises:
        FinetuneError: the file cannot be read, or a line is no feedback.
    """
    said: dict[str, Line] = {}
    for number, feedback in _lines(path, kind):
        key = feedback.id or f"line {number}"
        said.pop(key, None)
        said[key] = feedback
    return list(said.values())


def _lines(path: Path, kind: type[Line]) -> Iterator[tuple[int, Line]]:
    try:
        *whole, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise FinetuneError(f"feedback {path} cannot be read: {error.strerror}; check the path") from None
    for number, line in enumerate([*whole, *([last] if is_whole(last) else [])], 1):
        if not line.strip():
            continue
        try:
            yield number, kind.model_validate(json.loads(line))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise FinetuneError(f"{path}:{number}: field {field}: {first['msg']}; correct or remove the line") from None
        except ValueError as error:
            raise FinetuneError(f"{path}:{number} is no JSON ({error}); correct or remove the line") from None


def is_whole(line: bytes) -> bool:
    """False where a line is no JSON, as one is whose writer was killed."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _sheet(feedback: Feedback, source: str) -> Sheet | None:
    right = feedback.right
    if not right or not feedback.passages:
        return None
    passages = tuple(Shown(each.title, each.headings, each.header, each.text, each.doc) for each in feedback.passages)
    rejected = feedback.answer if feedback.verdict == "down" and feedback.answer.strip() != right else ""
    answer = "" if declines(right) else right
    asked = Asked(feedback.question, answer, "feedback", source, feedback.passages[0].doc, rejected.strip())
    return Sheet(passages, (asked,))
