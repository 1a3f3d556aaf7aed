"""Two retrievers' scores become one: by hand-computed examples, and by what holds for any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.fuse import convex, feedback, rrf
from rag.store.protocol import Candidates

NUMBERS = st.integers(-50, 50).map(lambda n: n / 10)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12)
WEIGHTS = st.floats(0, 1)


def test_convex_example() -> None:
    # Cosines .9 .5 .1: mean .5, deviation .3266. BM25 8 2 2: mean 4, deviation 2.8284.
    fused = convex([0.9, 0.5, 0.1], [8.0, 2.0, 2.0], 0.6)
    assert fused == pytest.approx([0.6 * 1.2247 + 0.4 * 1.4142, -0.4 * 0.7071, -0.6 * 1.2247 - 0.4 * 0.7071], abs=1e-4)


def test_rrf_example() -> None:
    candidates = Candidates([("a", 0.9), ("b", 0.5), ("c", 0.1)], [("b", 8.0), ("d", 2.0)])
    expected = [1 / 61, 1 / 62 + 1 / 61, 1 / 63, 1 / 62]
    assert rrf(candidates, ["a", "b", "c", "d"]) == pytest.approx(expected)
    assert rrf(candidates, ["c"]) == pytest.approx([1 / 63])


def test_nothing_found_fuses_to_nothing() -> None:
    assert convex([], [], 0.6).shape == (0,)
    assert rrf(Candidates([], []), []).shape == (0,)


def test_scores_that_are_all_equal_do_not_count() -> None:
    assert convex([0.4, 0.4, 0.4], [1.0, 3.0, 2.0], 0.9) == pytest.approx(
        0.1 * np.array([-1.2247, 1.2247, 0]), abs=1e-4
    )
    assert not convex([0.4], [7.0], 0.5).any()


@given(PAIRS, WEIGHTS, st.floats(0.1, 10), NUMBERS)
def test_the_retrievers_scales_do_not_matter(
    pairs: list[tuple[float, float]], weight: float, factor: float, shift: float
) -> None:
    cosines, bm25 = np.array(pairs).T
    assert convex(cosines, bm25 * factor + shift, weight) == pytest.approx(convex(cosines, bm25, weight), abs=1e-6)


@given(PAIRS)
def test_all_the_weight_on_one_retriever_gives_its_order(pairs: list[tuple[float, float]]) -> None:
    cosines, bm25 = np.array(pairs).T
    for weight, scores in ((1.0, cosines), (0.0, bm25)):
        fused = convex(cosines, bm25, weight)
        assert scores[np.argsort(-fused, kind="stable")].tolist() == sorted(scores, reverse=True)


@given(PAIRS, WEIGHTS)
def test_who_is_better_for_both_comes_first(pairs: list[tuple[float, float]], weight: float) -> None:
    cosines, bm25 = np.array(pairs).T
    fused = convex(cosines, bm25, weight)
    for i in range(len(pairs)):
        better = (cosines >= cosines[i]) & (bm25 >= bm25[i])
        assert (fused[better] >= fused[i] - 1e-9).all()


def test_feedback_moves_the_question_towards_the_first() -> None:
    vectors = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    moved = feedback([1.0, 0.0, 0.0], vectors, np.array([0.1, 0.9, 0.5]), share=0.5, best=1)
    assert moved == pytest.approx(np.array([1.0, 1.0, 0.0]) / np.sqrt(2))
    both = feedback([1.0, 0.0, 0.0], vectors, np.array([0.1, 0.9, 0.5]), share=0.5, best=2)
    assert both == pytest.approx(np.array([1.0, 0.5, 0.5]) / np.sqrt(1.5))


@given(PAIRS, st.floats(0, 1), st.integers(1, 5))
def test_what_feedback_makes_is_a_direction(pairs: list[tuple[float, float]], share: float, best: int) -> None:
    moved = feedback([0.6, 0.8], np.array(pairs), np.arange(len(pairs), dtype=float), share, best)
    assert np.linalg.norm(moved) == pytest.approx(1)


def test_no_share_leaves_the_question_where_it_is() -> None:
    assert feedback([0.6, 0.8], np.eye(2), np.array([1.0, 2.0]), 0.0, 3) == pytest.approx([0.6, 0.8])
