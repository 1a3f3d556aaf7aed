"""How far a run is, and how long it will go on. Pure; knows nothing about processes or terminals.

What is left is estimated in chunks, since embedding them is what takes time: bytes left of each kind of file, times
the chunks that a byte of that kind made so far.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

WINDOW = 30.0
"""Seconds over which speed is measured."""
SETTLED = 3.0
"""Seconds before which nothing is foretold."""


class InHand(NamedTuple):
    """A document that is being read."""

    doc: str
    seconds: float
    page: int = 0
    pages: int = 0
    """0 where it is not read page by page."""


class Progress(NamedTuple):
    """A snapshot of a run."""

    files: int
    of: int
    """Documents done, and known to be there; members of archives are known when their archive was read."""
    pages: int
    chunks: int
    """Those stored, of documents that are not finished too."""
    chunks_per_second: float
    eta: float | None
    """Seconds left; None as long as nobody can tell."""
    in_hand: tuple[InHand, ...]
    """The longest first."""
    stage: str = ""
    """What goes on where no document is in hand, such as building the search index."""


class Estimate:
    """Learns how many chunks files make and how fast; foretells the rest."""

    def __init__(self) -> None:
        self._left: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._chunks: Counter[str] = Counter()
        self._speed: deque[tuple[float, int]] = deque()
        self._begun: float | None = None

    def expect(self, files: Iterable[tuple[str, int]]) -> None:
        """Files to come, as suffix and bytes."""
        for suffix, size in files:
            self._left[suffix] += size

    def settle(self, suffix: str, size: int, chunks: int | None) -> None:
        """A file is done; `chunks` is None where none were made of it, because it is unchanged or failed."""
        self._left[suffix] -= min(size, self._left[suffix])
        if chunks is not None:
            self._bytes[suffix] += size
            self._chunks[suffix] += chunks

    def store(self, now: float, chunks: int) -> None:
        """So many chunks in all were stored by `now`, in seconds of any clock."""
        self._begun = now if self._begun is None else self._begun
        self._speed.append((now, chunks))
        while self._speed[0][0] < now - WINDOW:
            self._speed.popleft()

    def speed(self) -> float:
        """Chunks a second, lately."""
        if len(self._speed) < 2:
            return 0.0
        (first, before), (last, after) = self._speed[0], self._speed[-1]
        return (after - before) / (last - first) if last > first else 0.0

    def eta(self, now: float) -> float | None:
        """Seconds left."""
        speed = self.speed()
        if self._begun is None or now - self._begun < SETTLED or not speed or not self._bytes:
            return None
        overall = self._chunks.total() / max(self._bytes.total(), 1)
        left = sum(
            size * (self._chunks[suffix] / self._bytes[suffix] if self._bytes[suffix] else overall)
            for suffix, size in self._left.items()
        )
        return left / speed
