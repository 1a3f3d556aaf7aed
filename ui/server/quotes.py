"""Where a quoted passage lies among the characters of a page. Pure; knows nothing about PDF, pictures or boxes.

Page and quote are compared by what reading leaves alone: without white space and hyphens, since lines are joined and
words mended, without what nobody can see, and with every character in its simplest form (NFKD).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

ENOUGH = 5
"""Words of a quote that make a find, where the whole of it is not there; of a shorter quote, half of them."""
_CONTEXT = 200
"""Characters before a quote that tell its occurrences apart."""
_LEFT_OUT = frozenset("-\u2010\u2011\u2022\ufffd")
"""Hyphens; bullets, which symbol fonts write by code points of their own; the mark of what is no character."""
_NAMELESS = "\0"
"""What PDFium gives for a character without a name: within a word it is the ligature ffi, as for our parser."""
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_IDEOGRAPH = "\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPH}]|[^\s{_IDEOGRAPH}]+")
"""A word, or a character of a script that parts no words."""


class Found(NamedTuple):
    """Characters of a page, from `start` to `end`, exclusive."""

    start: int
    end: int
    whole: bool
    """False where only a part of the quote is there."""


class _Bare(NamedTuple):
    """What of a text is compared, and for each character of it which one of the text it comes from."""

    text: str
    origin: list[int]


def find(page: str, quote: str, before: str = "") -> Found | None:
    """Find a quote, or the longest run of its words that is on the page; None where that is too short.

    Args:
        page: the page's characters, one for each that PDFium counts; pairs of surrogates count as two.
        quote: as our parser reads it.
        before: the text before the quote, which decides between several places.
    """
    there = _bare(page)
    words = [bare for word in _WORD.findall(quote) if (bare := _bare(word).text)]
    start, end = _longest_run(words, there.text)
    wanted, whole = "".join(words[start:end]), end - start == len(words)
    if not wanted:
        return None
    context = (_bare(before[-_CONTEXT:]).text + "".join(words[:start]))[-_CONTEXT:]
    places = [at for at in _occurrences(there.text, wanted) if whole or _is_sure(end - start, page, there, at, wanted)]
    if not places or not (whole or end - start >= ENOUGH or 2 * (end - start) >= len(words)):
        return None
    at = max(places, key=_likeliness(page, there, wanted, context))  # the first one of equals
    last = there.origin[at + len(wanted) - 1]
    return Found(there.origin[at], last + (2 if _PAIR.match(page, last) else 1), whole)


def _bare(text: str) -> _Bare:
    parts: list[str] = []
    origin: list[int] = []
    whole = _PAIR.sub(lambda pair: _joined(pair.group()) + "\u200b", text)  # as long as before
    for index, char in enumerate(whole):
        part = _ligature(whole, index) if char == _NAMELESS else _simplest(char)
        parts.append(part)
        origin += [index] * len(part)
    return _Bare("".join(parts), origin)


def _joined(pair: str) -> str:
    return pair.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _ligature(text: str, index: int) -> str:
    inside = text[max(0, index - 1) : index].isalpha() and text[index + 1 : index + 2].isalpha()
    return "ffi" if inside else ""


@lru_cache(maxsize=4096)
def _simplest(char: str) -> str:
    """A character in its simplest form; empty for one that is not compared."""
    found = unicodedata.normalize("NFKD", char)
    return "".join(c for c in found if not c.isspace() and c not in _LEFT_OUT and unicodedata.category(c)[0] != "C")


def _longest_run(words: list[str], text: str) -> tuple[int, int]:
    """The words, from and to, of the longest run that is in the text; the first one of equals."""
    best, end = (0, 0), 0
    for start in range(len(words)):
        end = max(start, end)
        while end < len(words) and "".join(words[start : end + 1]) in text:
            end += 1
        best = max(best, (start, end), key=lambda run: run[1] - run[0])
        if end == len(words):
            break
    return best


def _occurrences(text: str, wanted: str) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)


def _is_sure(words: int, page: str, there: _Bare, at: int, wanted: str) -> bool:
    """A few words must not be parts of other ones."""
    return words >= ENOUGH or _stands_alone(page, there, at, wanted)


def _stands_alone(page: str, there: _Bare, at: int, wanted: str) -> bool:
    """True where no letter or digit of the page touches the find's own."""
    first, last = there.origin[at], there.origin[at + len(wanted) - 1]
    return not (_is_within_word(page, first) or _is_within_word(page, last + 1))


def _is_within_word(page: str, at: int) -> bool:
    return 0 < at < len(page) and page[at - 1 : at + 1].isalnum()


def _likeliness(page: str, there: _Bare, wanted: str, context: str) -> Callable[[int], tuple[int, bool]]:
    """How much of the context is before a place, then whether it begins and ends with words."""

    def likeliness(at: int) -> tuple[int, bool]:
        ahead = there.text[max(0, at - len(context)) : at]
        same = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(ahead), reversed(context), strict=False))
        return sum(1 for _ in same), _stands_alone(page, there, at, wanted)

    return likeliness
