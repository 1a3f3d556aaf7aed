"""Who may use a shard when: many at once, or one alone for as long as something must not be seen half done.

Knows nothing about Qdrant or what is done behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rag.errors import StoreError


class Gate:
    """Lets threads in to what it guards. Nobody may come in again while he is in."""

    def __init__(self, guarded: Any, name: str) -> None:
        """Guard something; `name` says what, in the message after closing."""
        self._guarded, self._name = guarded, name
        self._inside = 0
        self._one_alone = self._closed = False
        self._changed = threading.Condition()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @contextmanager
    def shared(self) -> Iterator[Any]:
        """What is guarded, together with others. Raises StoreError once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._one_alone)
            self._enter()
        try:
            yield self._guarded
        finally:
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[Any]:
        """What is guarded, with everybody else held out. Raises StoreError once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._one_alone)
            self._one_alone = True
            try:
                self._changed.wait_for(lambda: self._inside == 0)
                self._enter()
            except BaseException:
                self._one_alone = False
                raise
        try:
            yield self._guarded
        finally:
            self._one_alone = False
            self._leave()

    def replace(self, guarded: Any) -> None:
        """Guard something else from now on. Only for who is in `alone`."""
        self._guarded = guarded

    def close(self) -> Any:
        """Let nobody in any more, wait until all are out, and return what was guarded; None if closed already."""
        with self._changed:
            if self._closed:
                return None
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._inside == 0)
            return self._guarded

    def _enter(self) -> None:
        if self._closed:
            raise StoreError(f"{self._name} was closed; open it again")
        self._inside += 1

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()
