"""What a person says of an answer at the page: a thumb up, or a thumb down with its reason.

Knows nothing about how answers are made, or how opinions are kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from ui.parts import QUIET
from ui.server.feedback import Reason, Verdict, given
from ui.server.served import Served, owner_of
from ui.talk import Talk

LIKED = ("Like", "Dislike")
"""The names for which Gradio draws thumbs."""
REASONS: tuple[Reason, ...] = ("wrong", "incomplete", "not in the documents", "other")


class _Said(NamedTuple):
    """What is said of an answer."""

    verdict: Verdict
    reason: Reason = ""
    correction: str = ""
    comment: str = ""


class _Form(NamedTuple):
    """The fields in which a thumb down is explained."""

    group: gr.Group
    about: gr.State
    """The id of the turn that it is about."""
    reason: gr.Radio
    correction: gr.Textbox
    comment: gr.Textbox


class _Filled(NamedTuple):
    """What an event makes of the form."""

    group: dict[str, Any]
    about: str = ""
    reason: Reason | None = None
    correction: str = ""
    comment: str = ""


def build(chat: gr.Chatbot, talk: gr.State, served: Served) -> None:
    """The form, in the place where this is called: a thumb up is taken in at once, a thumb down asks why."""
    about = gr.State("")
    with gr.Group(visible=False, elem_id="fn-opinion") as group:
        reason = gr.Radio(list(REASONS), label="What is bad about it?")
        correction = gr.Textbox("", label="What would have been right? (optional)", lines=2, max_lines=6)
        comment = gr.Textbox("", label="Anything else? (optional)", lines=1, max_lines=4)
        with gr.Row():
            send = gr.Button("Send", size="sm", variant="primary")
            close = gr.Button("Close", size="sm")
    form, opinions = list(_Form(group, about, reason, correction, comment)), _Opinions(served)
    chat.like(opinions.liked, talk, form, **QUIET)
    send.click(opinions.sent, [talk, about, reason, correction, comment], form, **QUIET)
    close.click(_closed, None, form, **QUIET)


class _Opinions:
    """Takes in what is said."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def liked(self, request: gr.Request, talk: Talk, data: gr.LikeData) -> _Filled:
        """A thumb was pressed, for the first time or once more, which takes it back."""
        exchange = talk.at(int(data.index if isinstance(data.index, int) else data.index[0]))
        if exchange is None or not exchange.turn:
            gr.Info("This answer is not whole, so there is nothing to say of it.")
            return _closed()
        if data.liked == "" or data.liked is None:
            return _closed()
        if data.liked is True or data.liked == LIKED[0]:
            self._add(request, talk, exchange.turn, _Said("up"))
            gr.Info("Noted: a good answer.")
            return _closed()
        self._add(request, talk, exchange.turn, _Said("down"))
        return _Filled(gr.update(visible=True), exchange.turn)

    def sent(
        self, request: gr.Request, talk: Talk, turn: str, reason: Reason | None, correction: str, comment: str
    ) -> _Filled:
        """Why it is bad."""
        self._add(request, talk, turn, _Said("down", reason or "", correction, comment))
        gr.Info("Noted. Thank you.")
        return _closed()

    def _add(self, request: gr.Request, talk: Talk, turn: str, said: _Said) -> None:
        owner = owner_of(request.request)
        kept = self._served.conversations.read(owner, talk.id)
        line = given(kept, turn, owner, said.verdict, said.correction, said.reason, said.comment) if kept else None
        if line is None:
            raise gr.Error("This answer is not kept any more.", print_exception=False)
        self._served.feedback.add(line)


def _closed() -> _Filled:
    """The form out of sight, and empty."""
    return _Filled(gr.update(visible=False))
