"""A question -> the passages that answer it best. Knows nothing about language models or answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rag.embed import Embedder
from rag.errors import QuestionError
from rag.filter import Filter
from rag.fuse import convex, feedback, rrf
from rag.rerank import Reranker
from rag.settings import Settings
from rag.sparse import encode_query
from rag.store.protocol import BM25, DENSE, Candidates, Compared, Ranking, Store
from rag.types import Hit, SparseVector, Via

TRIES = 8
PAUSE = 0.004
"""Seconds before a search that met a document in the middle of its replacement begins again: twice what that takes."""
FEEDBACK_FROM = 3
"""How many of the first passages the question is moved towards (figures in docs/experiments.md)."""
RERANKED = 50
"""How many of the best passages a reranker reads, where there is one."""
DIGITS = 6
"""Scores are rounded: the last digits of a product of matrices depend on where in the matrix a row stands."""
ALSO = 0.7
"""Share of the other wordings in the score, where a question is asked in several (figures in docs/decisions.md)."""


class _Query(NamedTuple):
    """A question as both retrievers see it, with its share in the score."""

    text: str
    dense: npt.NDArray[np.float32]
    sparse: SparseVector
    share: float


class Retriever:
    """Hybrid retrieval: dense and BM25 candidates from the store, fused, with feedback from the first of them."""

    def __init__(self, store: Store, embedder: Embedder, settings: Settings, reranker: Reranker | None = None) -> None:
        self._store, self._embedder, self._settings, self._reranker = store, embedder, settings, reranker

    def search(self, question: str, k: int, within: Filter | None = None, also: Sequence[str] = ()) -> list[Hit]:
        """The `k` best passages, best first; the same question gives the same list.

        Documents may be replaced meanwhile: all passages of a document are of one revision.

        Args:
            question: what is asked.
            k: how many passages.
            within: find only passages that it matches; where it matches none, nothing is found.
            also: other wordings of it, such as one that stands alone. Passages are found by each and ranked by all.

        Raises:
            QuestionError: the question, or another wording, is empty or longer than `max_question_chars`.
        """
        queries = self._queries(question, also)
        limit, most = max(self._settings.candidates, k), max(k, RERANKED) if self._reranker else k
        for _ in range(TRIES):
            candidates = [self._store.candidates(query.dense, query.sparse, limit, within) for query in queries]
            ids = sorted({id_ for found in candidates for ranking in found for id_, _ in ranking})
            ranked = self._ranked(candidates, ids, queries)
            hits = self._hits(candidates, ranked[:most])
            if len(ranked) == len(ids) and len(hits) == min(most, len(ids)) == len(_of_one_revision(hits)):
                return self._reranked(queries[-1].text, hits)[:k]
            # A document was replaced or removed between the steps, or is just being replaced.
            time.sleep(PAUSE)
        # The index does not come to rest, or a replacement was cut short: the best of what is there.
        return self._reranked(queries[-1].text, _of_one_revision(self._hits(candidates, ranked))[:most])[:k]

    def _queries(self, question: str, also: Sequence[str]) -> list[_Query]:
        """Every wording once, the question first."""
        first, *others = dict.fromkeys(map(self.checked, (question, *also)))
        shares = [1 - ALSO, *([ALSO / len(others)] * len(others))] if others else [1.0]
        embed = self._embedder.embed_query
        return [
            _Query(text, embed(text), encode_query(text), share)
            for text, share in zip((first, *others), shares, strict=True)
        ]

    def _ranked(self, candidates: Sequence[Candidates], ids: list[str], queries: Sequence[_Query]) -> Ranking:
        """The candidates that are still there with their fused scores, best first; equal ones are ordered by id."""
        if self._settings.fusion == "rrf":
            scored = [dict(zip(ids, rrf(found, ids), strict=True)) for found in candidates]
        else:
            scored = [self._scored(self._store.compare(ids, query.sparse), query.dense) for query in queries]
        there = [id_ for id_ in ids if all(id_ in scores for scores in scored)]
        if len(queries) == 1:
            return _sorted((id_, float(scored[0][id_])) for id_ in there)
        shared = list(zip(queries, scored, strict=True))
        return _sorted((id_, round(sum(q.share * float(s[id_]) for q, s in shared), DIGITS)) for id_ in there)

    def _scored(self, found: Compared, dense: npt.NDArray[np.float32]) -> dict[str, float]:
        """What one wording of a question makes of every candidate."""
        weight, share = self._settings.dense_weight, self._settings.feedback
        scores = np.round(convex(found.vectors @ dense, found.bm25, weight), DIGITS)
        if share and found.ids:
            moved = feedback(dense, found.vectors, scores, share, FEEDBACK_FROM)
            scores = np.round(convex(found.vectors @ moved, found.bm25, weight), DIGITS)
        return dict(zip(found.ids, map(float, scores), strict=True))

    def _reranked(self, question: str, hits: list[Hit]) -> list[Hit]:
        """The hits with the reranker's scores, best first; as they are without one."""
        if self._reranker is None:
            return hits
        scores = np.round(self._reranker.scores(question, [hit.chunk.searchable for hit in hits]), DIGITS)
        scored = [replace(hit, score=float(score)) for hit, score in zip(hits, scores, strict=True)]
        return sorted(scored, key=lambda hit: (-hit.score, hit.chunk.id))

    def _hits(self, candidates: Sequence[Candidates], best: Ranking) -> list[Hit]:
        """The passages that are still there, each with what every retriever thought of it, by the wording it suits."""
        scores = dict(best)
        via: dict[str, dict[str, Via]] = {id_: {} for id_ in scores}
        seen = [(DENSE, found.dense) for found in candidates] + [(BM25, found.bm25) for found in candidates]
        for system, ranking in seen:
            for rank, (id_, score) in enumerate(ranking, start=1):
                if id_ in via and (system not in via[id_] or score > via[id_][system].score):
                    via[id_][system] = Via(system, rank, score)
        found = self._store.fetch(list(scores))
        return [Hit(chunk, scores[chunk.id], tuple(via[chunk.id].values())) for chunk in found]

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


def _sorted(scored: Iterable[tuple[str, float]]) -> Ranking:
    return sorted(scored, key=lambda item: (-item[1], item[0]))


def _of_one_revision(hits: list[Hit]) -> list[Hit]:
    """Without hits that are of another revision of their document than its best hit."""
    chosen: dict[str, str] = {}
    return [hit for hit in hits if chosen.setdefault(hit.chunk.doc_id, hit.chunk.revision) == hit.chunk.revision]
