"""Which parser reads which suffix, and the promise that no file becomes an empty document.

Knows nothing about how a format is read, nor about chunks or the index.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from ingest.parse.document import ParsedDocument
from ingest.parse.html import parse_html
from ingest.parse.markdown import parse_markdown
from ingest.parse.pdf import parse_pdf
from ingest.parse.text import parse_text
from ingest.parse.word import parse_docx
from rag.errors import ParseError

PARSER_VERSION = "1"
"""Changes whenever some file's text or blocks would come out differently; the index is then brought up to date."""

_PARSERS: dict[str, Callable[[Path], ParsedDocument]] = {
    ".docx": parse_docx,
    ".htm": parse_html,
    ".html": parse_html,
    ".log": parse_text,
    ".markdown": parse_markdown,
    ".md": parse_markdown,
    ".pdf": parse_pdf,
    ".text": parse_text,
    ".txt": parse_text,
}

SUFFIXES = frozenset(_PARSERS)
"""Suffixes that can be read, in lower case with the dot."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive (or an Office document)"),
    (_OLE, "an old or a password-protected Office document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"RIFF", "an audio or a video file"),
    (b"{\\rtf", "an RTF document"),
)
"""First bytes of what people misname, from https://en.wikipedia.org/wiki/List_of_file_signatures."""


_SAVE_ANEW = "open it in the program that it comes from and save it anew"


def parse(path: Path) -> ParsedDocument:
    """Read one file into text with pages, headings and offsets.

    Raises:
        ParseError: in one line, why the file holds nothing that can be indexed and what to do about it. Whatever
            goes wrong inside a format's library arrives as a ParseError too.
    """
    try:
        parser = _parser(path)
        _check_content(path)
        parsed = parser(path)
    except ParseError:
        raise
    except OSError as error:
        raise ParseError(f"cannot be read: {_one_line(error.strerror or str(error))}; check the file") from error
    except RecursionError as error:
        raise ParseError(f"nested too deeply to be read; {_SAVE_ANEW}") from error
    except Exception as error:  # formats' libraries raise anything, and one bad file must not end a batch
        what = f"{type(error).__name__}: {_one_line(str(error))}"
        raise ParseError(f"damaged, or not a {path.suffix.lower()} file ({what}); {_SAVE_ANEW}") from error
    if not parsed.blocks:
        raise ParseError("it holds no text; remove it, or check that it was saved completely")
    return parsed


def _parser(path: Path) -> Callable[[Path], ParsedDocument]:
    parser = _PARSERS.get(path.suffix.lower())
    if parser is None:
        what = f"format {path.suffix.lower()}" if path.suffix else "a file without a suffix"
        raise ParseError(f"{what} is not supported yet; supported: {', '.join(sorted(SUFFIXES))}")
    return parser


def _check_content(path: Path) -> None:
    """Refuse what is empty, no file at all, or plainly something else than its suffix says."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ParseError("it is not a regular file; give a file or a folder")
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise ParseError("the file is empty (0 bytes); remove it, or check that it was saved completely")
    suffix = path.suffix.lower()
    found = next((name for magic, name in _SIGNATURES if head.startswith(magic)), None)
    content = f"its content is {found or 'something else'}"
    if suffix == ".pdf":
        if b"%PDF" not in head:
            raise ParseError(f"{content}, not PDF: no %PDF in its first 1024 bytes; give it its right suffix")
    elif suffix == ".docx":
        if not head.startswith(b"PK\x03\x04"):
            raise ParseError(f"{content}, not Word (.docx); remove its password, or save it as .docx")
    elif found:
        raise ParseError(f"{content}, not {suffix} text; give it its right suffix")


def _one_line(text: str, limit: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
