"""Markdown: CommonMark with pipe tables and front matter, rendered to HTML and read as such.

Knows nothing about how HTML becomes text. The renderer is markdown-it-py: Python-Markdown loses fenced code in
list items and lists that follow a paragraph without a blank line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ingest.parse.document import ParsedDocument
from ingest.parse.html import from_html
from ingest.parse.text import decode

_FRONT_MATTER = re.compile(r"\A---[^\S\n]*\n(.*?)^(?:---|\.\.\.)[^\S\n]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r"\A\s*[\w-]+\s*:")
_TITLE = re.compile(r"^title\s*:\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
_TAG = re.compile(r"</?([A-Za-z][\w.:-]*)[^<>]*>")


def parse_markdown(path: Path) -> ParsedDocument:
    """Read a Markdown file.

    Raises:
        ParseError: if it is binary. OSError: if it cannot be read.
    """
    text, notes = decode(path.read_bytes())
    front, body = _split_front_matter(text)
    title = _TITLE.search(front)
    rendered = (f"<pre>{escape(front)}</pre>" if front.strip() else "") + _render(body)
    return from_html(rendered, path.stem, notes, title.group(1).strip("\"'") if title else "")


def _split_front_matter(text: str) -> tuple[str, str]:
    """Front matter (lines of `key: value` between `---` lines at the very top), and the rest."""
    found = _FRONT_MATTER.match(text)
    if found is None or not _KEY.match(found.group(1)):
        return "", text
    return found.group(1), text[found.end() :]


def _render(text: str) -> str:
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    renderer.add_render_rule("html_inline", _raw_html)
    renderer.add_render_rule("html_block", _raw_html)
    return str(renderer.render(text))


def _raw_html(renderer: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
    """HTML stays HTML; what only looks like a tag, such as `<path>` in `open <path>`, is text."""
    from lxml.html.defs import tags

    content: str = tokens[index].content
    return _TAG.sub(lambda tag: tag.group() if tag.group(1).lower() in tags else escape(tag.group()), content)
