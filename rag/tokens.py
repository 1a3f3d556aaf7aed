"""Text -> its tokens with their vectors in context, from the bundled encoder on OpenVINO int8.

Knows nothing about what is compared with what.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rag.aside import aside
from rag.embed import TokenCounter, batches, padded, rounded
from rag.weights import converted, find_embedder

States = npt.NDArray[np.float32]
"""Vectors of a text's tokens, shape (tokens, dim)."""

LONGEST = 256
"""Tokens, special ones included; the rest of a longer text is cut off."""
MIDDLE, LAST = 2, 5
"""The layers whose outputs are given, counted from 0."""
NORM = "__module.encoder.encoder.layer.{}.output.LayerNorm/aten::layer_norm/Add"


class Encoded(NamedTuple):
    """A text as the encoder sees it; the first and the last token are special."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    """Characters of each token: start and end in the text; both 0 for special ones."""
    middle: States
    """Halfway through the encoder."""
    last: States
    """At its end, each row of length 1."""


class Encoder(Protocol):
    """What gives token vectors."""

    id: str
    """Name and hash of the weights."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, special ones left out."""

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokens and vectors of each text, cut to `LONGEST` tokens."""


class TokenEncoder:
    """The encoder that comes with Footnote, whatever embeds passages for the search."""

    def __init__(self, cache: Path, cores: int) -> None:
        self._weights, self._cache, self._cores = find_embedder("bundled"), cache, cores
        self.id = self._weights.id
        self._tokenizer = TokenCounter(self._weights.path / "tokenizer.json").tokenizer
        self._one_at_a_time = threading.Lock()

    @cached_property
    def _queue(self) -> Any:
        import openvino as ov

        why = f"converting the embedder {self._weights.name} to OpenVINO int8"
        path = converted("embedder-int8-1", self._weights, self._cache, why) / "model.xml"

        def compiled() -> Any:
            core = ov.Core()
            whole = core.read_model(path)
            nodes = {node.get_friendly_name(): node for node in whole.get_ops()}
            ends = [nodes[NORM.format(layer)].output(0) for layer in (MIDDLE, LAST)]
            options = {
                "NUM_STREAMS": str(self._cores),
                "INFERENCE_NUM_THREADS": self._cores,
                "INFERENCE_PRECISION_HINT": "f32",
            }
            return core.compile_model(ov.Model(ends, whole.get_parameters(), "tokens"), "CPU", options)

        queue = ov.AsyncInferQueue(aside(compiled), self._cores)
        queue.set_callback(_taken)
        return queue

    def count(self, texts: Sequence[str]) -> list[int]:
        """See `Encoder.count`."""
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """See `Encoder.encode`."""
        encodings = self._tokenizer.encode_batch(list(texts))  # the fast one gives no offsets
        cut = [_cut(encoding) for encoding in encodings]
        order = sorted(range(len(cut)), key=lambda i: len(cut[i][0]), reverse=True)
        found: list[Encoded | None] = [None] * len(cut)
        with self._one_at_a_time:
            for rows in batches(order, self._cores):
                ids = [cut[row][0] for row in rows]
                self._queue.start_async(padded(ids, rounded(max(map(len, ids)))), (cut, rows, found))
            self._queue.wait_all()
        return [encoded for encoded in found if encoded is not None]


def _cut(encoding: Any) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    ids, offsets = encoding.ids, encoding.offsets
    if len(ids) > LONGEST:
        ids, offsets = [*ids[: LONGEST - 1], ids[-1]], [*offsets[: LONGEST - 1], offsets[-1]]
    return tuple(ids), tuple(offsets)


def _taken(request: Any, job: tuple[Any, list[int], list[Encoded | None]]) -> None:
    """Put a batch's vectors where the caller who waits for them looks."""
    cut, rows, found = job
    middle, last = (request.get_output_tensor(i).data for i in (0, 1))
    for place, row in enumerate(rows):
        ids, offsets = cut[row]
        n = len(ids)
        length = np.linalg.norm(last[place, :n], axis=1, keepdims=True)
        found[row] = Encoded(ids, offsets, middle[place, :n].copy(), last[place, :n] / length)
