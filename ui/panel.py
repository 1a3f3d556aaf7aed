"""The sources of an answer -> safe HTML: pictures of pages with the quotes marked, the text around, a way through them.

Pure; knows nothing about Gradio, requests, or where a source comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from ui.render import safe

if TYPE_CHECKING:  # that module loads FastAPI
    from ui.server.sources import Area, Source


def walked(cards: Sequence[str], below: str, exchange: int) -> str:
    """All sources of an answer; empty where there is nothing to show.

    Args:
        cards: the footnotes' sources, by number.
        below: what else there is to read.
        exchange: which exchange of the conversation the answer is in, so that the page knows whose sources it shows.
    """
    if not (cards or below):
        return ""
    told = f'{_walk(len(cards))}<div class="fn-cards">{"".join(cards)}</div>{below}'
    return f'<div class="fn-panel" data-exchange="{exchange}">{told}</div>'


def _walk(sources: int) -> str:
    """What leads from one source to the next; the page's script says where one is."""
    if sources < 2:
        return ""
    before, after = (
        f'<button type="button" class="fn-step" data-step="{step}" aria-label="{name} source">{sign}</button>'
        for step, name, sign in ((-1, "Previous", "‹"), (1, "Next", "›"))
    )
    at = f'<span class="fn-at" role="status">Source 1 of {sources}</span>'
    return f'<div class="fn-walk" role="group" aria-label="Go through the sources">{before}{at}{after}</div>'


def panel(source: Source, number: int, of: int) -> str:
    """Footnote `number` of `of`, with what it quotes.

    Args:
        source: where it comes from.
        number: of the footnote, as the answer has it.
        of: how many footnotes the answer has.
    """
    told = f"{_picture(source)}{_caption(source, number, of)}{_text(source)}"
    note = f'<div class="fn-origin-note">{safe(source.note)}</div>' if source.note else ""
    return f'<figure class="fn-origin">{told}{note}</figure>'


def _picture(source: Source) -> str:
    """The page with the quote's boxes over it; empty where there is no picture."""
    if source.picture is None:
        return ""
    size = f' width="{source.width}" height="{source.height}"' if source.width and source.height else ""
    at = safe(source.picture.lstrip("/"))  # below the address of the page, which is that of its collection
    shown = f'<img class="fn-page-picture" src="{at}" alt="{_described(source)}"{size} loading="lazy">'
    boxes = f'<span class="fn-boxes" aria-hidden="true">{"".join(map(_box, source.boxes))}</span>'
    return f'<div class="fn-page">{shown}{boxes}</div>'


def _described(source: Source) -> str:
    """What the picture shows, for those who do not see it; the quote is below it as text."""
    marked = "the quoted passage is marked" if source.boxes else "the quoted passage is not marked"
    return safe(f"Page {source.page} of {_line(PurePath(source.doc).name)}, {marked}")


def _box(area: Area) -> str:
    sides = (("left", area.left), ("top", area.top), ("width", area.width), ("height", area.height))
    return f'<span class="fn-box" style="{";".join(f"{name}:{100 * share:.3f}%" for name, share in sides)}"></span>'


def _caption(source: Source, number: int, of: int) -> str:
    """Footnote, file, page and headings."""
    name = PurePath(source.doc).name
    parts = [name, *([f"page {source.page}"] if source.page is not None else []), *source.headings]
    place = " › ".join(_line(part) for i, part in enumerate(parts) if part not in parts[:i])
    title = f'<span class="fn-origin-title">{safe(_line(source.title))}</span>' if source.title != name else ""
    which = f'<span class="fn-number">&#91;{number}&#93;</span> <span class="fn-of">of {of}</span>'
    return (
        f'<figcaption class="fn-place">{which} <span class="fn-origin-place">{safe(place)}</span>{title}</figcaption>'
    )


def _text(source: Source) -> str:
    quote = f"<mark>{safe(source.quote)}</mark>"
    return f'<blockquote class="fn-around">{_beside(source.before)}{quote}{_beside(source.after)}</blockquote>'


def _beside(text: str) -> str:
    """Text beside the quote: spaces and line breaks at its ends count."""
    inner = text.strip()
    if not inner:
        return _gap(text)
    left, _, right = text.partition(inner)
    return f'{_gap(left)}<span class="fn-beside">{safe(inner)}</span>{_gap(right)}'


def _gap(blank: str) -> str:
    return "<br>" if "\n" in blank else " " if blank else ""


def _line(text: str) -> str:
    return " ".join(text.split())
