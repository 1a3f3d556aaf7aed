"""Labelled claims as sets of cases, and the checker that has learned nothing from a set.

Knows nothing about figures or runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from eval.cases import Claim, read_claims, spread
from rag.errors import EvalError
from rag.finetune import recipe
from rag.verify import Checker

SAME_TEXTS = {"wice-claim-dev": "wice-oracle-dev", "wice-tokens-dev": "wice-oracle-dev"}
"""Set -> a set of the recipe that was made from the same texts."""
LEARNED = frozenset(texts.name for texts in (*recipe.QUESTIONS, *recipe.CLAIMS))
"""Sets that the checker's model has seen."""


class Trained(Checker, Protocol):
    """A checker that says which labelled sets it was fitted to."""

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Their names."""


class Case(NamedTuple):
    """A claim with the contexts that it is checked against, each in a row; the best one counts."""

    rows: tuple[Claim, ...]

    @property
    def id(self) -> str:
        """That of its first row."""
        return self.rows[0].id

    @property
    def label(self) -> int:
        """1 where any context supports it."""
        return max(row.label for row in self.rows)


@dataclass(frozen=True, slots=True)
class ClaimSet:
    """Claims that people judged."""

    name: str
    cases: tuple[Case, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The names under which a checker may have learned from it: its own, those in its rows, those of its texts."""
        names = dict.fromkeys([self.name, *(row.set for case in self.cases for row in case.rows if row.set)])
        return tuple(dict.fromkeys([*names, *(SAME_TEXTS[name] for name in names if name in SAME_TEXTS)]))


def read_sets(paths: Sequence[Path], limit: int | None = None) -> tuple[ClaimSet, ...]:
    """Sets of labelled claims: files like claims.jsonl, or directories that hold one.

    A set is called as its directory, or as its file where that is not called claims.jsonl.

    Args:
        paths: where they are.
        limit: take so many claims of each only, evenly spread.

    Raises:
        EvalError: a file cannot be read, a row cannot be used, or two sets have the same name.
    """
    sets = tuple(ClaimSet(_name(path), spread(_cases(read_claims(path)), limit)) for path in paths)
    names = [each.name for each in sets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise EvalError(f"two sets are named {twice[0]!r}; give each once, or rename its directory")
    return sets


def _name(path: Path) -> str:
    whole = path.resolve()
    return whole.name if whole.is_dir() else whole.parent.name if whole.stem == "claims" else whole.stem


def _cases(rows: Sequence[Claim]) -> list[Case]:
    """Rows of a group as one case, where its first one stands."""
    groups: dict[tuple[str, str], list[Claim]] = {}
    for row in rows:
        groups.setdefault(("group", row.group) if row.group else ("row", row.id), []).append(row)
    return [Case(tuple(group)) for group in groups.values()]


def checker_for(claims: ClaimSet, open_: Callable[[str], Trained]) -> Trained:
    """The checker that has learned least from a set.

    Args:
        claims: the set.
        open_: gives the checker that nothing was fitted to of the set with this name.
    """
    return open_(next((name for name in claims.sources if name in recipe.BLEND), claims.name))


def held_out(claims: ClaimSet, checker: Trained) -> bool:
    """True where nothing in the checker learned from the set or from its texts."""
    return LEARNED.union(checker.trained_on).isdisjoint(claims.sources)
