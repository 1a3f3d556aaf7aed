"""Structured data as readable lines: a key path and a value each, a block for each record.

Knows nothing about JSON or XML. A value is a string, a list of values, or a `Fields`; nothing of it is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from ingest.parse.document import Piece

MAX_RECORD = 1_000
"""Characters; what is larger is divided into blocks of its parts, below headings of their names."""
_SCALARS_IN_LINE = 200


class Fields(tuple[tuple[str, "Value"], ...]):
    """Names and values in order; a name may come twice. An empty name stands for the value itself."""


Value = str | list["Value"] | Fields


def record_pieces(value: Value, path: tuple[str, ...] = ()) -> Iterator[Piece]:
    """A block for each item of a list, or one for any other value; what is large is divided."""
    if isinstance(value, list) and _is_composite(value):
        for item in value:
            yield from _record(item, path)
    else:
        yield from _record(value, path)


def _record(value: Value, path: tuple[str, ...]) -> Iterator[Piece]:
    """One block, if it is small enough to be read as one."""
    text = "\n".join(_lines("", value))
    if len(text) <= MAX_RECORD or not _is_composite(value):
        yield Piece(text, headings=path)
    elif isinstance(value, Fields):
        yield from field_pieces(value, path)
    else:
        yield from record_pieces(value, path)


def field_pieces(fields: Fields, path: tuple[str, ...] = ()) -> Iterator[Piece]:
    """A block for each field that has parts, below a heading where it is large; other fields share one."""
    waiting: list[str] = []
    for name, value in fields:
        lines = list(_lines(name, value))
        if not _is_composite(value):
            waiting += lines
            continue
        yield Piece("\n".join(waiting), headings=path)
        waiting = []
        if len("\n".join(lines)) <= MAX_RECORD:
            yield Piece("\n".join(lines), headings=path)
            continue
        below = (*path, name) if name else path
        yield Piece(name, "heading", headings=below)
        yield from _record(value, below)
    yield Piece("\n".join(waiting), headings=path)


def _is_composite(value: Value) -> bool:
    return not isinstance(value, str) and not _in_line(value)


def _lines(path: str, value: Value) -> Iterator[str]:
    """`path: text` lines, with dots between names and the positions of a list's items, from 1, in brackets."""
    if isinstance(value, str):
        yield f"{path}: {value}" if path else value
    elif _in_line(value):
        text = ", ".join(map(str, value)) if value else "{}" if isinstance(value, Fields) else "[]"
        yield f"{path}: {text}" if path else text
    elif isinstance(value, Fields):
        for name, inner in value:
            yield from _lines(f"{path}.{name}" if path and name else path or name, inner)
    else:
        for number, inner in enumerate(value, start=1):
            yield from _lines(f"{path}[{number}]", inner)


def _in_line(value: list[Value] | Fields) -> bool:
    """True for an empty list or fields, and for a list of short texts without commas, that one line can hold."""
    if not value:
        return True
    if isinstance(value, Fields):
        return False
    short = all(isinstance(item, str) and "," not in item and "\n" not in item and item for item in value)
    return short and sum(map(len, value)) <= _SCALARS_IN_LINE
