"""Where a collection is written: in this process, or in the one that serves it. Both have the same face.

Knows nothing about how work is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ingest import rebuild
from ingest.catalog import Catalog
from ingest.pipeline import Ingestion
from ingest.progress import Progress
from ingest.results import FileResult, Summary
from ingest.writer import remove
from rag.answer import Rag
from rag.embed import Embedder, open_embedder
from rag.errors import StoreLocked
from rag.filter import Pairs
from rag.settings import Settings
from rag.store.lock import DirectoryLock
from rag.store.opening import index_directory, open_store


class Run(Protocol):
    """An ingestion: an `Ingestion`, or one that was handed over. Good for one run."""

    @property
    def summary(self) -> Summary:
        """Counts, kept up to date."""

    def run(self, paths: Sequence[Path], prune: bool = False, metadata: Pairs = ()) -> Iterator[FileResult]:
        """Yield one result a document."""

    def stop(self) -> None:
        """End the run at the next border between documents. May be called from anywhere."""

    def progress(self) -> Progress:
        """How far it is. May be called from any thread."""


class Workplace(Protocol):
    """Does work on one collection."""

    @property
    def note(self) -> str:
        """What a person should know before the work begins; empty where there is nothing."""

    def begin(self) -> Run:
        """A new ingestion."""

    def remove(self, docs: Sequence[str]) -> list[str]:
        """Take documents out, by their exact names, with what was found in them; returns those that were there."""


class Here:
    """This process, which owns the index; with `cluster`, files are read and embedded on the machines of that one."""

    note = ""

    def __init__(self, rag: Rag, catalog: Catalog, cluster: str = "") -> None:
        self._rag, self._catalog, self._cluster = rag, catalog, cluster

    def begin(self) -> Run:
        """See `Workplace.begin`."""
        rag = self._rag
        if self._cluster:
            from ingest.cluster import ClusterIngestion

            return ClusterIngestion(rag.settings, rag.embedder, rag.store, self._catalog, self._cluster)
        return Ingestion(rag.settings, rag.embedder, rag.store, self._catalog)

    def remove(self, docs: Sequence[str]) -> list[str]:
        """See `Workplace.remove`."""
        collection, removed = self._rag.settings.collection, []
        for doc in docs:
            row = self._catalog.get(collection, doc)
            if row is not None:  # it may have gone with a document before it
                removed += remove(row, collection, self._rag.store, self._catalog)
        return removed


class Anew:
    """This process, where the whole collection has to be indexed anew before anything else."""

    def __init__(self, settings: Settings, embedder: Embedder, catalog: Catalog, reason: str) -> None:
        self._settings, self._embedder, self._catalog = settings, embedder, catalog
        self._then: Rag | None = None
        documents = len(catalog.documents(settings.collection))
        self.note = (
            f"{reason}: all {documents:,} documents of collection {settings.collection!r} are indexed anew, beside "
            "the index in use, which is replaced when the new one is complete"
        )

    def begin(self) -> Run:
        """The rebuild; once that is done, ingestions as ever."""
        if self._then is None and rebuild.why(self._settings, self._embedder, self._catalog):
            return rebuild.Rebuild(self._settings, self._embedder, self._catalog)
        return Here(self._opened(), self._catalog).begin()

    def remove(self, docs: Sequence[str]) -> list[str]:
        """See `Workplace.remove`."""
        return Here(self._opened(), self._catalog).remove(docs)

    def close(self) -> None:
        """Let go of the index."""
        if self._then is not None:
            self._then.close()

    def _opened(self) -> Rag:
        if self._then is None:
            self._then = Rag(self._settings, self._embedder, open_store(self._settings, self._embedder))
        return self._then


Opening = Callable[[Settings, Catalog], AbstractContextManager[Workplace]]
"""Finds the workplace of a collection: `workplace`, or a test's own."""


def to_write(settings: Settings, catalog: Catalog) -> AbstractContextManager[Workplace]:
    """The workplace of a collection that is made where it does not exist."""
    return workplace(settings, catalog, create=True)


@contextmanager
def workplace(settings: Settings, catalog: Catalog, create: bool = False, cluster: str = "") -> Iterator[Workplace]:
    """The process that owns the index: this one, or the one that serves it and takes work.

    Args:
        settings: which collection.
        catalog: where it is kept.
        create: make the collection where it does not exist; index it anew where the embedder or the chunking changed.
        cluster: address of a Ray cluster that reads and embeds; empty for this machine.

    Raises:
        StoreLocked: a process owns the index that takes no work.
        FootnoteError: the index or the embedder cannot be used.
    """
    try:
        check_free(settings)
        rebuild.finish(settings, catalog)
        embedder = open_embedder(settings)
        reason = rebuild.why(settings, embedder, catalog) if create else ""
        rag = None if reason else Rag(settings, embedder, open_store(settings, embedder, create))
    except StoreLocked as locked:
        from ui.client import There

        if locked.owner is None or not (locked.owner.url and locked.owner.token):
            raise
        yield There(locked.owner.url, locked.owner.token, locked)
        return
    if rag is None:
        with closing(Anew(settings, embedder, catalog, reason)) as place:
            yield place
    else:
        with rag:
            yield Here(rag, catalog, cluster)


def check_free(settings: Settings) -> None:
    """See who owns the index before weights are loaded for nothing."""
    directory = index_directory(settings)
    if directory.is_dir() and not settings.qdrant_url:
        with suppress(OSError):  # a folder that cannot be written is explained by opening the index
            DirectoryLock.take(directory).release()
