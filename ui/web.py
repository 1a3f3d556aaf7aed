"""The Gradio page: a chat with footnotes and a panel of sources. Knows nothing about retrieval or models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import PurePath
from textwrap import shorten
from typing import Any, NamedTuple

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: Gradio reads it there
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from ingest.catalog import Catalog
from rag.errors import FootnoteError
from rag.filter import Filter
from rag.settings import Strictness
from rag.types import Answer, Checked, Finished, Message, Piece, Sentence
from ui import render
from ui.narrow import checked, choices, day_of
from ui.records import counted
from ui.server.answers import Answers, Asked, Waiting
from ui.server.served import Served

TITLE = "Footnote"
NO_SOURCES = '<div class="fn-empty">The passages behind each footnote appear here.</div>'
EVERYWHERE = "Search in all documents"
NOTHING_MATCHED = '<div class="fn-empty">No document matches what is chosen below the question.</div>'
STRICTNESS = {
    "Mark what is not found": "mark",
    "Leave out what is not found": "drop",
    "Decline if anything is not found": "refuse",
}
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Ubuntu", "DejaVu Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace"]

QUIET: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Events that are done at once. They stay out of the queue: its stream to the browser is closed after the last event
of the queue, and Gradio's client does not open it again for a question that is asked in that moment."""

Update = tuple[Any, Any, Any, "Conversation"]
"""What an event changes: the question box, the chat, the panel of sources, the conversation."""


@dataclass(frozen=True)
class Conversation:
    """One person's conversation: what the chat shows, and what the model is told of it."""

    turns: tuple[dict[str, str], ...] = ()
    history: tuple[Message, ...] = ()

    def showing(self, role: str, html: str) -> Conversation:
        """The conversation with one more message in the chat."""
        return replace(self, turns=(*self.turns, {"role": role, "content": html}))

    def answered(self, answer: Answer) -> Conversation:
        """The conversation with an answer."""
        shown = self.showing("assistant", render.answer(answer))
        said = (Message("user", answer.question), Message("assistant", answer.text))
        return replace(shown, history=(*self.history, *said))


def theme() -> gr.themes.Base:
    """Fonts of the machine itself: nothing is loaded from another host."""
    return gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=FONT, font_mono=MONO)


def css() -> str:
    """The page's style sheet."""
    return files("ui").joinpath("page.css").read_text(encoding="utf-8")


def page(served: Served) -> gr.Blocks:
    """The page over one collection."""
    rag, catalog, collection = served.rag, served.catalog, served.collection

    def respond(
        request: gr.Request, question: str, conversation: Conversation, strictness: Strictness, *chosen: Any
    ) -> Iterator[Update]:
        def asked() -> Asked:
            within = _within(catalog, collection, *chosen)
            return Asked(question, conversation.history, within, strictness)

        yield from _respond(served.answers, asked, str(request.session_hash), question, conversation)

    with gr.Blocks(title=TITLE, fill_height=True, analytics_enabled=False) as blocks:
        conversation = gr.State(Conversation())
        header = gr.HTML(elem_classes="fn-header")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                chat = gr.Chatbot(
                    elem_id="fn-chat",
                    show_label=False,
                    height="64vh",
                    latex_delimiters=[],
                    buttons=[],
                    feedback_options=None,
                    layout="bubble",
                    placeholder=_invitation(catalog, collection),
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
                within = _search_in()
                with gr.Row(equal_height=True):
                    strictness = gr.Dropdown(
                        list(STRICTNESS.items()),
                        value=rag.settings.strictness,
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
                panel = gr.HTML(NO_SOURCES, elem_id="fn-sources")
        outputs = [box, chat, panel, conversation]
        asked = box.submit(
            respond,
            [box, conversation, strictness, *within.fields],
            outputs,
            concurrency_limit=8,
            show_progress="hidden",
            api_visibility="private",
        )
        # What the cancelled answer still had on its way must not come after the mark: first cancel, then mark.
        box.stop(None, cancels=[asked], **QUIET).then(_stopped, conversation, outputs, **QUIET)
        for event in (clear.click, chat.clear):
            event(None, cancels=[asked], **QUIET).then(
                lambda: (_ready(), [], NO_SOURCES, Conversation()), None, outputs, **QUIET
            )
        blocks.load(
            lambda: (
                _header(catalog, collection),
                gr.update(placeholder=_invitation(catalog, collection)),
                *(gr.update(choices=found) for found in choices(catalog, collection)),
            ),
            None,
            [header, chat, *within.fields[:3]],  # what was ingested since the server was started shows
            **QUIET,
        )
    return blocks


class _SearchIn(NamedTuple):
    """The panel that says which documents to use: documents, folders, types, first and last day."""

    panel: gr.Accordion
    fields: tuple[Any, ...]


def _search_in() -> _SearchIn:
    """The panel, closed; its name tells what is chosen in it."""
    several: Any = {"multiselect": True, "allow_custom_value": True, "filterable": True, "value": []}
    day: Any = {"include_time": False, "type": "string", "min_width": 140}
    with gr.Accordion(EVERYWHERE, open=False, elem_id="fn-within") as panel:
        with gr.Row():
            documents = gr.Dropdown([], label="Documents", elem_id="fn-documents", min_width=200, scale=2, **several)
            folders = gr.Dropdown([], label="Folders", elem_id="fn-folders", min_width=200, scale=2, **several)
            types = gr.Dropdown([], label="Types", elem_id="fn-types", min_width=120, **several)
        with gr.Row():
            since = gr.DateTime(label="From", elem_id="fn-since", **day)
            until = gr.DateTime(label="Until", elem_id="fn-until", **day)
    fields = (documents, folders, types, since, until)
    for field in fields:
        field.change(_named, list(fields), panel, **QUIET)
    return _SearchIn(panel, fields)


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


def _respond(
    answers: Answers, ask: Callable[[], Asked], client: str, question: str, conversation: Conversation
) -> Iterator[Update]:
    """The page's updates for one question: the text as it is written and checked, then the answer with its sources."""
    shown, text = conversation.showing("user", render.question(question)), ""
    checked: list[Sentence] = []
    yield _busy(), *_writing(shown, text)
    try:
        asked = ask()
        for event in answers.stream(asked, client):
            if isinstance(event, Waiting):
                yield gr.skip(), *_waiting(shown, event.ahead)
            elif isinstance(event, Piece | Checked):
                if isinstance(event, Piece):
                    text += event.text
                else:
                    checked[event.index :] = [event.sentence]
                yield gr.skip(), *_writing(shown, text, checked, asked.strictness == "drop")
            elif isinstance(event, Finished):
                done = replace(shown, history=conversation.history).answered(event.answer)
                yield _ready(), list(done.turns), _sources(event.answer, asked.within), done
    except FootnoteError as error:
        failed = shown.showing("assistant", render.problem(str(error)))
        yield gr.update(value=question, submit_btn=True, stop_btn=False), list(failed.turns), NO_SOURCES, failed


def _waiting(asked: Conversation, ahead: int) -> tuple[Any, Any, Conversation]:
    """The chat while other questions are answered first."""
    shown = asked.showing("assistant", render.waiting(ahead))
    return list(shown.turns), NO_SOURCES, shown


def _sources(answer: Answer, within: Filter) -> str:
    """The panel of sources; where there are none because of the filter, it says so."""
    unmatched = not (answer.hits or within.empty)
    return render.sources(answer) or (NOTHING_MATCHED if unmatched else NO_SOURCES)


def _writing(
    asked: Conversation, text: str, checked: Sequence[Sentence] = (), dropping: bool = False
) -> tuple[Any, Any, Conversation]:
    """The chat while an answer is being written; kept in the conversation too, in case it is stopped."""
    shown = asked.showing("assistant", render.writing(text, checked, dropping))
    return list(shown.turns), NO_SOURCES, shown


def _stopped(conversation: Conversation) -> Update:
    """What was written so far, marked as not checked."""
    *before, last = conversation.turns or ({"role": "assistant", "content": ""},)
    kept = replace(conversation, turns=(*before, {**last, "content": render.stopped(last["content"])}))
    return _ready(), list(kept.turns), NO_SOURCES, kept


def _ready() -> Any:
    """The question box, empty and waiting. Made anew each time, because Gradio takes updates apart."""
    return gr.update(value="", submit_btn=True, stop_btn=False)


def _busy() -> Any:
    """The question box while an answer is being written."""
    return gr.update(value="", submit_btn=False, stop_btn=True)


def _header(catalog: Catalog, collection: str) -> str:
    documents = [document for document in catalog.documents(collection) if document.status == "indexed"]
    passages = sum(document.chunks for document in documents)
    return (
        f'<div class="fn-bar"><span class="fn-name">{TITLE}</span>'
        f'<span class="fn-about">{counted(len(documents), "document")}, {counted(passages, "passage")} in '
        f"{render.safe(collection)}</span></div>"
    )


def _invitation(catalog: Catalog, collection: str) -> str:
    if any(document.status == "indexed" for document in catalog.documents(collection)):
        return "Ask a question. Every sentence of the answer is checked against your documents and footnoted."
    return "There are no documents yet. Run `footnote ingest PATH` in a terminal, and ask when it is done."
