"""Scores against labels: values that can be computed otherwise, and what holds for any numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from eval.agreement import METRICS, RESAMPLES, average, bins, figures, ranking, roc
from eval.stats import auroc, draws, reliability

CASES = st.lists(st.tuples(st.integers(0, 10).map(lambda n: n / 10), st.integers(0, 1)), min_size=2, max_size=40)
BOTH = CASES.filter(lambda cases: len({label for _, label in cases}) == 2)


def columns(cases: list[tuple[float, int]]) -> tuple[list[float], list[int]]:
    return [score for score, _ in cases], [label for _, label in cases]


def some(n: int, seed: int = 1) -> tuple[list[float], list[int]]:
    """Scores that tell a good deal about the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return np.clip(0.3 * labels + rng.normal(0.35, 0.2, n), 0, 1).tolist(), labels.tolist()


@given(BOTH)
def test_auroc_is_the_share_of_pairs_in_order(cases: list[tuple[float, int]]) -> None:
    scores, labels = columns(cases)
    found = auroc(np.array(scores), np.array(labels), np.ones((1, len(cases))))[0]
    ones, zeros = ([score for score, label in cases if label == which] for which in (1, 0))
    assert found == pytest.approx(mannwhitneyu(ones, zeros).statistic / (len(ones) * len(zeros)))
    assert found == pytest.approx(roc_auc_score(labels, scores))


@given(BOTH, st.integers(0, 5))
def test_a_case_that_counts_twice_is_a_case_that_is_there_twice(cases: list[tuple[float, int]], which: int) -> None:
    scores, labels = columns(cases)
    twice, counts = which % len(cases), np.ones((1, len(cases)))
    counts[0, twice] = 2
    found = auroc(np.array(scores), np.array(labels), counts)[0]
    assert found == pytest.approx(roc_auc_score([*labels, labels[twice]], [*scores, scores[twice]]))


def test_a_sample_with_one_label_has_no_auroc() -> None:
    counts = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    found = auroc(np.array([0.9, 0.8, 0.1]), np.array([1, 1, 0]), counts)
    assert np.isnan(found[0])
    assert found[1] == 1


@settings(max_examples=25)
@given(BOTH)
def test_every_figure_in_a_sample_is_the_figure_of_the_sampled_cases(cases: list[tuple[float, int]]) -> None:
    scores, labels = columns(cases)
    found = figures(scores, labels, range(len(cases)), 0.6)
    (counts, *_) = draws(range(len(cases)), RESAMPLES)
    for sample in range(3):
        picked = np.repeat(np.arange(len(cases)), counts[sample].astype(int))
        drawn, truth = [scores[i] for i in picked], [labels[i] for i in picked]
        said = [score >= 0.6 for score in drawn]
        assert found["calibration_error"].samples[sample] == pytest.approx(reliability(drawn, truth).error)
        f1 = f1_score(truth, said, pos_label=0, zero_division=0.0)
        assert found["f1_unsupported"].samples[sample] == pytest.approx(f1)
        if len(set(truth)) == 2:
            assert found["auroc"].samples[sample] == pytest.approx(roc_auc_score(truth, drawn))
            balanced = balanced_accuracy_score(truth, said)
            assert found["balanced_accuracy"].samples[sample] == pytest.approx(balanced)


def test_figures_lie_in_their_intervals_and_repeat() -> None:
    scores, labels = some(300)
    found = figures(scores, labels, range(300), 0.5)
    assert list(found) == list(METRICS)
    for estimate in found.values():
        low, value, high = estimate.interval.low, estimate.interval.value, estimate.interval.high
        assert 0 <= low <= value <= high <= 1
    again = figures(scores, labels, range(300), 0.5)
    assert {name: each.interval for name, each in found.items()} == {n: each.interval for n, each in again.items()}


def test_cases_that_stand_or_fall_together_make_the_interval_wider() -> None:
    scores, labels = some(40)
    alone = ranking(scores * 10, labels * 10, range(400))
    together = ranking(scores * 10, labels * 10, [*range(40)] * 10)
    assert alone is not None
    assert together is not None
    assert alone.value == together.value
    widths = [each.interval.high - each.interval.low for each in (alone, together)]
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_label_there_are_only_the_figures_that_have_a_meaning(label: int) -> None:
    found = figures([0.2, 0.9], [label] * 2, [0, 1], 0.6)
    assert list(found) == ["f1_unsupported", "calibration_error"]
    assert ranking([0.2, 0.9], [label] * 2, [0, 1]) is None
    assert roc([0.2, 0.9], [label] * 2) is None


def test_the_mean_of_sets_is_surer_than_each_of_them() -> None:
    sets = [ranking(*some(100, seed), range(100)) for seed in (1, 2, 3, 4)]
    found = [each for each in sets if each is not None]
    whole = average(found)
    assert whole.value == pytest.approx(np.mean([each.value for each in found]))
    assert whole.interval.high - whole.interval.low < min(each.interval.high - each.interval.low for each in found)


def test_the_curve_runs_from_corner_to_corner_in_few_points() -> None:
    curve = roc(*some(2000))
    assert curve is not None
    assert len(curve.of_supported) == len(curve.of_unsupported) <= 200
    for share in (curve.of_supported, curve.of_unsupported):
        assert (share[0], share[-1]) == (0, 1)
        assert share == sorted(share)
    assert np.trapezoid(curve.of_supported, curve.of_unsupported) == pytest.approx(curve.area, abs=0.01)


def test_bins_hold_every_case_once() -> None:
    scores, labels = some(200)
    found = bins(scores, labels)
    assert sum(each["n"] for each in found) == 200
    assert sum(each["n"] * each["accuracy"] for each in found) == pytest.approx(sum(labels))
