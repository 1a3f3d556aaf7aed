"""Signed envelopes (PKCS #7 / CMS): the content that was signed. Signatures are not checked.

Knows nothing about mail. Reads the few fields that lead to the content, in DER or BER:
RFC 5652, sections 3 and 5 (https://www.rfc-editor.org/rfc/rfc5652).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

from rag.errors import ParseError

_SIGNED = bytes.fromhex("2a864886f70d010702")
_ENCRYPTED = (
    bytes.fromhex("2a864886f70d010703"),
    bytes.fromhex("2a864886f70d010706"),
    bytes.fromhex("2a864886f70d0109100117"),
)
"""Enveloped, encrypted and authenticated-enveloped data."""
_SEQUENCE, _CONTENT, _CONSTRUCTED = 0x30, 0xA0, 0x20
_ARMOR = re.compile(rb"-----BEGIN (?:PKCS7|CMS|PKCS #7 SIGNED DATA)-----(.*?)-----END", re.DOTALL)


class _Field(NamedTuple):
    tag: int
    start: int
    end: int


def is_envelope(data: bytes) -> bool:
    """True for a PKCS #7 structure, armored or not."""
    return data[:1] == b"\x30" or _ARMOR.search(data[:4096]) is not None


def signed_content(data: bytes) -> bytes:
    """What an envelope holds.

    Raises:
        ParseError: if it is encrypted, damaged, or holds a signature alone.
    """
    try:
        return _content(_unarmored(data))
    except (IndexError, StopIteration, binascii.Error) as error:
        raise ParseError("its S/MIME envelope is damaged; get the message anew") from error


def _unarmored(data: bytes) -> bytes:
    armored = _ARMOR.search(data)
    return base64.b64decode(armored.group(1)) if armored else data


def _content(data: bytes) -> bytes:
    outer = list(_fields(data, _read(data, 0)[0]))
    kind = data[outer[0].start : outer[0].end]
    if kind in _ENCRYPTED:
        raise ParseError("it is encrypted (S/MIME); decrypt it in your mail program and save it anew")
    if kind != _SIGNED:
        raise ParseError("it is no signed message; open it in the program that it comes from and save its content")
    signed = _fields(data, next(_fields(data, outer[1])))
    wrapped = next(field for field in signed if field.tag == _SEQUENCE)
    holder = [field for field in _fields(data, wrapped) if field.tag == _CONTENT]
    if not holder:
        raise ParseError("it is a signature alone, without the content that was signed; remove it")
    return b"".join(_octets(data, field) for field in _fields(data, holder[0]))


def _octets(data: bytes, field: _Field) -> bytes:
    """An octet string, which may come in parts."""
    if not field.tag & _CONSTRUCTED:
        return data[field.start : field.end]
    return b"".join(_octets(data, part) for part in _fields(data, field))


def _fields(data: bytes, parent: _Field) -> Iterator[_Field]:
    position = parent.start
    while position < parent.end:
        field, position = _read(data, position)
        yield field


def _read(data: bytes, position: int) -> tuple[_Field, int]:
    """The field at a position, and where the next one begins; tags of more than a byte do not occur on the way."""
    tag, length = data[position], data[position + 1]
    start = position + 2
    if length == 0x80:
        end = _end_of_contents(data, start)
        return _Field(tag, start, end), end + 2
    if length > 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    if start + length > len(data):
        raise IndexError(position)
    return _Field(tag, start, start + length), start + length


def _end_of_contents(data: bytes, position: int) -> int:
    """Where a field of unknown length ends: two zero bytes after its last part."""
    while data[position : position + 2] != b"\x00\x00":
        position = _read(data, position)[1]
    return position
