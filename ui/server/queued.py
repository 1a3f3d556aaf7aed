"""Answers for an evaluation: as the product gives them, each in its turn beside the questions of people.

Knows nothing about data sets or runs.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from threading import Event as Flag

from rag.answer import Rag
from rag.errors import Busy
from rag.filter import Filter
from rag.settings import Strictness
from rag.store.protocol import Store
from rag.types import Event, Finished, Message, Retrieved
from ui.server.turns import LOOK, Turns

CLIENT = "evaluation"
"""Whose turn its questions take: that of one more person who asks."""
FULL = 1.0
"""Seconds until the queue is tried again, where too many are waiting in it: nobody waits for this answer."""


class Stopped(Exception):
    """The evaluation is to end. No fault of a question, so it counts as none's failure."""


class Queued(Rag):
    """A `Rag` over a store of its own, with the models of another one, whose answers wait for their turn."""

    def __init__(self, rag: Rag, store: Store, turns: Turns, stopping: Flag) -> None:
        """Loads the models that are not loaded yet.

        Args:
            rag: whose settings and models are used.
            store: what is searched.
            turns: the queue at the language model.
            stopping: set where the evaluation is to end, which it does in the middle of an answer, too.

        Raises:
            FootnoteError: a model cannot be loaded.
        """
        rag.models.load()
        super().__init__(rag.settings, rag.embedder, store, models=rag.models)
        self._turns, self._stopping = turns, stopping

    def stream(
        self,
        question: str,
        history: Sequence[Message] = (),
        within: Filter | None = None,
        strictness: Strictness | None = None,
        passages: int | None = None,
    ) -> Generator[Event]:
        """See `Rag.stream`. The wait for the turn is not part of the answer's time. Raises Stopped."""
        told, waited = super().stream(question, history, within, strictness, passages), 0.0
        with closing(told), ExitStack() as stack:
            for event in told:
                self._go_on()
                if isinstance(event, Finished):
                    stack.close()
                    yield _without(event, waited)
                    continue
                yield event
                if isinstance(event, Retrieved) and event.close:
                    began = time.perf_counter()
                    stack.enter_context(self._turn())
                    waited = (time.perf_counter() - began) * 1000

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """This one's turn at the language model, however long that takes to come."""
        with ExitStack() as stack:
            turn = None
            while turn is None:
                self._go_on()
                try:
                    turn = stack.enter_context(self._turns.turn(CLIENT))
                except Busy:
                    self._stopping.wait(FULL)
            ahead = turn.ahead
            while ahead:
                self._go_on()
                ahead = turn.wait(ahead, LOOK)
            yield

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise Stopped


def _without(event: Finished, waited: float) -> Finished:
    timings = event.answer.timings
    total = round(max(0.0, timings.total - waited), 1)
    return Finished(replace(event.answer, timings=replace(timings, total=total)))
