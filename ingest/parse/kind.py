"""What a file is, by its first bytes and, for archives and old Office files, by what they hold.

Knows nothing about how a format is read. Signatures: https://en.wikipedia.org/wiki/List_of_file_signatures.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

HEAD = 4096
"""Bytes looked at."""
_PDF_WITHIN = 1024
"""Readers accept the PDF mark anywhere in the first 1024 bytes."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class Kind(NamedTuple):
    """What the content is: `suffix` is the one it should have; empty where nothing here can read it."""

    suffix: str
    name: str


_SIGNATURES: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89PNG\r\n", Kind(".png", "a PNG image")),
    (b"\xff\xd8\xff", Kind(".jpg", "a JPEG image")),
    (b"GIF8", Kind(".gif", "a GIF image")),
    (b"II*\x00", Kind(".tiff", "a TIFF image")),
    (b"MM\x00*", Kind(".tiff", "a TIFF image")),
    (b"BM", Kind(".bmp", "a BMP image")),
    (b"{\\rtf", Kind(".rtf", "an RTF document")),
    (b"\x1f\x8b", Kind("", "a gzip archive")),
    (b"7z\xbc\xaf\x27\x1c", Kind("", "a 7z archive")),
    (b"Rar!\x1a\x07", Kind("", "a RAR archive")),
    (b"BZh", Kind("", "a bzip2 archive")),
    (b"\xfd7zXZ", Kind("", "an xz archive")),
    (b"\x7fELF", Kind("", "a program")),
    (b"MZ\x90", Kind("", "a program")),
    (b"ID3", Kind("", "an audio file")),
    (b"OggS", Kind("", "an audio or a video file")),
    (b"fLaC", Kind("", "an audio file")),
    (b"\x1aE\xdf\xa3", Kind("", "a video file")),
    (b"SQLite format 3\x00", Kind("", "an SQLite database")),
)
_HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"hevc", b"avif")
_OFFICE = (("word/", ".docx", "Word"), ("ppt/", ".pptx", "PowerPoint"), ("xl/", ".xlsx", "Excel"))
_MIMETYPES = (
    ("application/epub+zip", Kind(".epub", "an EPUB book")),
    ("application/vnd.oasis.opendocument.presentation", Kind(".odp", "an OpenDocument presentation")),
    ("application/vnd.oasis.opendocument.spreadsheet", Kind(".ods", "an OpenDocument spreadsheet")),
    ("application/vnd.oasis.opendocument.text", Kind(".odt", "an OpenDocument text")),
)
_OLE_STREAMS = (
    ("EncryptedPackage", Kind("", "a password-protected Office document; remove its password and save it anew")),
    ("WordDocument", Kind(".doc", "an old Word document (.doc)")),
    ("PowerPoint Document", Kind(".ppt", "an old PowerPoint document (.ppt)")),
    ("Workbook", Kind(".xls", "an old Excel document (.xls)")),
    ("Book", Kind(".xls", "an old Excel document (.xls)")),
    ("__properties_version1.0", Kind(".msg", "an Outlook message (.msg)")),
)


def kind_of(path: Path) -> Kind | None:
    """What a file's content shows it to be; None where it may be text. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # before PDF, which an archive may hold
        return _archive(path)
    if b"%PDF" in head[:_PDF_WITHIN]:
        return Kind(".pdf", "a PDF")
    if head.startswith(_OLE):
        return _ole(path)
    if head[4:8] == b"ftyp":
        return Kind(".heic", "a HEIC image") if head[8:12] in _HEIF_BRANDS else Kind("", "a video file")
    if head.startswith(b"RIFF"):
        return Kind(".webp", "a WebP image") if head[8:12] == b"WEBP" else Kind("", "an audio or a video file")
    found = next((kind for magic, kind in _SIGNATURES if head.startswith(magic)), None)
    # `BM` begins words as well; a bitmap has zero bytes in its header.
    return found if found is None or found.suffix != ".bmp" or b"\x00" in head[:32] else None


def _archive(path: Path) -> Kind:
    """Office files and books are archives with known members."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            mimetype = archive.open("mimetype").read(100).decode("ascii", "replace") if "mimetype" in names else ""
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError):
        return Kind(path.suffix.lower(), "a damaged ZIP archive (or Office document)")
    for known, kind in _MIMETYPES:
        if mimetype.strip().startswith(known):
            return kind
    if "[Content_Types].xml" in names:
        for folder, suffix, program in _OFFICE:
            if any(name.startswith(folder) for name in names):
                return Kind(suffix, f"a {program} document ({suffix})")
    return Kind(".zip", "a ZIP archive")


def _ole(path: Path) -> Kind:
    """Old Office files and Outlook messages share a container format."""
    import olefile

    try:
        with olefile.OleFileIO(path) as container:
            streams = {entry[0] for entry in container.listdir()}
    except (OSError, ValueError, IndexError, TypeError):
        streams = set()
    return next((kind for name, kind in _OLE_STREAMS if name in streams), Kind("", "an unknown or damaged OLE file"))
