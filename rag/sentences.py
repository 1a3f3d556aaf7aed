"""Text -> spans of its sentences. Pure rules; knows nothing about languages beyond their punctuation."""

from __future__ import annotations

import re

# A sentence ends at a terminator (with closing quotes, brackets and references such as [3]) before white space, or
# at a line break that ends a paragraph or comes before a list mark. Ideographic terminators need no space.
# Possessive, and begun only at the first of several marks: linear in the length of the text.
_END = re.compile(
    r"(?<![.!?…])[.!?…]++(?:[\"'”’)\]]++[.!?…]*+)?+(?:\[\d{1,4}\])*+(?=\s)"
    r"|[\u3002\uff01\uff1f]++[\u300d\u300f\u201d]?"
    r"|(?=\n[^\S\n]*+\n)"
    r"|(?=\n[^\S\n]*+(?:[-*•●◦▪–]|\d++[.)])\s)"
)
_OPENING = "\"'“‘([«-–—*•"
_LOOK = 40
"""Characters looked at beside a full stop."""
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st vs etc e.g i.e cf figs al approx dept est inc ltd co corp u.s u.k jan feb mar apr jun "
    "jul aug sep sept oct nov dec bzw ca z.b d.h".split()
)
_BEFORE_NUMBERS = frozenset("no nos nr fig vol p pp ch sec eq art abs".split())
"""Abbreviations that are also words or ends of sentences, unless a number follows."""


def split(text: str) -> list[tuple[int, int]]:
    """Spans (start, end) of the sentences in order; together they hold every character but white space."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        if match.end() > start and _ends(text, start, match):
            start = _append(spans, text, start, match.end())
    _append(spans, text, start, len(text))
    return spans


def settled(text: str) -> list[tuple[int, int]]:
    """Spans of the first sentences that stay the same whatever follows the text: `split` of any longer one has them.

    A sentence is settled as soon as the next one has begun with more than opening marks.
    """
    spans = split(text)
    begun = bool(spans) and text[spans[-1][0] :].lstrip(_OPENING)
    return spans[: -1 if begun else -2]


def pieces(text: str) -> list[str]:
    """The text cut where sentences begin; joined again it is the text."""
    starts = [start for start, _ in split(text)][1:]
    return [text[start:end] for start, end in zip([0, *starts], [*starts, len(text)], strict=True)]


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> int:
    stripped = text[start:end]
    left = start + len(stripped) - len(stripped.lstrip())
    right = start + len(stripped.rstrip())
    if left < right:
        spans.append((left, right))
    return end


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
    """False at abbreviations, initials, list numbers, and where the text goes on in lower case."""
    mark = match.group()
    if mark[:1] not in (".", "!", "?", "…"):
        return True
    following = text[match.end() : match.end() + _LOOK].lstrip().lstrip(_OPENING)[:1]
    if following.islower():
        return False
    words = text[max(start, match.start() - _LOOK) : match.start()].split()
    return mark != "." or not words or not _shortened(words, following)


def _shortened(words: list[str], following: str) -> bool:
    """True where the full stop behind the last word belongs to that word."""
    last = words[-1].lstrip(_OPENING).lower()
    initial = len(last) == 1 and last.isalpha()
    list_number = len(words) == 1 and last.isdigit()
    return last in _ABBREVIATIONS or initial or list_number or (last in _BEFORE_NUMBERS and following.isdigit())
