"""What people said of answers -> sheets to learn from.

A line of a feedback file holds a question, the passages that it was answered from, the answer, and a verdict: `up`, or
`down` with or without the answer that would have been right. Knows nothing about how feedback is collected.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

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
    passages: tuple[_Passage, ...] = Field(min_length=1)


def read_feedback(path: Path) -> list[Sheet]:
    """A sheet for each line that teaches something: an answer that was liked or corrected.

    The answer that was not liked is kept beside the correction, as the rejected one.

    Raises:
        FinetuneError: the file cannot be read, or a line is no feedback.
    """
    return [sheet for feedback in _rows(path) if (sheet := _sheet(feedback, path.name))]


def _rows(path: Path) -> Iterator[Feedback]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FinetuneError(f"feedback {path} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Feedback.model_validate(json.loads(line))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise FinetuneError(f"{path}:{number}: field {field}: {first['msg']}; correct or remove the line") from None
        except ValueError as error:
            raise FinetuneError(f"{path}:{number} is no JSON ({error}); correct or remove the line") from None


def _sheet(feedback: Feedback, source: str) -> Sheet | None:
    right = feedback.answer if feedback.verdict == "up" else feedback.correction
    if not right.strip():
        return None
    passages = tuple(Shown(each.title, each.headings, each.header, each.text, each.doc) for each in feedback.passages)
    rejected = feedback.answer if feedback.verdict == "down" and feedback.answer.strip() != right.strip() else ""
    answer = "" if declines(right) else right.strip()
    asked = Asked(feedback.question, answer, "feedback", source, feedback.passages[0].doc, rejected.strip())
    return Sheet(passages, (asked,))
