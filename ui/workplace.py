"""Where a collection is written: in this process, or in the one that serves it. Both have the same face.

Knows nothing about how work is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ingest.catalog import Catalog
from ingest.pipeline import Ingestion
from ingest.progress import Progress
from ingest.results import FileResult, Summary
from ingest.writer import remove
from rag.answer import Rag
from rag.errors import StoreLocked
from rag.settings import Settings
from rag.store.lock import DirectoryLock
from rag.store.opening import index_directory


class Run(Protocol):
    """An ingestion: an `Ingestion`, or one that was handed over. Good for one run."""

    @property
    def summary(self) -> Summary:
        """Counts, kept up to date."""

    def run(self, paths: Sequence[Path], prune: bool = False) -> Iterator[FileResult]:
        """Yield one result a document."""

    def stop(self) -> None:
        """End the run at the next border between documents. May be called from anywhere."""

    def progress(self) -> Progress:
        """How far it is. May be called from any thread."""


class Workplace(Protocol):
    """Does work on one collection."""

    def begin(self) -> Run:
        """A new ingestion."""

    def remove(self, docs: Sequence[str]) -> list[str]:
        """Take documents out, by their exact names, with what was found in them; returns those that were there."""


class Here:
    """This process, which owns the index."""

    def __init__(self, rag: Rag, catalog: Catalog) -> None:
        self._rag, self._catalog = rag, catalog

    def begin(self) -> Run:
        """See `Workplace.begin`."""
        return Ingestion(self._rag.settings, self._rag.embedder, self._rag.store, self._catalog)

    def remove(self, docs: Sequence[str]) -> list[str]:
        """See `Workplace.remove`."""
        collection, removed = self._rag.settings.collection, []
        for doc in docs:
            row = self._catalog.get(collection, doc)
            if row is not None:  # it may have gone with a document before it
                removed += remove(row.doc, row.doc_id, collection, self._rag.store, self._catalog)
        return removed


Opening = Callable[[Settings, Catalog], AbstractContextManager[Workplace]]
"""Finds the workplace of a collection: `workplace`, or a test's own."""


def to_write(settings: Settings, catalog: Catalog) -> AbstractContextManager[Workplace]:
    """The workplace of a collection that is made where it does not exist."""
    return workplace(settings, catalog, create=True)


@contextmanager
def workplace(settings: Settings, catalog: Catalog, create: bool = False) -> Iterator[Workplace]:
    """The process that owns the index: this one, or the one that serves it and takes work.

    Raises:
        StoreLocked: a process owns the index that takes no work.
        FootnoteError: the index or the embedder cannot be used.
    """
    try:
        _check_free(settings)
        rag = Rag.open(settings, create=create)
    except StoreLocked as locked:
        from ui.client import There

        if locked.owner is None or not (locked.owner.url and locked.owner.token):
            raise
        yield There(locked.owner.url, locked.owner.token, locked)
        return
    with rag:
        yield Here(rag, catalog)


def _check_free(settings: Settings) -> None:
    """See who owns the index before weights are loaded for nothing."""
    directory = index_directory(settings)
    if directory.is_dir() and not settings.qdrant_url:
        with suppress(OSError):  # a folder that cannot be written is explained by opening the index
            DirectoryLock.take(directory).release()
