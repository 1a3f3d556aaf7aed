"""A question -> the passages that answer it best. Knows nothing about language models or answers."""

from __future__ import annotations

import time

from rag.embed import Embedder
from rag.errors import QuestionError
from rag.fuse import fuse
from rag.settings import Settings
from rag.sparse import encode_query
from rag.store.protocol import BM25, DENSE, Candidates, Ranking, Store
from rag.types import Hit, Via

TRIES = 5
PAUSE = 0.004
"""Seconds before a search that met a document in the middle of its replacement begins again: twice what that takes."""


class Retriever:
    """Hybrid retrieval: dense and BM25 candidates from the store, fused."""

    def __init__(self, store: Store, embedder: Embedder, settings: Settings) -> None:
        self._store, self._embedder, self._settings = store, embedder, settings

    def search(self, question: str, k: int) -> list[Hit]:
        """The `k` best passages, best first; the same question gives the same list.

        Documents may be replaced meanwhile: all passages of a document are of one revision.

        Raises:
            QuestionError: the question is empty or longer than `max_question_chars`.
        """
        question = self.checked(question)
        dense, sparse = self._embedder.embed_query(question), encode_query(question)
        limit = max(self._settings.candidates, k)
        candidates = self._store.candidates(dense, sparse, limit)
        for _ in range(TRIES - 1):
            best = self._fused(candidates, k)
            hits = self._hits(candidates, best)
            if len(hits) == len(best) == len(_of_one_revision(hits)):
                return hits
            # A document was replaced or removed between the steps, or is just being replaced.
            time.sleep(PAUSE)
            candidates = self._store.candidates(dense, sparse, limit)
        return self._what_is_there(candidates, k)

    def _what_is_there(self, candidates: Candidates, k: int) -> list[Hit]:
        """The best passages where the index does not come to rest, or where a replacement was cut short."""
        everything = self._fused(candidates, len(candidates.dense) + len(candidates.bm25))
        return _of_one_revision(self._hits(candidates, everything))[:k]

    def _fused(self, candidates: Candidates, k: int) -> Ranking:
        return fuse(candidates, k, self._settings.fusion, self._settings.dense_weight)

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


def _of_one_revision(hits: list[Hit]) -> list[Hit]:
    """Without hits that are of another revision of their document than its best hit."""
    chosen: dict[str, str] = {}
    return [hit for hit in hits if chosen.setdefault(hit.chunk.doc_id, hit.chunk.revision) == hit.chunk.revision]
