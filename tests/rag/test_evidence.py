"""The plain evidence, and the regression that weighs it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from rag.errors import WeightsError
from rag.evidence import FIGURES, Blend, missing_names, missing_numbers, read_blends, verbatim

PASSAGE = (
    "The Titanic, built by Harland in 1909, carried 2,224 people and three dogs; 1,517 of them died in the Atlantic."
)


@pytest.mark.parametrize(
    ("claim", "missing"),
    [
        ("1517 of 2224 died", []),
        ("It carried 3 dogs.", []),
        ("It carried three dogs and four cats.", ["4"]),
        ("It sank in 1912 with 2,300 people.", ["1912", "2300"]),
        ("One of them died.", []),
        ("1 of them died.", ["1"]),
    ],
)
def test_numbers_that_a_passage_lacks(claim: str, missing: list[str]) -> None:
    assert missing_numbers(claim, PASSAGE) == missing


@pytest.mark.parametrize(
    ("claim", "missing"),
    [
        ("The Titanic sank in the Atlantic.", []),
        ("The Titanic sank in the Pacific near Guam.", ["Pacific", "Guam"]),
        ("Olympic ships sank.", []),  # any word may stand first in a sentence
    ],
)
def test_names_that_a_passage_lacks(claim: str, missing: list[str]) -> None:
    assert missing_names(claim, PASSAGE) == missing


def test_word_for_word_means_whole_words_in_a_row() -> None:
    assert verbatim("built by Harland, in 1909", PASSAGE)
    assert not verbatim("built by Harland in 190", PASSAGE)
    assert not verbatim("built in 1909 by Harland", PASSAGE)


def test_a_blend_is_a_probability_and_survives_its_file(tmp_path: Path) -> None:
    n = len(FIGURES)
    blend = Blend((1.0,) * n, (2.0,) * n, (0.5,) + (0.0,) * (n - 1), -1.0, ("one", "two"))
    assert blend.probability(np.full(n, 5.0)) == pytest.approx(0.5)
    assert blend.probability(np.full(n, 1e9)) < 1
    assert blend.probability(np.full(n, -1e9)) > 0
    (tmp_path / "blend.json").write_text(json.dumps({"": asdict(blend)}))
    assert read_blends(tmp_path / "blend.json") == {"": blend}


@pytest.mark.parametrize("text", [None, "{", "{}", '{"": {"weight": [1]}}', '{"": []}'])
def test_a_broken_blend_is_an_error_that_says_what_to_do(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "blend.json").write_text(text)
    with pytest.raises(WeightsError, match="footnote finetune verifier"):
        read_blends(tmp_path / "blend.json")
