"""Calls of several threads are run together, each gets its own result, and none waits for others to come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from rag.together import Together

LONG = 30.0


class Held:
    """Squares numbers; every run waits until it is let go."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.began, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.runs.append(list(items))
        self.began.release()
        assert self.go.acquire(timeout=LONG)
        if 13 in items:
            raise ValueError("13")
        return [item**2 for item in items]

    def begun(self) -> None:
        assert self.began.acquire(timeout=LONG)


@pytest.fixture
def held() -> Held:
    return Held()


def asked(together: Together[int, int], items: Sequence[int], pool: ThreadPoolExecutor) -> list[Future[int]]:
    """One after the other, so that their order is known."""
    futures = []
    for item in items:
        before = len(together._waiting)
        futures.append(pool.submit(together, item))
        while len(together._waiting) == before:
            pass
    return futures


def test_what_comes_meanwhile_is_run_together_in_its_order(held: Held) -> None:
    together = Together(held, 1, lambda batch: len(batch) <= 3)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(together, 1)
        held.begun()
        others = asked(together, [2, 3, 4, 5], pool)
        held.go.release(9)
        assert first.result(LONG) == 1
        assert [each.result(LONG) for each in others] == [4, 9, 16, 25]
    assert held.runs == [[1], [2, 3, 4], [5]]


def test_there_are_as_many_runs_at_once_as_were_allowed(held: Held) -> None:
    together = Together(held, 2, lambda batch: True)
    with ThreadPoolExecutor(8) as pool:
        for item in (1, 2):
            pool.submit(together, item)
            held.begun()
        asked(together, [3, 4], pool)
        assert held.runs == [[1], [2]]
        held.go.release(1)
        held.begun()
        assert held.runs == [[1], [2], [3, 4]]
        held.go.release(9)


def test_what_cannot_be_run_with_others_is_run_alone(held: Held) -> None:
    together = Together(held, 1, lambda batch: False)
    held.go.release(9)
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(together, range(6), timeout=LONG)) == [0, 1, 4, 9, 16, 25]
    assert sorted(held.runs) == [[n] for n in range(6)]


def test_a_run_that_fails_fails_for_its_items_alone(held: Held) -> None:
    together = Together(held, 1, lambda batch: len(batch) <= 2)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(together, 1)
        held.begun()
        others = asked(together, [13, 2, 3], pool)
        held.go.release(9)
        assert first.result(LONG) == 1
        for each in others[:2]:
            with pytest.raises(ValueError, match="13"):
                each.result(LONG)
        assert others[2].result(LONG) == 9
        assert together(5) == 25


@pytest.mark.parametrize("run", [lambda items: [], lambda items: [1, 2, 3]])
def test_a_run_with_another_number_of_results_is_an_error_and_nobody_hangs(
    run: Callable[[Sequence[int]], Sequence[int]],
) -> None:
    together = Together(run, 1, lambda batch: True)
    for _ in range(2):
        with pytest.raises(ValueError, match="zip"):
            together(1)


def test_many_threads_lose_nothing() -> None:
    together = Together(lambda items: [item + 1 for item in items], 2, lambda batch: len(batch) <= 4)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(together, range(2000), timeout=LONG)) == list(range(1, 2001))
