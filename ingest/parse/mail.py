"""Mail messages (MIME, RFC 5322): headers, body, and attachments as documents of their own.

Knows nothing about Outlook's format or about the attachments'. Of a body in several versions the plain one is taken,
unless it lacks what the HTML one shows. Signatures are not checked; they and style sheets are left out.
"""

from __future__ import annotations

import base64
import mimetypes
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import getaddresses, parsedate_to_datetime
from io import BytesIO
from pathlib import Path

from ingest.parse.document import Context, ParsedDocument, Piece, assemble, day, pairs, pick_title
from ingest.parse.header import header, words
from ingest.parse.html import from_html
from ingest.parse.members import Spool, file_name, left_out, pieces_of
from ingest.parse.rtf import rtf_pieces
from ingest.parse.signed import is_envelope, signed_content
from ingest.parse.text import decode
from rag.errors import ParseError

_MOST_PEOPLE = 100
"""Of a header, that can be filtered by."""
_SHOWN = ("From", "To", "Cc", "Bcc", "Date")
_MAX_MISSING = 0.2
"""Part of the HTML version's words that the plain one may lack."""
_DECORATION = 200 * 200
"""Pixels; pictures with fewer are part of a message's looks, not of what it says."""
_DECLARED = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_PGP = re.compile(r"\s*-----BEGIN PGP MESSAGE-----")
_MBOX_START = re.compile(rb"From \S.*\d\d:\d\d.*\d{4}")
_EMLX_LENGTH = re.compile(rb"(\d+)[ \t]*\r?\n")


@dataclass(slots=True)
class _Found:
    """What a part of a message holds."""

    pieces: list[Piece] = field(default_factory=list)
    members: list[tuple[str, bytes]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)

    def take(self, other: _Found, with_text: bool = True) -> None:
        """Add what another part holds."""
        self.pieces += other.pieces if with_text else ()
        self.members += other.members
        self.notes += other.notes
        self.lost += other.lost


def parse_mail(path: Path, context: Context) -> ParsedDocument:
    """Read a message, as mail programs save it (.eml, .emlx) or inside a signed envelope (.p7m, .p7s).

    Raises:
        ParseError: if it is encrypted. OSError: if it cannot be read.
    """
    data = path.read_bytes()
    if is_envelope(data):
        return _from_envelope(signed_content(data), path, context)
    length = _EMLX_LENGTH.match(data)
    if length and path.suffix.lower() == ".emlx":
        data = data[length.end() : length.end() + int(length.group(1))]
    return from_message(message_from_bytes(data), path.stem, context)


def parse_mbox(path: Path, context: Context) -> ParsedDocument:
    """Read a mailbox: each message becomes a document of its own, the mailbox's text is the list of them."""
    spool, lines = Spool(context), []
    with path.open("rb") as file:
        for number, data in enumerate(_messages(file), start=1):
            message = BytesHeaderParser().parsebytes(data)
            subject = header(message, "Subject")
            spool.add(f"{number:05d} {_as_name(subject)}", [data])
            lines.append(" | ".join(filter(None, (header(message, "Date"), header(message, "From"), subject))))
    if not spool.members:
        raise ParseError("it holds no messages, though it is named a mailbox (.mbox); give it its right suffix")
    return replace(assemble(path.stem, [Piece("\n".join(lines))]), members=tuple(spool.members))


def _messages(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The messages of a mailbox; one begins with a `From ` line that names a time, after an empty line."""
    message: list[bytes] = []
    blank, started = True, False
    for line in lines:
        if blank and _MBOX_START.match(line):
            if started:
                yield b"".join(message)
            message, started = [], True
        elif started:
            message.append(line)
        blank = not line.strip()
    if started:
        yield b"".join(message)


def _from_envelope(data: bytes, path: Path, context: Context) -> ParsedDocument:
    """Signed content: a message, or any file, whose name is the envelope's without its suffix."""
    message = message_from_bytes(data)
    if message.get("Content-Type") and not message.defects:
        return from_message(message, path.stem, context)
    spool = Spool(context)
    member = spool.add(path.stem, [data])
    return replace(assemble(path.stem, [Piece(member.name)]), members=(member,))


def from_message(message: Message, name: str, context: Context) -> ParsedDocument:
    """A document from a parsed message; titled by its subject, else `name`.

    Raises:
        ParseError: if it is encrypted, or its attachments are too large together.
    """
    subject = header(message, "Subject")
    under = (subject,) if subject else ()
    shown = [(shown, header(message, shown)) for shown in _SHOWN]
    found = _walk(message)
    spool = Spool(context)
    for member, data in found.members:
        spool.add(member, [data])
    pieces = [
        Piece(subject, "heading", headings=under),
        Piece("\n".join(f"{label}: {value}" for label, value in shown if value), headings=under),
        *(replace(piece, headings=(*under, *piece.headings)) for piece in found.pieces),
    ]
    if spool.members:
        pieces.append(Piece(f"Attachments: {', '.join(member.name for member in spool.members)}", headings=under))
    notes = (*dict.fromkeys(found.notes), *left_out(found.lost))
    parsed = assemble(pick_title(subject) or name, pieces, notes=notes)
    said = pairs(*_people(message, "From"), *_people(message, "To"), ("subject", subject))
    return replace(parsed, members=tuple(spool.members), date=_day(message), metadata=said)


def _people(message: Message, name: str) -> Iterator[tuple[str, str]]:
    """The names and the addresses in a header, one by one."""
    raw = [str(value) for key, value in message.raw_items() if key.lower() == name.lower()]
    for shown, address in getaddresses(raw)[:_MOST_PEOPLE]:
        yield from ((name.lower(), words(shown)), (name.lower(), address))


def _day(message: Message) -> str:
    """The day on which a message was sent, where its sender was."""
    try:
        return day(parsedate_to_datetime(header(message, "Date")).isoformat())
    except (ValueError, TypeError, IndexError, OverflowError):  # whatever is wrong with the header
        return ""


def _walk(part: Message) -> _Found:
    kind = part.get_content_type()
    if kind in _HANDLERS:
        return _HANDLERS[kind](part)
    if part.is_multipart():
        return _all(part)
    if _is_attachment(part):
        return _attached(part)
    return _TEXTS.get(kind, _plain)(part)


def _is_attachment(part: Message) -> bool:
    if part.get_content_disposition() == "attachment" or part.get_filename():
        return True
    return part.get_content_maintype() not in ("text", "multipart") and part.get_content_type() not in _TEXTS


def _all(part: Message) -> _Found:
    found = _Found()
    for child in _children(part):
        found.take(_walk(child))
    return found


def _children(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []


def _alternative(part: Message) -> _Found:
    """Versions of one text: the first, unless a later one says clearly more or has tables."""
    versions = [_walk(child) for child in _children(part)]
    best = next((version for version in versions if version.pieces), None)
    for version in versions:
        if best is not None and best is not version and _is_richer(version, best):
            best = version
    found = _Found()
    for version in versions:
        found.take(version, with_text=version is best)
    return found


def _is_richer(version: _Found, than: _Found) -> bool:
    ours, theirs = _words(version), _words(than)
    tables = any(piece.kind == "table" for piece in version.pieces)
    return tables or (ours - theirs).total() > _MAX_MISSING * ours.total()


def _words(found: _Found) -> Counter[str]:
    return Counter(word for piece in found.pieces for word in re.findall(r"\w+", piece.text))


def _encrypted(part: Message) -> _Found:
    raise ParseError("it is encrypted (PGP); decrypt it in your mail program and save it anew")


def _envelope(part: Message) -> _Found:
    return _walk(message_from_bytes(signed_content(_bytes(part))))


def _dropped(part: Message) -> _Found:
    return _Found()


def _forwarded(part: Message) -> _Found:
    """A message inside the message is a document of its own."""
    if not part.is_multipart():
        return _attached(part)
    found = _Found()
    for child in map(_unwrapped, _children(part)):
        given = words(part.get_filename() or "")
        name = file_name(given) if given.lower().endswith(".eml") else _as_name(given or header(child, "Subject"))
        try:
            found.members.append((name, child.as_bytes()))
        except (KeyError, LookupError, UnicodeError, ValueError) as error:
            found.lost.append((name, f"a forwarded message that is damaged ({type(error).__name__})"))
    return found


def _as_name(subject: str) -> str:
    """A file name for a message."""
    return file_name(re.sub(r"[/\\]", "_", subject or "message") + ".eml")


def _unwrapped(message: Message) -> Message:
    """A forwarded message that was encoded in base64 as a whole, against the standard, decoded."""
    text = message.get_payload()
    if message.keys() or not isinstance(text, str):
        return message
    try:
        return message_from_bytes(base64.b64decode(text))
    except ValueError:
        return message


def _report(part: Message) -> _Found:
    """Why a message was not delivered: blocks of headers."""
    blocks = ("\n".join(f"{key}: {words(str(value))}" for key, value in child.raw_items()) for child in _children(part))
    return _Found([Piece(block) for block in blocks])


def _attached(part: Message) -> _Found:
    raw = words(part.get_filename() or "")
    suffix = mimetypes.guess_extension(part.get_content_type()) or ""
    name, data = file_name(raw or f"attachment{suffix}"), _bytes(part)
    if part.get_content_maintype() == "image" and _is_decoration(data):
        return _Found()
    return _Found(members=[(name, data)])


def _is_decoration(picture: bytes) -> bool:
    """True for a logo, an icon or a tracking pixel: too small to hold text that could be recognised."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(picture)) as image:
            return image.width * image.height < _DECORATION
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return False


def _plain(part: Message) -> _Found:
    text, notes = _text(part)
    if _PGP.match(text):
        return _encrypted(part)
    if part.get_param("format") == "flowed":
        text = _unflowed(text, part.get_param("delsp") == "yes")
    return _Found([Piece(paragraph) for paragraph in re.split(r"\n[^\S\n]*\n", text)], notes=notes)


def _html(part: Message) -> _Found:
    text, notes = _text(part)
    parsed = from_html(text, "")
    return _Found(list(pieces_of(parsed)), notes=[*notes, *parsed.notes])


def _rtf(part: Message) -> _Found:
    return _Found(list(rtf_pieces(_bytes(part))))


def _text(part: Message) -> tuple[str, list[str]]:
    data = _bytes(part)
    declared = _DECLARED.search(data[:2048])
    charset = part.get_content_charset() or (declared.group(1).decode("ascii") if declared else "")
    try:
        text, notes = decode(data, charset)
    except ParseError:
        return "", ["a part that is called text is binary and was left out"]
    return text, list(notes)


def _bytes(part: Message) -> bytes:
    """A part's content; what is wrong with its encoding is mended as far as it can be."""
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().rstrip(";").lower()
    if encoding:
        part.replace_header("Content-Transfer-Encoding", encoding)
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _unflowed(text: str, delete_space: bool) -> str:
    """Lines that end in a space go on in the next one (RFC 3676)."""
    lines: list[str] = []
    flowing = False
    for line in text.split("\n"):
        line = line[1:] if line.startswith(" ") else line
        if flowing and not line.startswith(">"):
            line = lines.pop()[: -1 if delete_space else None] + line
        lines.append(line)
        flowing = line.endswith(" ") and line != "-- " and not line.startswith(">")
    return "\n".join(lines)


_Handler = Callable[[Message], _Found]
_HANDLERS: dict[str, _Handler] = {
    "multipart/alternative": _alternative,
    "multipart/encrypted": _encrypted,
    "application/pkcs7-mime": _envelope,
    "application/x-pkcs7-mime": _envelope,
    "application/pkcs7-signature": _dropped,
    "application/x-pkcs7-signature": _dropped,
    "application/pgp-signature": _dropped,
    "message/rfc822": _forwarded,
    "message/global": _forwarded,
    "message/delivery-status": _report,
    "message/disposition-notification": _report,
}
_TEXTS: dict[str, _Handler] = {
    "application/xhtml+xml": _html,
    "text/css": _dropped,
    "text/html": _html,
    "text/rtf": _rtf,
    "text/x-amp-html": _dropped,
}
"""How the parts are read that are no attachments; any other text is plain."""
