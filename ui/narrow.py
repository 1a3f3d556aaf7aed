"""What a person asked for -> a filter of what there is: names spelled out, mistyped ones refused.

Knows nothing about flags, requests or how a filter is applied.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from difflib import get_close_matches
from pathlib import PurePath
from typing import NamedTuple

from ingest.catalog import Catalog
from rag.errors import FilterError
from rag.filter import Filter, folders_of, plain, type_of
from rag.types import Document

NO_MATCH = "no document matches the filter"
SHOWN = 5
"""Names that a message lists."""
MOST = 2000
"""Names that a page offers; others can be typed."""


def checked(within: Filter, catalog: Catalog, collection: str) -> Filter:
    """The filter with the names of documents and folders as the catalog has them.

    Raises:
        FilterError: it names a document, a folder, a type or a key that no indexed document has, or its days are in
            the wrong order.
    """
    if within.empty:
        return within
    if within.since and within.until and within.since > within.until:
        raise FilterError(f"since {within.since} is after until {within.until}; swap them")
    found = [document for document in catalog.documents(collection) if document.status == "indexed"]
    types, keys = {type_of(d.doc) for d in found}, {key for d in found for key, _ in d.metadata}
    _refuse_unknown("type", within.types, types)
    _refuse_unknown("metadata key", (key for key, _ in within.metadata), keys)
    return replace(
        within,
        documents=_each(_documents(name, catalog, collection, found) for name in within.documents),
        folders=_each(_folders(name, found) for name in within.folders),
    )


class Choices(NamedTuple):
    """What there is to choose from."""

    documents: list[tuple[str, str]]
    """File name and path, at most `MOST`."""
    folders: list[str]
    """Those that hold something else than all documents."""
    types: list[str]


def choices(catalog: Catalog, collection: str) -> Choices:
    """The indexed documents of a collection, the folders that divide them, and their types."""
    found = [document.doc for document in catalog.documents(collection) if document.status == "indexed"]
    held = Counter(folder for doc in found for folder in folders_of(doc))
    return Choices(
        [(PurePath(doc).name, doc) for doc in found[:MOST]],
        sorted(folder for folder, count in held.items() if count < len(found))[:MOST],
        sorted(filter(None, {type_of(doc) for doc in found})),
    )


def day_of(text: str | None) -> date | None:
    """The day that a person wrote; None for nothing.

    Raises:
        FilterError: it is no day.
    """
    try:
        return date.fromisoformat(text.strip()) if text and text.strip() else None
    except ValueError:
        raise FilterError(f"{text!r} is no day; write it like 2024-05-17") from None


def matching(documents: Iterable[Document], within: Filter) -> list[Document]:
    """The documents that a filter matches."""
    return [document for document in documents if within.matches(document)]


def _documents(name: str, catalog: Catalog, collection: str, indexed: Sequence[Document]) -> list[str]:
    found = [document.doc for document in catalog.find(collection, name) if document.status == "indexed"]
    if not found:
        raise _unknown("name", name, {PurePath(document.doc).name for document in indexed})
    return found


def _folders(name: str, indexed: Sequence[Document]) -> list[str]:
    """The folders that a person may mean: that very path, that path resolved, or else those that end in it."""
    there = {folder for document in indexed for folder in folders_of(document.doc)}
    here = os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 - a name need not be a path
    for exact in (name, here, os.path.realpath(here)):
        if exact in there:
            return [exact]
    tail = os.sep + name.strip(os.sep)
    if found := sorted(folder for folder in there if folder.endswith(tail)):
        return found
    raise _unknown("folder", name, there)


def _refuse_unknown(what: str, names: Iterable[str], there: Iterable[str]) -> None:
    known = {plain(name) for name in there}
    for name in names:
        if plain(name) not in known:
            raise _unknown(what, name, known)


def _unknown(what: str, name: str, there: Iterable[str]) -> FilterError:
    """What there is in its place: what has a name like it, else the first few."""
    known = sorted(filter(None, there))
    names = get_close_matches(PurePath(name).name, {PurePath(each).name for each in known}, SHOWN)
    close = [each for each in known if PurePath(each).name in names][:SHOWN]
    listed = ", ".join(close or known[:SHOWN]) or "none"
    others = "" if close or len(known) <= SHOWN else ", …"
    like = "similar are" if close else "there are"
    return FilterError(f"no indexed document has the {what} {name!r}; {like}: {listed}{others}; see `footnote docs`")


def _each(found: Iterable[list[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in found for name in names))
