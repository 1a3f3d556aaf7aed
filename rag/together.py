"""Calls that come at once -> few runs with many items each. Knows nothing about what is run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Result]):
    item: Item
    taken: bool = False
    """Whether a run has begun that it is part of."""
    result: Future[Result] = field(default_factory=Future)


class Together(Generic[Item, Result]):
    """Runs the items of several threads in batches: what comes while all runs are busy goes into the next one.

    An item that comes alone is run alone and at once: nobody waits for a batch to fill. Earlier items go first. Safe to
    use from several threads, which do the runs themselves.
    """

    def __init__(
        self, run: Callable[[Sequence[Item]], Sequence[Result]], at_once: int, fits: Callable[[Sequence[Item]], bool]
    ) -> None:
        """Nothing is run yet.

        Args:
            run: gives a result an item, in their order; called from at most `at_once` threads at a time.
            at_once: see `run`.
            fits: whether these items, two or more, can be run together.
        """
        self._run, self._free, self._fits = run, at_once, fits
        self._waiting: deque[_Call[Item, Result]] = deque()
        self._changed = Condition()

    def __call__(self, item: Item) -> Result:
        """The result of one item. Raises what `run` raises; then all items of that run fail alike."""
        mine = _Call[Item, Result](item)
        with self._changed:
            self._waiting.append(mine)
        while batch := self._turn(mine):
            self._do(batch)
        return mine.result.result()

    def _turn(self, mine: _Call[Item, Result]) -> list[_Call[Item, Result]]:
        """What this thread is to run, which it may have to wait for; nothing where another one has run its item."""
        with self._changed:
            self._changed.wait_for(lambda: mine.result.done() or (self._free and not mine.taken))
            if mine.result.done():
                return []
            self._free -= 1
            batch = [self._waiting.popleft()]
            while self._waiting and self._fits([*(call.item for call in batch), self._waiting[0].item]):
                batch.append(self._waiting.popleft())
            for call in batch:
                call.taken = True
            return batch

    def _do(self, batch: Sequence[_Call[Item, Result]]) -> None:
        try:
            results = self._run([call.item for call in batch])
            for call, result in list(zip(batch, results, strict=True)):
                call.result.set_result(result)
        except BaseException as error:  # noqa: BLE001 - each caller raises it
            for call in batch:
                if not call.result.done():
                    call.result.set_exception(error)
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()
