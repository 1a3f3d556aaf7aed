"""The list of conversations at the side of the page: to find, open, name, take away and delete them."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from ui.chat import Chat, show
from ui.parts import QUIET, Part
from ui.render import safe
from ui.server.served import Served, owner_of
from ui.speed import tokens_a_second
from ui.talk import Talk

MOST = 200
"""Conversations in the list; older ones are found by their words."""
NOTHING = "No conversations yet. Each one is kept here, on this machine."


class Found(NamedTuple):
    """What becomes of the list."""

    listed: dict[str, Any]
    link: str
    """To the conversation that is open."""


def build(served: Served, chat: Chat) -> Part:
    """The list, in the place where this is called."""
    kept = _Kept(served)
    with gr.Sidebar(open=False, elem_id="fn-history", width=300):
        gr.HTML('<h2 class="fn-title">Conversations</h2>')
        words = gr.Textbox("", placeholder="Search", show_label=False, label="Search conversations", elem_id="fn-find")
        listed = gr.Radio([], show_label=False, label="Conversations", elem_id="fn-conversations")
        with gr.Accordion("This conversation", open=False):
            name = gr.Textbox("", label="Name", max_length=200, elem_id="fn-conversation-name")
            save = gr.HTML(elem_id="fn-export")
            delete = gr.Button("Delete", size="sm", variant="stop", elem_id="fn-delete-conversation")
    part = Part(kept.found, [words, chat.talk], [listed, save])
    words.change(*part, **QUIET)
    listed.input(kept.opened, [listed, chat.talk], [*chat.shown, name, save], **QUIET)
    name.submit(kept.renamed, [name, words, chat.talk], [listed, save], **QUIET)
    delete.click(kept.deleted, [words, chat.talk], [*chat.shown, listed, save, name], **QUIET)
    for event in chat.asked:
        event.then(*part, **QUIET)
    return part


class _Kept:
    """The conversations of whoever is at the page."""

    def __init__(self, served: Served) -> None:
        self._store, self._collection = served.conversations, served.collection
        self._speed = partial(tokens_a_second, served.rag)

    def found(self, request: gr.Request, words: str, talk: Talk) -> Found:
        """Those that have some words; the newest without any."""
        owner, store = owner_of(request.request), self._store
        rows = (
            store.search(owner, self._collection, words, limit=MOST)
            if words.strip()
            else store.recent(owner, self._collection, limit=MOST)
        )
        here = talk.id if talk.id in {row.id for row in rows} else None
        empty = "Nothing found." if words.strip() else NOTHING
        listed = gr.update(choices=[(row.name, row.id) for row in rows], value=here, info="" if rows else empty)
        return Found(listed, _link(talk.id))

    def opened(self, request: gr.Request, chosen: str | None, talk: Talk) -> tuple[Any, ...]:
        """The one that was chosen: an `Update` of the chat, its name, and the link to it."""
        if not chosen or chosen == talk.id:
            return (gr.skip(),) * 6
        kept = self._store.read(owner_of(request.request), chosen)
        if kept is None:
            gr.Info("This conversation is not kept any more.")
            return (gr.skip(),) * 6
        return (*show(Talk.of(kept, self._speed)), kept.name, _link(kept.id))

    def renamed(self, request: gr.Request, name: str, words: str, talk: Talk) -> Found:
        """Another name."""
        if talk.id:
            self._store.rename(owner_of(request.request), talk.id, name)
        return self.found(request, words, talk)

    def deleted(self, request: gr.Request, words: str, talk: Talk) -> tuple[Any, ...]:
        """Without the one that is open: an `Update` of the chat, the list, and no name."""
        if talk.id:
            self._store.delete(owner_of(request.request), talk.id)
        return (*show(Talk()), *self.found(request, words, Talk()), "")


def _link(conversation: str) -> str:
    """Where the browser gets it as Markdown."""
    if not conversation:
        return ""
    return f'<a class="fn-save" href="api/v1/conversations/{safe(conversation)}/markdown" download>Save as Markdown</a>'
