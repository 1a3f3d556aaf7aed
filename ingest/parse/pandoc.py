"""The one door to pandoc: reStructuredText, Org and AsciiDoc, rendered to HTML and read as such.

Knows nothing about how HTML becomes text. Pandoc runs in its own sandbox: no other file is read, nothing is fetched.
It would read LaTeX too, but drops every command that it does not know, with what is in its braces: that stays text.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingest.parse.document import Context, ParsedDocument
from ingest.parse.html import from_html
from ingest.parse.members import listed
from ingest.parse.text import decode, parse_text
from rag.errors import ParseError

_OPTIONS = ("--sandbox", "--standalone", "--to=html5", "--wrap=none", "--reference-location=block")
_TEMPLATE = "$meta-json$\n$body$"
"""The document's fields, such as author and version, on the first line: pandoc's own template shows four of them."""
_NOT_READ = re.compile(r"Could not (?:load include file|fetch resource) '?([^\s']+)")
_DIRECTIVE = re.compile(r"^include::(\S+?)\[.*\]\s*?$", re.MULTILINE)
"""AsciiDoc's way to include a file; pandoc gives up where it may not read it."""
_ECHOES = re.compile(r'<a href="#fnref\d+"[^>]*>.*?</a>|<figcaption aria-hidden="true">.*?</figcaption>', re.DOTALL)
"""Arrows back from notes, and captions that the picture's own text repeats."""


def marked_up(reader: str) -> Callable[[Path, Context], ParsedDocument]:
    """A parser for a text format, given the name of pandoc's reader.

    What pandoc cannot read is read as plain text, with a note. The parser raises ParseError if the file is binary,
    or if pandoc is missing.
    """

    def parse(path: Path, context: Context) -> ParsedDocument:
        text, notes = decode(path.read_bytes())
        missing = _DIRECTIVE.findall(text) if reader == "asciidoc" else []
        output, warnings = _convert(_DIRECTIVE.sub("", text) if missing else text, reader, context.spool)
        if not output:
            parsed = parse_text(path)
            return replace(
                parsed, notes=(f"pandoc could not read it ({warnings}); it was read as plain text", *parsed.notes)
            )
        fields, _, body = output.partition("\n")
        missing += _NOT_READ.findall(warnings)
        notes += (f"included files were not read: {listed(missing)}",) if missing else ()
        return from_html("".join(_head(json.loads(fields))) + _ECHOES.sub("", body), path.stem, notes)

    return parse


def _head(fields: dict[str, Any]) -> Iterator[str]:
    """The title as a heading, and a line for each other field."""
    if fields.get("title"):
        yield f"<h1>{fields.pop('title')}</h1>"
    for name, value in fields.items():
        yield f"<p>{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}</p>"


def _convert(text: str, reader: str, spool: Path) -> tuple[str, str]:
    """HTML, empty where pandoc failed; and what it said."""
    template = spool / "template.html"
    template.write_text(_TEMPLATE, encoding="utf-8")
    command = [_program(), *_OPTIONS, f"--from={reader}", f"--template={template}"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)  # noqa: S603 (a fixed command)
    said = " ".join(done.stderr.decode("utf-8", "replace").split())
    if done.returncode:
        return "", said[:200] or f"exit code {done.returncode}"
    return done.stdout.decode("utf-8", "replace"), said


def _program() -> str:
    import pypandoc

    try:
        return str(pypandoc.get_pandoc_path())
    except OSError as error:
        raise ParseError("pandoc, which reads this format, is missing; run: pip install pypandoc_binary") from error
