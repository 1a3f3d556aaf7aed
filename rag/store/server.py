"""The store on a Qdrant server or cluster, through `qdrant-client` over HTTP.

Which collection it is and which embedder built it, `rag.store.aliases` tells. IDF is counted by each shard over its
own points, which is Qdrant's way. Knows nothing about models, files or fusion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from rag.errors import StoreError, StoreMismatch
from rag.filter import Condition, Filter, OneOf, conditions
from rag.store.aliases import Collections
from rag.store.points import (
    HIDDEN,
    batches,
    check_identity,
    compared,
    settled,
    to_chunk,
    to_indexed,
    to_payload,
    to_vector,
)
from rag.store.protocol import BM25, DENSE, Candidates, Compared, Ranking
from rag.store.refusals import connected, explained, missing
from rag.types import Chunk, IndexedChunk, SparseVector

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

T = TypeVar("T")

MAX_BATCH = 256
NUMBERS_PER_BATCH = 400_000
"""A number takes about 20 bytes of JSON, and a server refuses requests over 32 MB."""
PAGE = 10_000
"""Ids read in one scroll."""
FULL_PAGE = 1_000
"""Points read in one scroll with everything that belongs to them."""


@contextmanager
def collections(
    url: str, api_key: str, timeout: float, collection: str, client: QdrantClient | None = None
) -> Iterator[Collections]:
    """The collections of one index on a server, to look at and to tidy up. Raises StoreError.

    Args:
        url: the server's address.
        api_key: its key; empty where it wants none.
        timeout: seconds to wait for each answer.
        collection: the index's name as the user knows it.
        client: used in place of a new one, and left open.
    """
    with explained(url, timeout, collection):
        used = client or connected(url, api_key, timeout)
        try:
            yield Collections(used, collection)
        finally:
            if client is None:
                used.close()


class ServerStore:
    """A `Store` on a Qdrant server. Every call waits until the server has done it.

    Where another index of the same embedder takes this one's place, it goes on with that one.
    """

    def __init__(
        self, client: QdrantClient, url: str, timeout: float, collection: str, dim: int, embedder_id: str
    ) -> None:
        """Use `connect`."""
        self._client = client
        self._url, self._timeout, self._name = url, timeout, collection
        self._dim, self._embedder_id = dim, embedder_id
        self._collections = Collections(client, collection)
        self._collection = ""
        self._beside = self._closed = False

    @classmethod
    def connect(
        cls,
        url: str,
        api_key: str,
        timeout: float,
        collection: str,
        dim: int,
        embedder_id: str,
        create: bool,
        client: QdrantClient | None = None,
        label: str = "",
    ) -> ServerStore:
        """Open a collection on a server.

        Args:
            url: the server's address, such as `http://localhost:6333`.
            api_key: its key; empty where it wants none.
            timeout: seconds to wait for each answer.
            collection: name as the user knows it.
            dim: length of the dense vectors.
            embedder_id: names the embedder and its settings; a collection never mixes two.
            create: make the collection where it does not exist.
            client: used in place of a new one, and closed with the store; `url` then only shows in messages.
            label: open the one that is built beside it under this label; made where missing, others are removed.

        Raises:
            CollectionMissing: it does not exist and `create` is False.
            StoreMismatch: it was built with another embedder, dimension or format.
            StoreUnreachable: the server does not answer in time.
            StoreError: it refuses, for want of a key or otherwise.
        """
        with explained(url, timeout, collection):
            used = client or connected(url, api_key, timeout)
            store = cls(used, url, timeout, collection, dim, embedder_id)
            store._beside = bool(label)
            store._collection = store._found(create, label)
            return store

    def upsert(self, chunks: Sequence[IndexedChunk]) -> None:
        """Write chunks, in requests of bounded size. Raises StoreError."""
        size = max(1, min(MAX_BATCH, NUMBERS_PER_BATCH // self._dim))
        for batch in batches(chunks, size):
            self._call(partial(_upsert, points=[self._point(item) for item in batch]))

    def publish(self, doc_id: str, revision: str) -> None:
        """Make a document's chunks of one revision visible, then remove its others, in one request. Raises StoreError.

        A search may see both for an instant, but never neither.
        """
        from qdrant_client import models

        document, wanted = _is("doc_id", doc_id), _is("revision", revision)
        shown = models.Filter(must=[document, wanted])
        removed = models.Filter(must=[document], must_not=[wanted])
        steps: list[models.UpdateOperation] = [
            models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=[HIDDEN], filter=shown)),
            models.DeleteOperation(delete=models.FilterSelector(filter=removed)),
        ]
        self._call(lambda client, name: client.batch_update_points(name, steps, wait=True))

    def delete(self, doc_id: str) -> None:
        """Remove a document's chunks. Raises StoreError."""
        from qdrant_client import models

        doomed = models.FilterSelector(filter=models.Filter(must=[_is("doc_id", doc_id)]))
        self._call(lambda client, name: client.delete(name, doomed, wait=True))

    def candidates(
        self, dense: npt.NDArray[np.float32], sparse: SparseVector, limit: int, within: Filter | None = None
    ) -> Candidates:
        """The best chunks by cosine and by BM25, in one request. Raises StoreError.

        A group of equal scores that is longer than the request looks ahead costs another one (see `settled`).
        """
        queries: dict[str, Any] = {DENSE: to_vector(dense, self._dim, "the question")}
        if sparse.indices:
            queries[BM25] = _sparse(sparse)
        chosen = _visible(within)
        return self._call(lambda client, name: settled(partial(_search, client, name, queries, chosen), queries, limit))

    def compare(self, ids: Sequence[str], sparse: SparseVector) -> Compared:
        """The vectors and BM25 scores of these chunks, in one request. Raises StoreError."""
        if not ids:
            return compared((), {}, [], self._dim)
        return self._call(partial(_compare, ids=ids, sparse=sparse, dim=self._dim))

    def fetch(self, ids: Sequence[str]) -> list[Chunk]:
        """The chunks with these ids, in this order. Raises StoreError."""
        if not ids:
            return []
        records = self._call(
            lambda client, name: client.retrieve(name, list(ids), with_payload=True, with_vectors=False)
        )
        found = {str(record.id): record.payload for record in records}
        return [to_chunk(id_, found[id_]) for id_ in ids if id_ in found]

    def ids(self, doc_id: str | None = None) -> set[str]:
        """Ids of all chunks of a document, or of the whole collection. Raises StoreError."""
        return {str(record.id) for page in self._pages(doc_id, full=False) for record in page}

    def count(self) -> int:
        """How many chunks the collection holds, exactly. Raises StoreError."""
        return self._call(lambda client, name: client.count(name, exact=True)).count

    def scan(self, doc_id: str | None = None) -> Iterator[IndexedChunk]:
        """All chunks of a document, or of the whole collection, read page by page. Raises StoreError."""
        for page in self._pages(doc_id, full=True):
            yield from map(_indexed, page)

    def optimize(self) -> bool:
        """Nothing: the server does it by itself."""
        return False

    def put_in_place(self) -> None:
        """Make the collection that was built beside the live one take its place, and remove that. Raises StoreError."""
        self._call(lambda _, name: self._collections.put_in_place(name))
        self._beside = False

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._client.close()

    def _found(self, create: bool, label: str) -> str:
        """The collection to use."""
        if label:
            return self._collections.build_beside(self._dim, self._embedder_id, label)
        live = self._collections.live()
        if live is None and not create:
            raise missing(self._name, self._url)
        chosen = live or self._collections.create(self._dim, self._embedder_id)
        self._check(chosen)
        return chosen

    def _check(self, collection: str) -> None:
        """Raises StoreMismatch where vectors of this embedder do not belong there."""
        found = self._collections.record(collection)
        if found is None:
            raise StoreMismatch(
                f"collection {collection} at {self._url} does not say which embedder built it; Footnote needs "
                "a collection of its own on Qdrant 1.16 or newer: upgrade the server, or choose another --collection"
            )
        check_identity(found, self._dim, self._embedder_id, f"collection {collection} at {self._url}")

    def _call(self, work: Callable[[QdrantClient, str], T]) -> T:
        """Do something with the collection, and once more where another took its place."""
        from qdrant_client.http.exceptions import UnexpectedResponse

        if self._closed:
            raise StoreError(f"the connection to Qdrant at {self._url} was closed; open the store again")
        with explained(self._url, self._timeout, self._name):
            try:
                return work(self._client, self._collection)
            except (UnexpectedResponse, ValueError) as error:  # in memory, what is missing is a ValueError
                if getattr(error, "status_code", 404) != 404 or not self._moved():
                    raise
            return work(self._client, self._collection)

    def _moved(self) -> bool:
        """Whether another collection took this one's place; goes on with that. Raises StoreMismatch."""
        live = None if self._beside else self._collections.live()
        if live in (None, self._collection):
            return False
        self._check(live)
        self._collection = live
        return True

    def _point(self, item: IndexedChunk) -> models.PointStruct:
        from qdrant_client import models

        vectors: dict[str, Any] = {
            DENSE: to_vector(item.dense, self._dim, f"chunk {item.chunk.id}"),
            BM25: _sparse(item.sparse),
        }
        return models.PointStruct(id=item.chunk.id, vector=vectors, payload=to_payload(item))

    def _pages(self, doc_id: str | None, full: bool) -> Iterator[list[models.Record]]:
        """A document's records or all of them; `full` ones come with vectors and payload."""
        from qdrant_client import models

        chosen = None if doc_id is None else models.Filter(must=[_is("doc_id", doc_id)])
        page: dict[str, Any] = {"limit": FULL_PAGE if full else PAGE, "with_payload": full, "with_vectors": full}
        offset: Any = None
        while True:
            records, offset = self._call(partial(_scroll, chosen=chosen, offset=offset, page=page))
            yield records
            if offset is None:
                return


def _upsert(client: QdrantClient, collection: str, points: list[models.PointStruct]) -> None:
    client.upsert(collection, points, wait=True)


def _scroll(
    client: QdrantClient, collection: str, chosen: models.Filter | None, offset: Any, page: Mapping[str, Any]
) -> tuple[list[models.Record], Any]:
    return client.scroll(collection, chosen, offset=offset, **page)


def _search(
    client: QdrantClient, collection: str, queries: Mapping[str, Any], chosen: models.Filter, wanted: Mapping[str, int]
) -> Mapping[str, Ranking]:
    """What each retriever finds, in one request."""
    from qdrant_client import models

    params = {BM25: _exact_idf()}
    asked = [
        models.QueryRequest(
            query=queries[system],
            using=system,
            limit=n,
            with_payload=False,
            filter=chosen,
            params=params.get(system),
        )
        for system, n in wanted.items()
    ]
    answers = client.query_batch_points(collection, asked)
    return {
        system: [(str(point.id), point.score) for point in answer.points]
        for system, answer in zip(wanted, answers, strict=True)
    }


def _compare(client: QdrantClient, collection: str, ids: Sequence[str], sparse: SparseVector, dim: int) -> Compared:
    from qdrant_client import models

    these = models.Filter(must=[models.HasIdCondition(has_id=list(ids))])
    asked = [models.QueryRequest(filter=these, limit=len(ids), with_payload=False, with_vector=[DENSE])]
    if sparse.indices:
        asked.append(
            models.QueryRequest(
                query=_sparse(sparse),
                using=BM25,
                limit=len(ids),
                with_payload=False,
                filter=these,
                params=_exact_idf(),
            )
        )
    there, *found = client.query_batch_points(collection, asked)
    vectors = {str(point.id): cast(Any, point.vector)[DENSE] for point in there.points}
    return compared(ids, vectors, [(str(point.id), point.score) for each in found for point in each.points], dim)


def _visible(within: Filter | None = None) -> models.Filter:
    """The points to search."""
    from qdrant_client import models

    wanted: list[Any] = [models.Filter(should=list(map(_condition, group))) for group in conditions(within or Filter())]
    return models.Filter(must=wanted or None, must_not=[_is(HIDDEN, 1)])


def _condition(condition: Condition) -> models.FieldCondition:
    from qdrant_client import models

    if isinstance(condition, OneOf):
        return models.FieldCondition(key=condition.key, match=models.MatchAny(any=list(condition.values)))
    return models.FieldCondition(key=condition.key, range=models.Range(gte=condition.low, lte=condition.high))


def _exact_idf() -> models.SearchParams:
    """By default Qdrant counts hidden points and deleted ones in the IDF; naming the corpus counts afresh."""
    from qdrant_client import models

    return models.SearchParams(idf=models.IdfCorpusParams(corpus=_visible()))


def _sparse(vector: SparseVector) -> models.SparseVector:
    from qdrant_client import models

    return models.SparseVector(indices=list(vector.indices), values=list(vector.values))


def _indexed(record: models.Record) -> IndexedChunk:
    vectors: Any = record.vector
    sparse = vectors.get(BM25)
    terms = SparseVector(tuple(sparse.indices), tuple(sparse.values)) if sparse else SparseVector((), ())
    return to_indexed(str(record.id), record.payload, vectors[DENSE], terms)


def _is(key: str, value: str | int) -> models.FieldCondition:
    from qdrant_client import models

    return models.FieldCondition(key=key, match=models.MatchValue(value=value))
