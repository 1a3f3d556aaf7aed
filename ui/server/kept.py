"""A conversation as it is kept: its records, and answers as JSON that loses nothing.

Knows nothing about where they are kept, or how they are shown.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from rag.filter import Filter
from rag.types import Answer, Message
from ui import records

LONGEST_NAME = 80
"""Characters of a conversation's name."""
_ANSWER, _FILTER = TypeAdapter(Answer), TypeAdapter(Filter)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question with its answer."""

    id: str
    """Another one where the answer was made anew."""
    answer: Answer
    strictness: str
    """What it was asked with; empty for the setting."""
    within: Filter
    time: str
    """ISO 8601, UTC, as all times here."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A conversation as a list shows it."""

    id: str
    name: str
    created: str
    updated: str
    turns: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """A whole conversation."""

    id: str
    collection: str
    name: str
    created: str
    updated: str
    turns: tuple[Turn, ...]

    def history(self, before: int | None = None) -> tuple[Message, ...]:
        """What the language model is told of it, oldest message first; `before` leaves out that turn and later ones."""
        return tuple(
            message
            for turn in self.turns[:before]
            for message in (Message("user", turn.answer.question), Message("assistant", turn.answer.text))
        )

    def number_of(self, turn: str) -> int | None:
        """Where a turn is, counted from 0; None where it is not in here, or not any more."""
        return next((number for number, each in enumerate(self.turns) if each.id == turn), None)


def packed(answer: Answer) -> str:
    """An answer as JSON that holds all of it; what `ui.records.answer` makes is for others to read, and leaves out."""
    return clean(json.dumps(asdict(answer), ensure_ascii=False, separators=(",", ":")))


def unpacked(text: str) -> Answer:
    """The answer that was `packed`."""
    return _ANSWER.validate_json(text, strict=True)


def filter_record(within: Filter) -> dict[str, Any]:
    """A filter as plain values."""
    plain: dict[str, Any] = _FILTER.dump_python(within, mode="json")
    return plain


def filter_of(plain: dict[str, Any]) -> Filter:
    """The filter that `filter_record` made plain."""
    return _FILTER.validate_python(plain)


def record(conversation: Conversation) -> dict[str, Any]:
    """A conversation as plain dictionaries, for JSON; its answers are those of `footnote ask`."""
    turns = [
        {
            "id": turn.id,
            "time": turn.time,
            "strictness": turn.strictness,
            "filter": filter_record(turn.within),
            **records.answer(turn.answer),
        }
        for turn in conversation.turns
    ]
    return {
        "id": conversation.id,
        "collection": conversation.collection,
        "name": conversation.name,
        "created": conversation.created,
        "updated": conversation.updated,
        "turns": turns,
    }


def name_of(text: str) -> str:
    """A question, or what a person wrote, in one line; a long one is cut, between two words if that leaves enough."""
    line = " ".join(clean(text).split())
    if len(line) <= LONGEST_NAME:
        return line
    cut = line[: LONGEST_NAME - 2]
    words = cut.rpartition(" ")[0]
    return f"{words if len(words) > LONGEST_NAME // 2 else cut} …"


def clean(text: str) -> str:
    """Without what is no character: halves of surrogate pairs, which neither files nor SQLite take."""
    return text.encode("utf-8", "replace").decode("utf-8")
