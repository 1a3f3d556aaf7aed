"""Pictures of PDF pages with a passage marked, each drawn by a process of its own: a hostile file costs that process.

Knows nothing about documents of the index, or how a page is drawn.
"""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import stat
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, NamedTuple

from rag.errors import FootnoteError
from ui.server.drawing import Box, Drawn, Order

log = logging.getLogger("footnote.pictures")

WIDTH, NARROWEST, WIDEST = 1000, 200, 2000
"""Pixels."""
MEMORY = 1 << 30
"""Bytes that drawing a page may take."""
SECONDS = 20
"""Seconds that it may take."""
AT_ONCE = 2
"""Processes that draw at a time."""
PATIENCE = 20.0
"""Seconds to wait for one of them."""
KEPT = 64 << 20
"""Bytes of pictures that are kept."""
_BOXES = 4096
"""Bytes that the boxes of a passage count as."""
_HOME = Path(__file__).parents[2]
"""The folder that has our packages: the process that draws has to find them, wherever it is started from."""


class PictureError(FootnoteError):
    """A page that cannot be drawn."""

    status = 422


class PicturesBusy(PictureError):
    """Other pages are being drawn."""

    status = 503


class Picture(NamedTuple):
    """A page as it shows, and where the passage is on it."""

    png: bytes
    width: int
    """Pixels."""
    height: int
    boxes: tuple[Box, ...]
    """One a line, in shares of width and height; none where the passage is not on the page."""


class _Kept:
    """What was drawn last. Safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self._most, self._size, self._lock = most, 0, Lock()
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        """What is kept for a key, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keep a value of so many bytes; those that were used least recently go."""
        with self._lock:
            _, before = self._values.pop(key, (None, 0))
            self._values[key] = value, size
            self._size += size - before
            while self._size > self._most:
                _, (_, gone) = self._values.popitem(last=False)
                self._size -= gone


_KEPT = _Kept(KEPT)
_SLOTS = BoundedSemaphore(AT_ONCE)


def page(source: Path | bytes, page: int, quote: str = "", width: int = WIDTH, before: str = "") -> Picture:
    """A picture of a page, with the boxes of a passage.

    Args:
        source: a PDF file, or the bytes of one.
        page: counted from 1.
        quote: the passage as our parser read it; empty for no boxes.
        width: of the picture, in pixels; a page of odd proportions gets less.
        before: the text before the passage, which decides between several places.

    Raises:
        PictureError: the file cannot be read, needs a password or is damaged, has no such page, or takes too much.
        PicturesBusy: others are being drawn.
    """
    if not NARROWEST <= width <= WIDEST:
        raise PictureError(f"the width is {width}, expected {NARROWEST} to {WIDEST} pixels")
    identity = _identity(source)
    for_picture, for_boxes = (identity, page, width), (identity, page, quote, before)
    plain: Picture | None = _KEPT.get(for_picture)
    boxes: tuple[Box, ...] | None = _KEPT.get(for_boxes) if quote else ()
    if plain is None or boxes is None:
        drawn = _drawn(source, Order(page, 0 if plain else width, quote, before))
        if _identity(source) != identity:
            raise PictureError(f"page {page} cannot be shown: the file was changed meanwhile; try again")
        plain, boxes = plain or Picture(drawn.png, drawn.width, drawn.height, ()), drawn.boxes
        _KEPT.put(for_picture, plain, len(plain.png))
        _KEPT.put(for_boxes, boxes, _BOXES)
    return plain._replace(boxes=boxes)


def _identity(source: Path | bytes) -> Hashable:
    """What tells one content from another."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    try:
        found = source.stat()
    except OSError as error:
        raise PictureError(f"the file cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(found.st_mode):
        raise PictureError("the file cannot be read: it is not a regular file")
    return str(source), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _drawn(source: Path | bytes, order: Order) -> Drawn:
    head, _, png = _asked(source, order).partition(b"\n")
    answer = json.loads(head)
    if "error" in answer:
        raise _cannot(order, answer["error"])
    return Drawn(png, answer["width"], answer["height"], tuple(Box(*box) for box in answer["boxes"]))


def _asked(source: Path | bytes, order: Order) -> bytes:
    """What the process that draws has to say."""
    path = "" if isinstance(source, bytes) else str(source.absolute())
    line = json.dumps({"memory": MEMORY, "seconds": SECONDS, "path": path, "order": order}).encode("ascii")
    given = line + b"\n" + (source if isinstance(source, bytes) else b"")
    if not _SLOTS.acquire(timeout=PATIENCE):
        raise PicturesBusy(f"{AT_ONCE} other pages are being drawn; try again in a moment")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ui.server.drawing"], input=given, capture_output=True, cwd=_HOME, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise _cannot(order, f"drawing it takes longer than {SECONDS} s") from None
    except OSError as error:
        raise _cannot(order, f"no process can be started ({error.strerror or error}); free some memory") from None
    finally:
        _SLOTS.release()
    if done.returncode:
        log.warning("drawing page %d: exit code %d, %s", order.page, done.returncode, done.stderr[-500:])
        raise _cannot(order, _ending(done.returncode))
    return done.stdout


def _ending(code: int) -> str:
    """How the process came to its end, for a person."""
    killed = signal.Signals(-code).name if -code in set(signal.Signals) else ""
    how = f"was killed ({killed})" if killed else f"failed (exit code {code})"
    return f"the process that draws it {how}, perhaps because it takes more than {MEMORY >> 20} MB"


def _cannot(order: Order, why: str) -> PictureError:
    return PictureError(f"page {order.page} cannot be shown: {why}; open the file itself")
