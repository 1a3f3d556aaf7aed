"""Outlook messages (.msg), turned into MIME messages, which `mail` reads.

Knows nothing about what a document is. Read with olefile alone: python-oxmsg decodes strictly, so that one odd letter
loses a message, and does not open messages within messages. Layout: [MS-OXMSG] 2.1-2.4, properties: [MS-OXPROPS]
(https://learn.microsoft.com/openspecs/exchange_server_protocols/).
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from email import encoders, message_from_bytes
from email.message import Message
from email.mime.base import MIMEBase
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.parser import HeaderParser
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from ingest.parse.document import Context, ParsedDocument
from ingest.parse.header import characters, header
from ingest.parse.mail import from_message

_CLASS, _SUBJECT, _HEADERS, _BODY, _HTML, _RTF = 0x001A, 0x0037, 0x007D, 0x1000, 0x1013, 0x1009
_SENT, _DELIVERED, _BODY_PAGE, _TEXT_PAGE = 0x0039, 0x0E06, 0x3FDE, 0x3FFD
_NAME, _ADDRESS, _SMTP, _RECIPIENT_TYPE = 0x3001, 0x3003, 0x39FE, 0x0C15
_SENDERS = ((0x0C1A, 0x5D01, 0x0C1F), (0x0042, 0x5D02, 0x0065))
"""Name, SMTP address and other address of the sender, and of whom the sender stands for."""
_DATA, _LONG_NAME, _SHORT_NAME, _MIME, _METHOD = 0x3701, 0x3707, 0x3704, 0x370E, 0x3705
_EMBEDDED_MESSAGE = 5
_RECIPIENTS = {1: ("To", 0x0E04), 2: ("Cc", 0x0E03), 3: ("Bcc", 0x0E02)}
"""Recipient type -> header, and the property that shows them all in one line."""
_UNICODE, _EIGHT_BIT, _BINARY, _INTEGER, _TIME = 0x001F, 0x001E, 0x0102, 0x0003, 0x0040
_HEADER_SIZES = {"": 32, "message": 24, "part": 8}
_CODE_PAGES = {65001: "utf-8", 20127: "cp1252", 28591: "cp1252", 20866: "koi8-r", 50220: "iso-2022-jp", 51932: "euc-jp"}


def parse_msg(path: Path, context: Context) -> ParsedDocument:
    """Read an Outlook message.

    Raises:
        ParseError: if it is encrypted. Whatever olefile raises on a damaged one.
    """
    import olefile

    with olefile.OleFileIO(path) as container:
        message = as_mime(container)
    return from_message(message, path.stem, context)


def as_mime(container: Any) -> Message:
    """The same message in MIME; a container has olefile's `exists`, `openstream` and `listdir`."""
    return _message(_Storage(container, (), _HEADER_SIZES[""]))


class _Storage:
    """A folder of the container: the properties of a message, a recipient or an attachment."""

    def __init__(self, container: Any, path: tuple[str, ...], header_size: int, page: int = 1252) -> None:
        self._container, self._path = container, path
        self._fixed: dict[int, bytes] = {}
        data = self._stream("__properties_version1.0")[header_size:]
        for tag, value in struct.iter_unpack("<I4x8s", data[: len(data) // 16 * 16]):
            self._fixed[tag] = value
        self._page = self.integer(_TEXT_PAGE) or self.integer(_BODY_PAGE) or page

    def _stream(self, name: str) -> bytes:
        path = [*self._path, name]
        if not self._container.exists(path):
            return b""
        with self._container.openstream(path) as stream:
            return bytes(stream.read())

    def binary(self, number: int, kind: int = _BINARY) -> bytes:
        """A property of any length."""
        return self._stream(f"__substg1.0_{number:04X}{kind:04X}")

    def text(self, number: int) -> str:
        """A text property; what is broken in it shows as such."""
        wide = self.binary(number, _UNICODE)
        if wide:
            return wide.decode("utf-16-le", "replace").replace("\x00", "")
        page = self.integer(_BODY_PAGE) if number == _BODY else 0
        narrow = self.binary(number, _EIGHT_BIT)
        return characters(narrow, _codec(page or self._page)).replace("\x00", "")

    def integer(self, number: int) -> int:
        """A number; 0 where there is none."""
        return int.from_bytes(self._fixed.get(number << 16 | _INTEGER, b"")[:4], "little")

    def time(self, number: int) -> str:
        """A time as mail headers write it; empty where there is none."""
        ticks = int.from_bytes(self._fixed.get(number << 16 | _TIME, b""), "little")
        try:
            return (
                format_datetime(datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10)) if ticks else ""
            )
        except OverflowError:
            return ""

    def parts(self, prefix: str) -> list[_Storage]:
        """Recipients or attachments, in their order."""
        depth = len(self._path)
        names = {
            entry[depth]
            for entry in self._container.listdir(streams=False, storages=True)
            if len(entry) == depth + 1 and tuple(entry[:depth]) == self._path and entry[depth].startswith(prefix)
        }
        return [
            _Storage(self._container, (*self._path, name), _HEADER_SIZES["part"], self._page) for name in sorted(names)
        ]

    def boundary(self, name: str) -> str:
        """What divides the parts of this message, and not of the one that it is in; the same every time."""
        return f"=_{name}_{len(self._path)}_="

    def embedded(self) -> _Storage:
        """The message inside an attachment."""
        path = (*self._path, f"__substg1.0_{_DATA:04X}000D")
        return _Storage(self._container, path, _HEADER_SIZES["message"], self._page)


def _codec(page: int) -> str:
    return _CODE_PAGES.get(page, f"cp{page}" if page else "")


def _message(storage: _Storage) -> Message:
    """A message of the same content in MIME."""
    attachments = storage.parts("__attach_version1.0_#")
    outer = _headers(storage)
    if storage.text(_CLASS).upper().startswith("IPM.NOTE.SMIME") and attachments:
        return _secured(outer, attachments[0].binary(_DATA))
    if "multipart/encrypted" in outer.get("Content-Type", ""):
        return outer
    message: Message = MIMEMultipart("mixed", boundary=storage.boundary("mixed"))
    for name in ("Subject", "From", "To", "Cc", "Bcc", "Date"):
        if outer.get(name):
            message[name] = outer[name]
    message.attach(_body(storage))
    for attachment in attachments:
        message.attach(_attachment(attachment))
    return message


def _headers(storage: _Storage) -> Message:
    """The headers that came with the message, completed from its properties."""
    came = HeaderParser().parsestr(storage.text(_HEADERS).lstrip())
    known = {"Subject": storage.text(_SUBJECT), "From": _sender(storage), "Date": ""}
    known["Date"] = storage.time(_SENT) or storage.time(_DELIVERED)
    people = storage.parts("__recip_version1.0_#")
    for kind, (name, shown) in _RECIPIENTS.items():
        found = [
            _person(person, _NAME, _SMTP, _ADDRESS) for person in people if person.integer(_RECIPIENT_TYPE) == kind
        ]
        known[name] = ", ".join(filter(None, found)) or storage.text(shown)
    for name, value in known.items():
        if not header(came, name) and value:
            came[name] = " ".join(value.split())
    return came


def _sender(storage: _Storage) -> str:
    found = (_person(storage, *properties) for properties in _SENDERS)
    return next(filter(None, found), "")


def _person(storage: _Storage, name: int, smtp: int, other: int) -> str:
    """A name and an address; addresses of other systems than the internet's say nothing to a reader."""
    shown, address = storage.text(name).strip(), storage.text(smtp) or storage.text(other)
    if "@" not in address:
        return shown or address
    return f"{shown} <{address}>" if shown and shown != address else address


def _secured(outer: Message, data: bytes) -> Message:
    """A signed or encrypted message is its one attachment: MIME, or an envelope."""
    inner: Message = message_from_bytes(data)
    if not inner.get("Content-Type"):
        inner = MIMEBase("application", "pkcs7-mime")
        inner.set_payload(data)
        encoders.encode_base64(inner)
    for name in ("Subject", "From", "To", "Cc", "Bcc", "Date"):
        if outer.get(name) and not inner.get(name):
            inner[name] = outer[name]
    return inner


def _body(storage: _Storage) -> Message:
    """The body in the versions that there are; RTF only where there is no other."""
    body = MIMEMultipart("alternative", boundary=storage.boundary("body"))
    plain, html = storage.text(_BODY), storage.binary(_HTML) or storage.text(_HTML).encode("utf-8", "replace")
    if plain.strip():
        body.attach(MIMEText(plain.encode("utf-8", "replace").decode(), "plain", "utf-8"))
    if html:
        page = storage.integer(_BODY_PAGE) if storage.binary(_HTML) else 65001
        body.attach(_binary(html, "text/html", _codec(page)))
    rtf = b"" if plain.strip() or html else unpacked_rtf(storage.binary(_RTF))
    if rtf:
        body.attach(_binary(rtf, "text/rtf"))
    return body


def _binary(data: bytes, kind: str, charset: str = "") -> Message:
    part = MIMEBase(*kind.split("/", 1))
    if charset:
        part.set_param("charset", charset)
    part.set_payload(data)
    encoders.encode_base64(part)
    return part


def _attachment(storage: _Storage) -> Message:
    name = storage.text(_LONG_NAME) or storage.text(_SHORT_NAME) or storage.text(_NAME)
    if storage.integer(_METHOD) == _EMBEDDED_MESSAGE:
        return MIMEMessage(_message(storage.embedded()))
    kind = storage.text(_MIME).strip().lower()
    # Whatever its type says, it is one file.
    plain = kind.count("/") == 1 and not kind.startswith(("message/", "multipart/"))
    part = _binary(storage.binary(_DATA), kind if plain else "application/octet-stream")
    part.add_header("Content-Disposition", "attachment", filename=" ".join(name.split()) or "attachment")
    return part


_RTF_MAGIC, _RTF_PLAIN = b"LZFu", b"MELA"
_RTF_START = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript "
    b"\\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par "
    b"\\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
"""What the dictionary holds at first: [MS-OXRTFCP] 2.1.2.1."""


def unpacked_rtf(data: bytes) -> bytes:
    """RTF as Outlook packs it, unpacked ([MS-OXRTFCP] 2.2); a copy refers to the last 4,096 bytes written."""
    if data[8:12] == _RTF_PLAIN:
        return data[16 : 16 + int.from_bytes(data[4:8], "little")]
    if data[8:12] != _RTF_MAGIC:
        return b""
    out, position = bytearray(_RTF_START), 16
    while position < len(data):
        flags, position = data[position], position + 1
        for bit in range(8):
            if not flags >> bit & 1:
                out += data[position : position + 1]
                position += 1
                continue
            reference = int.from_bytes(data[position : position + 2], "big")
            position += 2
            offset, length = reference >> 4, (reference & 15) + 2
            distance = (len(out) - offset) % 4096
            if not distance or position > len(data):
                return bytes(out[len(_RTF_START) :])
            for _ in range(length):
                out.append(out[-distance])
    return bytes(out[len(_RTF_START) :])
