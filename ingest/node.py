"""What runs on each machine of a cluster: reading documents in a sandbox, and embedding.

Plain objects that answer one call after the other. Knows nothing about Ray, the catalog or the store, nor about who
calls from where.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ingest.parse.table import PARSER_VERSION
from ingest.sandbox import Chunks, Event, Finished, Limits, Opened, Pool, Refused
from ingest.stages import BATCH, Outline, Recipe, Task
from rag.embed import Embedder
from rag.errors import EmbedError
from rag.settings import Settings
from rag.types import Vectors

Factory = Callable[[Settings], Embedder]

PIECE = 8 << 20
"""Bytes of unpacked members that travel in one call."""
WAIT = 0.5
"""Seconds that a call may wait for something to tell."""
_SAME_PATH = "every node must have the documents at the same path"
_FOLDER = re.compile(r"footnote-node-(\d+)-")


class About(NamedTuple):
    """What must be the same on every machine."""

    embedder: str
    dim: int
    recipe: str

    @classmethod
    def of(cls, embedder: Embedder, recipe: Recipe) -> About:
        """What these make of a document."""
        return cls(embedder.id, embedder.dim, f"parser {PARSER_VERSION}, chunker {recipe.chunking}")


class Piece(NamedTuple):
    """A part of a file that was unpacked from a document; the parts of a file come in order."""

    path: Path
    """Relative to the spool, on either machine."""
    content: bytes


class Told(NamedTuple):
    """An answer of a reader."""

    events: tuple[Event, ...] = ()
    """As the sandbox gave them; paths of members are relative to the spool."""
    pieces: tuple[Piece, ...] = ()
    beat: tuple[int, int] = (0, 0)
    """Pages done and in all."""
    held: int = 0
    """The most bytes that the reader and its sandbox have held."""
    last: bool = False
    """True where the document is done with."""
    unreadable: str = ""
    """Why this machine cannot read the file at all; it is `last`, and nothing else came of the file."""


class Embedded(NamedTuple):
    """An answer of an encoder: for each batch its vectors, or why it cannot be embedded."""

    batches: list[Vectors | str]
    held: int


class Reader:
    """Reads one document at a time: `read`, then `more` until the answer is the `last` one."""

    def __init__(self, settings: Settings, factory: Factory) -> None:
        self._settings, self._factory = settings, factory
        self._folder = _own_folder()
        self._pool: Pool | None = None
        self._story: Iterator[Told] = iter(())

    def ready(self) -> About:
        """Get ready to read. Raises what the embedder's weights and the settings may raise."""
        embedder = self._factory(self._settings)
        recipe = Recipe.of(self._settings, embedder)
        self._pool = Pool(recipe, Limits.of(self._settings), 1, self._folder / "out")
        return About.of(embedder, recipe)

    def take(self, piece: Piece) -> None:
        """Keep a part of a file that is to be read, whose `Task` then has a relative path."""
        append(self._folder / "in", piece)

    def read(self, task: Task) -> Told:
        """Begin with a document."""
        assert self._pool is not None, "ready was not called"
        path = self._folder / "in" / task.path
        if why := _unreadable(path, task.size):
            return Told(last=True, unreadable=why)
        self._story = self._tell(self._pool, replace(task, path=path))
        return self.more()

    def more(self) -> Told:
        """Go on with the document."""
        return next(self._story)

    def close(self) -> None:
        """End the sandbox and remove what was unpacked."""
        if self._pool is not None:
            self._pool.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tell(self, pool: Pool, task: Task) -> Iterator[Told]:
        """The end of a document comes after what was unpacked from it."""
        pool.submit(task)
        outline = Outline()
        while True:
            events = _gathered(pool)
            outline = next((event.outline for event in reversed(events) if isinstance(event, Opened)), outline)
            if events and isinstance(events[-1], Finished | Refused):
                break
            yield self._told(pool, events)
        end = events.pop()
        for pieces in _pieces([member.path for member in outline.members], pool.spool, end):
            yield self._told(pool, events, pieces)
            events = []
        pool.forget(task.doc_id)
        shutil.rmtree(self._folder / "in", ignore_errors=True)
        yield self._told(pool, [*events, end], last=True)

    def _told(self, pool: Pool, events: Sequence[Event], pieces: tuple[Piece, ...] = (), last: bool = False) -> Told:
        hand = pool.in_hand()
        beat = (hand[0].page, hand[0].pages) if hand else (0, 0)
        return Told(
            tuple(relocated(event, lambda path: path.relative_to(pool.spool)) for event in events),
            pieces, beat, held() + pool.peak, last,
        )  # fmt: skip


class Encoder:
    """Embeds batches of texts."""

    def __init__(self, settings: Settings, factory: Factory) -> None:
        self._settings, self._factory = settings, factory
        self._embedder: Embedder | None = None

    def ready(self) -> About:
        """Load the embedder, and convert its weights where that was not done before."""
        self._embedder = self._factory(self._settings)
        self._embedder.embed(["ready"])
        return About.of(self._embedder, Recipe.of(self._settings, self._embedder))

    def embed(self, batches: Sequence[Sequence[str]]) -> Embedded:
        """Embed batches together; where that fails, each by itself."""
        assert self._embedder is not None, "ready was not called"
        try:
            vectors = self._embedder.embed([text for batch in batches for text in batch])
        except EmbedError as error:
            if len(batches) == 1:
                return Embedded([str(error)], held())
            return Embedded([self.embed([batch]).batches[0] for batch in batches], held())
        borders = np.cumsum([len(batch) for batch in batches])[:-1]
        return Embedded(list(np.split(vectors, borders)), held())


def relocated(event: Event, moved: Callable[[Path], Path]) -> Event:
    """An event with the paths of what was unpacked changed; others as they are."""
    if not isinstance(event, Opened):
        return event
    members = tuple(member._replace(path=moved(member.path)) for member in event.outline.members)
    return event._replace(outline=event.outline._replace(members=members))


def append(folder: Path, piece: Piece) -> None:
    """Write a part of a file behind those that are there."""
    path = folder / piece.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(piece.content)


def parts(path: Path, where: Path) -> Iterator[Piece]:
    """A file in parts; one that is empty has one."""
    with path.open("rb") as file:
        yield Piece(where, file.read(PIECE))
        while content := file.read(PIECE):
            yield Piece(where, content)


def held() -> int:
    """The most bytes that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _gathered(pool: Pool) -> list[Event]:
    """Events up to a full batch or the end of the document, or what has come within `WAIT`."""
    events: list[Event] = []
    until = time.monotonic() + WAIT
    while (left := until - time.monotonic()) > 0:
        events += pool.poll(left)
        latest = events[-1] if events else None
        if isinstance(latest, Finished | Refused) or (isinstance(latest, Chunks) and len(latest.batch) == BATCH):
            break
    return events


def _pieces(files: Sequence[Path], spool: Path, end: Event) -> Iterator[tuple[Piece, ...]]:
    """The unpacked files in loads of about `PIECE` bytes; none where the document failed."""
    load: list[Piece] = []
    for path in files if isinstance(end, Finished) else ():
        for piece in parts(path, path.relative_to(spool)):
            load.append(piece)
            if sum(len(each.content) for each in load) >= PIECE:
                yield tuple(load)
                load = []
    if load:
        yield tuple(load)


def _unreadable(path: Path, size: int) -> str:
    """Why this machine cannot read a file; empty where it can."""
    host = socket.gethostname()
    try:
        if not path.is_file():
            return f"not there on node {host}; {_SAME_PATH}"
        with path.open("rb"):
            found = path.stat().st_size
    except OSError as error:
        return f"cannot be read on node {host}: {error.strerror or error}; {_SAME_PATH}, and may read them"
    return "" if found == size else f"has {found} bytes on node {host}, expected {size}; {_SAME_PATH}"


def _own_folder() -> Path:
    """A new folder for this process; those of processes that were killed are removed."""
    import psutil

    base = Path(tempfile.gettempdir())
    for old in base.glob("footnote-node-*"):
        found = _FOLDER.match(old.name)
        if found and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"footnote-node-{os.getpid()}-", dir=base))
