"""The models beside the embedder, loaded when they are first used, and shared by whoever answers with them.

Knows nothing about what is asked.
"""

from __future__ import annotations

from threading import Lock

from rag.llm import LLM, open_llm
from rag.rerank import Reranker, open_reranker
from rag.settings import Settings
from rag.verify import Checker, open_checker


class Models:
    """What writes answers, what checks them, and what orders passages anew. Safe to use from several threads."""

    def __init__(self, settings: Settings, llm: LLM | None = None, checker: Checker | None = None) -> None:
        """What is given is loaded already. Raises WeightsError: the reranker's weights are not on this machine."""
        self._settings, self._llm, self._checker, self._loading = settings, llm, checker, Lock()
        self.reranker: Reranker | None = open_reranker(settings)
        """None where the settings name none."""

    @property
    def llm(self) -> LLM:
        """The language model. Raises LLMError, WeightsError: it cannot be loaded."""
        with self._loading:
            if self._llm is None:
                self._llm = open_llm(self._settings)
            return self._llm

    @property
    def checker(self) -> Checker:
        """What checks answers. Raises WeightsError: it cannot be loaded."""
        with self._loading:
            if self._checker is None:
                self._checker = open_checker(self._settings)
            return self._checker

    def load(self) -> None:
        """Load what writes answers and what checks them. Raises LLMError, WeightsError: it cannot be."""
        _ = self.llm, self.checker

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not loaded yet."""
        parts = {"the language model": self._llm, "the checker": self._checker}
        return tuple(name for name, part in parts.items() if part is None)
