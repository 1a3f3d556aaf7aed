"""Our embedded store against qdrant-client's local mode on disk: same points, same questions, turn by turn.

Both are driven through the `Store` protocol. A query is what a search costs: the candidates of both retrievers,
their fusion into ten hits, and the hits' texts.
"""

from __future__ import annotations

import gc
import statistics
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from rag.errors import BenchError
from rag.filter import Filter
from rag.fuse import rrf
from rag.store.edge import EdgeStore
from rag.store.protocol import BM25, DENSE, Candidates, Store
from rag.store.server import ServerStore
from rag.types import Chunk, IndexedChunk, SparseVector, Vectors

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

DIM = 384
VOCABULARY = 30_000
TERMS = 60
"""Different words of a passage, on average."""
QUESTION_TERMS = 8
CHARS = 800
PER_DOCUMENT = 40
BLOCK = 1000
"""Points written to one side before the other takes its turn."""
OUR_QUERIES, PEER_QUERIES = 200, 10
CANDIDATES, HITS = 100, 10
EMBEDDER = "random"


class LocalMode(ServerStore):
    """The peer, asked the way its guide does: its IDF is exact without the corpus that a server must be told."""

    def candidates(self, dense: Vectors, sparse: SparseVector, limit: int, within: Filter | None = None) -> Candidates:
        """The best chunks by cosine and by BM25; the benchmark filters none."""
        from qdrant_client import models

        words = models.SparseVector(indices=list(sparse.indices), values=list(sparse.values))
        asked = [
            models.QueryRequest(query=dense.tolist(), using=DENSE, limit=limit),
            models.QueryRequest(query=words, using=BM25, limit=limit),
        ]
        answers = self._client.query_batch_points(self._collection, asked)
        return Candidates(*([(str(point.id), point.score) for point in answer.points] for answer in answers))


def run(
    points: int, directory: Path, seed: int = 0, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Insertions a second, milliseconds of a hybrid query, and seconds to reopen, for both.

    Args:
        points: how many to write to each.
        directory: where both may write; what they write is removed again.
        seed: of the random vectors and texts.
        progress: told what goes on.

    Raises:
        BenchError: `points` is below 1, or both sides do not find the same.
    """
    if points < 1:
        raise BenchError(f"--points is {points}, a benchmark of the store needs at least 1")
    openers: dict[str, Callable[[Path], Store]] = {"ours": _open_ours, "peer": _open_peer}
    with TemporaryDirectory(dir=directory, prefix="store-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's advice to use a server
        stores = {side: openers[side](Path(folder, side)) for side in openers}
        try:
            figures = {side: {"insert_per_s": rate} for side, rate in _insert(stores, points, seed, progress).items()}
            for side in openers:
                stores[side].close()
                started = time.perf_counter()
                stores[side] = openers[side](Path(folder, side))
                figures[side]["reopen_s"] = time.perf_counter() - started
            for side, milliseconds in _query(stores, seed, progress).items():
                figures[side]["query_p50_ms"] = statistics.median(milliseconds)
                figures[side]["query_p95_ms"] = float(np.percentile(milliseconds, 95))
        finally:
            for store in stores.values():
                store.close()
    return _report(points, figures)


def _open_ours(folder: Path) -> Store:
    return EdgeStore.open(folder, DIM, EMBEDDER)


def _open_peer(folder: Path) -> Store:
    from qdrant_client import QdrantClient

    client: QdrantClient = QdrantClient(path=str(folder))
    return LocalMode.connect(str(folder), "", 60, "bench", DIM, EMBEDDER, True, client)


def _insert(stores: dict[str, Store], points: int, seed: int, progress: Callable[[str], None]) -> dict[str, float]:
    """Points a second of each store; each block goes to one, then to the other, and who is first changes."""
    rng = np.random.default_rng(seed)
    seconds = dict.fromkeys(stores, 0.0)
    for start in range(0, points, BLOCK):
        block = list(_points(rng, start, min(points, start + BLOCK)))
        for side in sorted(stores, reverse=bool(start // BLOCK % 2)):
            started = time.perf_counter()
            stores[side].upsert(block)
            seconds[side] += time.perf_counter() - started
        progress(f"written {start + len(block):,} of {points:,} points to both")
    return {side: points / spent for side, spent in seconds.items()}


def _points(rng: np.random.Generator, start: int, stop: int) -> Iterator[IndexedChunk]:
    dense = _unit_vectors(rng, stop - start)
    for row, number in enumerate(range(start, stop)):
        length = int(rng.integers(TERMS // 2, TERMS * 3 // 2))
        document, position = divmod(number, PER_DOCUMENT)
        chunk = Chunk(
            id=str(uuid.UUID(bytes=rng.bytes(16))),
            doc_id=f"document-{document}",
            doc=f"folder/document-{document}.pdf",
            title=f"Document {document}",
            page=1 + position // 4,
            headings=("Part", f"Section {position // 8}"),
            start=position * CHARS,
            end=(position + 1) * CHARS,
            text=_text(rng),
        )
        yield IndexedChunk(chunk, dense[row], _sparse(rng, length))


def _unit_vectors(rng: np.random.Generator, count: int) -> Vectors:
    vectors = rng.standard_normal((count, DIM), dtype=np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _sparse(rng: np.random.Generator, terms: int) -> SparseVector:
    """That many different terms, drawn so that a term's frequency falls with its rank (Zipf's law)."""
    ranks = np.unique((VOCABULARY ** rng.random(4 * terms)).astype(np.int64))
    chosen = np.sort(rng.choice(ranks, size=min(terms, len(ranks)), replace=False))
    return SparseVector(tuple(chosen.tolist()), tuple(rng.uniform(0.3, 2.2, len(chosen)).tolist()))


def _text(rng: np.random.Generator) -> str:
    letters = rng.integers(ord("a"), ord("z") + 1, size=CHARS, dtype=np.uint8)
    letters[rng.random(CHARS) < 1 / 6] = ord(" ")
    return letters.tobytes().decode("ascii")


def _query(stores: dict[str, Store], seed: int, progress: Callable[[str], None]) -> dict[str, list[float]]:
    """Milliseconds of each query; the peer answers one of ours in `OUR_QUERIES / PEER_QUERIES`, spread evenly."""
    # The peer keeps every point as Python objects: Python's garbage collector shall not go through them in our time.
    gc.collect()
    gc.freeze()
    rng = np.random.default_rng(seed + 1)
    milliseconds: dict[str, list[float]] = {side: [] for side in stores}
    every = OUR_QUERIES // PEER_QUERIES
    for number in range(OUR_QUERIES):
        dense, sparse = _unit_vectors(rng, 1)[0], _sparse(rng, QUESTION_TERMS)
        found = {}
        for side, store in stores.items():
            if side == "ours" or number % every == 0:
                started = time.perf_counter()
                found[side] = _hits(store, dense, sparse)
                milliseconds[side].append(1000 * (time.perf_counter() - started))
        if "peer" in found:
            _compare(found)
            progress(f"asked {number + 1} of {OUR_QUERIES} questions")
    return milliseconds


def _hits(store: Store, dense: Vectors, sparse: SparseVector) -> list[Chunk]:
    candidates = store.candidates(dense, sparse, CANDIDATES)
    ids = sorted({id_ for ranking in candidates for id_, _ in ranking})
    best = np.argsort(-rrf(candidates, ids), kind="stable")[:HITS]
    return store.fetch([ids[row] for row in best])


def _compare(found: dict[str, list[Chunk]]) -> None:
    """A faster store that finds something else is not faster. Rounding may swap neighbours."""
    ours, peer = ({chunk.id for chunk in hits} for hits in found.values())
    if len(ours & peer) < len(peer) - 1:
        raise BenchError(
            f"the two stores agree on {len(ours & peer)} of {len(peer)} hits, {len(peer)} are expected; "
            "please report this with the versions that `footnote doctor` prints"
        )


def _report(points: int, figures: dict[str, dict[str, float]]) -> dict[str, Any]:
    ours, peer = figures["ours"], figures["peer"]
    ratios = {
        "insert_ratio": ours["insert_per_s"] / peer["insert_per_s"],
        "query_ratio": peer["query_p50_ms"] / ours["query_p50_ms"],
        "reopen_ratio": peer["reopen_s"] / ours["reopen_s"],
    }
    rounded = {side: {name: round(value, 3) for name, value in sorted(each.items())} for side, each in figures.items()}
    return {"points": points, **rounded, **{name: round(value, 1) for name, value in ratios.items()}}
