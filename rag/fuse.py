"""What two retrievers thought of each passage becomes one score. Pure; knows nothing about Qdrant, models or text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rag.store.protocol import Candidates

Scores = npt.NDArray[np.float64]
"""One number a passage, shape (n,)."""

RRF_K = 60
"""Rank constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""


def convex(cosines: npt.ArrayLike, bm25: npt.ArrayLike, dense_weight: float) -> Scores:
    """Weighted sum of standard scores: how many standard deviations each score is above the candidates' mean.

    Both scores of every candidate are needed, also of those that only one retriever found. Standard scores held across
    data sets where stretching over 0 to 1 needed another weight on each (docs/experiments.md).

    Args:
        cosines: shape (n,).
        bm25: shape (n,), 0 where a passage shares no term with the question.
        dense_weight: share of the cosine, 0 to 1.
    """
    return dense_weight * _standard(cosines) + (1 - dense_weight) * _standard(bm25)


def _standard(scores: npt.ArrayLike) -> Scores:
    values = np.asarray(scores, dtype=np.float64)
    spread = values.std() if values.size else 0.0
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values)


def rrf(candidates: Candidates, ids: Sequence[str]) -> Scores:
    """Sum of 1 / (k + rank) over the rankings that a passage is in, ranks counted from 1."""
    fused = dict.fromkeys(ids, 0.0)
    for ranking in candidates:
        for rank, (id_, _) in enumerate(ranking, start=1):
            if id_ in fused:
                fused[id_] += 1 / (RRF_K + rank)
    return np.array([fused[id_] for id_ in ids])


def feedback(question: npt.ArrayLike, vectors: npt.ArrayLike, scores: Scores, share: float, best: int) -> Scores:
    """The question's vector, moved towards what was found first; shape (dim,), length 1.

    Pseudo-relevance feedback after Rocchio (The SMART Retrieval System, 1971), without its negative part.

    Args:
        question: shape (dim,).
        vectors: of the candidates, shape (n, dim), n > 0.
        scores: of the candidates; equal ones count in their order.
        share: how far to move, 0 to 1.
        best: how many of the first are taken for relevant.
    """
    first = np.argsort(-scores, kind="stable")[:best]
    moved = (1 - share) * np.asarray(question, np.float64) + share * np.asarray(vectors, np.float64)[first].mean(axis=0)
    length = np.linalg.norm(moved)
    return moved / length if length > 0 else np.asarray(question, np.float64)
