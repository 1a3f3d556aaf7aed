"""What the user says about documents with `--metadata`: in this run, or else before. Knows nothing about the index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ingest.catalog import NOTHING, Row, packed
from ingest.discover import absolute, plain
from rag.filter import Pairs


class Labels:
    """What is said about each document, as the catalog keeps it."""

    def __init__(self, before: Iterable[Row] = ()) -> None:
        """`before` are rows of the index that is built anew."""
        self._before: Mapping[str, str] = {row.doc: row.given for row in before}
        self._said, self._roots = NOTHING, list[Path]()

    def say(self, metadata: Pairs, paths: Sequence[Path]) -> None:
        """In this run this is said about everything at or below these paths; where it is empty, nothing new is."""
        self._said = packed(metadata)
        self._roots = [Path(plain(str(absolute(path)))) for path in paths] if metadata else []

    def of(self, doc: str, known: Row | None, otherwise: str = NOTHING) -> str:
        """What is said about a document: in this run, or what was said before, or `otherwise`."""
        if any(Path(doc).is_relative_to(root) for root in self._roots):
            return self._said
        return known.given if known else self._before.get(doc, otherwise)
