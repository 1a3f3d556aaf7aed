"""Generators that block -> what a server can send, and server-sent events. Knows nothing about what is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator
from typing import Any, TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread

Told = TypeVar("Told")
AT_ONCE = 256
"""Generators that may do a step at the same time; the others wait. A step may be a wait for somebody else's."""
_limiter: list[CapacityLimiter] = []

LIVE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Headers of a stream that nobody on its way keeps or holds back."""


async def in_threads(told: Generator[Told]) -> AsyncGenerator[Told]:
    """What a generator yields, each step done in a thread.

    Where the reader goes away, the step in hand is waited for, and the generator closed.
    """
    if not _limiter:
        _limiter.append(CapacityLimiter(AT_ONCE))
    end = object()
    try:
        while (each := await to_thread.run_sync(next, told, end, limiter=_limiter[0])) is not end:
            yield each  # type: ignore[misc]
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(told.close, limiter=_limiter[0])


def event(kind: str, data: Any, id_: str = "") -> bytes:
    """A server-sent event with JSON for data, on one line as the format demands."""
    name = f"id: {id_}\n" if id_ else ""
    return f"{name}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
