"""One person's conversation at the page: what the chat shows of it, and what the page knows beside that.

Pure; knows nothing about Gradio, requests or where conversations are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rag.types import Answer, Sentence
from ui import render
from ui.server.kept import Conversation

Shown = dict[str, str]
"""A message as the chat takes it."""
Speed = Callable[[Answer], float | None]
"""Answer -> the tokens that were written a second, where that is known."""


@dataclass(frozen=True)
class Exchange:
    """A question, and what stands below it."""

    question: str
    html: str
    """The answer as it is shown, or what is there of it."""
    turn: str = ""
    """Its id in the conversation that is kept; empty where nothing is: it failed or was stopped, or is not done."""
    answer: Answer | None = None


@dataclass(frozen=True)
class Talk:
    """What was said so far."""

    id: str = ""
    """Of the conversation that is kept; empty as long as none is."""
    exchanges: tuple[Exchange, ...] = ()
    again: bool = False
    """True where the next answer takes the place of the last one that is kept."""

    @classmethod
    def of(cls, kept: Conversation, speed: Speed) -> Talk:
        """A conversation that was kept."""
        answers = [(turn.id, turn.answer) for turn in kept.turns]
        return cls(
            kept.id,
            tuple(Exchange(each.question, render.answer(each, speed(each)), id_, each) for id_, each in answers),
        )

    @property
    def messages(self) -> list[Shown]:
        """For the chat: a question and an answer in turn."""
        return [
            message
            for each in self.exchanges
            for message in (
                {"role": "user", "content": render.question(each.question)},
                {"role": "assistant", "content": each.html},
            )
        ]

    def at(self, message: int) -> Exchange | None:
        """The exchange that a message of the chat belongs to."""
        number = message // 2
        return self.exchanges[number] if 0 <= number < len(self.exchanges) else None

    def answer(self, exchange: int) -> Answer | None:
        """The answer of an exchange, counted from 0, if there is a whole one."""
        return self.exchanges[exchange].answer if 0 <= exchange < len(self.exchanges) else None

    def asked(self, question: str) -> Talk:
        """With one more question, which nothing is written to yet."""
        return replace(self, exchanges=(*self.exchanges, Exchange(question, render.writing(""))))

    def showing(self, html: str) -> Talk:
        """With this below the last question."""
        return self._last(html=html)

    def writing(self, text: str, checked: Sequence[Sentence], dropping: bool) -> Talk:
        """With an answer that is being written."""
        return self._last(html=render.writing(text, checked, dropping))

    def answered(self, answer: Answer, conversation: str, turn: str, speed: Speed) -> Talk:
        """With the answer, and where it is kept."""
        whole = self._last(html=render.answer(answer, speed(answer)), answer=answer, turn=turn)
        return replace(whole, id=conversation, again=False)

    def stopped(self) -> Talk:
        """With the mark that the last answer was stopped."""
        return self._last(html=render.stopped(self.exchanges[-1].html)) if self.exchanges else self

    def taken_back(self) -> tuple[Talk, str]:
        """Without the last exchange, and what was asked in it: the next answer takes its place."""
        if not self.exchanges:
            return self, ""
        *before, last = self.exchanges
        return replace(self, exchanges=tuple(before), again=self.again or bool(last.turn)), last.question

    def _last(self, **changes: object) -> Talk:
        *before, last = self.exchanges
        return replace(self, exchanges=(*before, replace(last, **changes)))  # type: ignore[arg-type]
