"""Text -> spans of its sentences. Pure rules; knows nothing about languages beyond their punctuation."""

from __future__ import annotations

import re

# A sentence ends at a terminator (with closing quotes or brackets) before white space, or at a line break that
# ends a paragraph or comes before a list mark. Ideographic terminators need no space.
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。!?]+[」』”]?|(?=\n\s*\n)|(?=\n\s*(?:[-*•]|\d+[.)])\s)")
_OPENING = "\"'“‘([«-–—*•"
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st vs etc e.g i.e cf fig figs no nos vol pp p ch sec eq al approx dept est inc ltd co "
    "corp u.s u.k jan feb mar apr jun jul aug sep sept oct nov dec art bzw ca z.b d.h".split()
)


def split(text: str) -> list[tuple[int, int]]:
    """Spans (start, end) of the sentences in order; together they hold every character but white space."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        if match.end() > start and _ends(text, start, match):
            start = _append(spans, text, start, match.end())
    _append(spans, text, start, len(text))
    return spans


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
    if not mark.startswith("."):
        return True
    following = text[match.end() :].lstrip().lstrip(_OPENING)[:1]
    if following.islower():
        return False
    words = text[start : match.start()].split()
    last = words[-1].lstrip(_OPENING).lower() if words else ""
    if len(mark) == 1 and (last in _ABBREVIATIONS or (len(last) == 1 and last.isalpha())):
        return False
    return not (len(words) == 1 and last.isdigit())
