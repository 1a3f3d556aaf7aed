"""Text recognition: a picture of a page -> its text in reading order, by tesseract.

Knows nothing about files or formats. The program is called as it is rather than through pytesseract, which can give
it neither the variable that keeps it to one thread nor the picture without a file in between.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple

from rag.errors import ParseError

SECONDS = 60
"""What one page may take."""
MAX_PIXELS = 36_000_000
"""Of a page, about A2 at 300 dpi; what is larger is scaled down."""
_PROGRAM = ("env", "OMP_THREAD_LIMIT=1", "tesseract")
"""One thread: pages are read side by side already, and four threads save it no more than a third of the time."""
_LOCAL_CONTRAST = "thresholding_method=2"
"""Sauvola's way of telling ink from paper: on a shaded scan tesseract's own one loses half of the words."""
_PAGE, _ANY_DIRECTION = 3, 1
"""Page segmentation modes: as the page stands, and with its direction found out first."""
_SURE = 65
"""Confidence in percent; a page that is read right has 76 to 96, one that lies on its side 20 to 50."""
_HOPELESS = 40
"""A paragraph below it is no text, or of a script that tesseract was not told of: Korean as English has 8 to 39."""
_SMALL, _GOOD = 12, 20
"""Height of words in pixels. At 9 scaled to 18, confidence rises from 88 to 96, at 7 to 13 from 44 to 88; scaling 13
or 21 up makes it worse."""
_LARGEST_FACTOR = 4
_NOISE = 20
"""Letters; with fewer, confidence says little: such a paragraph stays, if there are better ones beside it."""


class Read(NamedTuple):
    """What was recognised."""

    text: str = ""
    """Lines as they stand; blank lines between paragraphs."""
    has_gaps: bool = False
    """True where something that looks like text could not be recognised."""
    confidence: float = 0.0
    """Mean of the characters, of those left out as well, 0 to 100."""
    height: int = 0
    """Of most words, in pixels; 0 where there are none."""

    @property
    def worth(self) -> float:
        """Grows with how much was recognised, and with how surely."""
        return len(self.text) * self.confidence


class _Word(NamedTuple):
    paragraph: tuple[str, ...]
    line: str
    height: int
    confidence: float
    text: str


def missing(languages: str) -> str:
    """Why text in these languages cannot be recognised here, and the remedy; empty where it can."""
    if shutil.which("tesseract") is None:
        return "tesseract is needed to recognise its text; install it: apt-get install tesseract-ocr"
    listed = _run(["--list-langs"]).stdout.decode("utf-8", "replace").split()
    lacking = [language for language in languages.split("+") if language not in listed]
    packages = " ".join("tesseract-ocr-" + name.lower().replace("_", "-").replace("/", "-") for name in lacking)
    what = "+".join(lacking)
    return f"tesseract has no data for the language {what}; install it: apt-get install {packages}" if lacking else ""


def recognise(image: Any, languages: str, dpi: int = 0) -> Read:
    """Text of a grey Pillow image; `dpi` is 0 where nobody knows it.

    Small print is scaled up and read again, a page that seems to lie on its side is turned.

    Raises:
        ParseError: if it takes more than `SECONDS`, or tesseract fails.
    """
    until = time.monotonic() + SECONDS
    read = _read(image, languages, dpi, _PAGE, SECONDS)
    with suppress(ParseError):  # out of time: the first reading stands
        if 0 < read.height < _SMALL:
            image, dpi = _enlarged(image, read.height), 0
            read = _better(read, _read(image, languages, dpi, _PAGE, until - time.monotonic()))
        if read.height and read.confidence < _SURE:
            read = _better(read, _read(image, languages, dpi, _ANY_DIRECTION, until - time.monotonic()))
    return read


def _better(first: Read, second: Read) -> Read:
    return max(first, second, key=lambda read: read.worth)


def fit(width: float, height: float) -> float:
    """The factor, 1 at most, by which a picture is scaled to have no more than `MAX_PIXELS`."""
    return float(min(1.0, (MAX_PIXELS / max(1.0, width * height)) ** 0.5))


def _enlarged(image: Any, height: int) -> Any:
    from PIL import Image

    factor = min(_LARGEST_FACTOR, -(-_GOOD // height), (MAX_PIXELS / (image.width * image.height)) ** 0.5)
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)


def _portable(image: Any) -> bytes:
    """The simplest of all formats: https://netpbm.sourceforge.net/doc/pgm.html."""
    return b"P5 %d %d 255\n" % image.size + bytes(image.tobytes())


def _read(image: Any, languages: str, dpi: int, mode: int, seconds: float) -> Read:
    options = ["-l", languages, "--psm", str(mode), "-c", _LOCAL_CONTRAST, "-c", "tessedit_create_tsv=1"]
    done = _run(["stdin", "stdout", *options, *(["--dpi", str(dpi)] if dpi else [])], _portable(image), seconds)
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise ParseError(f"tesseract failed ({said[-200:] or f'exit code {done.returncode}'}); save the picture anew")
    return _assembled(list(_words(done.stdout.decode("utf-8", "replace"))))


def _run(arguments: list[str], data: bytes = b"", seconds: float = SECONDS) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - no shell, and nothing of the document among the arguments
            [*_PROGRAM, *arguments], input=data, capture_output=True, timeout=max(0.0, seconds)
        )
    except subprocess.TimeoutExpired:
        raise ParseError(f"recognising its text took longer than {SECONDS} s; scan it at 300 dpi") from None


def _words(table: str) -> Iterator[_Word]:
    """Tesseract's table: level, page, block, paragraph, line, word, left, top, width, height, confidence, text."""
    for row in table.splitlines():
        cells = row.split("\t", 11)
        if len(cells) == 12 and cells[0] == "5" and cells[11].strip():
            yield _Word(tuple(cells[1:4]), cells[4], int(cells[9]), float(cells[10]), cells[11].strip())


def _assembled(words: list[_Word]) -> Read:
    if not words:
        return Read()
    paragraphs = [list(each) for _, each in groupby(words, key=lambda word: word.paragraph)]
    is_text = any(_confidence(each) >= _HOPELESS and _letters(each) for each in paragraphs)
    lost = [each for each in paragraphs if _confidence(each) < _HOPELESS and _letters(each) >= _NOISE]
    text = "\n\n".join(_lines(each) for each in paragraphs if each not in lost)
    heights = sorted(word.height for word in words)
    return Read(text if is_text else "", bool(lost), _confidence(words), heights[len(heights) // 2])


def _lines(words: list[_Word]) -> str:
    lines = groupby(words, key=lambda word: word.line)
    return "\n".join(" ".join(word.text for word in line) for _, line in lines)


def _confidence(words: list[_Word]) -> float:
    return sum(len(word.text) * max(0.0, word.confidence) for word in words) / sum(len(word.text) for word in words)


def _letters(words: list[_Word]) -> int:
    return sum(letter.isalnum() for word in words for letter in word.text)
