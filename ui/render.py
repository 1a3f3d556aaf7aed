"""Answers -> safe HTML. Pure; knows nothing about Gradio or requests.

Text of documents, questions and models is data: every character that HTML or Markdown could take for markup
becomes a numeric character reference, so a document that holds `<script>` or `![](http://...)` shows as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag.types import Answer, Citation, Hit, Sentence
from ui.records import place

_MARKUP = re.compile(r"[^\w\s.,;:?'–—…\u00a0-\uffff\U00010000-\U0010ffff]|_")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
CURSOR = '<span class="fn-cursor"></span>'
UNSUPPORTED = "not found in your documents"


def safe(text: str) -> str:
    """Text as HTML that shows it letter by letter; line breaks stay line breaks."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
    text = _MARKUP.sub(lambda match: f"&#{ord(match.group())};", text)
    return re.sub(r"\s*\n\s*", "<br>", text.strip("\n"))


def question(text: str) -> str:
    """What the person asked."""
    return f'<div class="fn-question">{safe(text)}</div>'


def writing(text: str) -> str:
    """An answer that is still being written; not checked yet."""
    return f'<div class="fn-answer fn-writing">{safe(text)}{CURSOR}</div>'


def stopped(written: str) -> str:
    """What `writing` returned, for an answer that the person stopped."""
    return written.replace(CURSOR, ' <span class="fn-mark-unsupported">stopped, not checked</span>')


def problem(message: str) -> str:
    """An error, in the place of an answer."""
    return f'<div class="fn-answer fn-problem" role="alert">{safe(message)}</div>'


def answer(record: Answer) -> str:
    """Sentences with footnote marks or the mark of the unsupported, and the footnotes under them."""
    searched = _searched(record.searched)
    if record.abstained:
        return f'<div class="fn-answer fn-abstained">{safe(record.text)}{searched}</div>'
    sentences = " ".join(_sentence(sentence) for sentence in record.sentences)
    return f'<div class="fn-answer">{sentences}{_footnotes(citations(record))}{searched}</div>'


def _searched(question: str) -> str:
    """What a follow-up question was searched for as, since that decides which passages there are."""
    return f'<div class="fn-searched">searched for: {safe(question)}</div>' if question else ""


def citations(record: Answer) -> list[Citation]:
    """The answer's footnotes by number, each once."""
    by_number = {c.number: c for sentence in record.sentences for c in sentence.citations}
    return [by_number[number] for number in sorted(by_number)]


def _sentence(sentence: Sentence) -> str:
    if not sentence.supported:
        mark = f'<span class="fn-mark-unsupported">{UNSUPPORTED}</span>'
        return f'<span class="fn-sentence fn-unsupported">{safe(sentence.text)}</span> {mark}'
    marks = "".join(
        f'<sup class="fn-mark" title="{safe(" ".join(place(c).split()))}">&#91;{c.number}&#93;</sup>'
        for c in sentence.citations
    )
    return f'<span class="fn-sentence">{safe(sentence.text)}</span>{marks}'


def _footnotes(notes: Sequence[Citation]) -> str:
    if not notes:
        return ""
    rows = "".join(
        f'<div class="fn-note"><span class="fn-number">&#91;{c.number}&#93;</span> {safe(place(c))}</div>'
        for c in notes
    )
    return f'<div class="fn-notes">{rows}</div>'


def sources(record: Answer) -> str:
    """The panel beside the chat: every footnote's passage with the quoted part marked, then what else was read."""
    notes = citations(record)
    cards = "".join(_source(note, record.hits) for note in notes)
    cited = {(c.doc, c.start, c.end) for c in notes}
    others = [
        hit
        for hit in record.hits
        if not any(
            doc == hit.chunk.doc and hit.chunk.start <= start and end <= hit.chunk.end for doc, start, end in cited
        )
    ]
    if not others:
        return cards
    label = "Also read, not cited" if notes else "Closest passages"
    rows = "".join(_card(safe(place(hit)), safe(hit.chunk.with_header)) for hit in others)
    opened = "" if notes else " open"
    return f'{cards}<details class="fn-others"{opened}><summary>{label} ({len(others)})</summary>{rows}</details>'


def _source(note: Citation, hits: Sequence[Hit]) -> str:
    """One footnote: the passage it is from, with the quote marked."""
    for hit in hits:
        chunk = hit.chunk
        if chunk.doc == note.doc and chunk.start <= note.start and note.end <= chunk.end:
            before, after = chunk.text[: note.start - chunk.start], chunk.text[note.end - chunk.start :]
            above = f"{safe(chunk.header)}<br>" if chunk.header else ""
            text = f"{above}{_part(before)}<mark>{safe(note.quote)}</mark>{_part(after)}"
            break
    else:
        text = f"<mark>{safe(note.quote)}</mark>"
    return _card(f'<span class="fn-number">&#91;{note.number}&#93;</span> {safe(place(note))}', text)


def _part(text: str) -> str:
    """Text beside the marked quote: spaces and line breaks at its ends count."""
    left = "<br>" if text[:1] == "\n" else " " if text[:1].isspace() else ""
    right = "<br>" if text[-1:] == "\n" else " " if text[-1:].isspace() else ""
    return f"{left}{safe(text.strip())}{right}" if text.strip() else left


def _card(head: str, body: str) -> str:
    return f'<div class="fn-source"><div class="fn-place">{head}</div><blockquote>{body}</blockquote></div>'
