"""Intervals, tests and curves. Pure; knows nothing about questions, systems or files.

All randomness comes from a fixed seed: the same numbers give the same intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
"""One number a case, shape (n,)."""

RESAMPLES = 10_000
"""Of which a 95 % interval's borders are off by about .1 of a standard error."""
SEED = 20_000
CELLS = 2_000_000
"""Numbers drawn at once; bounds the memory."""


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


def mean(values: Sequence[float] | Values, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """The mean with its 95 % percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Raises:
        ValueError: there are no values, or one is not a finite number.
    """
    array = _checked(values)
    means = _resampled(array, resamples, seed)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(array.mean()), float(low), float(high))


class Difference(NamedTuple):
    """How much better the first of two paired runs is on average."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided: how often signs thrown at random give a difference as large."""


def paired(
    first: Sequence[float] | Values, second: Sequence[float] | Values, resamples: int = RESAMPLES, seed: int = SEED
) -> Difference:
    """The mean difference of two systems on the same cases, with its bootstrap interval and permutation test.

    The test is Fisher's randomisation test with random signs, which Smucker, Allan and Carterette (CIKM 2007) recommend
    for retrieval; p counts the observed signs as one of the draws, so it is never 0.

    Raises:
        ValueError: the two have not the same length, are empty, or hold something that is not a finite number.
    """
    one, other = _checked(first), _checked(second)
    if one.shape != other.shape:
        raise ValueError(f"{len(one)} and {len(other)} values cannot be paired")
    differences = one - other
    value = float(differences.mean())
    low, high = np.percentile(_resampled(differences, resamples, seed), [2.5, 97.5])
    rng, as_large = np.random.default_rng(seed), 1
    for rows in _portions(resamples, len(differences)):
        signs = rng.choice([-1.0, 1.0], size=(rows, len(differences)))
        as_large += int((np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12).sum())
    return Difference(value, float(low), float(high), as_large / (resamples + 1))


class Curve(NamedTuple):
    """Risk at every coverage: what share is wrong among the answers that are at least so sure."""

    coverage: list[float]
    """Shares of all cases, ascending, one for each distinct confidence."""
    risk: list[float]
    area: float
    """Mean risk over all coverages up to the last; 0 is best, equal scores are taken in the order of chance."""


def risk_coverage(confidence: Sequence[float] | Values, correct: Sequence[float] | Values, cases: int) -> Curve:
    """The risk-coverage curve of the cases that were answered (El-Yaniv and Wiener 2010), and the area below it.

    Args:
        confidence: of each answer; only the order matters.
        correct: 1 or 0 for each answer.
        cases: how many there were, with those that were declined.
    """
    if not len(confidence):
        return Curve([], [], 0.0)
    sure, right = _checked(confidence), _checked(correct)
    order = np.argsort(-sure, kind="stable")
    sure, wrong = sure[order], np.cumsum(1 - right[order])
    last = np.flatnonzero(np.append(np.diff(sure) != 0, True))
    counts, errors = last + 1, wrong[last]
    # Within a group of equal confidence any order is as good: its errors come evenly.
    evenly = np.interp(np.arange(1, len(sure) + 1), [0, *counts], [0, *errors])
    area = float((evenly / np.arange(1, len(sure) + 1)).mean())
    return Curve((counts / cases).tolist(), (errors / counts).tolist(), area)


class Bin(NamedTuple):
    """Answers of about the same confidence."""

    confidence: float
    accuracy: float
    n: int


class Reliability(NamedTuple):
    """How far confidence can be read as a probability."""

    bins: list[Bin]
    """Those that are not empty, by confidence."""
    error: float
    """Expected calibration error: mean distance of accuracy from confidence, each bin with its share of the answers."""


def reliability(confidence: Sequence[float] | Values, correct: Sequence[float] | Values, bins: int = 10) -> Reliability:
    """Confidence against accuracy in bins of equal width (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Args:
        confidence: of each answer, 0 to 1.
        correct: 1 or 0 for each answer.
        bins: how many there are between 0 and 1.
    """
    if not len(confidence):
        return Reliability([], 0.0)
    sure, right = _checked(confidence), _checked(correct)
    which = np.minimum((sure * bins).astype(int), bins - 1)
    found = [
        Bin(float(sure[mine].mean()), float(right[mine].mean()), int(mine.sum()))
        for mine in (which == number for number in range(bins))
        if mine.any()
    ]
    return Reliability(found, sum(abs(each.confidence - each.accuracy) * each.n for each in found) / len(sure))


def draws(clusters: Sequence[int], resamples: int, seed: int = SEED) -> Iterator[Values]:
    """How often each case is in each sample: portions of shape (samples, cases).

    Whole clusters are drawn with replacement, because cases of one are no independent draws (cluster bootstrap; Davison
    and Hinkley 1997, section 3.8).

    Args:
        clusters: the number of each case's cluster, counted from 0.
        resamples: how many samples.
        seed: of the draws.
    """
    places = np.asarray(clusters)
    most, rng = int(places.max()) + 1, np.random.default_rng(seed)
    for rows in _portions(resamples, len(places)):
        drawn = rng.integers(0, most, size=(rows, most)) + most * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * most).reshape(rows, most)
        yield counts[:, places].astype(np.float64)


def auroc(scores: Values, labels: Values, counts: Values) -> Values:
    """How often a case of label 1 has a higher score than one of label 0, equal scores counting half, in each sample.

    This is the area below the ROC curve: the Mann-Whitney statistic U over its largest value (Hanley and McNeil 1982).

    Args:
        scores: of each case, shape (n,).
        labels: 1 or 0 for each case.
        counts: how often each case is in each sample, shape (samples, n).

    Returns:
        Shape (samples,); NaN for a sample with one label alone.
    """
    order = np.argsort(scores, kind="stable")
    levels = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))
    ones = np.add.reduceat(counts[:, order] * labels[order], levels, axis=1)
    zeros = np.add.reduceat(counts[:, order] * (1 - labels[order]), levels, axis=1)
    above = (ones * (np.cumsum(zeros, axis=1) - zeros / 2)).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(above / (ones.sum(axis=1) * zeros.sum(axis=1)))


def _resampled(values: Values, resamples: int, seed: int) -> Values:
    """Means of samples drawn with replacement, shape (resamples,)."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [
            values[rng.integers(0, len(values), size=(rows, len(values)))].mean(axis=1)
            for rows in _portions(resamples, len(values))
        ]
    )


def _portions(rows: int, columns: int) -> list[int]:
    """Rows in portions that fit in memory."""
    most = max(1, CELLS // columns)
    return [most] * (rows // most) + ([rows % most] if rows % most else [])


def _checked(values: Sequence[float] | Values) -> Values:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError("no values: a mean needs at least one")
    if not np.isfinite(array).all():
        raise ValueError("a value is not a finite number: a failed case counts as the worst score, not as NaN")
    return array
