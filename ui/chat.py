"""The chat of the page: questions, answers with footnotes, their sources, and conversations that were kept.

Knows nothing about retrieval or models.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from ingest.catalog import Catalog
from rag.errors import FootnoteError
from rag.settings import Strictness
from rag.types import Answer, Checked, Citation, Finished, Piece, Sentence
from ui import opinion, panel, render, within
from ui.narrow import choices
from ui.parts import QUIET
from ui.records import counted
from ui.server.answers import Asked, Told, Waiting
from ui.server.keeping import NEW, Kept, converse
from ui.server.served import Served, owner_of
from ui.server.sources import Sources
from ui.speed import tokens_a_second
from ui.talk import Shown, Speed, Talk
from ui.within import Chosen

NO_SOURCES = '<div class="fn-empty">The passages behind each footnote appear here.</div>'
NOTHING_MATCHED = '<div class="fn-empty">No document matches what is chosen below the question.</div>'
STRICTNESS: dict[str, Strictness] = {
    "Mark what is not found": "mark",
    "Leave out what is not found": "drop",
    "Decline if anything is not found": "refuse",
}
PASSAGES = range(1, 11)
"""How many passages a person can have found for an answer."""
LOOK = "footnote.sources(document.getElementById('fn-sources'), (data) => trigger('look', data), watch)"
"""Lets the page's script lead to sources; for those of an earlier answer it triggers the event `look`."""
AT_ONCE: Any = {"concurrency_limit": 8, "show_progress": "hidden", "api_visibility": "private"}
"""Events that take as long as an answer."""


class Update(NamedTuple):
    """What an event makes of the chat."""

    box: dict[str, Any]
    """The question box."""
    messages: list[Shown]
    sources: str | dict[str, Any]
    """The panel of sources, or that it stays as it is."""
    talk: Talk


class Refreshed(NamedTuple):
    """What becomes of the chat when the page is loaded: what was ingested meanwhile shows."""

    chat: dict[str, Any]
    documents: dict[str, Any]
    folders: dict[str, Any]
    types: dict[str, Any]


class Chat(NamedTuple):
    """What the rest of the page has to know of it."""

    refreshed: Callable[[], Refreshed]
    """What changes when the page is loaded: the values of `outputs`."""
    outputs: list[Any]
    shown: list[Any]
    """What an `Update` changes."""
    talk: gr.State
    asked: tuple[Any, ...]
    """The events of a question, done when it is answered."""


class _Way(NamedTuple):
    """The fields beside the question that say how it is answered."""

    strictness: gr.Dropdown
    passages: gr.Dropdown
    clear: gr.Button


def build(served: Served) -> Chat:
    """The chat, in the place where this is called."""
    catalog, collection = served.catalog, served.collection
    talk, looking = gr.State(Talk()), gr.State(0)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            chat = _messages(catalog, collection)
            box = _question()
            opinion.build(chat, talk, served)
            fields = within.build()
            way = _way(served.settings.strictness, served.settings.passages)
        with gr.Column(scale=2, min_width=280):
            gr.HTML('<h2 class="fn-title">Sources</h2>')
            sources = gr.HTML(NO_SOURCES, elem_id="fn-sources", js_on_load=LOOK)
    shown = [box, chat, sources, talk]
    asking = _Asking(served)
    chosen = [box, talk, way.strictness, way.passages, *fields]
    asked = box.submit(asking.ask, chosen, shown, **AT_ONCE)
    again = chat.retry(asking.again, chosen, shown, **AT_ONCE)
    for event in (asked, again):
        event.then(asking.pictures, talk, sources, **QUIET)
    # What the cancelled answer still had on its way must not come after the mark: first cancel, then mark.
    box.stop(None, cancels=[asked, again], **QUIET).then(_stopped, talk, shown, **QUIET)
    chat.undo(_edit, talk, shown, **QUIET)
    for event in (way.clear.click, chat.clear):
        event(None, cancels=[asked, again], **QUIET).then(lambda: show(Talk()), None, shown, **QUIET)
    sources.look(looked, talk, [sources, looking], **QUIET).then(asking.pictures, [talk, looking], sources, **QUIET)
    outputs = [chat, fields.documents, fields.folders, fields.types]
    return Chat(partial(_refreshed, catalog, collection), outputs, shown, talk, (asked, again))


def _messages(catalog: Catalog, collection: str) -> gr.Chatbot:
    return gr.Chatbot(
        elem_id="fn-chat",
        show_label=False,
        height="64vh",
        latex_delimiters=[],
        buttons=[],
        feedback_options=opinion.LIKED,
        layout="bubble",
        placeholder=invitation(catalog, collection),
        sanitize_html=True,
        allow_tags=False,
    )


def _question() -> gr.Textbox:
    return gr.Textbox(
        elem_id="fn-question",
        placeholder="Ask about your documents",
        show_label=False,
        label="Question",
        autofocus=True,
        lines=1,
        max_lines=6,
        submit_btn=True,
    )


def _way(strictness: Strictness, passages: int) -> _Way:
    plain: Any = {"show_label": False, "container": False, "filterable": False}
    numbers = sorted({*PASSAGES, passages})
    with gr.Row(equal_height=True):
        return _Way(
            gr.Dropdown(
                list(STRICTNESS.items()),
                value=strictness,
                label="Sentences that are not found in the documents",
                elem_id="fn-strictness",
                min_width=200,
                scale=3,
                **plain,
            ),
            gr.Dropdown(
                [(f"Find {counted(number, 'passage')}", number) for number in numbers],
                value=passages,
                label="Passages for the answer",
                elem_id="fn-passages",
                min_width=160,
                scale=2,
                **plain,
            ),
            gr.Button("New conversation", size="sm", variant="secondary", min_width=140, scale=2),
        )


class _Asking:
    """Answers what is asked at the page."""

    def __init__(self, served: Served) -> None:
        self._served, self._sources = served, Sources(served.rag, served.catalog)

    def ask(self, request: gr.Request, question: str, talk: Talk, *way: Any) -> Iterator[Update]:
        """A new question. `way` are the values of the fields beside it: strictness, passages, and those of `within`."""
        yield from self._respond(request, question, talk, *way)

    def again(self, request: gr.Request, _box: str, talk: Talk, *way: Any) -> Iterator[Update]:
        """The last question once more, in the place of its answer."""
        before, question = talk.taken_back()
        yield from self._respond(request, question, before, *way)

    def pictures(self, talk: Talk, number: int | None = None) -> str | dict[str, Any]:
        """The sources of an exchange, the last one where it is None, with the pages of PDFs, which take a moment."""
        number = len(talk.exchanges) - 1 if number is None else number
        answer = talk.answer(number)
        notes = render.citations(answer) if answer else []
        if answer is None or not any(note.page for note in notes):
            return _as_it_is()
        return panel.walked([self._card(note, answer, len(notes)) for note in notes], render.others(answer), number)

    def _card(self, note: Citation, answer: Answer, of: int) -> str:
        try:
            return panel.panel(self._sources.cited(note), note.number, of)
        except FootnoteError:  # it has gone, or changed: the passage as it was read is still there
            return render.source(note, answer.hits)

    def _respond(
        self, request: gr.Request, question: str, talk: Talk, strictness: Strictness, passages: int, *chosen: Any
    ) -> Iterator[Update]:
        """The page's updates for one question: the text as it is written and checked, then the answer and sources."""
        served, shown = self._served, talk.asked(question)
        yield Update(_busy(), shown.messages, NO_SOURCES, shown)
        try:
            documents = Chosen(*chosen).filter(served.catalog, served.collection)
            asked = Asked(question, (), documents, strictness, passages)
            told = converse(
                served.answers,
                served.conversations,
                served.collection,
                asked,
                str(request.session_hash),
                owner_of(request.request),
                talk.id or NEW,
                talk.again,
            )
            yield from _shown(told, shown, asked, partial(tokens_a_second, served.rag))
        except FootnoteError as error:
            failed = shown.showing(render.problem(str(error)))
            box = gr.update(value=question, submit_btn=True, stop_btn=False)
            yield Update(box, failed.messages, NO_SOURCES, failed)


def _shown(told: Generator[Told | Kept], talk: Talk, asked: Asked, speed: Speed) -> Iterator[Update]:
    """The updates of the chat for what is told of an answer."""
    dropping, text, sentences, kept = asked.strictness == "drop", "", list[Sentence](), Kept("", "")
    with closing(told):
        for event in told:
            match event:
                case Kept():
                    kept = event
                case Waiting(ahead):
                    yield _going_on(talk.showing(render.waiting(ahead)))
                case Piece(more):
                    text += more
                    yield _going_on(talk.writing(text, sentences, dropping))
                case Checked(index, sentence):
                    sentences[index:] = [sentence]
                    yield _going_on(talk.writing(text, sentences, dropping))
                case Finished(answer):
                    done = talk.answered(answer, kept.conversation, kept.turn, speed)
                    unmatched = not (answer.hits or asked.within.empty)
                    yield show(done) if not unmatched else show(done)._replace(sources=NOTHING_MATCHED)


def looked(talk: Talk, data: gr.EventData) -> tuple[str | dict[str, Any], int]:
    """The sources of the answer whose mark was pressed, and which exchange it is in."""
    number = int(data.exchange)
    return (_sources(talk, number) if talk.answer(number) else _as_it_is()), number


def show(talk: Talk) -> Update:
    """A conversation with nothing going on, and the sources of its last answer."""
    return Update(_ready(), talk.messages, _sources(talk, len(talk.exchanges) - 1), talk)


def _sources(talk: Talk, number: int) -> str:
    """The panel of sources for an exchange."""
    answer = talk.answer(number)
    return (panel.walked(render.sources(answer), render.others(answer), number) if answer else "") or NO_SOURCES


def _going_on(talk: Talk) -> Update:
    """An answer that is being written; the panel stays, since one may be reading an earlier answer's sources."""
    return Update(_as_it_is(), talk.messages, _as_it_is(), talk)


def _stopped(talk: Talk) -> Update:
    """What was written so far, marked as not checked."""
    return show(talk.stopped())._replace(sources=NO_SOURCES)


def _edit(talk: Talk) -> Update:
    """The last question back in the box; its next answer takes the place of the last one."""
    before, question = talk.taken_back()
    return Update(gr.update(value=question), before.messages, NO_SOURCES, before)


# Each of these is made anew each time, because Gradio takes updates apart.


def _ready() -> dict[str, Any]:
    """The question box, empty and waiting."""
    return dict(gr.update(value="", submit_btn=True, stop_btn=False))


def _busy() -> dict[str, Any]:
    """The question box while an answer is being written."""
    return dict(gr.update(value="", submit_btn=False, stop_btn=True))


def _as_it_is() -> dict[str, Any]:
    return dict(gr.skip())


def invitation(catalog: Catalog, collection: str) -> str:
    """What the empty chat says."""
    if any(document.status == "indexed" for document in catalog.documents(collection)):
        return "Ask a question. Every sentence of the answer is checked against your documents and footnoted."
    return "There are no documents yet. They are brought in under Documents; ask when they are ready."


def _refreshed(catalog: Catalog, collection: str) -> Refreshed:
    found = (gr.update(choices=each) for each in choices(catalog, collection))
    return Refreshed(gr.update(placeholder=invitation(catalog, collection)), *found)
