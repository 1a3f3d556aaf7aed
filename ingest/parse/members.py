"""Documents inside documents: their names made safe, their bytes counted and written to the spool.

Knows nothing about mail or archives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ingest.parse.document import Context, Member, ParsedDocument, Piece
from rag.errors import ParseError

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")
_LONGEST = 120
"""Characters of a file name in the spool; four bytes each still fit a file system's 255."""
_SHOWN = 5


class Spool:
    """Writes members one by one, and stops at the bytes that they may have together."""

    def __init__(self, context: Context, limit: int | None = None) -> None:
        self.members: list[Member] = []
        self._folder = context.spool
        self._limit = self._left = context.max_unpacked if limit is None else min(limit, context.max_unpacked)
        self._taken: set[str] = set()

    def add(self, name: str, content: Iterable[bytes]) -> Member:
        """Write a member; a name that was there before gets a number.

        Raises:
            ParseError: if the members are larger together than they may be. Whatever `content` raises; nothing of
                the member stays behind then.
        """
        name = self._unique(name)
        path = self._folder / str(len(self.members) + 1) / file_name(name)
        path.parent.mkdir()
        try:
            with path.open("wb") as file:
                for chunk in content:
                    self._count(chunk)
                    file.write(chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            path.parent.rmdir()
            raise
        self._taken.add(name)
        self.members.append(Member(name, path))
        return self.members[-1]

    def _count(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise ParseError(
                f"what is in it unpacks to more than {self._limit / (1 << 20):,.0f} MiB; unpack it and give the folder"
            )

    def _unique(self, name: str) -> str:
        path, number, unique = Path(name), 1, name
        while unique in self._taken:
            number += 1
            unique = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
        return unique


def file_name(name: str) -> str:
    """The last part of a name, fit for any file system, its suffix kept."""
    last = _UNSAFE.sub("_", name.replace("\\", "/").rstrip("/").rpartition("/")[2]).strip(" .") or "unnamed"
    path = Path(f"_{last}" if _DEVICE.match(last) else last)
    suffix = path.suffix[:20]
    return path.stem[: _LONGEST - len(suffix)].rstrip() + suffix


def trick(name: str) -> str:
    """Why a path inside an archive must not be followed; empty for an honest one."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or _DRIVE.match(name) or ".." in parts:
        return "the path leads out of the archive"
    return "the name is a device's" if any(_DEVICE.match(part) for part in parts) else ""


def pieces_of(parsed: ParsedDocument, under: tuple[str, ...] = ()) -> Iterator[Piece]:
    """A parsed document's blocks as pieces of a larger document, below some of its headings."""
    for block in parsed.blocks:
        text = parsed.text[block.start : block.end]
        yield Piece(text, block.kind, block.page, (*under, *block.headings), block.header)


def left_out(reasons: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """A note for each reason, with the names that it concerns, from pairs of name and reason."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(reason, []).append(" ".join(name.split()))
    return tuple(f"left out, {reason}: {listed(found)}" for reason, found in names.items())


def listed(names: list[str]) -> str:
    """The first few of the names."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
