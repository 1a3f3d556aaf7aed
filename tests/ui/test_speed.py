"""How fast an answer was written: told where it can be counted, and only there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rag.types import Answer, Sentence, Timings
from tests.conftest import OpenRag
from ui.speed import tokens_a_second

SAID = (Sentence("One two three four five six.", 0.9), Sentence("Seven eight nine ten eleven.", 0.9))
ANSWER = Answer("Why?", "", False, SAID[:1], (), Timings(1.0, 500.0, 2500.0, 1.0, 2600.0), "parrot", dropped=SAID[1:])


def test_tokens_are_counted_over_the_time_after_the_first_one(open_rag: OpenRag) -> None:
    rag = open_rag({})
    assert tokens_a_second(rag, ANSWER) == pytest.approx(10 / 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "another"},
        {"model": ""},
        {"timings": Timings(0.0)},
        {"timings": Timings(1.0, 500.0, 550.0, 1.0, 600.0)},
        {"abstained": True, "dropped": ()},
    ],
)
def test_what_cannot_be_counted_is_not_told(open_rag: OpenRag, changes: dict[str, object]) -> None:
    assert tokens_a_second(open_rag({}), replace(ANSWER, **changes)) is None  # type: ignore[arg-type]
