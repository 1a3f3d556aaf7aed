"""What the parts of the page have in common: how their events are carried out, and what brings one up to date.

Knows nothing about what a part shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr

from ui.server.access import identity_of

QUIET: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Events that are done at once. They stay out of the queue: its stream to the browser is closed after the last event
of the queue, and Gradio's client does not open it again for a question that is asked in that moment."""


class Part(NamedTuple):
    """What brings a part of the page up to date, as Gradio's events take it."""

    refresh: Callable[..., Any]
    inputs: Sequence[Any]
    outputs: Sequence[Any]


def is_editor(request: gr.Request) -> bool:
    """Whether whoever is at the page may change what there is."""
    return identity_of(request.request).role == "editor"


def check_editor(request: gr.Request) -> None:
    """Hiding a button keeps nobody out. Raises gr.Error."""
    if not is_editor(request):
        raise gr.Error("This needs an editor.", print_exception=False)
