"""The page's look at the machine: what is up, what is loaded, what `footnote doctor` found."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Sequence
from typing import Any

import gradio as gr

from rag.errors import FootnoteError
from ui.doctor import Check, examine
from ui.parts import QUIET, Part, check_editor, is_editor
from ui.records import counted
from ui.render import safe
from ui.server.served import Served


def build(served: Served) -> Part:
    """The part, in the place where this is called."""
    gr.HTML('<h2 class="fn-title">Status</h2>')
    now = gr.HTML(elem_id="fn-state")
    look = gr.Button("Look for what is missing", size="sm", elem_id="fn-doctor", visible=not served.settings.auth)
    checks = gr.HTML(elem_id="fn-checks")

    def seen(request: gr.Request) -> tuple[str, dict[str, Any]]:
        return _now(served), gr.update(visible=is_editor(request))

    def doctor(request: gr.Request) -> str:
        check_editor(request)
        return _checks(examine(served.settings))

    part = Part(seen, [], [now, look])
    look.click(doctor, None, checks, show_progress="minimal", api_visibility="private", queue=False)
    gr.Timer(5.0).tick(*part, **QUIET)
    return part


def _now(served: Served) -> str:
    missing = served.rag.missing
    rows = [
        ("Version", importlib.metadata.version("footnote")),
        ("Index", _index(served)),
        ("Models", f"loading {' and '.join(missing)}" if missing else "loaded"),
        ("Language model", "" if "the language model" in missing else served.rag.llm.name),
        ("Waiting questions", f"{served.answers.waiting:,}"),
        ("Jobs", f"{len(served.jobs.newest('running'))} running, {served.jobs.count('waiting'):,} waiting"),
        ("Free disk", f"{shutil.disk_usage(served.settings.home).free / 1e9:,.1f} GB"),
    ]
    return _table([(name, value) for name, value in rows if value])


def _index(served: Served) -> str:
    try:
        return f"up, {counted(served.rag.store.count(), 'passage')} in {served.collection}"
    except FootnoteError as error:
        return f"does not answer: {error}"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    told = "".join(f"<tr><th scope='row'>{safe(name)}</th><td>{safe(value)}</td></tr>" for name, value in rows)
    return f'<table class="fn-table fn-facts"><tbody>{told}</tbody></table>'


def _checks(found: Sequence[Check]) -> str:
    rows = "".join(
        f"<tr><td>{'ok' if check.ok else '<strong>missing</strong>'}</td><td>{safe(check.name)}</td>"
        f"<td>{safe(check.detail)}{f'<div class=fn-why>{safe(check.remedy)}</div>' if check.remedy else ''}</td></tr>"
        for check in found
    )
    return f'<table class="fn-table"><tbody>{rows}</tbody></table>'
