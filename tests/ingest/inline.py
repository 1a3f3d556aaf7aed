"""Ingestion without processes for tests of what comes after reading: quick, and nothing in it waits.

Everything but the sandbox is the real thing, the feed's thread included.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingest.audit import Audit, Report
from ingest.catalog import Catalog, Row
from ingest.pipeline import Ingestion
from ingest.progress import InHand
from ingest.results import FileResult
from ingest.sandbox import Chunks, Event, Finished, Opened, Refused, Started
from ingest.stages import Outline, Recipe, Task, prepare
from rag.embed import Embedder
from rag.errors import ParseError
from rag.filter import Pairs
from rag.settings import Settings
from rag.store.protocol import Store
from rag.types import Chunk, Vectors
from tests.conftest import WordCountEmbedder


class CountingEmbedder(WordCountEmbedder):
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        return super().embed(texts)

    def embed_query(self, text: str) -> Vectors:
        return WordCountEmbedder().embed_query(text)


class Inline:
    """`Readers` that read in the feed's thread, one document a poll. Remembers which."""

    peak = 0

    def __init__(self, settings: Settings, embedder: Embedder) -> None:
        self.spool = settings.home / "spool" / "inline"
        self.read: list[str] = []
        self._recipe = Recipe.of(settings, embedder)
        self._waiting: deque[Task] = deque()

    @property
    def has_room(self) -> bool:
        return len(self._waiting) < 2

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def submit(self, task: Task) -> None:
        self._waiting.append(task)

    def poll(self, timeout: float) -> list[Event]:
        return list(self._events(self._waiting.popleft())) if self._waiting else []

    def _events(self, task: Task) -> Iterator[Event]:
        self.read.append(task.doc)
        folder = self.spool / task.doc_id
        folder.mkdir(parents=True)
        yield Started(task.doc)
        try:
            for part in prepare(task, self._recipe, folder):
                yield Opened(task.doc, part) if isinstance(part, Outline) else Chunks(task.doc, part)
        except ParseError as error:
            yield Refused(task.doc, "parse", str(error))
        else:
            yield Finished(task.doc)

    def in_hand(self) -> list[InHand]:
        return []

    def forget(self, doc_id: str) -> None:
        shutil.rmtree(self.spool / doc_id, ignore_errors=True)

    def close(self) -> None:
        self._waiting.clear()
        shutil.rmtree(self.spool, ignore_errors=True)


@dataclass
class Bench:
    """One collection, and what was done to it last. Names are relative to `folder`, where that is given."""

    settings: Settings
    embedder: Embedder
    store: Store
    catalog: Catalog
    folder: Path
    read: list[str] = field(default_factory=list)
    """Names of the documents that were read by the last run."""

    def begin(self) -> Ingestion:
        self._readers = Inline(self.settings, self.embedder)
        return Ingestion(self.settings, self.embedder, self.store, self.catalog, readers=self._readers)

    def run(self, *paths: Path, prune: bool = False, metadata: Pairs = ()) -> dict[str, FileResult]:
        """Ingest; what became of the documents, by name."""
        self.last = self.begin()
        results = {self.name(result.doc): result for result in self.last.run(paths or [self.folder], prune, metadata)}
        self.read = [self.name(doc) for doc in self._readers.read]
        return results

    def statuses(self, *paths: Path, prune: bool = False, metadata: Pairs = ()) -> dict[str, str]:
        """Ingest; the documents' statuses, by name."""
        return {name: result.status for name, result in self.run(*paths, prune=prune, metadata=metadata).items()}

    def name(self, doc: str) -> str:
        return doc.removeprefix(f"{self.folder}/")

    def rows(self) -> dict[str, Row]:
        return {self.name(row.doc): row for row in self.catalog.rows(self.settings.collection)}

    def texts(self) -> dict[str, list[str]]:
        """What a search could find of each document."""
        found: dict[str, list[str]] = {}
        for item in self.store.scan():
            if not item.hidden:
                found.setdefault(self.name(item.chunk.doc), []).append(item.chunk.text)
        return {name: sorted(found[name]) for name in sorted(found)}

    def chunks(self) -> dict[str, tuple[Chunk, bool]]:
        """Everything in the store, by id, with whether it is hidden."""
        return {item.chunk.id: (item.chunk, item.hidden) for item in self.store.scan()}

    def audit(self, sample: int = 0) -> Report:
        return Audit(self.settings, self.embedder, self.store, self.catalog).run(sample)

    def write(self, name: str, content: str | bytes) -> Path:
        """Make a file in the folder; one that is there is replaced."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path
