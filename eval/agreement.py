"""How far scores agree with people's labels: figures with intervals. Pure; knows nothing about checkers or data sets.

The figures themselves are scikit-learn's; the intervals come from resampling clusters of cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eval.stats import Interval, Values, auroc, draws, reliability

RESAMPLES = 2_000
METRICS = ("auroc", "balanced_accuracy", "f1_unsupported", "calibration_error")
"""The first two have a meaning only where there are cases of both labels. The last is better the lower it is."""
BINS = 10
CURVE = 200
"""Points of a curve at most."""


class Estimate(NamedTuple):
    """A figure, and what it is in each resample."""

    value: float
    samples: Values

    @property
    def interval(self) -> Interval:
        """With its 95 % percentile interval; resamples in which it has no meaning are left out."""
        low, high = np.nanpercentile(self.samples, [2.5, 97.5])
        return Interval(float(self.value), float(low), float(high))


def figures(
    scores: Sequence[float], labels: Sequence[int], clusters: Sequence[int], threshold: float
) -> dict[str, Estimate]:
    """Those of `METRICS` that have a meaning.

    Args:
        scores: 0 to 1, each the probability that the label is 1; at least one.
        labels: 1 for supported, 0 for unsupported.
        clusters: a number for each case, the same for those that stand or fall together; counted from 0.
        threshold: score from which a case counts as supported.
    """
    from sklearn.metrics import balanced_accuracy_score, f1_score

    truth, said = np.asarray(labels), np.asarray(scores) >= threshold
    values = {
        "f1_unsupported": float(f1_score(truth, said, pos_label=0, zero_division=0.0)),
        "calibration_error": reliability(scores, [float(label) for label in labels], BINS).error,
    }
    if len(set(labels)) > 1:
        values["balanced_accuracy"] = float(balanced_accuracy_score(truth, said))
    sure, real, positive = (np.asarray(each, dtype=np.float64) for each in (scores, truth, said))
    portions = [_resampled(sure, real, positive, counts) for counts in draws(clusters, RESAMPLES)]
    found = {name: Estimate(value, np.concatenate([each[name] for each in portions])) for name, value in values.items()}
    found |= {"auroc": area} if (area := ranking(scores, labels, clusters)) else {}
    return {name: found[name] for name in METRICS if name in found}


def ranking(scores: Sequence[float], labels: Sequence[int], clusters: Sequence[int]) -> Estimate | None:
    """The area below the ROC curve, for which only the order of the scores matters; None with one label alone."""
    from sklearn.metrics import roc_auc_score

    if len(set(labels)) < 2:
        return None
    array, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    samples = np.concatenate([auroc(array, truth, counts) for counts in draws(clusters, RESAMPLES)])
    return Estimate(float(roc_auc_score(truth, array)), samples)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of figures of independent sets of cases."""
    samples = np.stack([each.samples for each in estimates]).mean(axis=0)
    return Estimate(float(np.mean([each.value for each in estimates])), samples)


class Roc(NamedTuple):
    """Which share of each kind is called supported, from the highest threshold to the lowest."""

    of_unsupported: list[float]
    of_supported: list[float]
    area: float


def roc(scores: Sequence[float], labels: Sequence[int]) -> Roc | None:
    """The ROC curve with at most `CURVE` points; None with one label alone."""
    from sklearn.metrics import roc_auc_score, roc_curve

    if len(set(labels)) < 2:
        return None
    wrongly, rightly, _ = roc_curve(labels, scores)
    kept = np.unique(np.linspace(0, len(wrongly) - 1, CURVE).round().astype(int))
    return Roc(wrongly[kept].tolist(), rightly[kept].tolist(), float(roc_auc_score(labels, scores)))


def bins(scores: Sequence[float], labels: Sequence[int]) -> list[dict[str, float]]:
    """Cases of about the same score: its mean as `confidence`, the share of supported ones as `accuracy`, and `n`."""
    return [each._asdict() for each in reliability(scores, [float(label) for label in labels], BINS).bins]


def _resampled(scores: Values, truth: Values, said: Values, counts: Values) -> dict[str, Values]:
    """The figures that depend on the scores' size, in each sample."""
    unsupported = counts @ (1 - truth)
    supported = counts @ truth
    missed = counts @ (truth * (1 - said))
    caught = counts @ ((1 - truth) * (1 - said))
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    off = (scores - truth)[:, None] * (bins[:, None] == np.arange(BINS))
    with np.errstate(invalid="ignore"):
        return {
            "balanced_accuracy": ((supported - missed) / supported + caught / unsupported) / 2,
            "f1_unsupported": 2 * caught / np.maximum(caught + missed + unsupported, 1),
            "calibration_error": np.abs(counts @ off).sum(axis=1) / counts.sum(axis=1),
        }
