"""What people say of answers, a line each in a file: to tune on, and to measure with.

A line has what `rag.finetune.feedback` reads, and more. Knows nothing about pages or requests.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from rag.errors import SettingsError
from rag.filter import Filter
from rag.finetune import feedback
from rag.settings import Settings
from rag.types import Answer, Hit, Message
from ui.server.kept import Conversation, clean

FILE = "feedback.jsonl"
WAIT = 10.0
"""Seconds to wait for another one who is writing."""

Verdict = Literal["up", "down"]
Reason = Literal["", "wrong", "incomplete", "not in the documents", "other"]


class Given(feedback.Feedback):
    """A line of the file: a verdict, and all that is needed to understand it later."""

    time: str = ""
    """ISO 8601, UTC."""
    who: str = ""
    about: str = ""
    """The turn's id."""
    model: str = ""
    reason: Reason = ""
    comment: str = ""
    """What else the person said."""
    history: tuple[Message, ...] = ()
    """What was said before, oldest first."""
    strictness: str = ""
    filter: Filter = Filter()
    """The documents that were asked."""
    supported: int = 0
    """Sentences of the answer with a footnote."""


def given(
    conversation: Conversation,
    about: str,
    who: str,
    verdict: Verdict,
    correction: str = "",
    reason: Reason = "",
    comment: str = "",
) -> Given | None:
    """What a person says of an answer.

    Args:
        conversation: where it was given.
        about: the turn's id.
        who: the person.
        verdict: whether it was liked.
        correction: what would have been right; a refusal where the documents hold no answer.
        reason: why it was not liked.
        comment: what else there is to say.

    Returns:
        None where the conversation has no such turn, or not any more.
    """
    number = conversation.number_of(about)
    if number is None:
        return None
    turn = conversation.turns[number]
    answer = turn.answer
    return Given(
        id=id_of(who, about),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        who=who,
        about=about,
        question=answer.question,
        answer=answer.text,
        verdict=verdict,
        correction=clean(correction.strip()),
        reason=reason,
        comment=clean(comment.strip()),
        passages=tuple(_passage(hit) for hit in answer.hits),
        cited=_cited(answer),
        collection=conversation.collection,
        model=answer.model,
        history=conversation.history(number),
        searched=answer.searched,
        strictness=turn.strictness,
        filter=turn.within,
        supported=sum(sentence.supported for sentence in answer.sentences),
    )


def id_of(who: str, about: str) -> str:
    """The id of what a person says of a turn, whenever and how often they say it."""
    return hashlib.sha256(f"{who}\0{about}".encode("utf-8", "replace")).hexdigest()[:32]


class Feedback:
    """The file. Lines are only ever put at its end; the last one with an id counts.

    Safe to use from several threads and processes.
    """

    def __init__(self, settings: Settings) -> None:
        self.path = settings.home / FILE

    def add(self, line: Given) -> None:
        """Keep a verdict; it survives whatever happens after the call.

        Raises:
            SettingsError: it cannot be written.
        """
        row = line.model_dump_json().encode() + b"\n"
        with _explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=WAIT, mode=0o600):
                _append(self.path, row)

    def of(self, who: str) -> dict[str, Given]:
        """What a person said last of each answer, by the turn's id.

        Raises:
            FinetuneError: a line is no feedback, or the file cannot be read.
        """
        return {line.about: line for line in self.lines() if line.who == who}

    def lines(self) -> list[Given]:
        """What everybody said last of each answer, oldest first. Raises FinetuneError as `of` does."""
        return feedback.read_lines(self.path, Given) if self.path.exists() else []


def _append(path: Path, row: bytes) -> None:
    """Write a line below the whole lines that there are. Raises OSError."""
    path.touch(0o600)
    with path.open("ab+", buffering=0) as file:
        last = _unfinished(file)
        # What a killed process left goes; where an editor left out the line break only, it is put in.
        between, torn = (b"\n", 0) if feedback.is_whole(last) else (b"", len(last))
        end = file.seek(0, os.SEEK_END) - torn
        file.truncate(end)
        if file.write(between + row) < len(between + row):
            file.truncate(end)
            raise OSError("the disk is full")
        os.fsync(file.fileno())


def _unfinished(file: FileIO) -> bytes:
    """A last line without its line break."""
    if not file.seek(0, os.SEEK_END):
        return b""
    file.seek(-1, os.SEEK_END)
    if file.read(1) == b"\n":
        return b""
    file.seek(0)
    return file.read().rpartition(b"\n")[2]


def _passage(hit: Hit) -> Any:
    chunk = hit.chunk
    return {
        "text": chunk.text,
        "title": chunk.title,
        "headings": chunk.headings,
        "header": chunk.header,
        "doc": chunk.doc,
    }


def _cited(answer: Answer) -> tuple[int, ...]:
    """Which passages hold a footnote's place."""
    places = {(note.doc, note.start, note.end) for sentence in answer.sentences for note in sentence.citations}
    return tuple(
        number
        for number, hit in enumerate(answer.hits)
        if any(doc == hit.chunk.doc and hit.chunk.start <= start and end <= hit.chunk.end for doc, start, end in places)
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """The system's errors, told in one line with a remedy."""
    try:
        yield
    except Timeout:
        raise SettingsError(f"{path} is being written by another process; try again") from None
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written: {error.strerror or error}; check the disk and the folder's rights"
        ) from error
