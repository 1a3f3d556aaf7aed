"""RTF documents, shown as HTML and read as such.

Knows nothing about how HTML becomes text. Pandoc reads RTF too, but loses headers and footers, nested tables,
headings by style, list numbers and every alphabet but the western one. Left out on purpose: hidden and deleted text.
RTF 1.9.1: https://interoperability.blob.core.windows.net/files/Archive_References/%5bMSFT-RTF%5d.pdf
"""

from __future__ import annotations

import codecs
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from ingest.parse.document import ParsedDocument, Piece, pick_title
from ingest.parse.html import from_html
from ingest.parse.members import pieces_of
from rag.errors import ParseError

_TOKEN = re.compile(
    rb"\\'(?P<hex>[0-9a-fA-F]{2})|\\(?P<word>[a-zA-Z]+)(?P<number>-?\d{1,9})? ?|\\(?P<sign>[^a-zA-Z])"
    rb"|(?P<brace>[{}])|(?P<text>[^\\{}\r\n]+)|[\r\n]+",
    re.DOTALL,
)
_FONT_PAGES = {
    77: "mac_roman",
    128: "cp932",
    129: "cp949",
    130: "johab",
    134: "gb18030",
    136: "cp950",
    161: "cp1253",
    162: "cp1254",
    163: "cp1258",
    177: "cp1255",
    178: "cp1256",
    186: "cp1257",
    204: "cp1251",
    222: "cp874",
    238: "cp1250",
}
_PAGES = {b"mac": "mac_roman", b"pc": "cp437", b"pca": "cp850"}
_SKIPPED = frozenset(
    b"colortbl filetbl info pict nonshppict object objdata fldinst xe tc tcn rxe sp nonesttables revtbl rsidtbl "
    b"listtable listoverridetable generator pntxta pntxtb themedata mmathPict mctrlPr upr private1 template".split()
)
_STARRED = frozenset((b"shpinst", b"nesttableprops", b"annotation", b"moMath", b"moMathPara"))
"""Groups marked as ignorable that hold something to see."""
_FLOWS = {
    b"footnote": "note",
    b"annotation": "note",
    b"shptxt": "note",
    **dict.fromkeys((b"header", b"headerl", b"headerr", b"headerf"), "top"),
    **dict.fromkeys((b"footer", b"footerl", b"footerr", b"footerf"), "bottom"),
}
_CHARACTERS = {
    b"bullet": "•",
    b"emdash": "—",
    b"emspace": " ",
    b"endash": "–",
    b"enspace": " ",
    b"ldblquote": "“",
    b"line": "\n",
    b"lquote": "‘",
    b"qmspace": " ",
    b"rdblquote": "”",
    b"rquote": "’",
    b"tab": "\t",
    b"~": "\u00a0",
    b"_": "-",
    b"{": "{",
    b"}": "}",
    b"\\": "\\",
}
_BULLETS = str.maketrans({0xF0B7: "•", 0xF0A7: "▪", 0xF06F: "◦", 0xF0D8: "➢", 0xF0FC: "✓", 0xF02D: "-"})
"""Characters of the symbol fonts, with which lists begin."""
_HEADING_STYLE = re.compile(r"heading ([1-6])$|title$", re.IGNORECASE)


def parse_rtf(path: Path) -> ParsedDocument:
    """Read an RTF document.

    Raises:
        ParseError: if it is none. OSError: if it cannot be read.
    """
    html, title, notes = _html(path.read_bytes())
    return from_html(html, path.stem, notes, title)


def rtf_pieces(data: bytes) -> Iterator[Piece]:
    """The text of RTF that is a part of something else."""
    html, _, notes = _html(data)
    return pieces_of(from_html(html, "", notes))


def _html(data: bytes) -> tuple[str, str, tuple[str, ...]]:
    """HTML, the title, and notes."""
    if not data.lstrip().startswith(b"{\\rtf"):
        raise ParseError("it is no RTF document; give it its right suffix")
    reader, position = _Reader(), 0
    while token := _TOKEN.match(data, position):
        position = token.end()
        if token["word"] == b"bin":
            position += max(0, int(token["number"] or 0))
        else:
            reader.take(token)
    cut_off = ("the end of the document is missing; get it anew",) if reader.depth else ()
    return reader.html(), pick_title(reader.title), cut_off


@dataclass(frozen=True, slots=True)
class _State:
    """What holds until the group ends."""

    shows: str = "body"
    """`body`, `skip`, or the table that the group is: `fonts`, `styles`, `title`."""
    flow: str = ""
    """Where the text of the group goes when it ends; empty where it just goes on."""
    font: int = -1
    hidden: bool = False
    fallback: int = 1
    """Characters after a Unicode character that stand for it in old readers."""
    style: int = 0
    outline: int = -1
    level: int = 0
    """Tables that the paragraph is in."""


@dataclass(slots=True)
class _Flow:
    """A text of its own: the body, a header, a note. Tables by their level, from 1; the text itself is level 0."""

    line: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    content: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    cells: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    rows: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))

    def end_paragraph(self, level: int, tag: str = "p") -> None:
        """Put the line below what came before it, and then what hangs on it."""
        text = "".join(self.line).encode("utf-16", "surrogatepass").decode("utf-16", "replace").translate(_BULLETS)
        self._end_tables(level)
        if text.strip():
            self.content[level].append(f"<{tag}>{escape(text).replace(chr(10), '<br>')}</{tag}>")
        self.content[level] += self.aside
        self.line, self.aside = [], []

    def end_cell(self, level: int) -> None:
        """Put the text so far into a cell."""
        self.end_paragraph(level)
        self.cells[level].append("".join(self.content.pop(level, ())))

    def end_row(self, level: int, tag: str) -> None:
        """Put the cells so far into a row."""
        self.rows[level].append("".join(f"<{tag}>{cell}</{tag}>" for cell in self.cells.pop(level, ())))

    def _end_tables(self, level: int) -> None:
        """Tables deeper than the next text have ended."""
        for deeper in sorted((key for key in {*self.rows, *self.cells} if key > level), reverse=True):
            if self.cells.get(deeper):
                self.end_row(deeper, "td")
            rows = "".join(f"<tr>{row}</tr>" for row in self.rows.pop(deeper, ()))
            self.content[deeper - 1].append(f"<table>{rows}</table>")

    def html(self) -> str:
        """All of it; what was left open is closed."""
        self.end_paragraph(0)
        open_cells = "".join("".join(self.content[level]) for level in sorted(self.content) if level)
        return "".join(self.content[0]) + open_cells


class _Reader:
    def __init__(self) -> None:
        self.title = ""
        self._state, self._stack = _State(), list[_State]()
        self._flows, self._halves = [_Flow()], {"top": list[str](), "bottom": list[str]()}
        self._default, self._fonts, self._default_font, self._defined = "cp1252", dict[int, str](), 0, 0
        self._headings: dict[int, int] = {}
        self._style_name = ""
        self._run = bytearray()
        self._skip = 0
        self._starred = self._is_header_row = False
        self._notes = 0

    @property
    def depth(self) -> int:
        """Groups that are still open."""
        return len(self._stack)

    def html(self) -> str:
        """What was read so far, headers first and footers last."""
        self._flush()
        while len(self._flows) > 1:
            self._flows[-2].aside.append(self._flows.pop().html())
        top, bottom = ("".join(dict.fromkeys(self._halves[half])) for half in ("top", "bottom"))
        return f"<body>{top}{self._flows[0].html()}{bottom}</body>"

    def take(self, token: re.Match[bytes]) -> None:
        """Read one token."""
        if token["hex"] or token["text"]:
            self._bytes(bytes.fromhex(token["hex"].decode()) if token["hex"] else token["text"])
        elif token["word"] or token["sign"] or token["brace"]:
            self._flush()
            if token["brace"]:
                self._brace(token["brace"])
            else:
                number = None if token["number"] is None else int(token["number"])
                self._control(token["word"] or token["sign"], number)

    def _bytes(self, data: bytes) -> None:
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._run += data[skipped:]

    def _flush(self) -> None:
        """Show the bytes so far in the encoding of their font."""
        if self._run:
            text = self._run.decode(self._page(), "replace")
            self._run = bytearray()
            self._show(text)

    def _page(self) -> str:
        font = self._state.font if self._state.font >= 0 else self._default_font
        return self._fonts.get(font, self._default)

    def _show(self, text: str) -> None:
        state = self._state
        if state.shows == "body" and not state.hidden:
            self._flows[-1].line.append(text)
        elif state.shows == "title":
            self.title += text
        elif state.shows == "styles":
            self._name_style(text)

    def _name_style(self, text: str) -> None:
        self._style_name += text
        if text.endswith(";"):
            found = _HEADING_STYLE.match(self._style_name.rstrip(";").strip())
            if found:
                self._headings.setdefault(self._state.style, int(found[1] or 1))
            self._style_name = ""

    def _brace(self, brace: bytes) -> None:
        self._skip, self._starred = 0, False
        if brace == b"{":
            self._stack.append(self._state)
            self._state = replace(self._state, flow="")
        elif self._stack:
            flow, self._state = self._state.flow, self._stack.pop()
            if flow:
                html = self._flows.pop().html()
                (self._flows[-1].aside if flow == "note" else self._halves[flow]).append(html)

    def _control(self, word: bytes, number: int | None) -> None:
        starred, self._starred = self._starred, word == b"*"
        if self._skip and (word in _CHARACTERS or word == b"u"):
            self._skip -= 1
        elif word in _CHARACTERS:
            self._show(_CHARACTERS[word])
        elif word in _SKIPPED or (starred and word not in _STARRED):
            self._state = replace(self._state, shows="info" if word == b"info" else "skip")
        elif word in _FLOWS and self._state.shows == "body":
            self._begin_flow(word)
        elif self._state.shows in ("fonts", "styles", "info"):
            self._define(word, number)
        else:
            self._property(word, number)

    def _begin_flow(self, word: bytes) -> None:
        self._notes += word == b"footnote"
        self._flows.append(_Flow())
        self._state = replace(self._state, flow=_FLOWS[word], style=0, outline=-1, level=0)

    def _define(self, word: bytes, number: int | None) -> None:
        """What the tables at the top of the file say."""
        if word == b"title":
            self._state = replace(self._state, shows="title")
        elif self._state.shows == "fonts" and word == b"f":
            self._defined = number or 0
        elif self._state.shows == "fonts" and word in (b"fcharset", b"cpg"):
            page = _FONT_PAGES.get(number or 0, "") if word == b"fcharset" else _known(number)
            if page:
                self._fonts[self._defined] = page
        elif self._state.shows == "styles" and word == b"s":
            self._state = replace(self._state, style=number or 0)
        elif self._state.shows == "styles" and word == b"outlinelevel" and number is not None and number < 9:
            self._headings[self._state.style] = min(number + 1, 6)

    def _property(self, word: bytes, number: int | None) -> None:
        if word in _BREAKS:
            self._break(word)
        elif word in _STATE_CHANGES:
            name, value = _STATE_CHANGES[word]
            change: dict[str, Any] = {name: value if number is None or word in _FIXED else number}
            self._state = replace(self._state, **change)
        elif word == b"pard":
            self._state = replace(self._state, style=0, outline=-1, level=0)
        elif word == b"plain":
            self._state = replace(self._state, hidden=False, font=-1)
        else:
            self._other(word, number or 0)

    def _other(self, word: bytes, number: int) -> None:
        if word == b"u":
            self._show(chr(number % 0x10000))
            self._skip = self._state.fallback
        elif word == b"chftn":
            self._show(f"[{self._notes + (len(self._flows) == 1)}]")
        elif word in (b"fonttbl", b"stylesheet"):
            self._state = replace(self._state, shows="fonts" if word == b"fonttbl" else "styles")
        elif word == b"ansicpg":
            self._default = _known(number) or self._default
        elif word in _PAGES:
            self._default = _PAGES[word]
        elif word == b"deff":
            self._default_font = number
        elif word in (b"trowd", b"trhdr"):
            self._is_header_row = word == b"trhdr"

    def _break(self, word: bytes) -> None:
        if self._state.shows != "body":
            return
        flow, level = self._flows[-1], self._state.level
        if word in (b"cell", b"nestcell"):
            flow.end_cell(1 if word == b"cell" else max(level, 2))
        elif word in (b"row", b"nestrow"):
            flow.end_row(1 if word == b"row" else max(level, 2), "th" if self._is_header_row else "td")
        else:
            outline = (
                self._state.outline + 1 if 0 <= self._state.outline < 9 else self._headings.get(self._state.style, 0)
            )
            flow.end_paragraph(level, f"h{min(outline, 6)}" if outline and not level else "p")


_BREAKS = frozenset((b"par", b"sect", b"page", b"cell", b"nestcell", b"row", b"nestrow", b"\n", b"\r"))
_STATE_CHANGES: dict[bytes, tuple[str, int | bool]] = {
    b"f": ("font", 0),
    b"v": ("hidden", True),
    b"deleted": ("hidden", True),
    b"uc": ("fallback", 1),
    b"s": ("style", 0),
    b"outlinelevel": ("outline", -1),
    b"intbl": ("level", 1),
    b"itap": ("level", 1),
}
"""Control word -> the part of the state that it changes, and to what where it carries no number."""
_FIXED = frozenset((b"intbl",))


def _known(page: int | None) -> str:
    """Python's name of a code page; empty where there is none."""
    name = "utf-8" if page == 65001 else f"cp{page}"
    try:
        return codecs.lookup(name).name
    except LookupError:
        return ""
