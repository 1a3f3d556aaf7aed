"""ZIP archives: their members become documents of their own; the archive's own text is the list of their names.

Knows nothing about the members' formats: an archive inside an archive is a member like any other. Nothing that an
archive says of itself is trusted: bytes are counted while they are unpacked, paths are only names. Left out without
a word are folders, hidden files, and what operating systems leave behind.
"""

from __future__ import annotations

import errno
import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ingest.parse.document import Context, ParsedDocument, Piece, assemble
from ingest.parse.members import Spool, left_out, trick
from ingest.parse.text import decode
from rag.errors import ParseError

MAX_MEMBERS = 10_000
_CHUNK = 1 << 18
_ENCRYPTED, _UTF8 = 0x1, 0x800
_HONEST_RATIO = 200
"""Text packs to a tenth, the most monotonous tables to a hundredth; bombs to a thousandth."""
_ALWAYS_FINE = 64 << 20
"""Bytes that any archive may unpack to, whatever its size."""
_LITTER = re.compile(r"(^|/)(\.(?!\.?(/|$))|~\$|__MACOSX(/|$)|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


def parse_zip(path: Path, context: Context) -> ParsedDocument:
    """Unpack a ZIP archive into the spool.

    Raises:
        ParseError: if it has too many members, unpacks to too much, or holds nothing that can be taken out.
    """
    limit = max(_ALWAYS_FINE, _HONEST_RATIO * path.stat().st_size)
    with open_zip(path) as archive:
        members = _members(archive)
        if not members:
            raise ParseError("the archive holds no files; remove it, or check that it was packed completely")
        spool, lost = Spool(context, limit), []
        for name, info in members:
            reason = trick(name) or _unusual(info) or _unpack(archive, info, name, spool)
            if reason:
                lost.append((name, reason))
        comment = decode(archive.comment)[0] if archive.comment else ""
    notes = left_out(lost)
    if not spool.members:
        raise ParseError(f"nothing could be taken out of the archive; {notes[0]}; unpack it and give the folder")
    pieces = [*map(Piece, _list(name for name, _ in members)), Piece(comment)]
    return replace(assemble(path.stem, pieces, notes=notes), members=tuple(spool.members))


def open_zip(path: Path) -> zipfile.ZipFile:
    """An open archive, or a document that is one.

    Raises:
        ParseError: if its directory is damaged. OSError: if the file cannot be read.
    """
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        if not _is_damage(error):
            raise
        raise ParseError(f"its directory of contents is damaged ({error}); get the file anew") from error


def read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of a document that is an archive.

    Raises:
        ParseError: if it is damaged, or larger than `most` bytes. KeyError: if there is no such file.
    """
    info = archive.getinfo(name)
    try:
        with archive.open(info) as file:
            data = file.read(most + 1)
    except (*_DAMAGE, NotImplementedError) as error:
        if not _is_damage(error):
            raise
        raise ParseError(f"{name}, a part of it, is damaged; get the file anew") from error
    if len(data) > most:
        raise ParseError("it unpacks to more than is allowed; it is no honest document, leave it out")
    return data


def _is_damage(error: Exception) -> bool:
    """True unless the disk is the trouble; a position before the file's beginning is an invalid argument."""
    return not isinstance(error, OSError) or error.errno in (None, errno.EINVAL)


def _members(archive: zipfile.ZipFile) -> list[tuple[str, zipfile.ZipInfo]]:
    """Files and their names, without litter."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    found = [(name, info) for name, info in zip(_names(infos), infos, strict=True) if not _LITTER.search(name)]
    if len(found) > MAX_MEMBERS:
        raise ParseError(f"it holds {len(found):,} files, more than {MAX_MEMBERS:,}; unpack it and give the folder")
    return found


def _names(infos: list[zipfile.ZipInfo]) -> list[str]:
    """Names as they were meant: the standard has UTF-8, marked as such, and code page 437; programs write any.

    The unmarked ones are guessed together, since one name alone tells too little.
    """
    unmarked = [info.orig_filename for info in infos if not info.flag_bits & _UTF8]
    joined = "\n".join(name.replace("\n", "_").replace("\r", "_") for name in unmarked)
    guessed = iter(decode(joined.encode("cp437"))[0].split("\n") if joined.strip("\n\x00") else unmarked)
    names = [info.orig_filename if info.flag_bits & _UTF8 else next(guessed) for info in infos]
    return [name.partition("\x00")[0].replace("\\", "/") for name in names]


def _unusual(info: zipfile.ZipInfo) -> str:
    """Why a member is no plain file; empty where it is one."""
    mode = stat.S_IFMT(info.external_attr >> 16)
    if mode and mode != stat.S_IFREG:
        return "a link or a device, not a file"
    return "protected by a password" if info.flag_bits & _ENCRYPTED else ""


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, spool: Spool) -> str:
    """Write a member to the spool; why it could not be unpacked, or empty."""
    try:
        spool.add(name, _inflate(archive, info))
    except NotImplementedError:
        return "packed by a method that cannot be read here"
    except RuntimeError:
        return "protected by a password"
    except _DAMAGE as error:
        if not _is_damage(error):
            raise
        return "damaged"
    return ""


def _inflate(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(info) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _list(names: Iterable[str]) -> Iterator[str]:
    """The names, a block for each folder."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    return ("\n".join(found) for found in folders.values())
