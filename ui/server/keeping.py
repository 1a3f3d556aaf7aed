"""Conversations that go on: what was said before is read, and the answer is kept. Knows nothing about requests."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace

from rag.errors import FootnoteError
from rag.types import Finished
from ui.server.answers import Answers, Asked, Told
from ui.server.conversations import Conversations

NEW = "new"
"""In the place of a conversation's id: begin one."""


class NoConversation(FootnoteError):
    """A conversation, or a turn of it, that the person does not have."""

    status = 404


@dataclass(frozen=True, slots=True)
class Kept:
    """Event: where the answer that comes next is kept."""

    conversation: str
    turn: str


def converse(
    answers: Answers,
    conversations: Conversations,
    collection: str,
    asked: Asked,
    client: str,
    owner: str,
    conversation: str,
    again: bool = False,
) -> Generator[Told | Kept]:
    """What `Answers.stream` tells, in a conversation.

    Args:
        answers: what answers.
        conversations: where it is kept.
        collection: which one is asked.
        asked: the question; the conversation's turns take the place of its history.
        client: whose turn it takes.
        owner: whose conversation it is.
        conversation: its id, or `NEW`.
        again: ask in the place of the last turn, which is replaced.

    Raises:
        NoConversation: this owner has none with this id.
        FootnoteError: see `Answers.stream`.
    """
    before = None if conversation == NEW else conversations.read(owner, conversation)
    if before is None and conversation != NEW:
        raise NoConversation(f"there is no conversation {conversation!r}; begin one with {NEW!r}")
    history = before.history(len(before.turns) - 1 if again else None) if before else ()
    with closing(answers.stream(replace(asked, history=history), client)) as told:
        for each in told:
            if isinstance(each, Finished):
                keep = conversations.replace_last if again else conversations.add
                id_ = conversation if before else conversations.start(owner, collection, each.answer.question)
                yield Kept(id_, keep(owner, id_, each.answer, asked.strictness or "", asked.within))
            yield each
