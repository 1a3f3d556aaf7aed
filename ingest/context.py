"""Title and headings -> the lines above a passage that say what it is about. Pure; knows nothing about models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

CONTEXT_TOKENS = 48
"""Longest context: titles of papers have 10 to 60 tokens, and a passage's own words have to outweigh it."""


def context_of(title: str, headings: Sequence[str], text: str, count: Callable[[str], int], limit: int) -> str:
    """The title and the headings above a passage, a line each, outermost first; at most `limit` tokens.

    The title goes first, then the innermost headings. What the passage begins with is not said again.

    Args:
        title: empty where the document has none of its own.
        headings: outermost first.
        text: the passage.
        count: the embedder's tokens of a text, special ones left out.
        limit: 0 for no context at all.
    """
    begins = text.lstrip("#*= \t\n")
    names = [name for name in dict.fromkeys((title, *headings)) if name and not begins.startswith(name)]
    kept: list[str] = []
    for name in names[:1] + names[:0:-1]:
        room = limit - sum(map(count, kept))
        cut = _cut(name, count, room)
        if cut != name and kept:
            break
        kept += [cut] if cut else []
    return "\n".join(kept[:1] + kept[:0:-1])


def _cut(name: str, count: Callable[[str], int], limit: int) -> str:
    """As many of its words as fit."""
    words = name.split()
    while words and count(" ".join(words)) > limit:
        words = words[: len(words) * 3 // 4]
    return " ".join(words) if len(words) < len(name.split()) else name
