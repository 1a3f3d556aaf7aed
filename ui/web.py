"""The Gradio page, put together of its parts: the chat with its conversations, documents, quality and status."""

from __future__ import annotations

import os
from importlib.resources import files

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import: Gradio reads it there
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from ui import chat, history, quality, shelf, state
from ui.parts import QUIET, Part, is_editor
from ui.records import counted
from ui.render import safe
from ui.server.access import identity_of
from ui.server.collections import Collections, below
from ui.server.served import Served

TITLE = "Footnote"
NEW, DELETE = "+", "-"
"""What is chosen to make a collection. No collection's address."""
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Ubuntu", "DejaVu Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace"]


def theme() -> gr.themes.Base:
    """Fonts of the machine itself: nothing is loaded from another host."""
    return gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=FONT, font_mono=MONO)


def css() -> str:
    """The page's style sheet."""
    return files("ui").joinpath("page.css").read_text(encoding="utf-8")


def head() -> str:
    """The page's script."""
    return f"<script>{files('ui').joinpath('page.js').read_text(encoding='utf-8')}</script>"


def page(served: Served, collections: Collections) -> gr.Blocks:
    """The page over one collection."""
    with gr.Blocks(title=TITLE, fill_height=True, analytics_enabled=False) as blocks:
        header = gr.HTML(elem_classes="fn-header")

        def told(request: gr.Request) -> str:
            return _header(served, collections, request)

        top = Part(told, [], [header])
        with gr.Tabs():
            with gr.Tab("Ask", id="ask"):
                talking = chat.build(served)
            with gr.Tab("Documents", id="documents"):
                documents = shelf.build(served, beside=top)
            with gr.Tab("Quality", id="quality"):
                measured = quality.build(served.evaluations)
            with gr.Tab("Status", id="status"):
                status = state.build(served)
        conversations = history.build(served, talking)
        asked = Part(talking.refreshed, [], talking.outputs)
        for part in (top, asked, documents, measured, status, conversations):  # what was ingested meanwhile shows
            blocks.load(*part, **QUIET)
    return blocks


def _header(served: Served, collections: Collections, request: gr.Request) -> str:
    found = [document for document in served.catalog.documents(served.collection) if document.status == "indexed"]
    passages = sum(document.chunks for document in found)
    about = f"{counted(len(found), 'document')}, {counted(passages, 'passage')} in"
    name, told = f'<span class="fn-name">{TITLE}</span>', f'<span class="fn-about">{safe(about)}</span>'
    return f'<div class="fn-bar">{name}{told}{_choice(served, collections, request)}{_who(served, request)}</div>'


def _choice(served: Served, collections: Collections, request: gr.Request) -> str:
    """The collections to choose from; each has a page of its own, and its address is the value."""
    here, first = served.collection, collections.first.collection
    up = "./" if here == first else "../../"
    rows = [(name, up if name == first else f"{up}{below(name)}/") for name in collections.names()]
    options = [
        f'<option value="{safe(at)}"{" selected" if name == here else ""}>{safe(name)}</option>' for name, at in rows
    ]
    if is_editor(request):
        options.append(f'<option value="{NEW}" data-up="{up}">New collection …</option>')
        if here != first:
            options.append(f'<option value="{DELETE}" data-up="{up}">Delete this collection …</option>')
    return f'<select id="fn-collection" aria-label="Collection">{"".join(options)}</select>'


def _who(served: Served, request: gr.Request) -> str:
    """Who is signed in, and the way out."""
    if not served.settings.auth:
        return ""
    name = identity_of(request.request).name
    return f'<span class="fn-who">{safe(name)} · <a href="/signout">Sign out</a></span>'
