"""A conversation -> Markdown with footnotes, to be kept or sent. Pure; knows nothing about stores or requests.

Text of documents, questions and models is data: every character that Markdown or HTML could take for markup becomes a
numeric character reference, so it shows as it is in whatever the file is opened with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import PurePath

from rag.filter import Filter
from rag.types import Answer, Citation, Sentence
from ui.records import counted, left_out, place, why
from ui.server.kept import Conversation, Turn

BREAK = "  \n"
"""A line break that shows."""
INSIDE = "    "
"""What the further lines of a footnote begin with."""
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that would turn the direction of what follows them, our own marks too."""
_MARKUP = re.compile(
    r"[\\`*{}\[\]<>|~$^#@]"
    r"|&(?=[#\w])"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word it is no emphasis
    r"|([-+=%])(?=\1)|(?<=([-+=%]))\2"
    r"|:(?!\s|$|(?<=\d:)\d)"  # as in addresses and :smile:, not as in 10:30
    r"|(?<=www)\.|!$",
    re.IGNORECASE,
)
_AT_LINE_START = re.compile(r"^[-+=:%]|^\(?(?:\d{1,9}|[a-z]|[ivxlcdm]{1,8})[.)](?=\s|$)", re.IGNORECASE)


class _Notes:
    """Footnotes, numbered through the whole conversation; the same place has the same number."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}
        self.definitions: list[str] = []

    def mark(self, note: Citation) -> str:
        """The mark of a footnote, which is defined with its first mark."""
        key = (note.doc, note.page, note.headings, note.start, note.end, note.quote)
        if key not in self._numbers:
            self._numbers[key] = number = len(self._numbers) + 1
            quote = _lines(note.quote).replace("\n", f"\n{INSIDE}")
            self.definitions.append(f"[^{number}]: {_line(place(note))}: “{quote}”")
        return f"[^{self._numbers[key]}]"


def markdown(conversation: Conversation) -> str:
    """The whole conversation: questions, answers with their footnotes, what is not supported, what was left out.

    The footnotes' texts come last: file, page, section and quote.
    """
    notes = _Notes()
    about = (
        f"A conversation about the documents in {_line(conversation.collection)}, begun {_time(conversation.created)}: "
        f"{counted(len(conversation.turns), 'question')}."
    )
    parts = [f"# {_line(conversation.name) or 'Conversation'}", about]
    for number, turn in enumerate(conversation.turns, 1):
        parts += _turn(number, turn, notes)
    return "\n\n".join([*parts, *notes.definitions]) + "\n"


def _turn(number: int, turn: Turn, notes: _Notes) -> Iterator[str]:
    answer = turn.answer
    yield f"## Question {number}"
    yield _lines(answer.question)
    if answer.searched:
        yield f"Searched for: {_line(answer.searched)}"
    if not turn.within.empty:
        yield f"Asked of some documents only: {_line(_named(turn.within))}"
    if answer.abstained:
        yield f"**No answer:** {_lines(answer.text)}"
    else:
        yield f"**Answer:** {_flow(answer.text, answer.sentences, notes)}"
    yield from _dropped(answer, notes)
    by = f"Answered by {_line(answer.model)}" if answer.model else "Answered without a language model"
    yield f"{by}, {_time(turn.time)}."


def _flow(text: str, sentences: Sequence[Sentence], notes: _Notes) -> str:
    """Sentences as they stand in the text, line breaks between them kept."""
    shown, end = "", 0
    for sentence in sentences:
        start = max(end, text.find(sentence.text, end))
        between = BREAK if "\n" in text[end:start] else " "
        shown += (between if shown else "") + _sentence(sentence, notes)
        end = start + len(sentence.text)
    return shown


def _sentence(sentence: Sentence, notes: _Notes) -> str:
    if sentence.unsupported:
        return f"{_lines(sentence.text)} **({_line(why(sentence))})**"
    return _lines(sentence.text) + "".join(notes.mark(note) for note in sentence.citations)


def _dropped(answer: Answer, notes: _Notes) -> Iterator[str]:
    """What the model wrote and the answer leaves out."""
    if answer.dropped:
        yield f"{left_out(answer)}:"
        yield "\n".join(f"- {_sentence(each, notes)}".replace(BREAK, " ") for each in answer.dropped)


def _named(within: Filter) -> str:
    """What a filter lets through; the names of documents and folders without where they lie."""
    return ", ".join(
        [
            *(PurePath(name).name or name for name in (*within.documents, *within.folders)),
            *within.types,
            *([f"from {within.since}"] if within.since else []),
            *([f"until {within.until}"] if within.until else []),
            *(f"{key}={value}" for key, value in within.metadata),
        ]
    )


def _time(iso: str) -> str:
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _lines(text: str) -> str:
    """Text that shows as it is, its line breaks kept."""
    return BREAK.join(filter(None, map(_line, text.splitlines())))


def _line(text: str) -> str:
    """Text that shows as it is, on one line."""
    line = _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    line = _MARKUP.sub(lambda found: _reference(found.group()), line)
    return _AT_LINE_START.sub(lambda found: found.group()[:-1] + _reference(found.group()[-1]), line)


def _reference(character: str) -> str:
    return f"&#{ord(character)};"
