"""An embedder that a test can hold up, and a collection on the fakes that is written in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.settings import Settings
from rag.store.opening import open_store
from rag.types import Vectors
from tests.conftest import ParrotLLM, WordChecker, WordCountEmbedder, words
from ui.workplace import Here, Opening, Workplace


def count_words(text: str) -> int:
    return len(words(text))


class HeldEmbedder(WordCountEmbedder):
    """Tells when it is asked to embed passages, does something then, and waits until it is let go."""

    count_tokens = staticmethod(count_words)
    """Goes to other processes without the rest."""

    def __init__(self, does: Callable[[], object] = lambda: None) -> None:
        self.does, self.asked, self.go_on = does, threading.Event(), threading.Event()
        self.go_on.set()

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked.set()
        self.does()
        assert self.go_on.wait(60)
        return super().embed(texts)

    def embed_query(self, text: str) -> np.ndarray:
        return WordCountEmbedder().embed_query(text)


def open_held(settings: Settings, embedder: HeldEmbedder) -> Rag:
    """A collection of its own, open for writing; to be closed."""
    return Rag(settings, embedder, open_store(settings, embedder, create=True), ParrotLLM(), WordChecker())


def opening_of(rag: Rag, catalog: Catalog) -> Opening:
    """Finds the work of this process."""

    def open_(_settings: Settings, _catalog: Catalog) -> AbstractContextManager[Workplace]:
        return nullcontext(Here(rag, catalog))

    return open_
