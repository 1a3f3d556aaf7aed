"""The embedded store: Qdrant Edge in a directory that one process owns at a time.

    DIRECTORY/lock          held for as long as the store is open
    DIRECTORY/owner.json    who holds it, for the message that another process gets
    DIRECTORY/index/        meta.json and shard/; made under another name and renamed when complete

Knows nothing about models, files or fusion.
"""

from __future__ import annotations

import json
import shutil
import textwrap
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from rag.errors import StoreError
from rag.store.lock import DirectoryLock, Owner, locked, owner_of, sync, write_json
from rag.store.points import batches, check_identity, identity, settled, to_chunk, to_payload, to_vector
from rag.store.protocol import BM25, DENSE, Candidates, Ranking
from rag.types import Chunk, IndexedChunk, SparseVector

BATCH = 500
"""Points in one update: about 5 MB of write-ahead log with vectors of 384 numbers."""
PAGE = 10_000
"""Ids read in one scroll."""


class EdgeStore:
    """A `Store` in a directory. Searches from several threads run side by side with each other and with writes.

    Search is exact: a shard is never optimized here, because that stops every thread of the process.
    """

    def __init__(self, shard: Any, directory: Path, dim: int, lock: DirectoryLock) -> None:
        """Use `open`."""
        self._shard = shard
        self._directory = directory
        self._dim = dim
        self._lock = lock
        self._in_use = 0
        self._closed = False
        self._gate = threading.Condition()

    @classmethod
    def open(cls, directory: Path, dim: int, embedder_id: str, url: str = "") -> EdgeStore:
        """Open the index in `directory`; make an empty one where there is none.

        Args:
            directory: the collection's own directory; made where missing.
            dim: length of the dense vectors.
            embedder_id: names the embedder and its settings; an index never mixes two.
            url: where this process serves people, told to a process that finds the index in use.

        Raises:
            StoreLocked: another process has it open.
            StoreMismatch: it was built with another embedder, dimension or format.
            StoreError: the directory cannot be written, or is damaged.
        """
        with _explained(directory):
            lock = DirectoryLock.take(directory, url)
            try:
                return cls(_load_or_create(directory, dim, embedder_id), directory, dim, lock)
            except BaseException:
                lock.release()
                raise

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether `directory` holds an index. Touches nothing."""
        return (directory / "index" / "meta.json").is_file()

    @staticmethod
    def owner(directory: Path) -> Owner | None:
        """The living process that has the index open, as far as it left word."""
        return owner_of(directory)

    def upsert(self, chunks: Sequence[IndexedChunk]) -> None:
        """Write chunks; on disk when the call returns. Raises StoreError."""
        from qdrant_edge import UpdateOperation

        with self._use() as shard:
            for batch in batches(chunks, BATCH):
                shard.update(UpdateOperation.upsert_points([self._point(item) for item in batch]))
            shard.flush()

    def delete(self, doc_id: str, keep: Iterable[str] = ()) -> None:
        """Remove a document's chunks, except those in `keep`. Raises StoreError."""
        from qdrant_edge import Filter, HasIdCondition, UpdateOperation

        kept: set[int | UUID | str] = set(keep)
        doomed = Filter(must=[_of(doc_id)], must_not=[HasIdCondition(kept)] if kept else None)
        with self._use() as shard:
            shard.update(UpdateOperation.delete_points_by_filter(doomed))
            shard.flush()

    def candidates(self, dense: npt.NDArray[np.float32], sparse: SparseVector, limit: int) -> Candidates:
        """The best chunks by cosine and by BM25, found in one pass over the index. Raises StoreError."""
        from qdrant_edge import Filter, IdfParams, Query, QueryBatchRequest, QueryRequest, SearchParams

        queries = {DENSE: Query.Nearest(to_vector(dense, self._dim, "the question"), using=DENSE)}
        if sparse.indices:
            queries[BM25] = Query.Nearest(_sparse(sparse), using=BM25)
        # By default Qdrant goes on counting deleted points in the IDF; naming the corpus, all points, counts afresh.
        params = {BM25: SearchParams(idf=IdfParams(corpus=Filter()))}

        def search(wanted: Mapping[str, int]) -> Mapping[str, Ranking]:
            asked = [
                QueryRequest(limit=n, query=queries[system], with_payload=False, params=params.get(system))
                for system, n in wanted.items()
            ]
            answers = shard.query_batch(QueryBatchRequest(asked))
            return {
                system: [(str(point.id), point.score) for point in points]
                for system, points in zip(wanted, answers, strict=True)
            }

        with self._use() as shard:
            return settled(search, queries, limit)

    def fetch(self, ids: Sequence[str]) -> list[Chunk]:
        """The chunks with these ids, in this order. Raises StoreError."""
        with self._use() as shard:
            records = shard.retrieve(list(ids), with_payload=True, with_vector=False)
            found = {str(record.id): record.payload for record in records}
        return [to_chunk(id_, found[id_]) for id_ in ids if id_ in found]

    def ids(self, doc_id: str | None = None) -> set[str]:
        """Ids of all chunks of a document, or of the whole collection. Raises StoreError."""
        with self._use() as shard:
            return set(_scroll(shard, doc_id))

    def count(self) -> int:
        """How many chunks the collection holds, exactly. Raises StoreError."""
        from qdrant_edge import CountRequest

        with self._use() as shard:
            number: int = shard.count(CountRequest(exact=True))
            return number

    def close(self) -> None:
        """Wait for calls in other threads, flush, and let the directory go. A second call does nothing."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._gate.wait_for(lambda: self._in_use == 0)
        with _explained(self._directory):
            try:
                self._shard.flush()
                self._shard.close()
            finally:
                self._lock.release()

    @contextmanager
    def _use(self) -> Iterator[Any]:
        """The shard, kept open meanwhile: it is thread-safe, but refuses to close under a running call."""
        with self._gate:
            if self._closed:
                raise StoreError(f"the index in {self._directory} was closed; open it again")
            self._in_use += 1
        try:
            with _explained(self._directory):
                yield self._shard
        finally:
            with self._gate:
                self._in_use -= 1
                self._gate.notify_all()

    def _point(self, item: IndexedChunk) -> Any:
        from qdrant_edge import Point

        vectors: dict[str, Any] = {
            DENSE: to_vector(item.dense, self._dim, f"chunk {item.chunk.id}"),
            BM25: _sparse(item.sparse),
        }
        return Point(id=item.chunk.id, vector=vectors, payload=to_payload(item.chunk))


def _sparse(vector: SparseVector) -> Any:
    from qdrant_edge import SparseVector as EdgeSparse

    return EdgeSparse(list(vector.indices), list(vector.values))


def _of(doc_id: str) -> Any:
    from qdrant_edge import FieldCondition, MatchValue

    return FieldCondition("doc_id", match=MatchValue(doc_id))


def _scroll(shard: Any, doc_id: str | None) -> Iterator[str]:
    from qdrant_edge import Filter, ScrollRequest

    chosen = None if doc_id is None else Filter(must=[_of(doc_id)])
    offset = None
    while True:
        request = ScrollRequest(offset=offset, limit=PAGE, filter=chosen, with_payload=False, with_vector=False)
        records, offset = shard.scroll(request)
        yield from (str(record.id) for record in records)
        if offset is None:
            return


def _load_or_create(directory: Path, dim: int, embedder_id: str) -> Any:
    """The shard of `directory/index`, made first where it is not there. Call with the lock held."""
    from qdrant_edge import EdgeShard

    index = directory / "index"
    if not index.exists():
        _create(directory, dim, embedder_id)
    _check(directory, dim, embedder_id)
    return EdgeShard.load(str(index / "shard"))


def _create(directory: Path, dim: int, embedder_id: str) -> None:
    """Make an empty index under another name and rename it, so that one that was cut short is never opened."""
    from qdrant_edge import EdgeShard, PayloadSchemaType, UpdateOperation

    new = directory / "index.new"
    shutil.rmtree(new, ignore_errors=True)
    (new / "shard").mkdir(parents=True)
    shard = EdgeShard.create(str(new / "shard"), _config(dim))
    shard.update(UpdateOperation.create_field_index("doc_id", PayloadSchemaType.Keyword))
    shard.flush()
    shard.close()
    write_json(new / "meta.json", identity(dim, embedder_id))
    new.rename(directory / "index")
    sync(directory)


def _config(dim: int) -> Any:
    from qdrant_edge import Distance, EdgeConfig, EdgeSparseVectorParams, EdgeVectorParams, Modifier

    return EdgeConfig(
        vectors={DENSE: EdgeVectorParams(size=dim, distance=Distance.Cosine)},
        sparse_vectors={BM25: EdgeSparseVectorParams(modifier=Modifier.Idf)},
    )


def _check(directory: Path, dim: int, embedder_id: str) -> None:
    """Raises StoreMismatch where the index is another embedder's, StoreError where its record is damaged."""
    try:
        found = dict(json.loads((directory / "index" / "meta.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"the index in {directory} is damaged (meta.json: {error!r}); remove that directory and ingest again"
        ) from error
    check_identity(found, dim, embedder_id, f"the index in {directory}", f"the collection's directory {directory}")


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
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
