"""What can be checked: a table that a person wrote."""

from __future__ import annotations

import pytest

from rag.checkable import why_not

CLAIMS = [
    "The rent is 900 euros.",
    "I am 42 years old.",
    "You have to pay within 30 days.",
    "42",
    "Yes, the lease ends in May.",
    "It is not a mammal.",
    "We recommend aspirin.",
    "Die Miete beträgt 900 Euro.",
    "鯨は哺乳類です。",
    "return x + 1",
    "Flyers | PHI | 2",
    "what she sold was a house",
]
NOTHING = [
    "",
    "  ",
    "...",
    "?!",
    "How are you?",
    "Is the rent 900 euros?",
    'He asked "why?"',
    "Hello!",
    "Thank you, that is very interesting!",
    "i ' m not sure , but i love it !",
    "I hope that helps.",
    "that's cool",
]


@pytest.mark.parametrize("sentence", CLAIMS)
def test_what_says_something_can_be_checked(sentence: str) -> None:
    assert why_not(sentence) == ""


@pytest.mark.parametrize("sentence", NOTHING)
def test_what_says_nothing_cannot_and_the_reason_is_given(sentence: str) -> None:
    assert why_not(sentence)
