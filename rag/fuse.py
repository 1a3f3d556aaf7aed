"""Two ranked lists become one. Pure; knows nothing about Qdrant, models or text."""

from __future__ import annotations

from collections.abc import Callable

from rag.store.protocol import Candidates, Ranking

RRF_K = 60
"""Rank constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""


def fuse(candidates: Candidates, limit: int, method: str = "convex", dense_weight: float = 0.7) -> Ranking:
    """The `limit` best chunks of both lists, best first; equal scores are ordered by id.

    Args:
        candidates: both rankings, best first.
        limit: how many to return at most.
        method: `convex` or `rrf`.
        dense_weight: share of the dense score in convex fusion, 0 to 1; `rrf` does not use it.
    """
    fused = METHODS[method](candidates, dense_weight)
    return sorted(fused.items(), key=lambda item: (-item[1], item[0]))[:limit]


def _convex(candidates: Candidates, dense_weight: float) -> dict[str, float]:
    """Weighted sum of min-max-normalised scores (Bruch et al., TOIS 2023); a list that lacks a chunk adds 0."""
    dense, bm25 = _normalised(candidates.dense), _normalised(candidates.bm25)
    return {
        id_: dense_weight * dense.get(id_, 0.0) + (1 - dense_weight) * bm25.get(id_, 0.0)
        for id_ in dense.keys() | bm25.keys()
    }


def _normalised(ranking: Ranking) -> dict[str, float]:
    """Scores stretched over 0 to 1; a list whose scores are all equal gets 1 throughout."""
    if not ranking:
        return {}
    scores = [score for _, score in ranking]
    low, span = min(scores), max(scores) - min(scores)
    return {id_: (score - low) / span if span else 1.0 for id_, score in ranking}


def _rrf(candidates: Candidates, _dense_weight: float) -> dict[str, float]:
    """Sum of 1 / (k + rank) over the lists, ranks counted from 1."""
    fused: dict[str, float] = {}
    for ranking in candidates:
        for rank, (id_, _) in enumerate(ranking, start=1):
            fused[id_] = fused.get(id_, 0.0) + 1 / (RRF_K + rank)
    return fused


METHODS: dict[str, Callable[[Candidates, float], dict[str, float]]] = {"convex": _convex, "rrf": _rrf}
