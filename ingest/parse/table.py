"""Which parser reads which suffix, and the promise that no file becomes an empty document.

Knows nothing about how a format is read, nor about chunks or the index.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ingest.parse.archive import parse_zip
from ingest.parse.book import parse_epub
from ingest.parse.data import parse_json, parse_json_lines, parse_xml
from ingest.parse.delimited import parse_delimited
from ingest.parse.document import Context, ParsedDocument
from ingest.parse.html import parse_html
from ingest.parse.image import parse_image
from ingest.parse.kind import Kind, kind_of
from ingest.parse.legacy import parse_doc, parse_odp, parse_ppt
from ingest.parse.mail import parse_mail, parse_mbox
from ingest.parse.markdown import parse_markdown
from ingest.parse.ods import parse_ods
from ingest.parse.opendocument import parse_odt
from ingest.parse.outlook import parse_msg
from ingest.parse.pandoc import marked_up
from ingest.parse.pdf import parse_pdf
from ingest.parse.rtf import parse_rtf
from ingest.parse.sheets import parse_xlsx
from ingest.parse.slides import parse_pptx
from ingest.parse.text import parse_text
from ingest.parse.word import parse_docx
from ingest.parse.xls import parse_xls
from rag.errors import ParseError

PARSER_VERSION = "3"
"""Changes whenever what is read of some file would come out differently; the index is then brought up to date."""

Parser = Callable[[Path, Context], ParsedDocument]


def _alone(parser: Callable[[Path], ParsedDocument]) -> Parser:
    """A parser that needs nothing but the file."""
    return lambda path, _context: parser(path)


_PICTURES = (".bmp", ".gif", ".heic", ".jpg", ".png", ".tiff", ".webp")
BINARY: dict[str, Parser] = {
    **dict.fromkeys(_PICTURES, parse_image),
    ".doc": parse_doc,
    ".docx": _alone(parse_docx),
    ".epub": parse_epub,
    ".msg": parse_msg,
    ".odp": parse_odp,
    ".ods": _alone(parse_ods),
    ".odt": parse_odt,
    ".pdf": parse_pdf,
    ".ppt": parse_ppt,
    ".pptx": _alone(parse_pptx),
    ".rtf": _alone(parse_rtf),
    ".xls": _alone(parse_xls),
    ".xlsx": _alone(parse_xlsx),
    ".zip": parse_zip,
}
"""Formats that their content gives away."""

TEXTUAL: dict[str, Parser] = {
    ".adoc": marked_up("asciidoc"),
    ".asciidoc": marked_up("asciidoc"),
    ".csv": _alone(parse_delimited),
    ".eml": parse_mail,
    ".emlx": parse_mail,
    ".htm": _alone(parse_html),
    ".html": _alone(parse_html),
    ".json": _alone(parse_json),
    ".jsonl": _alone(parse_json_lines),
    ".markdown": _alone(parse_markdown),
    ".mbox": parse_mbox,
    ".md": _alone(parse_markdown),
    ".mht": parse_mail,
    ".mhtml": parse_mail,
    ".ndjson": _alone(parse_json_lines),
    ".org": marked_up("org"),
    ".p7m": parse_mail,
    ".p7s": parse_mail,
    ".rst": marked_up("rst"),
    ".tab": _alone(parse_delimited),
    ".tsv": _alone(parse_delimited),
    ".xhtml": _alone(parse_html),
    ".xml": _alone(parse_xml),
}
"""Formats that only their suffix tells from plain text. Any other suffix, or none, is read as plain text."""

_SAME = {
    **{".jpeg": ".jpg", ".tif": ".tiff", ".heif": ".heic", ".dot": ".doc", ".docm": ".docx", ".xlsm": ".xlsx"},
    **dict.fromkeys((".dotm", ".dotx"), ".docx"),
    **dict.fromkeys((".potm", ".potx", ".ppsm", ".ppsx", ".pptm"), ".pptx"),
    **dict.fromkeys((".xltm", ".xltx"), ".xlsx"),
    **{".pot": ".ppt", ".pps": ".ppt", ".xlt": ".xls"},
    **{".otp": ".odp", ".ots": ".ods", ".ott": ".odt"},
}
"""Suffixes that are as good as the one by which their content goes."""
_SAVE_ANEW = "open it in the program that it comes from and save it anew"


def parse(path: Path, context: Context) -> ParsedDocument:
    """Read one file into text with pages, headings and offsets.

    Its content decides how it is read; its suffix where the content may be any text.

    Raises:
        ParseError: in one line, why the file holds nothing that can be indexed and what to do about it. Whatever
            goes wrong inside a format's library arrives as a ParseError too.
    """
    suffix = path.suffix.lower()
    try:
        parser, note = _parser(path, suffix)
        parsed = parser(path, context)
    except (ParseError, MemoryError):
        raise
    except OSError as error:
        raise ParseError(f"cannot be read: {_one_line(error.strerror or str(error))}; check the file") from error
    except RecursionError as error:
        raise ParseError(f"nested too deeply to be read; {_SAVE_ANEW}") from error
    except Exception as error:  # formats' libraries raise anything, and one bad file must not end a batch
        what = f"{type(error).__name__}: {_one_line(str(error))}"
        raise ParseError(f"damaged, or not a {suffix or 'text'} file ({what}); {_SAVE_ANEW}") from error
    if not parsed.blocks:
        raise ParseError("it holds no text; remove it, or check that it was saved completely")
    return replace(parsed, notes=(note, *parsed.notes)) if note else parsed


def _parser(path: Path, suffix: str) -> tuple[Parser, str]:
    """The parser for what the file holds, and a note where that is not what its suffix says."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ParseError("it is not a regular file; give a file or a folder")
    if not status.st_size:
        raise ParseError("the file is empty (0 bytes); remove it, or check that it was saved completely")
    kind = kind_of(path)
    if kind is None:
        if suffix in BINARY:
            raise ParseError(f"its content is text or unknown, not {suffix}; give it its right suffix")
        return TEXTUAL.get(suffix, _alone(parse_text)), ""
    if kind.suffix not in BINARY:
        raise ParseError(f"it is {kind.name}: no text can be read from it{_unpack(kind)}")
    misnamed = suffix and _SAME.get(suffix, suffix) != kind.suffix
    return BINARY[kind.suffix], f"named {suffix}, but it is {kind.name} and was read as one" if misnamed else ""


def _unpack(kind: Kind) -> str:
    return "; unpack it and give the folder" if kind.name.endswith("archive") else ""


def _one_line(text: str, limit: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
