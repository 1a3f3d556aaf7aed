"""What the language model learns from: sheets of passages with questions about them, on disk a line each.

A sheet's passages are read once for all of its questions. Knows nothing about where they come from or how they are
learned.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rag.errors import FinetuneError
from rag.types import Chunk, Hit

TRAIN, VALIDATION = "train.jsonl", "validation.jsonl"
"""The files of a folder of data; no document is in both."""
CARD = "card.json"
"""What the data is made of; written last."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a sheet's passages."""

    question: str
    answer: str
    """Empty where the passages hold none, so that it is to be declined."""
    kind: str
    """Who asked: `person`, `rule`, `llm` or `feedback`."""
    source: str
    """The data set, collection or file that it comes from."""
    document: str
    """The document that it is about."""
    rejected: str = ""
    """An answer that somebody did not like; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A passage as a prompt shows it; see `Chunk`."""

    title: str
    headings: tuple[str, ...]
    header: str
    text: str
    document: str

    @classmethod
    def of(cls, chunk: Chunk) -> Shown:
        """What of a chunk is shown."""
        return cls(chunk.title, chunk.headings, chunk.header, chunk.text, chunk.doc)

    @property
    def hit(self) -> Hit:
        """As the prompt takes it."""
        return Hit(
            Chunk(
                "", "", self.document, self.title, None, self.headings, 0, len(self.text), self.text, header=self.header
            ),
            0.0,
        )


@dataclass(frozen=True, slots=True)
class Sheet:
    """Passages, and what is asked about them."""

    passages: tuple[Shown, ...]
    asked: tuple[Asked, ...]


_ROW = TypeAdapter(Sheet)


def write_sheets(path: Path, sheets: Iterable[Sheet]) -> None:
    """All of the file or nothing. Raises OSError."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            for sheet in sheets:
                file.write(json.dumps(asdict(sheet), ensure_ascii=False, separators=(",", ":")) + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_sheets(path: Path) -> list[Sheet]:
    """The sheets of a file.

    Raises:
        FinetuneError: it is missing, or a line is none; the message names the line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise FinetuneError(f"no data at {path}: {error.strerror}; make it with `footnote finetune data`") from None
    return [_sheet(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def read_card(folder: Path) -> dict[str, Any]:
    """What a folder of data is made of. Raises FinetuneError: there is no whole folder of data."""
    try:
        found = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("no object")
    except (OSError, ValueError, TypeError) as error:
        raise FinetuneError(f"{folder} holds no data ({error}); make it with `footnote finetune data`") from None
    return found


def _sheet(line: bytes, where: str) -> Sheet:
    try:
        return _ROW.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        said = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise FinetuneError(f"{where} is no sheet of passages and questions ({said}); make the data anew") from None
