"""The Gradio page: a chat with footnotes and a panel of sources. Knows nothing about retrieval or models."""

from __future__ import annotations

import os
from collections.abc import Iterator
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

TITLE = "Footnote"
NO_SOURCES = '<div class="fn-empty">The passages behind each footnote appear here.</div>'
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Ubuntu", "DejaVu Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace"]

State = list[Message]
Chat = list[dict[str, Any]]
Update = tuple[Any, Chat, str, State]


def theme() -> gr.themes.Base:
    """Fonts of the machine itself: nothing is loaded from another host."""
    return gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=FONT, font_mono=MONO)


def css() -> str:
    """The page's style sheet."""
    return files("ui").joinpath("page.css").read_text(encoding="utf-8")


def page(rag: Rag, catalog: Catalog) -> gr.Blocks:
    """The page over one collection."""
    collection = rag.settings.collection

    def respond(question: str, chat: Chat, history: State) -> Iterator[Update]:
        yield from _respond(rag, question, chat, history)

    with gr.Blocks(title=TITLE, fill_height=True, analytics_enabled=False) as blocks:
        history = gr.State(list[Message]())
        header = gr.HTML(elem_classes="fn-header")
        with gr.Row(elem_classes="fn-main"):
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
                    stop_btn=True,
                )
                clear = gr.Button("New conversation", size="sm", variant="secondary")
            with gr.Column(scale=2, min_width=280, elem_classes="fn-panel"):
                gr.HTML('<h2 class="fn-title">Sources</h2>')
                panel = gr.HTML(NO_SOURCES, elem_id="fn-sources")
        asked = box.submit(
            respond, [box, chat, history], [box, chat, panel, history], concurrency_limit=8, show_progress="hidden"
        )
        box.stop(None, cancels=[asked])
        clear.click(lambda: ([], NO_SOURCES, []), None, [chat, panel, history], cancels=[asked], show_progress="hidden")
        blocks.load(lambda: _header(catalog, collection), None, header, show_progress="hidden")
    return blocks


def _respond(rag: Rag, question: str, chat: Chat, history: State) -> Iterator[Update]:
    """The chat's updates for one question: the text as it is written, then the checked answer with its sources."""
    text = ""
    waiting = [*chat, _turn("user", render.question(question))]
    yield gr.update(value=""), [*waiting, _turn("assistant", render.writing(""))], NO_SOURCES, history
    try:
        for event in rag.stream(question, history):
            if isinstance(event, Piece):
                text += event.text
                yield gr.skip(), [*waiting, _turn("assistant", render.writing(text))], NO_SOURCES, history
            elif isinstance(event, Finished):
                turns = [*waiting, _turn("assistant", render.answer(event.answer))]
                yield gr.skip(), turns, render.sources(event.answer) or NO_SOURCES, _extended(history, event.answer)
    except FootnoteError as error:
        yield gr.update(value=question), [*waiting, _turn("assistant", render.problem(str(error)))], NO_SOURCES, history


def _turn(role: str, html: str) -> dict[str, Any]:
    return {"role": role, "content": html}


def _extended(history: State, answer: Answer) -> State:
    """The conversation as the model will see it: abstentions say nothing worth repeating."""
    if answer.abstained:
        return history
    return [*history, Message("user", answer.question), Message("assistant", answer.text)]


def _header(catalog: Catalog, collection: str) -> str:
    documents = [document for document in catalog.documents(collection) if document.status == "indexed"]
    passages = sum(document.chunks for document in documents)
    return (
        f'<div class="fn-bar"><span class="fn-name">{TITLE}</span>'
        f'<span class="fn-about">{len(documents)} documents, {passages} passages in '
        f"{render.safe(collection)}</span></div>"
    )


def _invitation(catalog: Catalog, collection: str) -> str:
    if any(document.status == "indexed" for document in catalog.documents(collection)):
        return "Ask a question. Every sentence of the answer is checked against your documents and footnoted."
    return "There are no documents yet. Stop this server, run `footnote ingest PATH`, and start it again."
