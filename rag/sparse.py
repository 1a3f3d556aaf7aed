"""Text -> BM25 sparse vectors. IDF is left to Qdrant, so a chunk's weights never depend on the corpus.

A document's weight for a term is `tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / avgdl))` (Robertson and
Zaragoza, The Probabilistic Relevance Framework, 2009) with a fixed `avgdl`: chunks are bounded in length, so
ingestion is incremental and exact under deletes. Qdrant multiplies with Lucene's IDF,
`ln(1 + (N - n + 0.5) / (n + 0.5))`. Knows nothing about Qdrant, files or dense vectors.
"""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from collections import Counter
from functools import lru_cache

from rag.types import SparseVector

K1 = 1.2
B = 0.75
AVGDL = 80.0
"""Tokens, stop words left out, of a typical 200-token chunk."""

# Lucene's English stop set (EnglishAnalyzer.ENGLISH_STOP_WORDS_SET).
STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with".split()
)
_WORD = re.compile(r"\w+", re.UNICODE)
_LETTERS_AND_DIGITS = re.compile(r"[^\W\d_]+|\d+")
_local = threading.local()


def tokens(text: str) -> list[str]:
    """Stemmed words of a text in order, stop words left out. Case, accents' encoding and width do not matter.

    A word of letters and digits is followed by its parts: who asks for "CD 4" or "ISO 9001" finds CD4 and ISO9001.
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    return [stem for word in words if word not in STOP_WORDS for stem in _stems(word)]


@lru_cache(maxsize=200_000)
def _stems(word: str) -> tuple[str, ...]:
    parts = () if word.isalpha() or word.isdigit() else _LETTERS_AND_DIGITS.findall(word)
    return (_stem(word), *map(_stem, parts)) if len(parts) > 1 else (_stem(word),)


@lru_cache(maxsize=200_000)
def _stem(word: str) -> str:
    """Snowball's English stem. The stemmer is not thread-safe, so each thread has its own."""
    if not hasattr(_local, "stemmer"):
        import Stemmer

        _local.stemmer = Stemmer.Stemmer("english", maxCacheSize=0)
    stemmed: str = _local.stemmer.stemWord(word)
    return stemmed


@lru_cache(maxsize=200_000)
def term_id(term: str) -> int:
    """A term's 32-bit id. Two of 100,000 terms share one with probability about 0.7; it costs a little precision."""
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=4).digest(), "little")


def encode_document(text: str, k1: float = K1, b: float = B, avgdl: float = AVGDL) -> SparseVector:
    """BM25 weights of a chunk's terms, IDF left out."""
    found = tokens(text)
    norm = k1 * (1 - b + b * len(found) / avgdl)
    return _vector({term: tf * (k1 + 1) / (tf + norm) for term, tf in Counter(found).items()})


def encode_query(text: str) -> SparseVector:
    """Weights of a question's terms: how often each occurs."""
    return _vector({term: float(tf) for term, tf in Counter(tokens(text)).items()})


def _vector(weights: dict[str, float]) -> SparseVector:
    """Sorted by term id; weights of terms that share an id are added."""
    merged: dict[int, float] = {}
    for term, weight in weights.items():
        id_ = term_id(term)
        merged[id_] = merged.get(id_, 0.0) + weight
    indices = tuple(sorted(merged))
    return SparseVector(indices, tuple(merged[id_] for id_ in indices))
