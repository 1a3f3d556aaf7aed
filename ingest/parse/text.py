"""Plain text: bytes -> characters, and paragraphs between blank lines. Knows nothing about markup or headings.

`unstructured` reads plain text too, but joins the lines of a paragraph and drops bullets; text that is
quoted and cited has to stay as it was written.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from ingest.parse.document import ParsedDocument, Piece, assemble
from rag.errors import ParseError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""UTF-32 before UTF-16: their little-endian marks share a prefix."""

_WEB_NAMES = {
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "euc-kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
}
"""What browsers make of a declared encoding (https://encoding.spec.whatwg.org/#names-and-labels)."""

STATEFUL = ("iso-2022", "hz", "utf-7")
"""Encodings that switch alphabets by escape sequences, as their names begin."""

_OTHERWISE = frozenset(
    "Polish Czech Slovak Hungarian Romanian Slovene Lithuanian Latvian Estonian Turkish Vietnamese".split()
    + "Japanese Chinese Korean".split()
)
"""Languages whose legacy files have high bytes among ASCII letters, as western ones do, but not as Windows-1252."""
_WORD_WITH_HIGH_BYTES = re.compile(rb"[A-Za-z]*[\x80-\xff][A-Za-z\x80-\xff]*")

_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROLS = 0.01
_MAX_BROKEN = 0.2
_SAMPLE = 65_536


def parse_text(path: Path) -> ParsedDocument:
    """Read a plain text file of any encoding; a paragraph is a block.

    Raises:
        ParseError: if it is binary. OSError: if it cannot be read.
    """
    text, notes = decode(path.read_bytes())
    return assemble(path.stem, (Piece(part) for part in re.split(r"\n[^\S\n]*\n", text)), notes=notes)


def decode(data: bytes, declared: str = "") -> tuple[str, tuple[str, ...]]:
    r"""Bytes -> text with `\n` line ends, and a note where the encoding is a guess or bytes were broken.

    Order: byte order mark, UTF-16 seen from its zero bytes, UTF-8, the encoding that the file declares,
    UTF-8 with a few broken bytes, a guess.

    Raises:
        ParseError: if it is no text in any encoding.
    """
    text, notes = _decoded(data, declared)
    sample = text[:_SAMPLE]
    if len(_CONTROLS.findall(sample)) > _MAX_CONTROLS * len(sample):
        raise ParseError("it is binary, not text; give it the suffix of its format, or leave it out")
    return text.replace("\r\n", "\n").replace("\r", "\n"), notes


def _decoded(data: bytes, declared: str) -> tuple[str, tuple[str, ...]]:
    marked = next((codec for bom, codec in _BOMS if data.startswith(bom)), None) or _utf16(data)
    if marked:
        return data.decode(marked, "replace"), ()
    named = _WEB_NAMES.get(declared.lower(), declared)
    # What these encodings make is ASCII to look at, so that UTF-8 would take it.
    first = named if declared.lower().startswith(STATEFUL) else ""
    for codec in (first, "utf-8", named):
        text = _strict(data, codec)
        if text is not None:
            return text, ()
    return _guessed(data)


def _strict(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec) if codec else None
    except (UnicodeError, LookupError):
        return None


def _utf16(data: bytes) -> str | None:
    """UTF-16 without a byte order mark: in western text every other byte is zero, and only those."""
    sample = data[:_SAMPLE]
    if b"\x00" not in sample or len(sample) < 4:
        return None
    even, odd = sample[::2].count(0) / len(sample[::2]), sample[1::2].count(0) / len(sample[1::2])
    if odd > 0.4 and even < 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.1 else None


def _guessed(data: bytes) -> tuple[str, tuple[str, ...]]:
    """UTF-8 where nearly all of it is; else the best guess, said aloud in a note."""
    text = data.decode("utf-8", "replace")
    broken, sound = text.count("\ufffd"), sum(not char.isascii() for char in text)
    if broken <= _MAX_BROKEN * sound:
        return text, (f"{broken} characters are not valid UTF-8 and show as \ufffd",)
    codec = _likely(data)
    return data.decode(codec, "replace"), (
        f"the text encoding was guessed to be {codec}; save it as UTF-8 if letters look wrong",
    )


def _likely(data: bytes) -> str:
    """`charset_normalizer` tells languages well, but picks any of a dozen Latin encodings for a western one."""
    from charset_normalizer import from_bytes

    sample = data[: 4 * _SAMPLE]
    best = from_bytes(sample).best()
    if best is None:
        return "cp1252"
    found = _WORD_WITH_HIGH_BYTES.findall(sample)
    mixed = sum(re.search(rb"[A-Za-z]", word) is not None for word in found)
    western = best.language not in _OTHERWISE and 3 * mixed >= len(found)
    return "cp1252" if western and _strict(data, "cp1252") is not None else best.encoding
