"""Sheets under other names: each name and number in one becomes another, the same wherever it stands.

What a model has read before then says something else, so that it has to look for an answer in the passages instead of
learning it by heart (answers exchanged in their passages: Longpre et al. 2021, "Entity-Based Knowledge Conflicts in
Question Answering", EMNLP). Knows nothing about where sheets come from.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from rag.finetune.lexicon import MONTHS
from rag.finetune.sheets import Asked, Sheet, Shown

NAME = re.compile(r"(?<![\w'’.-])[A-Z]\w+")
INSIDE = re.compile(r"(?<=[a-z,] )[A-Z]\w+")
"""A capitalised word that no sentence begins with."""
NUMBER = re.compile(r"(?<![\w-])\d+(?=s?(?!\w))")
YEARS = range(1000, 2100)
SHIFT = 80
"""Years that a sheet is moved by, at most."""
OFTEN = 2
"""How often a word must be seen as a name."""
KEPT = frozenset((*MONTHS, *"Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()))
ENDINGS = ("ans", "an", "ish", "ese", "ic", "s")
"""Kinds of names that are exchanged among themselves: Americans, American, Polish, Chinese, Slavic, the Alps."""


class Names:
    """Names of a corpus by their kind."""

    def __init__(self, texts: Iterable[str]) -> None:
        texts = list(texts)
        seen = Counter(name for text in texts for name in INSIDE.findall(text))
        common = {word for text in texts for word in re.findall(r"(?<!\w)[a-z]\w+", text)}
        self._kinds: dict[str, list[str]] = defaultdict(list)
        for name in sorted(seen):
            if seen[name] >= OFTEN and name not in KEPT and name.lower() not in common:
                self._kinds[_kind(name)].append(name)
        self._known = frozenset(name for names in self._kinds.values() for name in names)

    def others(self, names: Sequence[str], rng: random.Random) -> dict[str, str]:
        """Each of some different names that is known -> another of its kind, no two the same."""
        kinds: dict[str, list[str]] = defaultdict(list)
        for name in names:
            if name in self._known:
                kinds[_kind(name)].append(name)
        drawn = {kind: rng.sample(self._kinds[kind], len(same)) for kind, same in kinds.items()}
        return {name: other for kind, same in kinds.items() for name, other in zip(same, drawn[kind], strict=True)}


def disguised(sheet: Sheet, names: Names, rng: random.Random) -> Sheet:
    """The sheet with other names, years and numbers. What its passages answer, they still do.

    Args:
        sheet: passages and questions.
        names: what takes the place of names; one that is not among them stays.
        rng: chooses.
    """
    text = " ".join(
        (*(part for passage in sheet.passages for part in _parts(passage)), *(each.question for each in sheet.asked))
    )
    other = names.others(list(dict.fromkeys(NAME.findall(text))), rng)
    numbers = _numbers(list(dict.fromkeys(NUMBER.findall(text))), rng)
    say = _sayer(other, numbers)
    passages = tuple(
        Shown(say(each.title), tuple(map(say, each.headings)), say(each.header), say(each.text), each.document)
        for each in sheet.passages
    )
    return Sheet(passages, tuple(_asked(each, say) for each in sheet.asked))


def _asked(asked: Asked, say: Callable[[str], str]) -> Asked:
    return replace(asked, question=say(asked.question), answer=say(asked.answer), rejected=say(asked.rejected))


def _parts(passage: Shown) -> tuple[str, ...]:
    return passage.title, *passage.headings, passage.header, passage.text


def _sayer(names: Mapping[str, str], numbers: Mapping[str, str]) -> Callable[[str], str]:
    def say(text: str) -> str:
        text = NAME.sub(lambda match: names.get(match.group(), match.group()), text)
        return NUMBER.sub(lambda match: numbers.get(match.group(), match.group()), text)

    return say


def _numbers(found: Sequence[str], rng: random.Random) -> dict[str, str]:
    """Years are moved together; other numbers of two digits or more get other digits, no two the same."""
    shift = rng.choice([years for years in range(-SHIFT, SHIFT + 1) if years])
    said: dict[str, str] = {}
    taken: set[str] = set()
    for number in found:
        other = str(int(number) + shift) if _year(number) else _digits(number, taken, rng)
        if other is not None and len(other) == len(number):
            said[number] = other
            taken.add(other)
    return said


def _year(number: str) -> bool:
    return len(number) == 4 and int(number) in YEARS


def _digits(number: str, taken: set[str], rng: random.Random) -> str | None:
    """Others, as many; None for a single digit, and where none was found soon."""
    if len(number) < 2:
        return None
    drawn = (str(rng.randrange(10 ** (len(number) - 1), 10 ** len(number))) for _ in range(20))
    return next((other for other in drawn if other not in taken and other != number), None)


def _kind(name: str) -> str:
    """Names of a kind may stand in each other's places."""
    if name.isupper():
        return "capitals"
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")
