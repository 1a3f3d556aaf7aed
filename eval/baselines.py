"""What a checker has to beat: plain measures of how much of a claim is in its context. They have no threshold.

Knows nothing about labels or about how they are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from eval.texts import rouge_l_recall
from rag import sentences
from rag.align import side
from rag.embed import Embedder, open_embedder
from rag.settings import Settings
from rag.sparse import tokens
from rag.tokens import Encoder, TokenEncoder
from rag.windows import Passage, nearest, read

SENTENCES = 2
"""Of a window that is embedded."""
SPARE = 4
"""Tokens that a text must be shorter than the embedder's window, for the special ones."""

Baseline = Callable[[Sequence[str], str], list[float]]
"""(claims, their context) -> a score a claim; only the order of scores means anything."""


def open_baselines(settings: Settings) -> Mapping[str, Baseline]:
    """All of them by their names. Raises WeightsError: the embedder's weights are not on this machine."""
    return baselines(open_embedder(settings), TokenEncoder(settings.cache_dir, settings.cores))


def baselines(embedder: Embedder, encoder: Encoder) -> Mapping[str, Baseline]:
    """All of them by their names, with the models that two of them need."""
    return {
        "content-word recall": lambda claims, context: [word_recall(claim, context) for claim in claims],
        "rouge-l": lambda claims, context: [rouge_l_recall(context, claim) for claim in claims],
        "embedding cosine": lambda claims, context: _cosines(embedder, claims, context),
        "maxsim": lambda claims, context: _late_interaction(encoder, claims, context),
    }


def word_recall(claim: str, context: str) -> float:
    """Share of the claim's stems, stop words left out, that the context has; 0 for a claim without any."""
    wanted = set(tokens(claim))
    return len(wanted & set(tokens(context))) / len(wanted) if wanted else 0.0


def _cosines(embedder: Embedder, claims: Sequence[str], context: str) -> list[float]:
    """Of each claim with the nearest window of two sentences."""
    spans = sentences.split(context) or [(0, len(context))]
    windows = [context[start : spans[min(i + SENTENCES, len(spans)) - 1][1]] for i, (start, _) in enumerate(spans)]
    vectors = embedder.embed([piece for window in windows for piece in _fitting(embedder, window)])
    return [float((vectors @ embedder.embed_query(claim)).max()) for claim in claims]


def _fitting(embedder: Embedder, text: str) -> list[str]:
    """The text, cut by halves between words until its parts fit the embedder."""
    if len(text) < 2 or embedder.count_tokens(text) <= embedder.window - SPARE:
        return [text]
    middle = text.rfind(" ", 1, len(text) // 2 + 1)
    middle = middle if middle > 0 else len(text) // 2
    return [*_fitting(embedder, text[:middle]), *_fitting(embedder, text[middle:])]


def _late_interaction(encoder: Encoder, claims: Sequence[str], context: str) -> list[float]:
    """Weighted mean over a claim's tokens of the cosine with the nearest token of the best window."""
    (segments,) = read([Passage(context)], encoder)
    encoded = encoder.encode(claims)
    return [nearest(side(claim, its), segments, 1)[0].near for claim, its in zip(claims, encoded, strict=True)]
