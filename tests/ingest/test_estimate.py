"""What is foretold of a run, from what was seen of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.progress import SETTLED, WINDOW, Estimate

SUFFIXES = st.sampled_from(["", ".md", ".pdf"])
FILES = st.lists(st.tuples(SUFFIXES, st.integers(0, 10**9)), max_size=30)


def steady(estimate: Estimate, speed: float = 10.0, seconds: int = 10) -> None:
    """Chunks were stored at one speed for so long."""
    for second in range(seconds + 1):
        estimate.store(float(second), int(speed * second))


def test_nothing_is_foretold_at_once() -> None:
    estimate = Estimate()
    estimate.expect([(".md", 1000), (".md", 1000)])
    assert estimate.eta(0.0) is None
    estimate.store(100.0, 0)
    estimate.settle(".md", 1000, 5)
    estimate.store(100.0 + SETTLED - 0.1, 5)
    assert estimate.eta(100.0 + SETTLED - 0.1) is None
    assert estimate.eta(100.0 + SETTLED) is not None


def test_nothing_is_foretold_where_nothing_was_indexed() -> None:
    estimate = Estimate()
    estimate.expect([(".md", 1000), (".md", 1000)])
    steady(estimate)
    estimate.settle(".md", 1000, None)
    assert estimate.eta(10.0) is None


def test_bytes_left_become_seconds() -> None:
    estimate = Estimate()
    estimate.expect([(".md", 1000), (".md", 4000)])
    steady(estimate, speed=10.0)
    estimate.settle(".md", 1000, 100)
    assert estimate.speed() == 10.0
    assert estimate.eta(10.0) == 40.0


def test_each_kind_of_file_makes_its_own_number_of_chunks() -> None:
    estimate = Estimate()
    estimate.expect([(".md", 1000), (".pdf", 1000), (".md", 1000), (".pdf", 1000), (".doc", 1000)])
    steady(estimate)
    estimate.settle(".md", 1000, 90)
    estimate.settle(".pdf", 1000, 10)
    assert estimate.eta(10.0) == pytest.approx((90 + 10 + 50) / 10)


def test_the_speed_is_that_of_late() -> None:
    estimate = Estimate()
    steady(estimate, speed=1000.0, seconds=10)
    for second in range(11, 11 + int(WINDOW) + 2):
        estimate.store(float(second), 10_000 + 5 * (second - 10))
    assert estimate.speed() == pytest.approx(5.0)


def test_a_standstill_is_no_speed() -> None:
    estimate = Estimate()
    estimate.expect([(".md", 1000)])
    estimate.settle(".md", 10, 100)
    steady(estimate)
    estimate.store(10.0 + WINDOW + 1, 100)
    assert estimate.speed() == 0.0
    assert estimate.eta(10.0 + WINDOW + 1) is None


def test_unchanged_files_cost_nothing() -> None:
    estimate = Estimate()
    estimate.expect([(".md", 1000)] * 3)
    steady(estimate)
    estimate.settle(".md", 1000, 100)
    estimate.settle(".md", 1000, None)
    assert estimate.eta(10.0) == 10.0


@given(files=FILES, chunks=st.lists(st.none() | st.integers(0, 10**6), min_size=30, max_size=30))
def test_it_counts_down_to_nothing(files: list[tuple[str, int]], chunks: list[int | None]) -> None:
    """Never negative, infinite or not a number, whatever is settled; nothing is left at the end."""
    estimate = Estimate()
    estimate.expect(files)
    steady(estimate)
    for (suffix, size), made in zip(files, chunks, strict=False):
        estimate.settle(suffix, size, made)
        eta = estimate.eta(10.0)
        assert eta is None or (eta >= 0 and math.isfinite(eta))
    assert estimate.eta(10.0) in (None, 0.0)


@given(files=FILES, settled=FILES)
def test_files_that_were_not_expected_do_no_harm(files: list[tuple[str, int]], settled: list[tuple[str, int]]) -> None:
    """Files grow between being found and being read, and members were never expected."""
    estimate = Estimate()
    estimate.expect(files)
    steady(estimate)
    for suffix, size in settled:
        estimate.settle(suffix, size, 7)
        eta = estimate.eta(10.0)
        assert eta is None or (eta >= 0 and math.isfinite(eta))


@given(steps=st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1000)), min_size=1, max_size=50))
def test_speed_is_never_negative(steps: list[tuple[float, int]]) -> None:
    estimate, now, stored = Estimate(), 0.0, 0
    for seconds, chunks in steps:
        now, stored = now + seconds, stored + chunks
        estimate.store(now, stored)
        assert estimate.speed() >= 0
