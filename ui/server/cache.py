"""Answers that were given, for those who ask the same. Knows nothing about how answers are made."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Kept = TypeVar("Kept")


class Cache(Generic[Kept]):
    """The most recently used ones, of one version of the index. Safe to use from several threads."""

    def __init__(self, most: int) -> None:
        """Keeps `most` at most; none for 0."""
        self._most, self._lock = most, Lock()
        self._version: Hashable = None
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()

    def __len__(self) -> int:
        with self._lock:
            return len(self._kept)

    def get(self, version: Hashable, key: Hashable) -> Kept | None:
        """What is kept for a key; None where the index was another one."""
        with self._lock:
            self._only(version)
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]

    def put(self, version: Hashable, key: Hashable, value: Kept) -> None:
        """Keep a value that was made from a version of the index; those of other versions go."""
        with self._lock:
            self._only(version)
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def _only(self, version: Hashable) -> None:
        if version != self._version:
            self._kept.clear()
            self._version = version
