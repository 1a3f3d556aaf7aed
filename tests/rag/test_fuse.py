"""Two rankings become one: by hand-computed examples, and by what holds for any two rankings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.fuse import METHODS, fuse
from rag.store.protocol import Candidates, Ranking

IDS = st.sampled_from([f"id{i:02}" for i in range(12)])


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    """A ranking as a store gives it: best first, equal scores by id."""
    ids = draw(st.lists(IDS, unique=True))
    scores = draw(st.lists(st.integers(-50, 50), min_size=len(ids), max_size=len(ids)))
    return sorted(((id_, score / 10) for id_, score in zip(ids, scores, strict=True)), key=lambda p: (-p[1], p[0]))


PAIRS = st.builds(Candidates, rankings(), rankings())
WEIGHTS = st.floats(0, 1)
NAMES = st.sampled_from(sorted(METHODS))


def ids(ranking: Ranking) -> list[str]:
    return [id_ for id_, _ in ranking]


def test_convex_example() -> None:
    # dense 0.9, 0.5, 0.1 -> 1, 0.5, 0; bm25 8, 2 -> 1, 0.
    candidates = Candidates([("a", 0.9), ("b", 0.5), ("c", 0.1)], [("b", 8.0), ("d", 2.0)])
    assert fuse(candidates, 10, "convex", 0.7) == [
        ("a", pytest.approx(0.7)),
        ("b", pytest.approx(0.7 * 0.5 + 0.3)),
        ("c", 0.0),
        ("d", 0.0),
    ]


def test_rrf_example() -> None:
    candidates = Candidates([("a", 0.9), ("b", 0.5), ("c", 0.1)], [("b", 8.0), ("d", 2.0)])
    assert fuse(candidates, 10, "rrf") == [
        ("b", pytest.approx(1 / 62 + 1 / 61)),
        ("a", pytest.approx(1 / 61)),
        ("d", pytest.approx(1 / 62)),
        ("c", pytest.approx(1 / 63)),
    ]


def test_convex_is_the_default_with_most_weight_on_meaning() -> None:
    candidates = Candidates([("a", 0.9), ("b", 0.1)], [("b", 8.0), ("a", 2.0)])
    assert fuse(candidates, 10) == fuse(candidates, 10, "convex", 0.7)
    assert ids(fuse(candidates, 10)) == ["a", "b"]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_nothing_found_fuses_to_nothing(method: str) -> None:
    assert fuse(Candidates([], []), 5, method) == []


@pytest.mark.parametrize("method", sorted(METHODS))
def test_one_empty_list_leaves_the_other_as_it_is(method: str) -> None:
    ranking = [("c", 3.0), ("a", 2.0), ("b", 1.0)]
    assert ids(fuse(Candidates(ranking, []), 5, method, 0.5)) == ["c", "a", "b"]
    assert ids(fuse(Candidates([], ranking), 5, method, 0.5)) == ["c", "a", "b"]


def test_equal_scores_throughout_count_fully_and_go_by_id() -> None:
    candidates = Candidates([("b", 0.4), ("c", 0.4)], [("a", 7.0)])
    assert fuse(candidates, 5, "convex", 0.5) == [("a", 0.5), ("b", 0.5), ("c", 0.5)]


@given(PAIRS, st.integers(1, 30), NAMES, WEIGHTS)
def test_what_comes_out_went_in_best_first_and_within_the_limit(
    candidates: Candidates, limit: int, method: str, weight: float
) -> None:
    fused = fuse(candidates, limit, method, weight)
    everything = {*ids(candidates.dense), *ids(candidates.bm25)}
    assert len(fused) == min(limit, len(everything))
    assert len(set(ids(fused))) == len(fused)
    assert set(ids(fused)) <= everything
    assert fused == sorted(fused, key=lambda pair: (-pair[1], pair[0]))


@given(PAIRS, st.integers(1, 30), NAMES, WEIGHTS)
def test_a_smaller_limit_gives_the_beginning_of_the_same_list(
    candidates: Candidates, limit: int, method: str, weight: float
) -> None:
    assert fuse(candidates, limit, method, weight) == fuse(candidates, 100, method, weight)[:limit]


@given(PAIRS, WEIGHTS)
def test_convex_scores_lie_between_0_and_1_however_the_retrievers_scale(candidates: Candidates, weight: float) -> None:
    fused = dict(fuse(candidates, 100, "convex", weight))
    scaled = Candidates(candidates.dense, [(id_, 4 * score + 8) for id_, score in candidates.bm25])
    assert all(0 <= score <= 1 + 1e-9 for score in fused.values())
    assert dict(fuse(scaled, 100, "convex", weight)) == pytest.approx(fused)


@given(PAIRS)
def test_all_the_weight_on_one_retriever_gives_its_order(candidates: Candidates) -> None:
    # The last of a list gets 0, as do those it lacks, so only what is above 0 has an order of its own.
    for weight, ranking in ((1.0, candidates.dense), (0.0, candidates.bm25)):
        fused = [id_ for id_, score in fuse(candidates, 100, "convex", weight) if score > 0]
        assert fused == ids(ranking)[: len(fused)]
        assert len(fused) >= len({score for _, score in ranking}) - 1


@given(PAIRS)
def test_rrf_looks_at_ranks_alone(candidates: Candidates) -> None:
    ranks = Candidates(*([(id_, -float(rank)) for rank, id_ in enumerate(ids(ranking))] for ranking in candidates))
    assert fuse(candidates, 100, "rrf") == fuse(ranks, 100, "rrf")


@given(PAIRS, IDS, NAMES)
def test_being_found_by_both_never_hurts(candidates: Candidates, id_: str, method: str) -> None:
    without = Candidates(candidates.dense, [pair for pair in candidates.bm25 if pair[0] != id_])
    best = max((score for _, score in without.bm25), default=0.0)
    first = Candidates(candidates.dense, [(id_, best + 1), *without.bm25])
    before = dict(fuse(without, 100, method, 0.7)).get(id_, 0.0)
    assert dict(fuse(first, 100, method, 0.7))[id_] >= before
