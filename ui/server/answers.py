"""Questions of many people -> answers, one after another, and from the cache. The page and the API both ask here.

Knows nothing about requests, pages or what is done with an answer.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Hashable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from ingest.catalog import Catalog
from rag.answer import Rag, traced
from rag.errors import Busy, FootnoteError
from rag.filter import Filter
from rag.settings import Strictness
from rag.tracing import Span, span
from rag.types import Checked, Event, Finished, Message, Piece, Retrieved, Timings
from ui.server.cache import Cache
from ui.server.metrics import Metrics
from ui.server.turns import Turn, Turns


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with all that its answer depends on."""

    question: str
    history: tuple[Message, ...] = ()
    within: Filter = Filter()  # noqa: RUF009 - frozen
    strictness: Strictness | None = None
    """The setting where it is None."""
    passages: int | None = None
    """How many are read; the setting where it is None."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Event: how many questions are answered before this one. Comes again and again while it waits."""

    ahead: int


@dataclass(frozen=True, slots=True)
class Again:
    """Event: the answer comes from the cache."""


Told = Event | Waiting | Again
_Kept = tuple[Retrieved, Finished]


class Answers:
    """Answers questions from one collection. Safe to use from several threads."""

    def __init__(self, rag: Rag, catalog: Catalog, metrics: Metrics, turns: Turns | None = None) -> None:
        """`turns` are those of other collections whose answers the same language model writes."""
        settings = rag.settings
        self._rag, self._catalog, self._metrics = rag, catalog, metrics
        self.turns, self._longest = turns or Turns(settings.waiting_questions), settings.answer_seconds
        self._cache: Cache[_Kept] = Cache(settings.answer_cache)
        metrics.watch("waiting_questions", "Questions that wait for the language model.", lambda: self.waiting)
        metrics.watch("cached_answers", "Answers in the cache.", lambda: len(self._cache))

    @property
    def waiting(self) -> int:
        """How many questions wait for the language model."""
        return self.turns.waiting

    def stream(self, asked: Asked, client: str) -> Generator[Told]:
        """What `Rag.stream` tells, with how many others come first. Closing it stops the answer.

        Args:
            asked: the question.
            client: who asks; clients are answered in turn.

        Raises:
            Busy: too many questions are waiting, or this one waited, or took, longer than the setting allows.
            FootnoteError: see `Rag.stream`.
        """
        with span("ask") as ask:
            yield from self._told(asked, client, ask)

    def _told(self, asked: Asked, client: str, ask: Span) -> Generator[Told]:
        """See `stream`; `ask` is the question's span."""
        version, key = self._version(), self._key(asked)
        found = self._cache.get(version, key)
        self._metrics.cache.labels("yes" if found else "no").inc()
        ask.set(cached=found is not None)
        if found:
            ask.set(**traced(found[1].answer, self._rag.settings.log_texts))
            yield from _again(found)
            return
        done = False
        try:
            with closing(self._answered(asked, client, version, key, ask)) as events:
                for event in events:
                    done = isinstance(event, Finished)
                    yield event
        except FootnoteError:
            self._metrics.answers.labels("failed").inc()
            raise
        except GeneratorExit:
            if not done:
                self._metrics.answers.labels("stopped").inc()
            raise

    def _answered(self, asked: Asked, client: str, version: Hashable, key: Hashable, ask: Span) -> Generator[Told]:
        retrieved, until = Retrieved(()), float("inf")
        said = self._rag.stages(ask, asked.question, asked.history, asked.within, asked.strictness, asked.passages)
        with closing(said), ExitStack() as stack:
            for event in said:
                if isinstance(event, Finished):
                    stack.close()  # the next one's turn, whenever this one's reader comes back
                    self._metrics.finished(event.answer)
                    if self._version() == version:
                        self._cache.put(version, key, (retrieved, event))
                yield event
                if isinstance(event, Retrieved):
                    retrieved = event
                    if event.close:
                        with span("wait", ask):
                            yield from self._waited(stack.enter_context(self.turns.turn(client)))
                        until = time.monotonic() + self._longest
                if time.monotonic() > until:
                    raise Busy(
                        f"the answer took longer than {self._longest:g} s; ask for less, or raise answer_seconds"
                    )

    def _waited(self, turn: Turn) -> Iterator[Waiting]:
        """Until it is this one's turn; tells again and again, so that whoever went away is noticed."""
        began, ahead = time.monotonic(), turn.ahead
        while ahead:
            yield Waiting(ahead)
            waited = time.monotonic() - began
            if waited > self._longest:
                raise Busy(f"no answer within {self._longest:g} s, {ahead} questions are still ahead; ask again later")
            ahead = turn.wait(ahead)
        self._metrics.stage_seconds.labels("wait").observe(time.monotonic() - began)

    def _version(self) -> Hashable:
        """Another one after every change of the index, by another process or on a server, too."""
        return self._catalog.version(), self._rag.store.count()

    def _key(self, asked: Asked) -> Hashable:
        settings = self._rag.settings
        return replace(
            asked,
            question=asked.question.strip(),
            strictness=asked.strictness or settings.strictness,
            passages=asked.passages or settings.passages,
        )


def _again(kept: _Kept) -> Iterator[Told]:
    """An answer that was given before, told at once."""
    retrieved, finished = kept
    answer = replace(finished.answer, timings=Timings(0.0))
    yield Again()
    yield retrieved
    yield Piece(answer.text)
    for index, sentence in enumerate(answer.sentences):
        yield Checked(index, sentence)
    yield Finished(answer)
