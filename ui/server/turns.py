"""Turns at the language model: one answer is written at a time, and nobody waits for a client that asks a lot.

Start-time fair queueing (Goyal, Vin and Cheng 1996) with questions of equal weight: a client's next question comes a
round after its last one, and earlier rounds go first. Knows nothing about questions or models.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Condition
from typing import NamedTuple

from rag.errors import Busy

LOOK = 0.25
"""Seconds between two looks at whether somebody who waits is still there."""


class _Place(NamedTuple):
    """Earlier ones go first."""

    round: int
    number: int


class Turn:
    """One question's place in the queue. It must be left, whether its turn came or not."""

    def __init__(self, turns: Turns, place: _Place) -> None:
        self._turns, self._place = turns, place

    @property
    def ahead(self) -> int:
        """How many questions are answered before this one; 0 where it is this one's turn."""
        return self._turns.ahead(self._place)

    def wait(self, ahead: int, seconds: float = LOOK) -> int:
        """Until another number than `ahead` is before it, but no longer than some seconds; returns that number."""
        return self._turns.changed(self._place, ahead, seconds)

    def leave(self) -> None:
        """Let the next one have its turn. Leaving twice does no harm."""
        self._turns.left(self._place)


class Turns:
    """Who is answered when. Safe to use from several threads."""

    def __init__(self, longest: int) -> None:
        """At most `longest` questions wait."""
        self._longest, self._numbers = longest, count()
        self._places: dict[_Place, str] = {}
        self._rounds: dict[str, int] = {}
        self._round = 0
        self._current: _Place | None = None
        self._changed = Condition()

    @contextmanager
    def turn(self, client: str) -> Iterator[Turn]:
        """A place in the queue, left at the end.

        Args:
            client: who asks; questions of others come in between those of one client.

        Raises:
            Busy: too many are waiting.
        """
        turn = self._join(client)
        try:
            yield turn
        finally:
            turn.leave()

    @property
    def waiting(self) -> int:
        """How many questions wait, without the one that is being answered."""
        with self._changed:
            return max(0, len(self._places) - 1)

    def ahead(self, place: _Place) -> int:
        """See `Turn.ahead`."""
        with self._changed:
            return self._ahead(place)

    def changed(self, place: _Place, ahead: int, seconds: float) -> int:
        """See `Turn.wait`."""
        with self._changed:
            self._changed.wait_for(lambda: self._ahead(place) != ahead, seconds)
            return self._ahead(place)

    def left(self, place: _Place) -> None:
        """See `Turn.leave`."""
        with self._changed:
            if self._places.pop(place, None) is None:
                return
            if place == self._current:
                self._current = None
            self._next()

    def _join(self, client: str) -> Turn:
        with self._changed:
            if len(self._places) > self._longest:
                raise Busy(f"{self._longest} questions are waiting for an answer already; ask again in a minute")
            place = _Place(max(self._round, self._rounds.get(client, -1) + 1), next(self._numbers))
            self._places[place], self._rounds[client] = client, place.round
            self._next()
            return Turn(self, place)

    def _next(self) -> None:
        if self._current is None and self._places:
            self._current = min(self._places)
            self._round = self._current.round
            self._rounds = {client: round_ for client, round_ in self._rounds.items() if round_ >= self._round}
        self._changed.notify_all()

    def _ahead(self, place: _Place) -> int:
        if place == self._current:
            return 0
        return sum(other < place or other == self._current for other in self._places)
