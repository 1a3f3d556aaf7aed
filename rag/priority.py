"""How soon a thread gets a core beside the others: where all are wanted, a search goes before what takes long.

On Linux each thread has a niceness of its own, and threads and processes that it starts inherit it. Elsewhere nothing
changes: there it belongs to the whole process. Knows nothing about what the threads do.
"""

from __future__ import annotations

import os
import sys
import threading

YIELDING = 10
"""The niceness of what lets others go first: about a tenth of a core that it shares with a thread of niceness 0
(Linux's `sched_prio_to_weight`: 110 against 1,024)."""


def niceness() -> int:
    """Of this thread."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) if sys.platform == "linux" else 0


def give_way(to: int = YIELDING) -> None:
    """Raise this thread's niceness, and that of all that it will start; never lowers it."""
    if sys.platform == "linux" and niceness() < to:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), to)
