"""What every store can do. Knows nothing about models, files or fusion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rag.types import Chunk, IndexedChunk, SparseVector

DENSE = "dense"
BM25 = "bm25"

Ranking = list[tuple[str, float]]
"""Chunk ids with scores, best first; equal scores are ordered by id, so that runs repeat."""


class Candidates(NamedTuple):
    """What the two retrievers found, each best first."""

    dense: Ranking
    bm25: Ranking


class Store(Protocol):
    """One collection of chunks with their vectors. Safe to call from several threads.

    Every method raises `StoreError` (`StoreUnreachable` where a server does not answer).
    """

    def upsert(self, chunks: Sequence[IndexedChunk]) -> None:
        """Write chunks; a chunk that is there already is replaced. Durable when the call returns."""

    def delete(self, doc_id: str, keep: Iterable[str] = ()) -> None:
        """Remove a document's chunks, except those whose ids are in `keep`."""

    def candidates(self, dense: npt.NDArray[np.float32], sparse: SparseVector, limit: int) -> Candidates:
        """The `limit` best chunks by cosine and the `limit` best by BM25 (those sharing a term), in one round trip.

        `dense` has shape (dim,). IDF is taken from the whole collection.
        """

    def fetch(self, ids: Sequence[str]) -> list[Chunk]:
        """The chunks with these ids, in this order; ids that are not there are left out."""

    def ids(self, doc_id: str | None = None) -> set[str]:
        """Ids of all chunks of a document, or of the whole collection."""

    def count(self) -> int:
        """How many chunks the collection holds, exactly."""

    def close(self) -> None:
        """Flush and let go of the index. The store cannot be used after that."""
