"""A question -> the passages that answer it best. Knows nothing about language models or answers."""

from __future__ import annotations

from rag.embed import Embedder
from rag.errors import QuestionError
from rag.fuse import fuse
from rag.settings import Settings
from rag.sparse import encode_query
from rag.store.protocol import BM25, DENSE, Store
from rag.types import Hit, Via


class Retriever:
    """Hybrid retrieval: dense and BM25 candidates from the store, fused."""

    def __init__(self, store: Store, embedder: Embedder, settings: Settings) -> None:
        self._store, self._embedder, self._settings = store, embedder, settings

    def search(self, question: str, k: int) -> list[Hit]:
        """The `k` best passages, best first; the same question gives the same list.

        Raises:
            QuestionError: the question is empty or longer than `max_question_chars`.
        """
        question = self.checked(question)
        settings = self._settings
        limit = max(settings.candidates, k)
        candidates = self._store.candidates(self._embedder.embed_query(question), encode_query(question), limit)
        fused = dict(fuse(candidates, k, settings.fusion, settings.dense_weight))
        via: dict[str, list[Via]] = {id_: [] for id_ in fused}
        for system, ranking in ((DENSE, candidates.dense), (BM25, candidates.bm25)):
            for rank, (id_, score) in enumerate(ranking, start=1):
                if id_ in via:
                    via[id_].append(Via(system, rank, score))
        return [Hit(chunk, fused[chunk.id], tuple(via[chunk.id])) for chunk in self._store.fetch(list(fused))]

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
