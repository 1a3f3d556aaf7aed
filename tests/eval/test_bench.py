"""Benchmarks: the same passages everywhere, and the figures that the command line promises."""

from __future__ import annotations

from itertools import pairwise

import pytest

from eval.bench import embed
from eval.bench.texts import passages
from rag.settings import Settings


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(("count", "target"), [(0, 20), (1, 1), (5, 20), (40, 160)])
def test_passages_are_as_many_and_as_long_as_asked(count: int, target: int) -> None:
    found = passages(count, words, target)
    assert len(found) == count
    # A passage grows by eight words at a time.
    assert all(target <= words(text) < target + 8 for text in found)


def test_passages_are_the_same_in_every_run_and_differ_among_themselves() -> None:
    assert passages(50, words, 40) == passages(50, words, 40)
    assert passages(10, words, 40) == passages(50, words, 40)[:10]
    assert len(set(passages(50, words, 40))) == 50


def test_passages_start_over_when_the_text_ends() -> None:
    found = passages(400, words, 400)
    assert len(found) == 400
    assert any(found[0][:100] in " ".join(pair) for pair in pairwise(found[1:]))


def test_passages_are_prose_without_markup() -> None:
    text = " ".join(passages(200, words, 160))
    for mark in ("**", "``", "==", "--", "__", "\n"):
        assert mark not in text


@pytest.mark.slow
def test_the_embedding_benchmark_prints_what_it_promises(real_settings: Settings) -> None:
    told: list[str] = []
    figures = embed.run(real_settings, 16, told.append)
    assert {"ours", "peer", "ratio", "cosine_mean", "cosine_min"} <= set(figures)
    assert figures["texts"] == 16
    assert embed.TOKENS <= figures["tokens_per_text"] < 1.2 * embed.TOKENS
    assert min(figures["ours"], figures["peer"], figures["ratio"]) > 0
    assert 0.99 <= figures["cosine_mean"] <= 1.0001
    assert 0.9 < figures["cosine_min"] <= figures["cosine_mean"]
    assert len(told) >= embed.ROUNDS
