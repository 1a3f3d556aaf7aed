"""What both stores share: chunks as payloads, checked vectors, and rankings cut the same way every time.

Knows nothing about Qdrant's clients, files or the network.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rag.errors import StoreError, StoreMismatch
from rag.filter import DAY, FACTS, FOLDERS, NAMES, TYPE, marks
from rag.store.protocol import BM25, DENSE, Candidates, Compared, Ranking
from rag.types import Chunk, IndexedChunk, SparseVector

FORMAT = 3
"""Raised when what is kept changes, so that an older index is refused and not misread."""

HIDDEN = "hidden"
"""Payload key that only hidden points have. Its value is 1, not true: Qdrant Edge's `MatchValue(True)` looks for 1."""

INDEXED = {
    "doc_id": "keyword",
    HIDDEN: "integer",
    NAMES: "keyword",
    FOLDERS: "keyword",
    TYPE: "keyword",
    FACTS: "keyword",
    DAY: "integer",
}
"""Payload fields that are looked up."""
_DERIVED = {HIDDEN, NAMES, FOLDERS, TYPE, FACTS, DAY}
"""Those that say nothing that the others do not."""

MARGIN = 16
"""How many more than `limit` to ask for, so that most groups of equal scores at the cut are seen whole."""

Search = Callable[[Mapping[str, int]], Mapping[str, Ranking]]
"""How many to find with each retriever -> what each found, best first."""


def identity(dim: int, embedder_id: str) -> dict[str, Any]:
    """What is written beside a new index, to tell later whether vectors fit it."""
    return {"format": FORMAT, "dim": dim, "embedder": embedder_id}


def embedder_of(record: Mapping[str, Any]) -> str:
    """Whose vectors an index holds; one of another format is no embedder's, and has to be built anew."""
    embedder, found = str(record.get("embedder", "")), record.get("format")
    return embedder if found == FORMAT else f"{embedder} in format {found}, not {FORMAT}"


def check_identity(found: Mapping[str, Any], dim: int, embedder_id: str, index: str) -> None:
    """Compare what is written beside an index with what it would be opened with.

    Args:
        found: the `identity` that was written.
        dim: length of the vectors at hand.
        embedder_id: who makes them.
        index: names the index in the message.

    Raises:
        StoreMismatch: they differ.
    """
    pairs = {"dim": (found.get("dim"), dim), "embedder": (embedder_of(found), embedder_id)}
    differences = [f"{key} {there!r}, not {here!r}" for key, (there, here) in pairs.items() if there != here]
    if differences:
        raise StoreMismatch(
            f"{index} was built with {', '.join(differences)}; run `footnote ingest` to build it anew beside the old "
            "one, use the embedder that built it, or choose another --collection"
        )


def to_payload(item: IndexedChunk) -> dict[str, Any]:
    """A chunk as Qdrant keeps it; the id is the point's own."""
    chunk = item.chunk
    payload = {
        "doc_id": chunk.doc_id,
        "doc": chunk.doc,
        "title": chunk.title,
        "page": chunk.page,
        "headings": list(chunk.headings),
        "start": chunk.start,
        "end": chunk.end,
        "text": chunk.text,
        "kind": chunk.kind,
        "header": chunk.header,
        "context": chunk.context,
        "revision": chunk.revision,
        "date": chunk.date,
        "metadata": [list(pair) for pair in chunk.metadata],
        **marks(chunk),
    }
    return payload | {HIDDEN: 1} if item.hidden else payload


def to_chunk(id_: str, payload: Mapping[str, Any] | None) -> Chunk:
    """The chunk that `to_payload` made this of.

    Raises:
        StoreError: a field is missing, so that something else wrote the point.
    """
    try:
        fields = {key: value for key, value in (payload or {}).items() if key not in _DERIVED}
        metadata = tuple((key, value) for key, value in fields.pop("metadata", ()))
        return Chunk(id=id_, headings=tuple(fields.pop("headings")), metadata=metadata, **fields)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"point {id_} has other fields than a passage of Footnote ({error}); "
            "another program wrote to this collection: ingest into a new one with --collection NAME"
        ) from error


def to_indexed(
    id_: str, payload: Mapping[str, Any] | None, dense: Sequence[float], sparse: SparseVector
) -> IndexedChunk:
    """The chunk that was written, with the vectors that are kept: dense ones have length 1. Raises StoreError."""
    vector = np.asarray(dense, dtype=np.float32)
    return IndexedChunk(to_chunk(id_, payload), vector, sparse, hidden=HIDDEN in (payload or {}))


def to_vector(vector: Sequence[float] | npt.NDArray[np.float32], dim: int, of: str) -> list[float]:
    """A dense vector as plain numbers, checked.

    Raises:
        StoreError: it has another length than `dim`, or holds NaN or infinity.
    """
    array = np.asarray(vector, dtype=np.float32)
    if array.shape != (dim,):
        raise StoreError(
            f"the vector of {of} has shape {array.shape}, the collection holds ({dim},); "
            "use the embedder that the collection was built with"
        )
    if not np.isfinite(array).all():
        raise StoreError(f"the vector of {of} holds NaN or infinity; run `footnote doctor` to check the embedder")
    numbers: list[float] = array.tolist()
    return numbers


def settled(search: Search, systems: Iterable[str], limit: int) -> Candidates:
    """The `limit` best of each retriever, equal scores ordered by id; retrievers not in `systems` find nothing.

    Qdrant picks any of the points whose score ties with the last one, another in every run. So a group of equal
    scores that crosses the cut is asked for until it is seen whole; nearly always the first call has it.
    """
    found: dict[str, Ranking] = {}
    wanted = dict.fromkeys(systems, limit + MARGIN)
    while wanted:
        found |= search(wanted)
        wanted = {system: 4 * n for system, n in wanted.items() if _tie_goes_on(found[system], limit, n)}
    return Candidates(dense=_best(found.get(DENSE, []), limit), bm25=_best(found.get(BM25, []), limit))


def compared(ids: Sequence[str], vectors: Mapping[str, Sequence[float]], bm25: Ranking, dim: int) -> Compared:
    """The chunks that are there, in this order, with what was found of them."""
    there, scores = [id_ for id_ in ids if id_ in vectors], dict(bm25)
    # numpy takes three times as long to read a list of lists.
    row = struct.Struct(f"{dim}f")
    numbers = b"".join([row.pack(*vectors[id_]) for id_ in there])
    rows = np.frombuffer(numbers, dtype=np.float32).reshape(len(there), dim)
    return Compared(there, rows, np.array([scores.get(id_, 0.0) for id_ in there]))


def _tie_goes_on(ranking: Ranking, limit: int, asked: int) -> bool:
    return len(ranking) >= asked and ranking[-1][1] == ranking[limit - 1][1]


def _best(ranking: Ranking, limit: int) -> Ranking:
    return sorted(ranking, key=lambda item: (-item[1], item[0]))[:limit]


def batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Consecutive slices of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
