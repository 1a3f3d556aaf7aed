"""A page of a PDF file -> a picture of it, and where a passage is on it. Runs as a process that may be lost.

`python -m ui.server.drawing` takes an order as a line of JSON on its standard input, behind which the file's bytes may
follow, and writes a line of JSON, then the picture. Knows nothing about documents, who asks, or what is kept.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from math import pi
from pathlib import Path
from typing import Any, NamedTuple

from rag.errors import ParseError
from ui.server import quotes

MOST_PIXELS = 8_000_000
"""Of a picture; an A4 page that is 2,000 wide has 5.7 million."""
_LONGEST_SIDE = 12_000
"""Pixels; browsers show no picture that is much longer."""
_MOST_CHARACTERS = 200_000
"""Of a page; one with more is no page that a person reads, and its passages are not looked for."""
_WRONG_PASSWORD = 4
_GRID = 1 << 20
"""A page's width and height in the units in which places on it are told: PDFium gives whole numbers."""
_GAP = 3.0
"""Heights of a line; what is further apart becomes two boxes."""


class Box(NamedTuple):
    """A part of a line, in shares of the page's width and height as it is shown, from the left and from the top."""

    left: float
    top: float
    width: float
    height: float


class Order(NamedTuple):
    """What is wanted of a page."""

    page: int
    """Counted from 1."""
    width: int
    """Of the picture, in pixels; 0 for no picture."""
    quote: str = ""
    before: str = ""
    """The text before the quote, which decides between several places."""


class Drawn(NamedTuple):
    """What came of it."""

    png: bytes
    """Empty where no picture was wanted."""
    width: int
    height: int
    boxes: tuple[Box, ...]
    """Of the quote, line by line; none where it is not on the page."""


def draw(source: Path | bytes, order: Order) -> Drawn:
    """Draw a page, and find a quote on it.

    Raises:
        ParseError: the file cannot be opened, or has no such page.
    """
    with _opened(source) as document, _page(document, order.page) as page:
        boxes = tuple(_boxes(page, order.quote, order.before)) if order.quote else ()
        return Drawn(*_picture(page, order.width), boxes) if order.width else Drawn(b"", 0, 0, boxes)


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Any]:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(source)
    except (pypdfium2.PdfiumError, OSError) as error:
        locked = getattr(error, "err_code", None) == _WRONG_PASSWORD
        raise ParseError("it needs a password" if locked else "it is damaged, or no PDF file") from None
    with closing(document):
        yield document


@contextmanager
def _page(document: Any, number: int) -> Iterator[Any]:
    """A page, with what was filled into its form fields drawn onto it, as our parser sees it."""
    import pypdfium2

    if not 1 <= number <= len(document):
        raise ParseError(f"it has {len(document)} pages, page {number} was asked for")
    if document.get_formtype():
        document.init_forms()
    try:
        page = document[number - 1]
        if document.formenv is not None:
            page.flatten()
            page.close()
            page = document[number - 1]
    except pypdfium2.PdfiumError:
        raise ParseError(f"its page {number} is damaged") from None
    with closing(page):
        yield page


def _picture(page: Any, wanted: int) -> tuple[bytes, int, int]:
    """A picture `wanted` pixels wide, or less where it would have too many; with its width and height."""
    width, height = page.get_size()
    if min(width, height) <= 0:
        raise ParseError(f"its page measures {width:g} by {height:g} points")
    scale = min(wanted / width, (MOST_PIXELS / (width * height)) ** 0.5, _LONGEST_SIDE / height)
    bitmap = page.render(scale=scale, rev_byteorder=True, limit_image_cache=True)
    out = BytesIO()
    bitmap.to_pil().save(out, "PNG")
    return out.getvalue(), bitmap.width, bitmap.height


def _boxes(page: Any, quote: str, before: str) -> Iterator[Box]:
    """The quote's boxes, line by line."""
    with closing(page.get_textpage()) as text:
        count = text.count_chars()
        characters = _characters(text, count) if count <= _MOST_CHARACTERS else ""
        found = quotes.find(characters, quote, before)
        letters = [i for i in range(found.start, found.end) if not characters[i].isspace()] if found else []
        for line in _lines([letter for i in letters if (letter := _letter(text, i))]):
            if box := _shown(page, line):
                yield box


def _characters(text: Any, count: int) -> str:
    from pypdfium2 import raw

    codes = (raw.FPDFText_GetUnicode(text.raw, index) for index in range(count))
    return "".join(chr(code) if code <= sys.maxunicode else "\ufffd" for code in codes)


class _Place(NamedTuple):
    """A character, or several of a line, on the page's own coordinates."""

    left: float
    bottom: float
    right: float
    top: float
    sideways: bool
    """True where the line runs up or down the page."""

    @property
    def across(self) -> tuple[float, float]:
        """From where to where it reaches across its line."""
        return (self.left, self.right) if self.sideways else (self.bottom, self.top)

    @property
    def along(self) -> tuple[float, float]:
        """From where to where it reaches along its line."""
        return (self.bottom, self.top) if self.sideways else (self.left, self.right)


def _letter(text: Any, index: int) -> _Place | None:
    """Where a character is, as high as its font, or else as high as itself; None where it takes no room."""
    import pypdfium2
    from pypdfium2 import raw

    sideways = round(raw.FPDFText_GetCharAngle(text.raw, index) / (pi / 2)) % 2 == 1
    for loose in (True, False):
        with suppress(pypdfium2.PdfiumError):
            left, bottom, right, top = text.get_charbox(index, loose)
            if left < right and bottom < top:
                return _Place(left, bottom, right, top, sideways)
    return None


def _lines(letters: Sequence[_Place]) -> list[_Place]:
    """Characters that follow each other in a line become one."""
    lines: list[_Place] = []
    for letter in letters:
        if lines and _continues(lines[-1], letter):
            lines[-1] = _united(lines[-1], letter)
        else:
            lines.append(letter)
    return lines


def _united(first: _Place, second: _Place) -> _Place:
    return _Place(
        min(first.left, second.left),
        min(first.bottom, second.bottom),
        max(first.right, second.right),
        max(first.top, second.top),
        first.sideways,
    )


def _continues(line: _Place, letter: _Place) -> bool:
    """True where at least half of the lower one is beside the other, and the gap between them is no column's."""
    if line.sideways != letter.sideways:
        return False
    heights = [place.across[1] - place.across[0] for place in (line, letter)]
    gap = -_shared(line.along, letter.along)
    return 2 * _shared(line.across, letter.across) >= min(heights) and gap <= _GAP * max(heights)


def _shared(first: tuple[float, float], second: tuple[float, float]) -> float:
    """How far two spans overlap; below 0 how far they are apart."""
    return min(first[1], second[1]) - max(first[0], second[0])


def _shown(page: Any, line: _Place) -> Box | None:
    """A line's place on the page as it is shown, turned and cropped; None where nothing of it shows."""
    corners = [_device(page, line.left, line.bottom), _device(page, line.right, line.top)]
    (left, right), (top, bottom) = (
        sorted(min(max(each, 0.0), 1.0) for each in axis) for axis in zip(*corners, strict=True)
    )
    if right <= left or bottom <= top:
        return None
    return Box(round(left, 5), round(top, 5), round(right - left, 5), round(bottom - top, 5))


def _device(page: Any, x: float, y: float) -> tuple[float, float]:
    """A point of the page's own coordinates, in shares of its width and height as it is shown."""
    import ctypes

    from pypdfium2 import raw

    across, down = ctypes.c_int(), ctypes.c_int()
    raw.FPDF_PageToDevice(page.raw, 0, 0, _GRID, _GRID, 0, x, y, ctypes.byref(across), ctypes.byref(down))
    return across.value / _GRID, down.value / _GRID


def _limit(memory: int, seconds: int) -> None:
    """What this process may take: PDFium must not take the machine along."""
    for limit, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # a lower limit is set already, or the system has none
            resource.setrlimit(limit, (value, value))


def main() -> None:
    """Take one order, and answer it."""
    order = json.loads(sys.stdin.buffer.readline())
    _limit(order["memory"], order["seconds"])
    source = Path(order["path"]) if order["path"] else sys.stdin.buffer.read()
    try:
        drawn = draw(source, Order(*order["order"]))
        head = {"width": drawn.width, "height": drawn.height, "boxes": drawn.boxes}
    except ParseError as error:
        drawn, head = None, {"error": str(error)}
    sys.stdout.buffer.write(json.dumps(head).encode("ascii") + b"\n" + (drawn.png if drawn else b""))


if __name__ == "__main__":
    main()
