"""Mail headers as a reader sees them: unfolded, encoded words decoded, whatever is wrong with them.

Knows nothing about bodies. `email`'s own header objects raise on a dozen kinds of broken headers.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from email.message import Message
from itertools import groupby

from ingest.parse.text import decode
from rag.errors import ParseError

_WORD = re.compile(r"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")
_RUN = re.compile(rf"{_WORD.pattern}(?:\s*{_WORD.pattern})*")


def header(message: Message, name: str) -> str:
    """A header's value on one line; several of the same name joined by commas; empty where there is none."""
    values = (words(str(value)) for key, value in message.raw_items() if key.lower() == name.lower())
    return ", ".join(filter(None, values))


def words(raw: str) -> str:
    """A raw value, decoded, on one line."""
    text = characters(raw.encode("utf-8", "surrogateescape"), "")
    return " ".join(_RUN.sub(lambda run: _decoded(run.group()), text).split())


def _decoded(run: str) -> str:
    """Adjacent encoded words; a letter may be cut in two between words of the same encoding."""
    found = [(charset.lower(), _content(how, content, whole)) for charset, how, content, whole in _parts(run)]
    grouped = groupby(found, key=lambda word: word[0])
    return "".join(characters(b"".join(data for _, data in group), charset) for charset, group in grouped)


def _parts(run: str) -> list[tuple[str, str, str, str]]:
    return [(word[1], word[2], word[3], word[0]) for word in _WORD.finditer(run)]


def _content(how: str, content: str, whole: str) -> bytes:
    """The bytes of an encoded word; the word itself where it is broken."""
    if how in "qQ":
        return quopri.decodestring(content.encode("utf-8", "replace"), header=True)
    try:
        return base64.b64decode(content + "=" * (-len(content) % 4))
    except (binascii.Error, ValueError):
        return whole.encode("utf-8", "replace")


def characters(data: bytes, charset: str) -> str:
    """A few bytes as text, whatever they are."""
    try:
        return decode(data, charset)[0]
    except ParseError:
        return data.decode("latin-1")
