"""The speed of the check: what is checked, and the figures that it promises."""

from __future__ import annotations

import pytest

from eval.bench import verify
from rag.settings import Settings
from tests.conftest import WordChecker, words


def made(count: int) -> list[verify.Job]:
    return verify.jobs(count, lambda text: len(words(text)))


def unmarked(text: str) -> str:
    return " ".join(word.rstrip(".,;:!?") for word in text.split())


def test_every_answer_has_texts_of_its_own_and_half_of_it_stands_there() -> None:
    found = made(4)
    for job in found:
        text = unmarked(" ".join(passage.text for passage in job.passages))
        assert len(job.claims) == 4
        assert len(job.passages) == 5
        assert sum(unmarked(claim) in text for claim in job.claims) == 2
        assert not any(". " in claim for claim in job.claims)
        assert all(len(claim.split()) == verify.WORDS for claim in job.claims)
        assert all(200 <= len(words(passage.text)) < 230 for passage in job.passages)
    assert len({passage.text for job in found for passage in job.passages}) == 20
    assert made(4) == found


def test_the_figures_are_those_of_warm_answers() -> None:
    told: list[str] = []
    figures = verify.measured(WordChecker(), made(20 + verify.WARM_UP), told.append)
    assert (figures["answers"], figures["checker"]) == (20, "word-shares@1")
    assert figures["pairs_per_second"] > 0
    assert 0 <= figures["answer_ms"] <= figures["answer_ms_p95"]
    assert told


@pytest.mark.slow
def test_the_benchmark_prints_what_it_promises(real_settings: Settings) -> None:
    figures = verify.run(real_settings, 20, lambda _: None)
    assert {"pairs_per_second", "answer_ms", "answer_ms_p95"} <= set(figures)
    assert figures["pairs_per_second"] > 1
