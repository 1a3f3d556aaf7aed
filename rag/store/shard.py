"""Qdrant Edge in our words: how a shard is made, what is written to it and what it is asked.

Knows nothing about directories, locks or threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rag.filter import Condition, Filter, OneOf, conditions
from rag.store.points import HIDDEN, INDEXED, Search, batches, to_indexed, to_payload, to_vector
from rag.store.protocol import BM25, DENSE, Ranking
from rag.types import IndexedChunk, SparseVector

BATCH = 500
"""Points in one update: about 5 MB of write-ahead log with vectors of 384 numbers."""
PAGE = 10_000
"""Ids read in one scroll."""
FULL_PAGE = 1_000
"""Points read in one scroll with everything that belongs to them."""

M, EF_CONSTRUCT, EF = 16, 100, 256
"""Edges a node, and candidates looked at when building the graph and when searching it."""
FULL_SCAN_KB = 1_000
"""A graph over fewer vectors than that, in kB, is not used."""


def create(path: Path, dim: int) -> None:
    """Make an empty shard for vectors of `dim` numbers, flushed and closed."""
    from qdrant_edge import EdgeShard, PayloadSchemaType, UpdateOperation

    path.mkdir(parents=True)
    shard = EdgeShard.create(str(path), _config(dim))
    kinds = {"keyword": PayloadSchemaType.Keyword, "integer": PayloadSchemaType.Integer}
    for field, kind in INDEXED.items():
        shard.update(UpdateOperation.create_field_index(field, kinds[kind]))
    close(shard)


def load(path: Path) -> Any:
    """The shard in a directory."""
    from qdrant_edge import EdgeShard

    return EdgeShard.load(str(path))


def close(shard: Any) -> None:
    """Put everything on disk and let go of the directory."""
    shard.flush()
    shard.close()


def optimize(path: Path, dim: int) -> None:
    """Build the graph that makes searching the shard in a directory fast. Stops every thread of the process."""
    from qdrant_edge import EdgeOptimizersConfig, EdgeShard, HnswIndexConfig

    graph = HnswIndexConfig(m=M, ef_construct=EF_CONSTRUCT, full_scan_threshold=FULL_SCAN_KB)
    config = _config(dim, hnsw_config=graph, optimizers=EdgeOptimizersConfig(indexing_threshold=1))
    shard = EdgeShard.load(str(path), config)
    shard.optimize()
    close(shard)


def upsert(shard: Any, chunks: Sequence[IndexedChunk], dim: int) -> None:
    """Write chunks; a chunk that is there already is replaced. Not flushed."""
    from qdrant_edge import UpdateOperation

    for batch in batches(chunks, BATCH):
        shard.update(UpdateOperation.upsert_points([_point(item, dim) for item in batch]))


def publish(shard: Any, doc_id: str, revision: str) -> None:
    """Make one revision of a document visible, then remove the others. Not flushed."""
    from qdrant_edge import Filter, UpdateOperation

    document, wanted = _is("doc_id", doc_id), _is("revision", revision)
    shard.update(UpdateOperation.delete_payload_by_filter(Filter(must=[document, wanted]), [HIDDEN]))
    shard.update(UpdateOperation.delete_points_by_filter(Filter(must=[document], must_not=[wanted])))


def delete(shard: Any, doc_id: str) -> None:
    """Remove a document's points. Not flushed."""
    from qdrant_edge import Filter, UpdateOperation

    shard.update(UpdateOperation.delete_points_by_filter(Filter(must=[_is("doc_id", doc_id)])))


def count(shard: Any) -> int:
    """How many points there are, exactly."""
    from qdrant_edge import CountRequest

    return int(shard.count(CountRequest(exact=True)))


def numbers(shard: Any) -> npt.NDArray[np.uint64]:
    """A number for every point, made of its id: half of its 128 bits."""
    lent = nullcontext(shard)
    found = (record.id.int & (2**64 - 1) for page in pages(lambda: lent, None, full=False) for record in page)
    return np.fromiter(found, dtype=np.uint64)


def any_hidden(shard: Any) -> bool:
    """Whether there is a hidden point: 0.1 ms, whatever the size."""
    from qdrant_edge import CountRequest, Filter

    return int(shard.count(CountRequest(exact=True, filter=Filter(must=[_is(HIDDEN, 1)])))) > 0


def searcher(
    shard: Any,
    dense: npt.NDArray[np.float32],
    sparse: SparseVector,
    dim: int,
    filtered: bool,
    within: Filter | None = None,
) -> tuple[Search, Sequence[str]]:
    """A search for `settled`, and the retrievers that have something to look for.

    Args:
        shard: where.
        dense: the question's vector, shape (dim,).
        sparse: its terms.
        dim: length of the dense vectors.
        filtered: leave hidden points out of the rankings and of the IDF.
        within: leave what it does not match out of the rankings, but not of the IDF.
    """
    from qdrant_edge import Query, QueryBatchRequest, QueryRequest, SearchParams

    queries = {DENSE: Query.Nearest(to_vector(dense, dim, "the question"), using=DENSE)}
    if sparse.indices:
        queries[BM25] = Query.Nearest(_sparse(sparse), using=BM25)
    chosen = _visible(filtered, within)
    params = {DENSE: SearchParams(hnsw_ef=EF), BM25: _exact_idf(_visible(filtered))}

    def search(wanted: Mapping[str, int]) -> Mapping[str, Ranking]:
        asked = [
            QueryRequest(limit=n, query=queries[name], with_payload=False, filter=chosen, params=params[name])
            for name, n in wanted.items()
        ]
        answers = shard.query_batch(QueryBatchRequest(asked))
        return {
            name: [(str(point.id), point.score) for point in points]
            for name, points in zip(wanted, answers, strict=True)
        }

    return search, list(queries)


def compare(shard: Any, ids: Sequence[str], sparse: SparseVector, filtered: bool) -> tuple[dict[str, Any], Ranking]:
    """The vectors of these points by id, and the BM25 scores of those that share a term; see `searcher`."""
    from qdrant_edge import Filter, HasIdCondition, Query, QueryRequest

    records = shard.retrieve(list(ids), with_payload=False, with_vector=[DENSE])
    vectors = {str(record.id): record.vector[DENSE] for record in records}
    if not sparse.indices or not vectors:
        return vectors, []
    found = shard.query(
        QueryRequest(
            limit=len(ids),
            query=Query.Nearest(_sparse(sparse), using=BM25),
            with_payload=False,
            filter=Filter(must=[HasIdCondition(set(ids))]),
            params=_exact_idf(_visible(filtered)),
        )
    )
    return vectors, [(str(point.id), point.score) for point in found]


def _visible(filtered: bool, within: Filter | None = None) -> Any:
    """The points to search; None for all."""
    from qdrant_edge import Filter as EdgeFilter

    hidden = [_is(HIDDEN, 1)] if filtered else []
    wanted: list[Any] = [EdgeFilter(should=list(map(_condition, group))) for group in conditions(within or Filter())]
    return EdgeFilter(must=wanted, must_not=hidden) if wanted or hidden else None


def _condition(condition: Condition) -> Any:
    from qdrant_edge import FieldCondition, MatchAny, RangeFloat

    if isinstance(condition, OneOf):
        return FieldCondition(condition.key, match=MatchAny(list(condition.values)))
    return FieldCondition(condition.key, range=RangeFloat(gte=condition.low, lte=condition.high))


def _exact_idf(corpus: Any) -> Any:
    """By default Qdrant goes on counting deleted points in the IDF; naming the corpus, all points, counts afresh."""
    from qdrant_edge import Filter, IdfParams, SearchParams

    return SearchParams(idf=IdfParams(corpus=corpus or Filter()))


Borrowed = Callable[[], AbstractContextManager[Any]]
"""Lends the shard for a moment."""


def pages(borrow: Borrowed, doc_id: str | None, full: bool) -> Iterator[list[Any]]:
    """A document's records or all of them, page by page.

    Args:
        borrow: lends the shard; it is given back after each page, so that nobody waits for who reads slowly.
        doc_id: of which document; None for all.
        full: with vectors and payload, else ids alone.
    """
    from qdrant_edge import Filter, ScrollRequest

    chosen = None if doc_id is None else Filter(must=[_is("doc_id", doc_id)])
    limit, offset = FULL_PAGE if full else PAGE, None
    while True:
        request = ScrollRequest(offset=offset, limit=limit, filter=chosen, with_payload=full, with_vector=full)
        with borrow() as shard:
            records, offset = shard.scroll(request)
        yield records
        if offset is None:
            return


def indexed(record: Any) -> IndexedChunk:
    """A record of a full page, as it was written."""
    sparse = record.vector.get(BM25)
    terms = SparseVector(tuple(sparse.indices), tuple(sparse.values)) if sparse else SparseVector((), ())
    return to_indexed(str(record.id), record.payload, record.vector[DENSE], terms)


def _config(dim: int, **more: Any) -> Any:
    from qdrant_edge import Distance, EdgeConfig, EdgeSparseVectorParams, EdgeVectorParams, Modifier

    return EdgeConfig(
        vectors={DENSE: EdgeVectorParams(size=dim, distance=Distance.Cosine)},
        sparse_vectors={BM25: EdgeSparseVectorParams(modifier=Modifier.Idf)},
        **more,
    )


def _point(item: IndexedChunk, dim: int) -> Any:
    from qdrant_edge import Point

    vectors: dict[str, Any] = {
        DENSE: to_vector(item.dense, dim, f"chunk {item.chunk.id}"),
        BM25: _sparse(item.sparse),
    }
    return Point(id=item.chunk.id, vector=vectors, payload=to_payload(item))


def _sparse(vector: SparseVector) -> Any:
    from qdrant_edge import SparseVector as EdgeSparse

    return EdgeSparse(list(vector.indices), list(vector.values))


def _is(key: str, value: str | int) -> Any:
    from qdrant_edge import FieldCondition, MatchValue

    return FieldCondition(key, match=MatchValue(value))
