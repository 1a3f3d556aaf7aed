"""Intervals and paired tests: against values that can be computed otherwise, and by what holds for any numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from eval.stats import mean, paired, reliability, risk_coverage

VALUES = st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=1, max_size=30)


def test_the_interval_of_many_values_is_the_normal_one() -> None:
    values = np.random.default_rng(3).uniform(size=400)
    found = mean(values)
    half = norm.ppf(0.975) * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert (found.value - found.low, found.high - found.value) == (pytest.approx(half, rel=0.05),) * 2


@given(VALUES)
def test_the_mean_lies_in_its_interval_and_that_in_the_values(values: list[float]) -> None:
    found = mean(values, resamples=200)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9 or len(set(values)) > 1


@given(VALUES)
def test_the_same_numbers_give_the_same_interval(values: list[float]) -> None:
    assert mean(values, resamples=100) == mean(values, resamples=100)


def test_memory_is_bounded_without_a_change_of_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.linspace(0, 1, 50)
    whole = mean(values, resamples=300)
    monkeypatch.setattr("eval.stats.CELLS", 1000)
    assert mean(values, resamples=300) == whole


def test_p_is_that_of_all_signs() -> None:
    first, second = np.array([0.9, 0.8, 0.7, 0.9, 0.6, 0.4]), np.array([0.5, 0.6, 0.7, 0.4, 0.5, 0.6])
    differences = first - second
    signs = itertools.product([-1, 1], repeat=6)
    exact = np.mean([abs(np.dot(each, differences)) >= differences.sum() - 1e-12 for each in signs])
    found = paired(first, second)
    assert found.p == pytest.approx(exact, abs=0.01)
    assert found.value == pytest.approx(differences.mean())
    assert found.low < found.value < found.high


@given(VALUES)
def test_a_system_is_no_better_than_itself(values: list[float]) -> None:
    assert paired(values, values, resamples=50) == (0.0, 0.0, 0.0, 1.0)


def test_a_clear_difference_is_significant_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)
    base = rng.uniform(size=200)
    assert paired(base + 0.1, base + rng.normal(scale=0.05, size=200)).p < 0.001
    assert paired(base, rng.permutation(base)).p > 0.05


@pytest.mark.parametrize("values", [[], [[0.5]], [0.5, float("nan")], [float("inf")]])
def test_what_is_no_number_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="value"):
        mean(values)


def test_runs_of_different_length_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="2 and 1 values"):
        paired([0.1, 0.2], [0.3])


def test_the_risk_curve_by_hand() -> None:
    curve = risk_coverage([0.9, 0.8, 0.8, 0.1], [1, 0, 1, 0], cases=5)
    assert curve.coverage == pytest.approx([1 / 5, 3 / 5, 4 / 5])
    assert curve.risk == pytest.approx([0, 1 / 3, 1 / 2])
    # Of the two that are equally sure, the wrong one comes first half of the time.
    assert curve.area == pytest.approx((0 + 0.5 / 2 + 1 / 3 + 1 / 2) / 4)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=20), st.randoms())
def test_the_risk_curve_does_not_depend_on_the_order_of_the_answers(answers: list[tuple[int, int]], random) -> None:  # type: ignore[no-untyped-def]
    mixed = answers[:]
    random.shuffle(mixed)
    found = risk_coverage(*zip(*answers, strict=True), cases=20)
    assert found.area == pytest.approx(risk_coverage(*zip(*mixed, strict=True), cases=20).area)
    assert found.risk[-1] == pytest.approx(1 - sum(right for _, right in answers) / len(answers))
    assert 0 <= found.area <= 1


def test_nobody_answered_nobody_erred() -> None:
    assert risk_coverage([], [], cases=3) == ([], [], 0.0)
    assert reliability([], []) == ([], 0.0)


def test_reliability_by_hand() -> None:
    found = reliability([0.95, 0.85, 1.0, 0.2], [1, 0, 1, 1], bins=10)
    assert [each.n for each in found.bins] == [1, 1, 2]
    assert found.bins[2] == pytest.approx((0.975, 1.0, 2))
    assert found.error == pytest.approx((0.8 * 1 + 0.85 * 1 + 0.025 * 2) / 4)
