"""What every store can do. Knows nothing about models, files or fusion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rag.filter import Filter
from rag.types import Chunk, IndexedChunk, SparseVector, Vectors

DENSE = "dense"
BM25 = "bm25"

Ranking = list[tuple[str, float]]
"""Chunk ids with scores, best first; equal scores are ordered by id, so that runs repeat."""


class Space(Protocol):
    """As much of an embedder as tells whose vectors a collection holds."""

    @property
    def id(self) -> str:
        """Name and hash of the weights."""

    @property
    def dim(self) -> int:
        """Length of the vectors."""


class Candidates(NamedTuple):
    """What the two retrievers found, each best first."""

    dense: Ranking
    bm25: Ranking


class Compared(NamedTuple):
    """What there is to know of some chunks, seen from a question."""

    ids: list[str]
    vectors: Vectors
    """Shape (len(ids), dim), rows of length 1."""
    bm25: npt.NDArray[np.float64]
    """Shape (len(ids),); 0 where a chunk shares no term with the question."""


class Store(Protocol):
    """One collection of chunks with their vectors. Safe to call from several threads.

    Every method raises `StoreError` (`StoreUnreachable` where a server does not answer).
    """

    def upsert(self, chunks: Sequence[IndexedChunk]) -> None:
        """Write chunks; a chunk that is there already is replaced. Durable when the call returns.

        Those that are `hidden` are found by no search until their document is published.
        """

    def publish(self, doc_id: str, revision: str) -> None:
        """Make a document's chunks of one revision visible, then remove all its others."""

    def delete(self, doc_id: str) -> None:
        """Remove a document's chunks, hidden ones too."""

    def candidates(
        self, dense: npt.NDArray[np.float32], sparse: SparseVector, limit: int, within: Filter | None = None
    ) -> Candidates:
        """The `limit` best chunks by cosine and the `limit` best by BM25 (those sharing a term), in one round trip.

        `dense` has shape (dim,). Only chunks that `within` matches; IDF is taken from the whole collection even so.
        """

    def compare(self, ids: Sequence[str], sparse: SparseVector) -> Compared:
        """The vectors and BM25 scores (as in `candidates`) of these chunks; ids that are not there are left out."""

    def fetch(self, ids: Sequence[str]) -> list[Chunk]:
        """The chunks with these ids, in this order; ids that are not there are left out."""

    def ids(self, doc_id: str | None = None) -> set[str]:
        """Ids of all chunks of a document, or of the whole collection, hidden ones too."""

    def count(self) -> int:
        """How many chunks the collection holds, exactly, hidden ones too."""

    def scan(self, doc_id: str | None = None) -> Iterator[IndexedChunk]:
        """All chunks of a document, or of the whole collection, with their vectors, read page by page.

        A chunk that is written or removed meanwhile may be in it or not.
        """

    def optimize(self) -> bool:
        """Build the index that makes searching a large collection fast, if that pays; True where it was built.

        Searches and writes go on meanwhile. Killed at any moment, the index is as it was before.
        """

    def close(self) -> None:
        """Flush and let go of the index. The store cannot be used after that."""
