"""How many requests somebody may send in a minute. Knows nothing about who they are or what they ask for."""

from __future__ import annotations

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter


class Rate:
    """Counts requests over the last minute, as a sliding window counter does. Safe to use from several threads."""

    def __init__(self, a_minute: int) -> None:
        """At most `a_minute`, at least 1."""
        self._most, self._counted = RateLimitItemPerMinute(a_minute), SlidingWindowCounterRateLimiter(MemoryStorage())

    def wait(self, who: str) -> int:
        """Seconds until a request of theirs is taken, at least 1; 0 where this one is."""
        if self._counted.hit(self._most, who):
            return 0
        return max(1, math.ceil(self._counted.get_window_stats(self._most, who).reset_time - time.time()))
