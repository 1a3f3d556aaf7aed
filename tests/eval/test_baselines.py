"""The plain measures that a checker is compared with."""

from __future__ import annotations

import pytest

from eval.baselines import baselines, word_recall
from tests.conftest import WordCountEmbedder, WordEncoder

CONTEXT = "The Aurora was built in Gdansk. She carries cars. Whales sing in the Atlantic. It rains often."
SAID, MADE_UP = "The Aurora was built in Gdansk.", "Lions roar over green savannahs at dawn."


@pytest.mark.parametrize("name", ["content-word recall", "rouge-l", "embedding cosine", "maxsim"])
def test_what_stands_in_the_context_scores_higher(name: str) -> None:
    score = baselines(WordCountEmbedder(), WordEncoder())[name]
    said, made_up = score([SAID, MADE_UP], CONTEXT)
    assert said > made_up
    assert score([SAID, MADE_UP], CONTEXT) == [said, made_up]


@pytest.mark.parametrize("name", ["content-word recall", "rouge-l", "embedding cosine", "maxsim"])
@pytest.mark.parametrize("context", ["", " \n", "—", "word " * 3000, "x" * 5000])
def test_any_context_has_a_score(name: str, context: str) -> None:
    (score,) = baselines(WordCountEmbedder(), WordEncoder())[name](["?!"], context)
    assert -1.1 <= score <= 1.1


def test_stems_count_and_stop_words_do_not() -> None:
    assert word_recall("The building of the boats", "They build a boat") == 1
    assert word_recall("The of and", "The of and") == 0
