"""(question, passages) -> how well each answers it, by a cross-encoder that reads both at once.

There is none by default: the setting `rerank_model` names one. Knows nothing about stores or how passages were found.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rag.embed import cuda
from rag.errors import WeightsError
from rag.settings import Settings
from rag.weights import Weights, find_reranker

BATCH = 16


class Reranker(Protocol):
    """What orders the best passages anew."""

    def scores(self, question: str, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """How well each text answers the question, shape (len(texts),); higher is better, the scale is the model's."""


def open_reranker(settings: Settings) -> Reranker | None:
    """The cross-encoder that the settings name, if any; it is loaded when it is first needed.

    Raises:
        WeightsError: its weights are not on this machine.
    """
    return CrossEncoderReranker(find_reranker(settings.rerank_model)) if settings.rerank_model else None


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder with one output, on CUDA where there is one."""

    def __init__(self, weights: Weights) -> None:
        self._weights, self._one_at_a_time = weights, threading.Lock()

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import CrossEncoder

        folder, remedy = str(self._weights.path), "give a cross-encoder with a single output"
        try:
            model = CrossEncoder(folder, device="cuda" if cuda() else "cpu", local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(f"{folder} (setting rerank_model) cannot be loaded: {error}; {remedy}") from error
        if model.num_labels != 1:
            raise WeightsError(f"{folder} (setting rerank_model) has {model.num_labels} outputs; {remedy}")
        return model

    def scores(self, question: str, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """See `Reranker.scores`. Raises WeightsError where the weights are no cross-encoder."""
        if not texts:
            return np.zeros(0)
        with self._one_at_a_time:
            found = self._model.predict(
                [(question, text) for text in texts], batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True
            )
        return np.asarray(found, dtype=np.float64).reshape(len(texts))
