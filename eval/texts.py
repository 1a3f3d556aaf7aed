"""How close an answer is to its references, 0 to 1. Pure; knows nothing about questions or systems."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)

Metric = Callable[[str, str], float]
"""(answer, reference) -> score."""


def normalised(text: str) -> list[str]:
    """Words in lower case without punctuation and English articles, as SQuAD's own evaluation compares them.

    Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1.
    """
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def exact(answer: str, reference: str) -> float:
    """1 where both are the same words."""
    return float(normalised(answer) == normalised(reference))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of the shares of words that the two have in common (SQuAD's F1)."""
    said, wanted = normalised(answer), normalised(reference)
    common = (Counter(said) & Counter(wanted)).total()
    return 2 * common / (len(said) + len(wanted)) if common else float(said == wanted)


def recall(answer: str, reference: str) -> float:
    """Share of the reference's words that the answer has."""
    wanted = normalised(reference)
    return (Counter(normalised(answer)) & Counter(wanted)).total() / len(wanted) if wanted else 0.0


def contains(answer: str, reference: str) -> float:
    """1 where the reference's words are in the answer one after the other."""
    said, wanted = normalised(answer), normalised(reference)
    starts = range(len(said) - len(wanted) + 1) if wanted else ()
    return float(any(said[start : start + len(wanted)] == wanted for start in starts))


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of stemmed words (Lin 2004), by Google's `rouge-score`."""
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer(["rougeL"], use_stemmer=True).score(reference, answer)["rougeL"].fmeasure)


def rouge_l_recall(answer: str, reference: str) -> float:
    """The longest common subsequence of stemmed words as a share of the reference's, by Google's `rouge-score`."""
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer(["rougeL"], use_stemmer=True).score(reference, answer)["rougeL"].recall)


def best(metric: Metric, answer: str, references: Sequence[str]) -> float:
    """The score against the reference that fits best; 0 without one."""
    return max((metric(answer, reference) for reference in references), default=0.0)
