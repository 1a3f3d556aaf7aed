"""The store on a Qdrant server or cluster, through `qdrant-client` over HTTP.

The collection is named `footnote-NAME`; which embedder built it is written in its metadata. IDF is counted by
each shard over its own points, which is Qdrant's way. Knows nothing about models, files or fusion.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rag.errors import CollectionMissing, StoreError, StoreMismatch, StoreUnreachable
from rag.store.points import batches, check_identity, identity, settled, to_chunk, to_payload, to_vector
from rag.store.protocol import BM25, DENSE, Candidates, Ranking
from rag.types import Chunk, IndexedChunk, SparseVector

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

PREFIX = "footnote-"
MAX_BATCH = 256
NUMBERS_PER_BATCH = 400_000
"""A number takes about 20 bytes of JSON, and a server refuses requests over 32 MB."""
PAGE = 10_000
"""Ids read in one scroll."""


class ServerStore:
    """A `Store` on a Qdrant server. Every call waits until the server has done it."""

    def __init__(self, client: QdrantClient, url: str, timeout: float, collection: str, dim: int) -> None:
        """Use `connect`."""
        self._client = client
        self._url = url
        self._timeout = timeout
        self._collection = collection
        self._dim = dim
        self._closed = False

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

        Raises:
            CollectionMissing: it does not exist and `create` is False.
            StoreMismatch: it was built with another embedder, dimension or format.
            StoreUnreachable: the server does not answer in time.
            StoreError: it refuses, for want of a key or otherwise.
        """
        name = PREFIX + collection
        with _explained(url, timeout, name):
            store = cls(client or _client(url, api_key, timeout), url, timeout, name, dim)
            if not store._client.collection_exists(name):
                if not create:
                    raise _missing(name, url)
                store._create(embedder_id)
            store._check(embedder_id, create)
            return store

    def upsert(self, chunks: Sequence[IndexedChunk]) -> None:
        """Write chunks, in requests of bounded size. Raises StoreError."""
        size = max(1, min(MAX_BATCH, NUMBERS_PER_BATCH // self._dim))
        with self._use() as client:
            for batch in batches(chunks, size):
                client.upsert(self._collection, [self._point(item) for item in batch], wait=True)

    def delete(self, doc_id: str, keep: Iterable[str] = ()) -> None:
        """Remove a document's chunks, except those in `keep`. Raises StoreError."""
        from qdrant_client import models

        kept: list[Any] = sorted(keep)
        doomed = models.Filter(must=[_of(doc_id)])
        if kept:
            doomed.must_not = [models.HasIdCondition(has_id=kept)]
        with self._use() as client:
            client.delete(self._collection, models.FilterSelector(filter=doomed), wait=True)

    def candidates(self, dense: npt.NDArray[np.float32], sparse: SparseVector, limit: int) -> Candidates:
        """The best chunks by cosine and by BM25, in one request. Raises StoreError.

        A group of equal scores that is longer than the request looks ahead costs another one (see `settled`).
        """
        from qdrant_client import models

        queries: dict[str, Any] = {DENSE: to_vector(dense, self._dim, "the question")}
        if sparse.indices:
            queries[BM25] = _sparse(sparse)
        # By default Qdrant goes on counting deleted points in the IDF; naming the corpus, all points, counts afresh.
        params = {BM25: models.SearchParams(idf=models.IdfCorpusParams(corpus=models.Filter()))}

        def search(wanted: Mapping[str, int]) -> Mapping[str, Ranking]:
            asked = [
                models.QueryRequest(
                    query=queries[system],
                    using=system,
                    limit=n,
                    with_payload=False,
                    params=params.get(system),
                )
                for system, n in wanted.items()
            ]
            answers = client.query_batch_points(self._collection, asked)
            return {
                system: [(str(point.id), point.score) for point in answer.points]
                for system, answer in zip(wanted, answers, strict=True)
            }

        with self._use() as client:
            return settled(search, queries, limit)

    def fetch(self, ids: Sequence[str]) -> list[Chunk]:
        """The chunks with these ids, in this order. Raises StoreError."""
        if not ids:
            return []
        with self._use() as client:
            records = client.retrieve(self._collection, list(ids), with_payload=True, with_vectors=False)
        found = {str(record.id): record.payload for record in records}
        return [to_chunk(id_, found[id_]) for id_ in ids if id_ in found]

    def ids(self, doc_id: str | None = None) -> set[str]:
        """Ids of all chunks of a document, or of the whole collection. Raises StoreError."""
        with self._use() as client:
            return set(self._scroll(client, doc_id))

    def count(self) -> int:
        """How many chunks the collection holds, exactly. Raises StoreError."""
        with self._use() as client:
            return client.count(self._collection, exact=True).count

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._client.close()

    @contextmanager
    def _use(self) -> Iterator[QdrantClient]:
        if self._closed:
            raise StoreError(f"the connection to Qdrant at {self._url} was closed; open the store again")
        with _explained(self._url, self._timeout, self._collection):
            yield self._client

    def _create(self, embedder_id: str) -> None:
        from qdrant_client import models
        from qdrant_client.http.exceptions import UnexpectedResponse

        try:
            self._client.create_collection(
                self._collection,
                vectors_config={DENSE: models.VectorParams(size=self._dim, distance=models.Distance.COSINE)},
                sparse_vectors_config={BM25: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                metadata={"footnote": identity(self._dim, embedder_id)},
            )
        except UnexpectedResponse as error:
            if error.status_code != 409:  # another process made it in the meantime
                raise

    def _check(self, embedder_id: str, create: bool) -> None:
        """Raises StoreMismatch; adds the payload index where a creation that was cut short left it out."""
        from qdrant_client import models

        info = self._client.get_collection(self._collection)
        found = (info.config.metadata or {}).get("footnote")
        if not isinstance(found, dict):
            raise StoreMismatch(
                f"collection {self._collection} at {self._url} does not say which embedder built it; Footnote needs "
                "a collection of its own on Qdrant 1.16 or newer: upgrade the server, or choose another --collection"
            )
        index = f"collection {self._collection} at {self._url}"
        check_identity(found, self._dim, embedder_id, index, f"{self._collection} from the server")
        if create and "doc_id" not in info.payload_schema:
            self._client.create_payload_index(self._collection, "doc_id", models.PayloadSchemaType.KEYWORD, wait=True)

    def _point(self, item: IndexedChunk) -> models.PointStruct:
        from qdrant_client import models

        vectors: dict[str, Any] = {
            DENSE: to_vector(item.dense, self._dim, f"chunk {item.chunk.id}"),
            BM25: _sparse(item.sparse),
        }
        return models.PointStruct(id=item.chunk.id, vector=vectors, payload=to_payload(item.chunk))

    def _scroll(self, client: QdrantClient, doc_id: str | None) -> Iterator[str]:
        from qdrant_client import models

        chosen = None if doc_id is None else models.Filter(must=[_of(doc_id)])
        offset: Any = None
        while True:
            records, offset = client.scroll(
                self._collection, chosen, limit=PAGE, offset=offset, with_payload=False, with_vectors=False
            )
            yield from (str(record.id) for record in records)
            if offset is None:
                return


def _client(url: str, api_key: str, timeout: float) -> QdrantClient:
    """A client that looks nothing up and says nothing. The key goes in as a header, because giving it as
    `api_key` prints a warning on stderr where the URL is plain http."""
    from qdrant_client import QdrantClient

    headers = {"api-key": api_key} if api_key else {}
    return QdrantClient(url=url, headers=headers, timeout=math.ceil(timeout), check_compatibility=False)


def _sparse(vector: SparseVector) -> models.SparseVector:
    from qdrant_client import models

    return models.SparseVector(indices=list(vector.indices), values=list(vector.values))


def _of(doc_id: str) -> models.FieldCondition:
    from qdrant_client import models

    return models.FieldCondition(key="doc_id", match=models.MatchValue(value=doc_id))


def _missing(name: str, url: str) -> CollectionMissing:
    collection = name.removeprefix(PREFIX)
    return CollectionMissing(
        f"no collection {collection!r} at {url}; run `footnote ingest PATH --collection {collection}` first"
    )


@contextmanager
def _explained(url: str, timeout: float, name: str) -> Iterator[None]:
    """Turn what the client raises into one line of ours."""
    import httpx
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except UnexpectedResponse as error:
        raise _refusal(error, url, timeout, name) from error
    except ResponseHandlingException as error:
        raise _no_answer(error, url, timeout) from error
    except (QdrantException, httpx.InvalidURL, ValueError) as error:
        raise StoreError(f"Qdrant at {url}: {_line(error)}; check FOOTNOTE_QDRANT_URL and the server's log") from error


def _no_answer(error: ResponseHandlingException, url: str, timeout: float) -> StoreError:
    import httpx

    if isinstance(error.source, httpx.TransportError):
        return _unreachable(url, timeout, _line(error.source) or type(error.source).__name__)
    return StoreError(
        f"Qdrant at {url} gave an answer that cannot be understood ({_line(error.source)}); "
        "check that FOOTNOTE_QDRANT_URL is a Qdrant server, 1.16 or newer"
    )


def _unreachable(url: str, timeout: float, why: str) -> StoreUnreachable:
    return StoreUnreachable(
        f"no answer from Qdrant at {url} within {timeout:g} s: {why}; "
        "start it with `docker compose up -d qdrant` or unset FOOTNOTE_QDRANT_URL"
    )


def _refusal(error: UnexpectedResponse, url: str, timeout: float, name: str) -> StoreError:
    status = error.status_code
    if status in (401, 403):
        return StoreError(
            f"Qdrant at {url} refused the key ({status}); set FOOTNOTE_QDRANT_API_KEY to the server's key"
        )
    if status == 404:
        return _missing(name, url)
    if status in (502, 503, 504):
        return _unreachable(url, timeout, f"HTTP {status}")
    body = error.content.decode(errors="replace")
    return StoreError(f"Qdrant at {url} answered {status}: {textwrap.shorten(body, 300)}; see the server's log")


def _line(error: Exception) -> str:
    return textwrap.shorten(str(error), 300)
