"""Ctrl-C and SIGTERM: once ends the work in order, twice at once. Knows nothing about the work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable(stop: Callable[[], None]) -> Iterator[threading.Event]:
    """Call `stop` on the first signal, and raise `KeyboardInterrupt` on the second. The event says that one came.

    Only the main thread hears signals: elsewhere they are left to it.
    """
    came = threading.Event()

    def hear(_number: int, _frame: FrameType | None) -> None:
        if came.is_set():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # where even that takes its time, a third one ends it
            raise KeyboardInterrupt
        came.set()
        stop()

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, hear) for number in SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
