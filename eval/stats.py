"""Intervals and tests. Pure; knows nothing about questions, systems or files.

All randomness comes from a fixed seed: the same numbers give the same intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
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
