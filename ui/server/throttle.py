"""How long to wait after failed sign-ins: by name and by address, longer each time. Knows nothing about passwords."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import NamedTuple

FORGOTTEN = 3600.0
"""Seconds without a try after which earlier ones count no more."""
LONGEST_NAME = 64

Clock = Callable[[], float]


class Rule(NamedTuple):
    """So many tries are free; then 1 second, 2, 4, and so on."""

    free: int
    longest: float
    """Seconds."""

    def wait(self, tries: int) -> float:
        """Seconds until the next one."""
        return 0.0 if tries < self.free else min(self.longest, 2.0 ** min(tries - self.free, 32))


BY_NAME = Rule(free=5, longest=60)
"""Short, because it also keeps out the one whose name it is; still no more than 1,440 guesses a day."""
BY_ADDRESS = Rule(free=20, longest=900)
"""More are free, because many people may share an address."""


class Tries(NamedTuple):
    """Those of one name or address."""

    made: int
    until: float
    """When the next one may come, by the clock."""


class Throttle:
    """Counts a try before it is judged, so that many at once gain nothing."""

    def __init__(self, clock: Clock = time.monotonic, most: int = 10_000) -> None:
        """`most` names, and so many addresses, are remembered; those not heard of longest are forgotten first."""
        self._names = _Counted(BY_NAME, clock, most)
        self._addresses = _Counted(BY_ADDRESS, clock, most)

    def wait(self, name: str, address: str) -> int:
        """Whole seconds until a try may come; 0 where it may now."""
        return math.ceil(max(self._names.wait(_short(name)), self._addresses.wait(_network(address))))

    def tried(self, name: str, address: str) -> None:
        """Count a try."""
        self._names.add(_short(name))
        self._addresses.add(_network(address))

    def passed(self, name: str, address: str) -> None:
        """It was right. The address keeps its other tries, or one's own password would buy guesses at others'."""
        self._names.forget(_short(name))
        self._addresses.undo(_network(address))


class _Counted:
    def __init__(self, rule: Rule, clock: Clock, most: int) -> None:
        self._rule, self._clock, self._most = rule, clock, most
        self._tries: OrderedDict[str, Tries] = OrderedDict()

    def wait(self, key: str) -> float:
        return max(0.0, self._of(key).until - self._clock())

    def add(self, key: str) -> None:
        self._keep(key, self._of(key).made + 1)

    def undo(self, key: str) -> None:
        self._keep(key, max(0, self._of(key).made - 1))

    def forget(self, key: str) -> None:
        self._tries.pop(key, None)

    def _of(self, key: str) -> Tries:
        found = self._tries.get(key, Tries(0, -math.inf))
        return Tries(0, -math.inf) if found.until + FORGOTTEN < self._clock() else found

    def _keep(self, key: str, made: int) -> None:
        self._tries[key] = Tries(made, self._clock() + self._rule.wait(made))
        self._tries.move_to_end(key)
        if len(self._tries) > self._most:
            self._tries.popitem(last=False)


def _short(name: str) -> str:
    """No name is longer, and what is remembered must not grow with what is sent."""
    return name.strip().lower()[:LONGEST_NAME]


def _network(address: str) -> str:
    """One machine has all of an IPv6 network to choose from."""
    try:
        found = ip_address(address)
    except ValueError:
        return address[:LONGEST_NAME]
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
