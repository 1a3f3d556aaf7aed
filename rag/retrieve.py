"""A question -> the passages that answer it best. Knows nothing about language models or answers."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rag.embed import Embedder
from rag.errors import QuestionError
from rag.filter import Filter
from rag.fuse import Scores, convex, feedback, rrf
from rag.rerank import Reranker
from rag.settings import Settings
from rag.sparse import encode_query
from rag.store.protocol import BM25, DENSE, Candidates, Ranking, Store
from rag.types import Hit, SparseVector, Via

TRIES = 5
PAUSE = 0.004
"""Seconds before a search that met a document in the middle of its replacement begins again: twice what that takes."""
FEEDBACK_FROM = 3
"""How many of the first passages the question is moved towards (figures in docs/experiments.md)."""
RERANKED = 50
"""How many of the best passages a reranker reads, where there is one."""
DIGITS = 6
"""Scores are rounded: the last digits of a product of matrices depend on where in the matrix a row stands."""


class Retriever:
    """Hybrid retrieval: dense and BM25 candidates from the store, fused, with feedback from the first of them."""

    def __init__(self, store: Store, embedder: Embedder, settings: Settings, reranker: Reranker | None = None) -> None:
        self._store, self._embedder, self._settings, self._reranker = store, embedder, settings, reranker

    def search(self, question: str, k: int, within: Filter | None = None) -> list[Hit]:
        """The `k` best passages, best first; the same question gives the same list.

        Only passages that `within` matches are found; where it matches none, nothing is. Documents may be replaced
        meanwhile: all passages of a document are of one revision.

        Raises:
            QuestionError: the question is empty or longer than `max_question_chars`.
        """
        question = self.checked(question)
        dense, sparse = self._embedder.embed_query(question), encode_query(question)
        limit, most = max(self._settings.candidates, k), max(k, RERANKED) if self._reranker else k
        for _ in range(TRIES):
            candidates = self._store.candidates(dense, sparse, limit, within)
            ids = sorted({id_ for ranking in candidates for id_, _ in ranking})
            ranked = self._ranked(candidates, ids, dense, sparse)
            hits = self._hits(candidates, ranked[:most])
            if len(ranked) == len(ids) and len(hits) == min(most, len(ids)) == len(_of_one_revision(hits)):
                return self._reranked(question, hits)[:k]
            # A document was replaced or removed between the steps, or is just being replaced.
            time.sleep(PAUSE)
        # The index does not come to rest, or a replacement was cut short: the best of what is there.
        return self._reranked(question, _of_one_revision(self._hits(candidates, ranked))[:most])[:k]

    def _ranked(
        self, candidates: Candidates, ids: list[str], dense: npt.NDArray[np.float32], sparse: SparseVector
    ) -> Ranking:
        """The candidates that are still there with their fused scores, best first; equal ones are ordered by id."""
        if self._settings.fusion == "rrf":
            return _sorted(ids, rrf(candidates, ids))
        found = self._store.compare(ids, sparse)
        weight, share = self._settings.dense_weight, self._settings.feedback
        scores = np.round(convex(found.vectors @ dense, found.bm25, weight), DIGITS)
        if share and found.ids:
            moved = feedback(dense, found.vectors, scores, share, FEEDBACK_FROM)
            scores = np.round(convex(found.vectors @ moved, found.bm25, weight), DIGITS)
        return _sorted(found.ids, scores)

    def _reranked(self, question: str, hits: list[Hit]) -> list[Hit]:
        """The hits with the reranker's scores, best first; as they are without one."""
        if self._reranker is None:
            return hits
        scores = np.round(self._reranker.scores(question, [hit.chunk.searchable for hit in hits]), DIGITS)
        scored = [replace(hit, score=float(score)) for hit, score in zip(hits, scores, strict=True)]
        return sorted(scored, key=lambda hit: (-hit.score, hit.chunk.id))

    def _hits(self, candidates: Candidates, best: Ranking) -> list[Hit]:
        """The passages that are still there, each with what every retriever thought of it."""
        scores = dict(best)
        via: dict[str, list[Via]] = {id_: [] for id_ in scores}
        for system, ranking in ((DENSE, candidates.dense), (BM25, candidates.bm25)):
            for rank, (id_, score) in enumerate(ranking, start=1):
                if id_ in via:
                    via[id_].append(Via(system, rank, score))
        return [Hit(chunk, scores[chunk.id], tuple(via[chunk.id])) for chunk in self._store.fetch(list(scores))]

    def checked(self, question: str) -> str:
        """The question without surrounding white space.

        Raises:
            QuestionError: it is empty or too long.
        """
        question = question.strip()
        limit = self._settings.max_question_chars
        if not question:
            raise QuestionError("the question is empty; write what you want to know")
        if not question.isascii() and question != question.encode("utf-8", "replace").decode():
            raise QuestionError("the question holds bytes that are no text; write it in UTF-8")
        if len(question) > limit:
            raise QuestionError(
                f"the question has {len(question):,} characters, at most {limit:,} are taken; "
                "shorten it, or ingest the text and ask about it"
            )
        return question


def _sorted(ids: list[str], scores: Scores) -> Ranking:
    return sorted(zip(ids, map(float, scores), strict=True), key=lambda item: (-item[1], item[0]))


def _of_one_revision(hits: list[Hit]) -> list[Hit]:
    """Without hits that are of another revision of their document than its best hit."""
    chosen: dict[str, str] = {}
    return [hit for hit in hits if chosen.setdefault(hit.chunk.doc_id, hit.chunk.revision) == hit.chunk.revision]
