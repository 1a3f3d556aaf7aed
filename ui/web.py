"""The Gradio page: a chat with footnotes and a panel of sources. Knows nothing about retrieval or models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: Gradio reads it there
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.errors import FootnoteError
from rag.types import Answer, Finished, Message, Piece
from ui import render
from ui.records import counted

TITLE = "Footnote"
NO_SOURCES = '<div class="fn-empty">The passages behind each footnote appear here.</div>'
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Ubuntu", "DejaVu Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace"]

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


def page(rag: Rag, catalog: Catalog) -> gr.Blocks:
    """The page over one collection."""
    collection = rag.settings.collection

    def respond(question: str, conversation: Conversation) -> Iterator[Update]:
        yield from _respond(rag, question, conversation)

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
                clear = gr.Button("New conversation", size="sm", variant="secondary")
            with gr.Column(scale=2, min_width=280):
                gr.HTML('<h2 class="fn-title">Sources</h2>')
                panel = gr.HTML(NO_SOURCES, elem_id="fn-sources")
        outputs = [box, chat, panel, conversation]
        asked = box.submit(
            respond, [box, conversation], outputs, concurrency_limit=8, show_progress="hidden", api_visibility="private"
        )
        quiet: Any = {"cancels": [asked], "show_progress": "hidden", "api_visibility": "private"}
        # What the cancelled answer still had on its way must not come after the mark: first cancel, then mark.
        box.stop(None, **quiet).then(_stopped, conversation, outputs, show_progress="hidden", api_visibility="private")
        for event in (clear.click, chat.clear):
            event(None, **quiet).then(
                lambda: (_ready(), [], NO_SOURCES, Conversation()),
                None,
                outputs,
                show_progress="hidden",
                api_visibility="private",
            )
        blocks.load(
            lambda: (_header(catalog, collection), gr.update(placeholder=_invitation(catalog, collection))),
            None,
            [header, chat],  # what was ingested since the server was started shows
            show_progress="hidden",
            api_visibility="private",
        )
    return blocks


def _respond(rag: Rag, question: str, conversation: Conversation) -> Iterator[Update]:
    """The page's updates for one question: the text as it is written, then the checked answer with its sources."""
    asked, text = conversation.showing("user", render.question(question)), ""
    yield _busy(), *_writing(asked, text)
    try:
        for event in rag.stream(question, conversation.history):
            if isinstance(event, Piece):
                text += event.text
                yield gr.skip(), *_writing(asked, text)
            elif isinstance(event, Finished):
                done = replace(asked, history=conversation.history).answered(event.answer)
                yield _ready(), list(done.turns), render.sources(event.answer) or NO_SOURCES, done
    except FootnoteError as error:
        failed = asked.showing("assistant", render.problem(str(error)))
        yield gr.update(value=question, submit_btn=True, stop_btn=False), list(failed.turns), NO_SOURCES, failed


def _writing(asked: Conversation, text: str) -> tuple[Any, Any, Conversation]:
    """The chat while an answer is being written; kept in the conversation too, in case it is stopped."""
    shown = asked.showing("assistant", render.writing(text))
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
