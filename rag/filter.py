"""Which documents a search or an answer may use: by document, folder, type, date and metadata. Pure.

`Filter.matches` says what is meant. `marks` and `conditions` say the same to a store that looks values up: the marks
are kept with each passage, the conditions are asked of them. Knows nothing about Qdrant or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import PurePath
from typing import NamedTuple, Protocol

NAMES, FOLDERS, TYPE, DAY, FACTS = "names", "folders", "type", "day", "facts"
"""The marks: a document's path and name, the folders that it lies in, its type, the day's number, key and value."""

Pairs = tuple[tuple[str, str], ...]
"""Keys and values; a key may have several values."""


class Described(Protocol):
    """What can be filtered: a passage, or a document of the catalog."""

    @property
    def doc(self) -> str:
        """Its path; that of an attachment or a member begins with the path of what it was found in."""

    @property
    def date(self) -> str:
        """ISO day; empty where there is none."""

    @property
    def metadata(self) -> Pairs:
        """What is said about it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Leaves out what it does not match. Values of one field are alternatives; all fields given must match."""

    documents: tuple[str, ...] = ()
    """Full paths, with what was found inside the document, such as attachments; or file names."""
    folders: tuple[str, ...] = ()
    """Full paths; what lies below is included."""
    types: tuple[str, ...] = ()
    """Suffixes, with or without their dot; an attachment has its own."""
    since: date | None = None
    """First day. A document without a date matches no days."""
    until: date | None = None
    """Last day, included."""
    metadata: Pairs = ()
    """Values of one key are alternatives, all keys must match. Neither case nor the kind of white space counts."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "folders", tuple(str(PurePath(folder)) for folder in self.folders))
        object.__setattr__(self, "types", tuple(type_.lower().removeprefix(".") for type_ in self.types))

    @property
    def empty(self) -> bool:
        """True where it leaves nothing out."""
        return self == Filter()

    def matches(self, found: Described) -> bool:
        """Whether a passage or a document is one of those wanted."""
        folders = folders_of(found.doc)
        inside = any(document in folders for document in self.documents)
        if self.documents and not (inside or {found.doc, PurePath(found.doc).name} & {*self.documents}):
            return False
        if self.folders and not any(folder in folders for folder in self.folders):
            return False
        if self.types and type_of(found.doc) not in self.types:
            return False
        if (self.since or self.until) and not self._is_between(found.date):
            return False
        said = {(plain(key), plain(value)) for key, value in found.metadata}
        return all(any((key, value) in said for value in values) for key, values in self.wanted().items())

    def wanted(self) -> Mapping[str, set[str]]:
        """The values wanted for each key of the metadata, as `plain` writes both."""
        values: dict[str, set[str]] = {}
        for key, value in self.metadata:
            values.setdefault(plain(key), set()).add(plain(value))
        return values

    def _is_between(self, day: str) -> bool:
        first, last = self.since or date.min, self.until or date.max
        return bool(day) and first <= date.fromisoformat(day) <= last


class OneOf(NamedTuple):
    """A mark that has to be, or to hold, one of these values."""

    key: str
    values: tuple[str, ...]


class Between(NamedTuple):
    """A mark that has to be a number in this range, both ends included; None for no end."""

    key: str
    low: int | None
    high: int | None


Condition = OneOf | Between


def conditions(within: Filter) -> list[tuple[Condition, ...]]:
    """What a filter asks of the marks: of each group at least one condition has to hold."""
    groups: list[tuple[Condition, ...]] = []
    if within.documents:
        groups.append((OneOf(NAMES, within.documents), OneOf(FOLDERS, within.documents)))
    if within.folders:
        groups.append((OneOf(FOLDERS, within.folders),))
    if within.types:
        groups.append((OneOf(TYPE, within.types),))
    if within.since or within.until:
        groups.append((Between(DAY, _number(within.since), _number(within.until)),))
    for key, values in within.wanted().items():
        groups.append((OneOf(FACTS, tuple(_fact(key, value) for value in sorted(values))),))
    return groups


def marks(found: Described) -> dict[str, str | int | list[str]]:
    """What is kept with a passage so that it can be filtered; a day only where there is one."""
    kept: dict[str, str | int | list[str]] = {
        NAMES: [found.doc, PurePath(found.doc).name],
        FOLDERS: list(folders_of(found.doc)),
        TYPE: type_of(found.doc),
        FACTS: [_fact(plain(key), plain(value)) for key, value in found.metadata],
    }
    return kept | {DAY: date.fromisoformat(found.date).toordinal()} if found.date else kept


@lru_cache(maxsize=256)
def folders_of(doc: str) -> tuple[str, ...]:
    """Everything that a document lies in, innermost first: folders, and what it was found in."""
    return tuple(str(parent) for parent in PurePath(doc).parents if parent.parts)


def type_of(doc: str) -> str:
    """A document's suffix in lower case, without its dot; empty where it has none."""
    return PurePath(doc).suffix.lower().removeprefix(".")


def plain(text: str) -> str:
    """A key or a value of the metadata as it is compared."""
    return " ".join(text.split()).casefold()


def merged(own: Iterable[tuple[str, str]], given: Sequence[tuple[str, str]]) -> Pairs:
    """A document's own metadata and what a person gave: their keys replace its own, without values they remove them."""
    keys = {plain(key) for key, _ in given}
    kept = [(key, value) for key, value in own if plain(key) not in keys]
    return tuple(dict.fromkeys((key, value) for key, value in (*kept, *given) if value.strip()))


def _fact(key: str, value: str) -> str:
    return f"{key}\n{value}"


def _number(day: date | None) -> int | None:
    return day.toordinal() if day else None
