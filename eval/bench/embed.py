"""Our embedder against `SentenceTransformer.encode` with the same weights, turn by turn in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from eval.bench.texts import passages
from rag.embed import Embedder, TransformersEmbedder, open_embedder
from rag.settings import Settings
from rag.types import Vectors
from rag.weights import find_embedder

TOKENS = 160
ROUNDS = 3


def run(settings: Settings, texts: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Passages a second of both, their ratio (median of the rounds), and how alike the vectors are.

    Raises:
        WeightsError: the weights are not on this machine.
    """
    ours = open_embedder(settings)
    peer = TransformersEmbedder(find_embedder(settings.embed_model))
    sample = passages(texts, ours.count_tokens, TOKENS)
    progress("loading both")
    for embedder in (ours, peer):
        embedder.embed(sample[:16])
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    for turn in range(1, ROUNDS + 1):
        our_vectors = _timed(ours, sample, rates["ours"])
        peer_vectors = _timed(peer, sample, rates["peer"])
        progress(f"round {turn}: ours {rates['ours'][-1]:.1f}, peer {rates['peer'][-1]:.1f} passages/s")
    cosines = np.sum(our_vectors * peer_vectors, axis=1)
    ratios = [our / theirs for our, theirs in zip(rates["ours"], rates["peer"], strict=True)]
    return {
        "texts": texts,
        "tokens_per_text": round(statistics.mean(ours.count_tokens(text) for text in sample), 1),
        "backend": ours.backend,
        "ours": round(statistics.median(rates["ours"]), 2),
        "peer": round(statistics.median(rates["peer"]), 2),
        "ratio": round(statistics.median(ratios), 2),
        "cosine_mean": round(float(cosines.mean()), 5),
        "cosine_min": round(float(cosines.min()), 5),
    }


def _timed(embedder: Embedder, sample: list[str], rates: list[float]) -> Vectors:
    started = time.perf_counter()
    vectors = embedder.embed(sample)
    rates.append(len(sample) / (time.perf_counter() - started))
    return vectors
