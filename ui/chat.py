"""The chat of the page: questions, answers with footnotes, their sources, feedback, and conversations that were kept.

Knows nothing about retrieval or models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import PurePath
from textwrap import shorten
from typing import Any, NamedTuple

import gradio as gr

from ingest.catalog import Catalog
from rag.errors import FootnoteError
from rag.filter import Filter
from rag.types import Answer, Checked, Finished, Piece, Sentence
from ui import panel, render
from ui.narrow import checked, choices, day_of
from ui.server.answers import Asked, Waiting
from ui.server.keeping import NEW, Kept, converse
from ui.server.served import Served, owner_of
from ui.server.sources import Sources
from ui.talk import Talk

NO_SOURCES = '<div class="fn-empty">The passages behind each footnote appear here.</div>'
EVERYWHERE = "Search in all documents"
NOTHING_MATCHED = '<div class="fn-empty">No document matches what is chosen below the question.</div>'
STRICTNESS = {
    "Mark what is not found": "mark",
    "Leave out what is not found": "drop",
    "Decline if anything is not found": "refuse",
}
QUIET: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Events that are done at once. They stay out of the queue: its stream to the browser is closed after the last event
of the queue, and Gradio's client does not open it again for a question that is asked in that moment."""
LIKED = ("Like", "Dislike")
"""The names for which Gradio draws thumbs."""

Update = tuple[Any, Any, Any, Talk]
"""What an event changes: the question box, the chat, the panel of sources, the conversation."""


class Chat(NamedTuple):
    """What the rest of the page has to know of it."""

    refreshed: Callable[[], tuple[Any, ...]]
    """What changes when the page is loaded: the values of `outputs`."""
    outputs: list[Any]
    talk: gr.State
    box: Any
    chat: Any
    sources: Any
    asked: Any
    """The event of a question; cancelled where the conversation is left."""


def build(served: Served) -> Chat:
    """The chat, in the place where this is called."""
    catalog, collection = served.catalog, served.collection
    talk = gr.State(Talk())
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            chat = gr.Chatbot(
                elem_id="fn-chat",
                show_label=False,
                height="64vh",
                latex_delimiters=[],
                buttons=[],
                feedback_options=LIKED,
                layout="bubble",
                placeholder=invitation(catalog, collection),
                sanitize_html=True,
                allow_tags=False,
            )
            box = gr.Textbox(
                elem_id="fn-question",
                placeholder="Ask about your documents",
                show_label=False,
                label="Question",
                autofocus=True,
                lines=1,
                max_lines=6,
                submit_btn=True,
            )
            opinion = _opinion()
            within = _search_in()
            with gr.Row(equal_height=True):
                strictness = gr.Dropdown(
                    list(STRICTNESS.items()),
                    value=served.settings.strictness,
                    label="Sentences that are not found in the documents",
                    show_label=False,
                    container=False,
                    filterable=False,
                    elem_id="fn-strictness",
                    min_width=200,
                )
                clear = gr.Button("New conversation", size="sm", variant="secondary", min_width=140)
        with gr.Column(scale=2, min_width=280):
            gr.HTML('<h2 class="fn-title">Sources</h2>')
            sources = gr.HTML(NO_SOURCES, elem_id="fn-sources")
    outputs = [box, chat, sources, talk]
    asking = _Asking(served)
    chosen = [box, talk, strictness, *within.fields]
    how: Any = {"concurrency_limit": 8, "show_progress": "hidden", "api_visibility": "private"}
    asked = box.submit(asking.ask, chosen, outputs, **how)
    again = chat.retry(asking.again, chosen, outputs, **how)
    for event in (asked, again):
        event.then(asking.pictures, talk, sources, **QUIET)
    # What the cancelled answer still had on its way must not come after the mark: first cancel, then mark.
    box.stop(None, cancels=[asked, again], **QUIET).then(_stopped, talk, outputs, **QUIET)
    chat.undo(_edit, talk, outputs, **QUIET)
    for event in (clear.click, chat.clear):
        event(None, cancels=[asked, again], **QUIET).then(
            lambda: (_ready(), [], NO_SOURCES, Talk()), None, outputs, **QUIET
        )
    opinion.wire(chat, talk, served)
    refreshed = [chat, *within.fields[:3]]
    return Chat(
        lambda: (
            gr.update(placeholder=invitation(catalog, collection)),
            *(gr.update(choices=found) for found in choices(catalog, collection)),
        ),
        refreshed,
        talk,
        box,
        chat,
        sources,
        [asked, again],
    )


class _Asking:
    """Answers what is asked at the page."""

    def __init__(self, served: Served) -> None:
        self._served, self._sources = served, Sources(served.rag, served.catalog)

    def ask(self, request: gr.Request, question: str, talk: Talk, strictness: Any, *chosen: Any) -> Iterator[Update]:
        """A new question."""
        yield from self._respond(request, question, talk, strictness, chosen)

    def again(self, request: gr.Request, _box: str, talk: Talk, strictness: Any, *chosen: Any) -> Iterator[Update]:
        """The last question once more, in the place of its answer."""
        before, question = talk.taken_back()
        yield from self._respond(request, question, before, strictness, chosen)

    def pictures(self, talk: Talk) -> Any:
        """The panel of sources with the pages of PDFs, which take a moment to draw."""
        answer = talk.last
        notes = render.citations(answer) if answer else []
        if answer is None or not any(note.page for note in notes):
            return gr.skip()
        told = "".join(self._source(answer, note.number) for note in notes)
        return told + render.others(answer)

    def _source(self, answer: Answer, number: int) -> str:
        notes = {note.number: note for note in render.citations(answer)}
        try:
            return panel.panel(self._sources.cited(notes[number]), number, len(notes))
        except FootnoteError:  # it has gone, or changed: the passage as it was read is still there
            return render.source(notes[number], answer.hits)

    def _respond(
        self, request: gr.Request, question: str, talk: Talk, strictness: Any, chosen: tuple[Any, ...]
    ) -> Iterator[Update]:
        """The page's updates for one question: the text as it is written and checked, then the answer and sources."""
        served, shown = self._served, talk.asked(question)
        yield _busy(), shown.messages, NO_SOURCES, shown
        try:
            within = _within(served.catalog, served.collection, *chosen)
            asked = Asked(question, (), within, strictness)
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
            yield from _shown(told, shown, asked)
        except FootnoteError as error:
            failed = shown.showing(render.problem(str(error)))
            yield gr.update(value=question, submit_btn=True, stop_btn=False), failed.messages, NO_SOURCES, failed


def _shown(told: Any, talk: Talk, asked: Asked) -> Iterator[Update]:
    text, sentences, kept = "", list[Sentence](), Kept("", "")
    with closing(told):
        for event in told:
            if isinstance(event, Kept):
                kept = event
            elif isinstance(event, Finished):
                done = talk.answered(event.answer, kept.conversation, kept.turn)
                yield _ready(), done.messages, _sources(event.answer, asked.within), done
            elif isinstance(event, Waiting | Piece | Checked):
                if isinstance(event, Piece):
                    text += event.text
                elif isinstance(event, Checked):
                    sentences[event.index :] = [event.sentence]
                waits = isinstance(event, Waiting)
                html = render.waiting(event.ahead) if isinstance(event, Waiting) else ""
                now = talk.showing(html) if waits else talk.writing(text, sentences, asked.strictness == "drop")
                yield gr.skip(), now.messages, NO_SOURCES, now


class _Opinion(NamedTuple):
    """What a person says of an answer that was bad."""

    group: gr.Group
    reason: gr.Radio
    correction: gr.Textbox
    comment: gr.Textbox
    send: gr.Button
    close: gr.Button
    about: gr.State

    def wire(self, chat: gr.Chatbot, talk: gr.State, served: Served) -> None:
        """A thumb up is taken in at once; a thumb down asks why."""
        fields = [self.reason, self.correction, self.comment]

        def liked(request: gr.Request, said: Talk, data: gr.LikeData) -> tuple[Any, ...]:
            exchange = said.at(int(data.index if isinstance(data.index, int) else data.index[0]))
            if exchange is None or not exchange.turn:
                gr.Info("This answer is not whole, so there is nothing to say of it.")
                return gr.update(visible=False), ""
            if data.liked == "" or data.liked is None:
                return gr.update(visible=False), ""
            good = data.liked is True or data.liked == LIKED[0]
            _say(served, request, said.id, exchange.turn, "up" if good else "down")
            if good:
                gr.Info("Noted: a good answer.")
            return gr.update(visible=not good), "" if good else exchange.turn

        def sent(request: gr.Request, said: Talk, turn: str, *told: str) -> tuple[Any, ...]:
            _say(served, request, said.id, turn, "down", *told)
            gr.Info("Noted. Thank you.")
            return gr.update(visible=False), None, "", ""

        chat.like(liked, talk, [self.group, self.about], **QUIET)
        self.send.click(sent, [talk, self.about, *fields], [self.group, *fields], **QUIET)
        self.close.click(lambda: (gr.update(visible=False), None, "", ""), None, [self.group, *fields], **QUIET)


def _opinion() -> _Opinion:
    about = gr.State("")
    with gr.Group(visible=False, elem_id="fn-opinion") as group:
        reason = gr.Radio(["wrong", "incomplete", "not in the documents", "other"], label="What is bad about it?")
        correction = gr.Textbox("", label="What would have been right? (optional)", lines=2, max_lines=6)
        comment = gr.Textbox("", label="Anything else? (optional)", lines=1, max_lines=4)
        with gr.Row():
            send = gr.Button("Send", size="sm", variant="primary")
            close = gr.Button("Close", size="sm")
    return _Opinion(group, reason, correction, comment, send, close, about)


def _say(
    served: Served,
    request: gr.Request,
    conversation: str,
    turn: str,
    verdict: Any,
    reason: Any = "",
    correction: str = "",
    comment: str = "",
) -> None:
    from ui.server.feedback import given

    owner = owner_of(request.request)
    kept = served.conversations.read(owner, conversation)
    line = given(kept, turn, owner, verdict, correction, reason or "", comment) if kept else None
    if line is None:
        raise gr.Error("This answer is not kept any more.", print_exception=False)
    served.feedback.add(line)


class _SearchIn(NamedTuple):
    """The panel that says which documents to use: documents, folders, types, first and last day."""

    panel: gr.Accordion
    fields: tuple[Any, ...]


def _search_in() -> _SearchIn:
    """The panel, closed; its name tells what is chosen in it."""
    several: Any = {"multiselect": True, "allow_custom_value": True, "filterable": True, "value": []}
    day: Any = {"include_time": False, "type": "string", "min_width": 140}
    with gr.Accordion(EVERYWHERE, open=False, elem_id="fn-within") as accordion:
        with gr.Row():
            documents = gr.Dropdown([], label="Documents", elem_id="fn-documents", min_width=200, scale=2, **several)
            folders = gr.Dropdown([], label="Folders", elem_id="fn-folders", min_width=200, scale=2, **several)
            types = gr.Dropdown([], label="Types", elem_id="fn-types", min_width=120, **several)
        with gr.Row():
            since = gr.DateTime(label="From", elem_id="fn-since", **day)
            until = gr.DateTime(label="Until", elem_id="fn-until", **day)
    fields = (documents, folders, types, since, until)
    for field in fields:
        field.change(_named, list(fields), accordion, **QUIET)
    return _SearchIn(accordion, fields)


def _named(
    documents: list[str], folders: list[str], types: list[str], since: str | None, until: str | None
) -> dict[str, Any]:
    """The panel's name, with what is chosen: it counts also while the panel is closed."""
    days = [*([f"from {since}"] if since else []), *([f"until {until}"] if until else [])]
    names = [PurePath(name).name or name for name in (*documents, *folders)]
    chosen = ", ".join([*names, *types, *days])
    return dict(gr.update(label=f"Search in: {shorten(chosen, 80, placeholder=' …')}" if chosen else EVERYWHERE))


def _within(
    catalog: Catalog,
    collection: str,
    documents: list[str],
    folders: list[str],
    types: list[str],
    since: str | None,
    until: str | None,
) -> Filter:
    """The filter that the panel adds up to. Raises FilterError."""
    wanted = Filter(tuple(documents), tuple(folders), tuple(types), day_of(since), day_of(until))
    return checked(wanted, catalog, collection)


def _sources(answer: Answer, within: Filter) -> str:
    """The panel of sources; where there are none because of the filter, it says so."""
    unmatched = not (answer.hits or within.empty)
    return render.sources(answer) or (NOTHING_MATCHED if unmatched else NO_SOURCES)


def _stopped(talk: Talk) -> Update:
    """What was written so far, marked as not checked."""
    kept = talk.stopped()
    return _ready(), kept.messages, NO_SOURCES, kept


def _edit(talk: Talk) -> Update:
    """The last question back in the box; its next answer takes the place of the last one."""
    before, question = talk.taken_back()
    return gr.update(value=question), before.messages, NO_SOURCES, before


def show(talk: Talk) -> Update:
    """A conversation that was opened again."""
    return _ready(), talk.messages, render.sources(talk.last) if talk.last else NO_SOURCES, talk


def _ready() -> Any:
    """The question box, empty and waiting. Made anew each time, because Gradio takes updates apart."""
    return gr.update(value="", submit_btn=True, stop_btn=False)


def _busy() -> Any:
    """The question box while an answer is being written."""
    return gr.update(value="", submit_btn=False, stop_btn=True)


def invitation(catalog: Catalog, collection: str) -> str:
    """What the empty chat says."""
    if any(document.status == "indexed" for document in catalog.documents(collection)):
        return "Ask a question. Every sentence of the answer is checked against your documents and footnoted."
    return "There are no documents yet. Bring some in under Documents, and ask when they are ready."
