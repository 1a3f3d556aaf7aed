"""Real English prose that every Python ships with, so that a benchmark needs no data set and repeats anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice


def passages(count: int, length: Callable[[str], int], target: int) -> list[str]:
    """`count` passages of about `target` tokens, cut one after the other from Python's language reference.

    Args:
        count: how many; the text starts over when it ends.
        length: a text's length in tokens.
        target: a passage stops growing when it has this many.
    """
    from pydoc_data import topics

    words = re.sub(r"[*`=\-_]{2,}", " ", " ".join(topics.topics[name] for name in sorted(topics.topics))).split()
    stream = (words[i % len(words)] for i in range(10**9))
    found = []
    for _ in range(count):
        text = ""
        while length(text) < target:
            text = f"{text} {' '.join(islice(stream, 8))}".strip()
        found.append(text)
    return found
