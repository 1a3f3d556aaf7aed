"""Pairs of claim and window -> logits of the checker's model, on OpenVINO.

Knows nothing about where pairs come from or what becomes of the logits.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rag.align import Pair, stacked
from rag.aside import aside
from rag.embed import batches
from rag.weights import Weights, converted


class Scored(NamedTuple):
    """What the model says of a claim beside a window."""

    logit: float
    """Above 0 where the window supports the claim."""
    faults: npt.NDArray[np.float32]
    """For each token of the claim, special ones included, how likely it is that the window does not support it."""


class Scorer(Protocol):
    """What judges pairs."""

    id: str
    """Names the weights."""

    def score(self, pairs: Sequence[Pair]) -> list[Scored]:
        """What the model says of each pair, in their order."""


class OpenVINOScorer:
    """The model that comes with Footnote; `rag/checker/README.md` is its card."""

    def __init__(self, weights: Weights, cache: Path, cores: int) -> None:
        self._weights, self._cache, self._cores = weights, cache, cores
        self._one_at_a_time = threading.Lock()
        self.id = weights.id

    @cached_property
    def _queue(self) -> Any:
        import openvino as ov

        path = converted("checker-1", self._weights, self._cache, "converting the checker to OpenVINO") / "model.xml"
        options = {
            "NUM_STREAMS": str(self._cores),
            "INFERENCE_NUM_THREADS": self._cores,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        queue = ov.AsyncInferQueue(aside(lambda: ov.Core().compile_model(path, "CPU", options)), self._cores)
        queue.set_callback(_taken)
        return queue

    def score(self, pairs: Sequence[Pair]) -> list[Scored]:
        """See `Scorer.score`."""
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i].flag), reverse=True)
        found: list[Scored | None] = [None] * len(pairs)
        with self._one_at_a_time:
            for rows in batches(order, self._cores):
                batch = [pairs[row] for row in rows]
                self._queue.start_async(stacked(batch), (batch, rows, found))
            self._queue.wait_all()
        return [scored for scored in found if scored is not None]


def _taken(request: Any, job: tuple[list[Pair], list[int], list[Scored | None]]) -> None:
    """Put a batch's logits where the caller who waits for them looks."""
    batch, rows, found = job
    verdicts, tokens = (request.get_output_tensor(i).data for i in (0, 1))
    for place, (each, row) in enumerate(zip(batch, rows, strict=True)):
        claim = int((each.segment == 0).sum())
        found[row] = Scored(float(verdicts[place]), 1 / (1 + np.exp(-tokens[place, :claim])))
