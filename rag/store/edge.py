"""The embedded store: Qdrant Edge in a directory that one process owns at a time.

    DIRECTORY/lock          held for as long as the store is open
    DIRECTORY/owner.json    who holds it, for the message that another process gets
    DIRECTORY/index/        meta.json and shard/; `rag.store.swap` tells what else may lie there

Knows nothing about models, files or fusion.
"""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rag.errors import StoreError
from rag.filter import Filter
from rag.store import shard as edge
from rag.store import swap
from rag.store.gate import Gate
from rag.store.lock import DirectoryLock, Owner, locked, owner_of
from rag.store.optimize import optimize
from rag.store.points import check_identity, compared, identity, settled, to_chunk
from rag.store.protocol import Candidates, Compared
from rag.types import Chunk, IndexedChunk, SparseVector

HNSW_FROM = 20_000
"""Chunks outside the graph from which building it pays."""
ROOM = 150_000_000
"""Bytes that must be free before a write. A shard writes to mapped files that grow by 32 MB, and the system kills a
process that writes to one when the disk is full."""
ROUNDS = 3
"""How often a copy catches up with what was written meanwhile before everybody waits for the last of it."""

GRAPH = "graph.npy"
"""Beside an optimized shard: which points are in its graph. Qdrant's own count goes on counting deleted ones."""


class EdgeStore:
    """A `Store` in a directory. Searches from several threads run side by side with each other and with writes.

    Writes take turns. A search never sees a document half published. Search is exact until `optimize`.
    """

    def __init__(self, shard: Any, directory: Path, dim: int, lock: DirectoryLock) -> None:
        """Use `open`."""
        self._directory = directory
        self._dim = dim
        self._lock = lock
        self._gate = Gate(shard, f"the index in {directory}")
        self._writing = threading.Lock()
        self._optimizing = threading.Lock()
        self._touched: set[str] = set()
        """Documents that were written to since a copy was made to be optimized."""
        self._filtering = edge.any_hidden(shard)
        """Whether searches leave hidden points out: true from before the first is written till after the last is gone.
        The filter makes a query on 20,000 points 10 % slower, and nearly always there is nothing to leave out."""

    @classmethod
    def open(
        cls, directory: Path, dim: int, embedder_id: str, url: str = "", token: str = "", label: str = ""
    ) -> EdgeStore:
        """Open the index in `directory`; make an empty one where there is none.

        Args:
            directory: the collection's own directory; made where missing.
            dim: length of the dense vectors.
            embedder_id: names the embedder and its settings; an index never mixes two.
            url: where this process serves people, told to a process that finds the index in use.
            token: what lets such a process of the same user hand its work to this one.
            label: written beside a new index; one that is there with another label or embedder is removed first.

        Raises:
            StoreLocked: another process has it open.
            StoreMismatch: it was built with another embedder, dimension or format.
            StoreError: the directory cannot be written, or is damaged.
        """
        with explained(directory):
            return cls.open_held(DirectoryLock.take(directory, url, token), directory, dim, embedder_id, label)

    @classmethod
    def open_held(cls, lock: DirectoryLock, directory: Path, dim: int, embedder_id: str, label: str = "") -> EdgeStore:
        """As `open`, in a directory that is held already; let go where opening fails."""
        with explained(directory):
            try:
                swap.recover(directory)
                if label and not _is_made_of(directory, dim, embedder_id, label):
                    swap.discard(directory)
                return cls(_load_or_create(directory, dim, embedder_id, label), directory, dim, lock)
            except BaseException:
                lock.release()
                raise

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether `directory` holds an index. Touches nothing."""
        return swap.exists(directory)

    @staticmethod
    def owner(directory: Path) -> Owner | None:
        """The living process that has the index open, as far as it left word."""
        return owner_of(directory)

    def upsert(self, chunks: Sequence[IndexedChunk]) -> None:
        """Write chunks; on disk when the call returns. Raises StoreError."""
        with self._writing:
            with explained(self._directory):
                swap.need_room(self._directory, ROOM)
            self._touched.update(item.chunk.doc_id for item in chunks)
            if not self._filtering and any(item.hidden for item in chunks):
                with self._alone():  # so that no search that began without the filter sees them
                    self._filtering = True
            with self._use() as shard:
                edge.upsert(shard, chunks, self._dim)
                shard.flush()

    def publish(self, doc_id: str, revision: str) -> None:
        """Make a document's chunks of one revision visible and remove its others, at one blow. Raises StoreError."""
        with self._writing:
            self._touched.add(doc_id)
            with self._alone() as shard:
                edge.publish(shard, doc_id, revision)
            self._finish()

    def delete(self, doc_id: str) -> None:
        """Remove a document's chunks. Raises StoreError."""
        with self._writing:
            self._touched.add(doc_id)
            with self._use() as shard:
                edge.delete(shard, doc_id)
            self._finish()

    def candidates(
        self, dense: npt.NDArray[np.float32], sparse: SparseVector, limit: int, within: Filter | None = None
    ) -> Candidates:
        """The best chunks by cosine and by BM25, found in one pass over the index. Raises StoreError."""
        with self._use() as shard:
            search, retrievers = edge.searcher(shard, dense, sparse, self._dim, self._filtering, within)
            return settled(search, retrievers, limit)

    def compare(self, ids: Sequence[str], sparse: SparseVector) -> Compared:
        """The vectors and BM25 scores of these chunks. Raises StoreError."""
        with self._use() as shard:
            vectors, bm25 = edge.compare(shard, ids, sparse, self._filtering)
        return compared(ids, vectors, bm25, self._dim)

    def fetch(self, ids: Sequence[str]) -> list[Chunk]:
        """The chunks with these ids, in this order. Raises StoreError."""
        with self._use() as shard:
            records = shard.retrieve(list(ids), with_payload=True, with_vector=False)
            found = {str(record.id): record.payload for record in records}
        return [to_chunk(id_, found[id_]) for id_ in ids if id_ in found]

    def ids(self, doc_id: str | None = None) -> set[str]:
        """Ids of all chunks of a document, or of the whole collection. Raises StoreError."""
        return {str(record.id) for page in edge.pages(self._use, doc_id, full=False) for record in page}

    def count(self) -> int:
        """How many chunks the collection holds, exactly. Raises StoreError."""
        with self._use() as shard:
            return edge.count(shard)

    def scan(self, doc_id: str | None = None) -> Iterator[IndexedChunk]:
        """All chunks of a document, or of the whole collection, read page by page. Raises StoreError."""
        for page in edge.pages(self._use, doc_id, full=True):
            yield from map(edge.indexed, page)

    def optimize(self, at_least: int = HNSW_FROM) -> bool:
        """Build the graph for searching, in another process, if that many chunks are outside of it.

        Writers wait while the index is copied, which takes as long as the disk does; searches wait for some tenths of
        a second at the end.

        Raises:
            StoreError: the disk is full, the process failed, or the store was closed; the index is as it was.
        """
        if not self._optimizing.acquire(blocking=False):
            return False
        try:
            with self._use() as shard:
                if _outside_the_graph(shard, swap.index(self._directory)) < max(1, at_least):
                    return False
            with explained(self._directory):
                self._optimize()
            return True
        finally:
            self._optimizing.release()

    def close(self) -> None:
        """Wait for calls in other threads, flush, and let the directory go. A second call does nothing."""
        shard = self._gate.close()
        if shard is not None:
            self._let_go(shard).release()

    def hand_over(self) -> DirectoryLock:
        """Close, but go on holding the directory, for who takes what this returns. Raises StoreError."""
        shard = self._gate.close()
        if shard is None:
            raise StoreError(f"the index in {self._directory} was closed; open it again")
        return self._let_go(shard)

    def _let_go(self, shard: Any) -> DirectoryLock:
        try:
            with self._optimizing, explained(self._directory):
                edge.close(shard)
        except BaseException:
            self._lock.release()
            raise
        return self._lock

    def _optimize(self) -> None:
        """Copy the index, have the copy optimized, let it catch up, and put it in the index's place."""
        index, copy = swap.index(self._directory), swap.optimizing(self._directory)
        try:
            with self._writing, self._use() as shard:
                shard.flush()
                swap.copy(index, copy)
                self._touched = set()
            optimize(copy / "shard", self._dim, lambda: self._gate.closed)
            better = edge.load(copy / "shard")
            try:
                np.save(copy / GRAPH, edge.numbers(better))
                for _ in range(ROUNDS):
                    with self._writing:
                        behind, self._touched = self._touched, set()
                    self._catch_up(better, behind, self._use)
                swap.sync_all(copy)
                with self._writing, self._alone() as shard:
                    self._catch_up(better, self._touched, lambda: nullcontext(shard))
                    edge.close(better)
                    self._change_places(shard, copy)
            finally:
                better.close()
        finally:
            swap.tidy(self._directory)

    def _catch_up(self, better: Any, documents: Iterable[str], borrow: edge.Borrowed) -> None:
        """Make these documents in the copy what they are in the index."""
        for doc_id in documents:
            edge.delete(better, doc_id)
            for page in edge.pages(borrow, doc_id, full=True):
                edge.upsert(better, list(map(edge.indexed, page)), self._dim)

    def _change_places(self, shard: Any, copy: Path) -> None:
        """Go on with the copy, or with the index where that fails. Call with everybody held out."""
        edge.close(shard)
        try:
            swap.replace(self._directory, copy)
        finally:
            self._gate.replace(edge.load(swap.index(self._directory) / "shard"))

    @contextmanager
    def _use(self) -> Iterator[Any]:
        """The shard, kept open meanwhile: it is thread-safe, but refuses to close under a running call."""
        with self._gate.shared() as shard, explained(self._directory):
            yield shard

    @contextmanager
    def _alone(self) -> Iterator[Any]:
        """The shard, with nobody else in it."""
        with self._gate.alone() as shard, explained(self._directory):
            yield shard

    def _finish(self) -> None:
        """Put what was written on disk; stop filtering where nothing is hidden any more."""
        with self._use() as shard:
            shard.flush()
            self._filtering = self._filtering and edge.any_hidden(shard)


def put_in_place(directory: Path, dim: int, embedder_id: str, beside: EdgeStore, live: EdgeStore | None) -> EdgeStore:
    """Make the index that was built beside the one in `directory` take its place.

    Args:
        directory: the collection's.
        dim: length of the vectors of the index that was built.
        embedder_id: whose they are.
        beside: that index; closed.
        live: the index in `directory`, where this process has it open; closed.

    Raises:
        StoreLocked: another process has the index in `directory` open; nothing happened.
        StoreError: the disk failed; the old index opens next time, or the new one.
    """
    with explained(directory):
        lock = DirectoryLock.take(directory) if live is None else live.hand_over()
        try:
            lock_beside = beside.hand_over()
            try:
                swap.recover(directory)
                swap.replace(directory, swap.index(swap.beside(directory)))
            finally:
                lock_beside.release()
        except BaseException:
            lock.release()
            raise
    return EdgeStore.open_held(lock, directory, dim, embedder_id)


def _outside_the_graph(shard: Any, index: Path) -> int:
    """How many points are searched one by one, because they were written after the graph was built."""
    if edge.count(shard) == 0 or not (index / GRAPH).exists():
        return edge.count(shard)
    return int((~np.isin(edge.numbers(shard), np.load(index / GRAPH))).sum())


def discard(directory: Path) -> None:
    """Remove the index in `directory`. Raises StoreLocked, StoreError."""
    with explained(directory):
        lock = DirectoryLock.take(directory)
        try:
            swap.discard(directory)
        finally:
            lock.release()


def _is_made_of(directory: Path, dim: int, embedder_id: str, label: str) -> bool:
    try:
        return swap.read(directory) == identity(dim, embedder_id) | {"label": label}
    except StoreError:
        return False


def _load_or_create(directory: Path, dim: int, embedder_id: str, label: str) -> Any:
    """The shard of `directory/index`, made first where it is not there. Call with the directory held."""
    record = swap.read(directory)
    if record is None:
        record = identity(dim, embedder_id) | ({"label": label} if label else {})
        edge.create(swap.new(directory) / "shard", dim)
        swap.complete(directory, record)
    check_identity(record, dim, embedder_id, f"the index in {directory}")
    return edge.load(swap.index(directory) / "shard")


@contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turn what the operating system and Qdrant Edge raise (plain `Exception`) into one line of ours."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"cannot use the index directory {directory}: {error.strerror or error}; "
            "check its permissions and the free disk space, or choose another with --home"
        ) from error
    except Exception as error:
        if "WouldBlock" in str(error):  # a child that a killed process left behind still holds the log
            raise locked(directory) from error
        raise StoreError(
            f"the index in {directory} failed: {textwrap.shorten(str(error), 300)}; check the free disk space, "
            "and if it goes on remove that directory and ingest again"
        ) from error
