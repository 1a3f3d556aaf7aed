"""Work in a thread that ends with it. Knows nothing about what the work is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def aside(make: Callable[[], T]) -> T:
    """What `make` returns, called in a thread of its own; raises what it raises.

    OpenVINO's CPU plugin gives the thread that loads it a stack for signal handlers, and unmaps that stack when it is
    unloaded, from whatever thread: plugins that do not go in the reverse order of their coming leave a dead one
    behind, and the next signal, Ctrl-C too, kills the process. So each is loaded in a thread that gets no signals,
    because it has ended.
    """
    made: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(make())
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    thread = threading.Thread(target=work, name="footnote-aside")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
