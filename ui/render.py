"""Answers -> safe HTML. Pure; knows nothing about Gradio or requests.

Text of documents, questions and models is data: every character that HTML or Markdown could take for markup
becomes a numeric character reference, so a document that holds `<script>` or `![](http://...)` shows as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import shorten

from rag.types import Answer, Citation, Hit, Sentence, Timings
from ui.records import counted, left_out, place, why

_MARKUP = re.compile(r"[^\w\s.,;:?'–—…\u00a0-\uffff\U00010000-\U0010ffff]|_")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
QUOTED = 300
"""Characters of a quote that a mark shows."""
CURSOR = '<span class="fn-cursor"></span>'
AGAIN = Timings(0.0)
"""Of an answer that was given before and kept for those who ask the same."""


def safe(text: str) -> str:
    """Text as HTML that shows it letter by letter; line breaks stay line breaks."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
    text = _MARKUP.sub(lambda match: f"&#{ord(match.group())};", text)
    return re.sub(r"\s*\n\s*", "<br>", text.strip("\n"))


def question(text: str) -> str:
    """What the person asked."""
    return f'<div class="fn-question">{safe(text)}</div>'


def writing(text: str, checked: Sequence[Sentence] = (), dropping: bool = False) -> str:
    """An answer that is still being written.

    Args:
        text: what there is of it.
        checked: its first sentences, which were checked already.
        dropping: whether those without support will be left out.
    """
    done, end = _flow(text, checked, dropping)
    rest = text[end:]
    between = _gap(rest[: len(rest) - len(rest.lstrip())]) if done else ""
    unchecked = f'<span class="fn-unchecked">{safe(rest.lstrip() if done else rest)}</span>'
    notes = _footnotes(_numbered(checked))
    return f'<div class="fn-answer fn-writing">{done}{between}{unchecked}{CURSOR}{notes}</div>'


def waiting(ahead: int) -> str:
    """A question that others are answered before."""
    said = f"{counted(ahead, 'question')} before yours"
    return f'<div class="fn-answer fn-writing" role="status"><span class="fn-unchecked">{said}</span>{CURSOR}</div>'


def stopped(written: str) -> str:
    """What `writing` returned, for an answer that the person stopped."""
    return written.replace(CURSOR, ' <span class="fn-mark-unsupported">stopped, not checked</span>')


def problem(message: str) -> str:
    """An error, in the place of an answer."""
    return f'<div class="fn-answer fn-problem" role="alert">{safe(message)}</div>'


def answer(record: Answer, speed: float | None = None) -> str:
    """Sentences with footnote marks or the mark of the unsupported, and under them the footnotes and what wrote it.

    Args:
        record: the answer.
        speed: tokens that were written a second, where that is known.
    """
    below = f"{_dropped(record)}{_searched(record.searched)}{_made(record, speed)}"
    if record.abstained:
        return f'<div class="fn-answer fn-abstained">{safe(record.text)}{below}</div>'
    sentences, _ = _flow(record.text, record.sentences)
    return f'<div class="fn-answer">{sentences}{_footnotes(citations(record))}{below}</div>'


def _flow(text: str, sentences: Sequence[Sentence], dropping: bool = False) -> tuple[str, int]:
    """Sentences as they stand in the text, line breaks between them kept, and where the last one ends."""
    shown, end = "", 0
    for sentence in sentences:
        start = max(end, text.find(sentence.text, end))
        shown += (_gap(text[end:start]) if shown else "") + _sentence(sentence, dropping)
        end = start + len(sentence.text)
    return shown, end


def _gap(blank: str) -> str:
    return "<br>" if "\n" in blank else " "


def _dropped(record: Answer) -> str:
    """What the model wrote and the answer leaves out, closed."""
    if not record.dropped:
        return ""
    rows = "".join(f'<div class="fn-left-out">{_sentence(sentence)}</div>' for sentence in record.dropped)
    notes = _footnotes(_numbered(record.dropped))
    return f'<details class="fn-dropped"><summary>{left_out(record)}</summary>{rows}{notes}</details>'


def _searched(question: str) -> str:
    """What a follow-up question was searched for as, since that decides which passages there are."""
    return f'<div class="fn-searched">searched for: {safe(question)}</div>' if question else ""


def _made(record: Answer, speed: float | None) -> str:
    """Which model wrote the answer, and, closed, how long that took."""
    again = record.timings == AGAIN
    said = [*([f"written by {record.model}"] if record.model else []), *(["from an earlier answer"] if again else [])]
    about = f'<span class="fn-model">{safe(", ".join(said))}</span>' if said else ""
    return f'<div class="fn-made">{about}{"" if again else _took(record.timings, speed)}</div>'


def _took(times: Timings, speed: float | None) -> str:
    stages = {
        "search": times.retrieve,
        "first word": times.first_token,
        "writing": times.generate,
        "check": times.verify,
        "in all": times.total,
    }
    said = [f"{name} {spent / 1000:.2f} s" for name, spent in stages.items() if spent is not None]
    told = ", ".join([*said, *([f"about {speed:.0f} tokens a second"] if speed else [])])
    return f'<details class="fn-took"><summary>How long it took</summary><div>{safe(told)}</div></details>'


def citations(record: Answer) -> list[Citation]:
    """The answer's footnotes by number, each once."""
    return _numbered(record.sentences)


def _numbered(sentences: Sequence[Sentence]) -> list[Citation]:
    by_number = {c.number: c for sentence in sentences for c in sentence.citations}
    return [by_number[number] for number in sorted(by_number)]


def _sentence(sentence: Sentence, dropping: bool = False) -> str:
    if sentence.unsupported:
        kind, said = ("fn-leaving", f"left out, {why(sentence)}") if dropping else ("fn-unsupported", why(sentence))
        mark = f'<span class="fn-mark-unsupported">{safe(said)}</span>'
        return f'<span class="fn-sentence {kind}">{safe(sentence.text)}</span> {mark}'
    marks = "".join(map(_mark, sentence.citations))
    return f'<span class="fn-sentence">{safe(sentence.text)}</span>{marks}'


def _mark(note: Citation) -> str:
    """A footnote's mark; pressing it leads to its source, and resting on it shows the quote."""
    quote = shorten(" ".join(note.quote.split()), QUOTED, placeholder=" …")
    hint = safe(f"{' '.join(place(note).split())}: “{quote}”")
    return f'<sup class="fn-mark" role="button" tabindex="0" title="{hint}">&#91;{note.number}&#93;</sup>'


def _footnotes(notes: Sequence[Citation]) -> str:
    if not notes:
        return ""
    rows = "".join(
        f'<div class="fn-note"><span class="fn-number">&#91;{c.number}&#93;</span> {safe(place(c))}</div>'
        for c in notes
    )
    return f'<div class="fn-notes">{rows}</div>'


def sources(record: Answer) -> list[str]:
    """Every footnote's passage with the quoted part marked, by number."""
    return [source(note, record.hits) for note in citations(record)]


def others(record: Answer) -> str:
    """What stands below the footnotes' places: those of what was left out, then what else was read.

    Closed, unless there are no footnotes.
    """
    notes = citations(record)
    left_out = [note for note in _numbered(record.dropped) if note not in notes]
    behind = [source(note, record.hits) for note in left_out]
    cited = {(c.doc, c.start, c.end) for c in (*notes, *left_out)}
    read = [
        _card(safe(place(hit)), safe(hit.chunk.with_header))
        for hit in record.hits
        if not any(
            doc == hit.chunk.doc and hit.chunk.start <= start and end <= hit.chunk.end for doc, start, end in cited
        )
    ]
    label = "Also found, not cited" if cited else "Closest passages"
    return _listed("Cited in what was left out", behind) + _listed(label, read, opened=not cited)


def _listed(label: str, cards: Sequence[str], opened: bool = False) -> str:
    if not cards:
        return ""
    summary = f"<summary>{label} ({len(cards)})</summary>"
    return f'<details class="fn-others"{" open" if opened else ""}>{summary}{"".join(cards)}</details>'


def source(note: Citation, hits: Sequence[Hit]) -> str:
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
