"""Fits the regression that turns the checker's evidence into a probability, on claims that people labelled.

Its model has not learned from these claims. Knows nothing about files of labelled data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rag.evidence import FIGURES, Blend, Values
from rag.finetune.records import Labelled
from rag.verify import Verifier
from rag.windows import Passage

STRENGTH = 0.003
"""Inverse of the penalty on weights: figures that say much the same need a strong one (docs/experiments.md)."""

NEAR = FIGURES.index("near")


class Evidence(NamedTuple):
    """What a set of labelled claims gives to learn from."""

    values: Values
    """Shape (rows, FIGURES)."""
    labels: Values
    """Shape (rows,), 1 or 0."""


def evidence(verifier: Verifier, claims: Sequence[Labelled]) -> Evidence:
    """The figures of a set's claims.

    Every sentence of a supported claim is supported; which one of an unsupported claim is not, nobody said, so those
    of several sentences are left out.
    """
    by_context: dict[str, list[Labelled]] = {}
    for each in claims:
        by_context.setdefault(each.context, []).append(each)
    rows: list[tuple[Values, int]] = []
    groups: dict[str, tuple[Values, int]] = {}
    for context, its in by_context.items():
        for each, parts in zip(its, verifier.evidence([one.claim for one in its], Passage(context)), strict=True):
            for values in parts if each.label or len(parts) == 1 else ():
                if not each.group:
                    rows.append((values, each.label))
                elif each.group not in groups or values[NEAR] > groups[each.group][0][NEAR]:
                    groups[each.group] = (values, max(each.label, groups.get(each.group, (values, 0))[1]))
    rows += groups.values()
    return Evidence(np.array([values for values, _ in rows]), np.array([label for _, label in rows], dtype=float))


def fit(sets: Mapping[str, Evidence]) -> Blend:
    """The regression of some sets, each of which counts as much as any other, whatever its size.

    Within a set, supported and unsupported claims count the same: how many of each it has is an accident of how it was
    made, and says nothing about the answers that will be checked.
    """
    from sklearn.linear_model import LogisticRegression

    values = np.concatenate([each.values for each in sets.values()])
    labels = np.concatenate([each.labels for each in sets.values()])
    weights = np.concatenate([_balanced(each.labels) for each in sets.values()])
    weights *= len(weights) / weights.sum()
    mean = np.average(values, axis=0, weights=weights)
    scale = np.maximum(np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights)), 1e-6)
    model = LogisticRegression(C=STRENGTH, max_iter=5000).fit((values - mean) / scale, labels, sample_weight=weights)
    weight = tuple(map(float, model.coef_[0]))
    return Blend(tuple(map(float, mean)), tuple(map(float, scale)), weight, float(model.intercept_[0]), tuple(sets))


def _balanced(labels: Values) -> Values:
    """Weights of a set's rows: both labels weigh the same, and the set weighs 1."""
    positive = labels.mean()
    found: Values = np.where(labels > 0, 0.5 / max(positive, 1e-9), 0.5 / max(1 - positive, 1e-9)) / len(labels)
    return found
