"""A thread that gives way takes what it starts with it, and nobody else."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from rag.aside import aside
from rag.priority import YIELDING, give_way, niceness

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux threads have a niceness of their own")
PRINT = "import os; print(os.nice(0))"


def in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_what_gives_way_takes_its_threads_and_processes_with_it() -> None:
    found: list[int] = []

    def work() -> None:
        give_way()
        found.extend((niceness(), aside(niceness)))
        found.append(int(subprocess.run([sys.executable, "-c", PRINT], capture_output=True, check=True).stdout))

    before, expected = niceness(), max(niceness(), YIELDING)
    in_a_thread(work)
    assert found == [expected] * 3
    assert niceness() == before


def test_giving_way_never_takes_it_back() -> None:
    found, most = list[int](), max(niceness(), 7)

    def work() -> None:
        for to in (7, 3, 7, 0):
            give_way(to)
            found.append(niceness())

    in_a_thread(work)
    assert found == [most] * 4
