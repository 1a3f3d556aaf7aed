"""Text -> dense vectors, on OpenVINO (int8 or fp32) or sentence-transformers.

Knows nothing about chunks or the store.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rag.aside import aside
from rag.errors import EmbedError, TextTooLong
from rag.settings import Settings
from rag.together import Together
from rag.types import Vectors
from rag.weights import Weights, converted, find_embedder

log = logging.getLogger("footnote.embed")

BATCH = 8
"""Texts in one inference call: larger batches pad more and were not faster (see docs/decisions.md)."""
MULTIPLE = 16
"""Lengths are rounded up to one of these: OpenVINO compiles its kernels anew for every shape that it has not seen."""
TOGETHER = 256
"""Tokens of questions that are embedded at once, padding included: what a question may have to wait for besides."""
PATIENCE = 30.0
"""Seconds after which a batch that has not come is asked after."""
SPARE = 8
"""Tokens left free in each part of a long question."""


class Embedder(Protocol):
    """What turns text into vectors of length 1."""

    id: str
    """Name and hash of the weights: vectors of different ids must not be compared."""
    backend: str
    """What runs it, as in the setting `embed_backend`."""
    dim: int
    window: int
    """Longest text in tokens, special tokens included."""

    @property
    def count_tokens(self) -> Callable[[str], int]:
        """Says how many tokens a text has, special ones left out. Can be pickled, for processes that cut text."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages, shape (len(texts), dim).

        Raises:
            TextTooLong: a text has more tokens than the window; nothing is cut silently.
        """

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        """Vector of a question, shape (dim,); one that is longer than the window is embedded in parts and averaged."""


def open_embedder(settings: Settings) -> Embedder:
    """The embedder that the settings name.

    Raises:
        WeightsError: its weights are not on this machine.
    """
    weights = find_embedder(settings.embed_model)
    backend = settings.embed_backend
    if backend == "auto":
        backend = "sentence-transformers" if cuda() else "openvino-int8"
    if backend == "sentence-transformers":
        return TransformersEmbedder(weights)
    return OpenVINOEmbedder(weights, settings.cache_dir, settings.cores, int8=backend == "openvino-int8")


def cuda() -> bool:
    """True where torch sees an NVIDIA GPU. Looks for the driver first, so that torch is not loaded in vain."""
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/nvidia0").exists():
        return False
    import torch

    return torch.cuda.is_available()


class TokenCounter:
    """Counts a tokenizer's tokens; goes to another process as the path of its file."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._path = path
        self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def __call__(self, text: str) -> int:
        """How many tokens `text` has."""
        return len(self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])

    def __reduce__(self) -> tuple[type[TokenCounter], tuple[Path]]:
        return TokenCounter, (self._path,)


class _Tokens:
    """The parts that depend on the tokenizer alone, shared by both embedders."""

    id: str
    window: int

    def __init__(self, weights: Weights) -> None:
        self.id = weights.id
        path = weights.path / "tokenizer.json"
        if not path.exists():
            raise EmbedError(
                f"no tokenizer.json in {weights.path}; give a directory in the sentence-transformers layout"
            )
        self.count_tokens = TokenCounter(path)
        self._tokenizer = self.count_tokens.tokenizer
        self._special = self._tokenizer.num_special_tokens_to_add(False)
        config = json.loads((weights.path / "config.json").read_text())
        sentence = weights.path / "sentence_bert_config.json"
        limit = json.loads(sentence.read_text()).get("max_seq_length") if sentence.exists() else None
        self.window = int(limit or config["max_position_embeddings"])
        self.dim = int(config["hidden_size"])
        prompts = weights.path / "config_sentence_transformers.json"
        self._prompts = (json.loads(prompts.read_text()).get("prompts") or {}) if prompts.exists() else {}

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with special tokens, each list checked against the window."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        for text, ids in zip(texts, encoded, strict=True):
            if len(ids) > self.window:
                raise TextTooLong(
                    f"a text of {len(ids)} tokens does not fit the embedder's window of {self.window} "
                    f"(it begins {text[:40]!r}); lower chunk_tokens to {self.window - self._special} or less"
                )
        return encoded

    def _parts(self, text: str) -> list[str]:
        """The text cut between words into parts that fit the window, with a little room for what cutting changes."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if len(encoding.ids) <= self.window - self._special:
            return [text]
        room = self.window - self._special - SPARE
        starts, words = [0], encoding.word_ids
        for i in range(1, len(words)):
            if i - starts[-1] >= room:
                # Back to the beginning of the word, unless the word alone fills the part.
                first = next((j for j in range(i, starts[-1], -1) if words[j] != words[j - 1]), i)
                starts.append(first)
        cuts = [encoding.offsets[i][0] for i in starts]
        return [text[start:end] for start, end in zip([0, *cuts[1:]], [*cuts[1:], len(text)], strict=True)]

    def _query(self, text: str, embed: Callable[[Sequence[str]], Vectors]) -> npt.NDArray[np.float32]:
        mean = embed(self._parts(self._prompts.get("query", "") + text)).mean(axis=0)
        vector: npt.NDArray[np.float32] = (mean / np.linalg.norm(mean)).astype(np.float32)
        return vector


class OpenVINOEmbedder(_Tokens):
    """The encoder as an OpenVINO graph, pooled and normalised inside; one inference stream per core."""

    def __init__(self, weights: Weights, cache: Path, cores: int, int8: bool = True) -> None:
        super().__init__(weights)
        self._weights, self._cache, self._cores, self._int8 = weights, cache, cores, int8
        self._one_at_a_time = threading.Lock()
        self.backend = "openvino-int8" if int8 else "openvino"

    @cached_property
    def _queue(self) -> Any:
        import openvino as ov

        queue = ov.AsyncInferQueue(self._compiled(), self._cores)
        queue.set_callback(_taken)
        return queue

    @cached_property
    def _questions(self) -> Together[list[int], npt.NDArray[np.float32]]:
        """With streams of their own: a question would wait seconds for those that embed an ingestion's passages."""
        compiled = self._compiled()
        requests = SimpleQueue[Any]()
        for _ in range(self._cores):
            requests.put(compiled.create_infer_request())

        def run(batch: Sequence[list[int]]) -> list[npt.NDArray[np.float32]]:
            request = requests.get()
            try:
                length = min(rounded(max(map(len, batch))), self.window)
                return list(request.infer(padded(batch, length))[0].copy())
            finally:
                requests.put(request)

        return Together(run, self._cores, lambda batch: max(map(len, batch)) * len(batch) <= TOGETHER)

    def _compiled(self) -> Any:
        import openvino as ov

        recipe, what = ("embedder-int8-1", "int8") if self._int8 else ("embedder-fp32-1", "fp32")
        why = f"converting the embedder {self._weights.name} to OpenVINO {what}"
        model = converted(recipe, self._weights, self._cache, why) / "model.xml"
        options = {
            "NUM_STREAMS": str(self._cores),
            "INFERENCE_NUM_THREADS": self._cores,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        return aside(lambda: ov.Core().compile_model(model, "CPU", options))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`. Texts are batched by length, so that little is padding."""
        prefix = self._prompts.get("document", "")
        encoded = self._ids([prefix + text for text in texts] if prefix else texts)
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]), reverse=True)
        batched = batches(order, self._cores)
        done = threading.Semaphore(0)
        for rows in batched:
            with self._one_at_a_time:  # a batch, not a call: nobody waits for all texts of another one
                self._queue.start_async(padded([encoded[row] for row in rows]), (vectors, rows, done))
        for _ in batched:
            while not done.acquire(timeout=PATIENCE):
                self._queue.wait_all()  # raises what went wrong, if anything did
        return vectors

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        """See `Embedder.embed_query`. Questions of several threads are embedded together."""
        return self._query(text, lambda parts: np.stack([self._questions(ids) for ids in self._ids(parts)]))


def _taken(request: Any, job: tuple[Vectors, list[int], threading.Semaphore]) -> None:
    """Put the vectors of a batch where the caller who waits for them looks."""
    vectors, rows, done = job
    vectors[rows] = request.get_output_tensor().data
    done.release()


def batches(order: Sequence[int], streams: int) -> list[Sequence[int]]:
    """Places in batches of at most `BATCH`, and no larger than lets every stream have its share of a few."""
    size = max(1, min(BATCH, -(-len(order) // streams)))
    return [order[start : start + size] for start in range(0, len(order), size)]


def rounded(length: int) -> int:
    """A length as batches have it for which few different shapes matter more than a little padding."""
    return -(-length // MULTIPLE) * MULTIPLE


def padded(batch: Sequence[Sequence[int]], length: int = 0) -> dict[str, npt.NDArray[np.int64]]:
    """Token ids as a batch with its attention mask, each of shape (texts, longest); `longest` is `length` at least."""
    longest = max(length, *map(len, batch))
    ids = np.zeros((len(batch), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


class TransformersEmbedder(_Tokens):
    """sentence-transformers, on CUDA where there is one; also the peer that `footnote bench embed` compares with."""

    backend = "sentence-transformers"

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self._path = weights.path

    @cached_property
    def model(self) -> Any:
        """The SentenceTransformer object, loaded on first use."""
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(self._path), device="cuda" if cuda() else "cpu", local_files_only=True)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`."""
        prefix = self._prompts.get("document", "")
        texts = [prefix + text for text in texts]
        self._ids(texts)
        return self._encode(texts)

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        """See `Embedder.embed_query`."""
        return self._query(text, self._encode)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        vectors: Vectors = self.model.encode(
            list(texts), prompt="", batch_size=32, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors.astype(np.float32, copy=False)
