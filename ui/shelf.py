"""The documents' part of the page: bring some in, see what becomes of them, find, retry and remove them.

Files go to the API by a script of the page; what is shown is made here. Knows nothing about how files are read.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import gradio as gr

from ingest.catalog import Catalog
from ingest.progress import InHand, Progress
from ingest.writer import IN_HAND
from rag.types import Document
from ui.parts import QUIET, Part, check_editor, is_editor
from ui.records import counted
from ui.render import safe
from ui.server.access import identity_of
from ui.server.joblist import Job
from ui.server.served import Served

EVERY = 2.0
"""Seconds between two looks at what is going on."""
SHOWN = 200
"""Documents in the list; the search finds the others."""
SORTS = ("Name", "Size", "Pages", "Passages", "Failed first")
OUTCOMES = ("indexed", "unchanged", "removed", "failed")
DROP = """
<div id="fn-drop" role="button" tabindex="0" aria-describedby="fn-drop-about">
  <strong>Drop files or folders here</strong>
  <span id="fn-drop-about">or press to choose files; <a href="#" id="fn-choose-folder">choose a folder</a></span>
  <input id="fn-files" type="file" multiple hidden><input id="fn-folder" type="file" webkitdirectory hidden>
  <div id="fn-upload" role="status" aria-live="polite"></div>
</div>"""


class Seen(NamedTuple):
    """What becomes of the part: what goes on and what there is, and what only editors have."""

    jobs: str
    totals: str
    rows: str
    bring: dict[str, Any]
    retry: dict[str, Any]
    stop: dict[str, Any]


def build(served: Served, beside: Part | None = None) -> Part:
    """The part, in the place where this is called.

    Args:
        served: what it shows.
        beside: what else is brought up to date when documents have come or gone.
    """
    shelf = _Shelf(served)
    editors: Any = {"visible": not served.settings.auth}  # or as soon as it is known who is there
    with gr.Column(elem_id="fn-bring", **editors) as bring:
        gr.HTML(DROP)
    jobs = gr.HTML(elem_id="fn-jobs")
    with gr.Row(equal_height=True):
        words = gr.Textbox(
            "",
            placeholder="Find by name or title",
            show_label=False,
            label="Find documents",
            elem_id="fn-find-documents",
        )
        sort = gr.Dropdown(list(SORTS), value=SORTS[0], show_label=False, label="Sort", filterable=False, min_width=120)
        retry = gr.Button("Try failed ones again", size="sm", min_width=140, elem_id="fn-retry", **editors)
        stop = gr.Button("Stop", size="sm", min_width=80, elem_id="fn-stop", **editors)
    totals = gr.HTML(elem_id="fn-totals")
    rows = gr.HTML(elem_id="fn-documents-list")
    part = Part(shelf.seen, [words, sort], [jobs, totals, rows, bring, retry, stop])
    for event in (words.change, sort.change, gr.Timer(EVERY).tick):
        event(*part, **QUIET)
    stop.click(shelf.stopped, part.inputs, part.outputs, **QUIET)
    retry.click(shelf.retried, part.inputs, part.outputs, **QUIET)
    if beside:
        totals.change(*beside, **QUIET)
    return part


class _Shelf:
    """The documents of a collection, as whoever is at the page sees them."""

    def __init__(self, served: Served) -> None:
        self._served, self._catalog, self._collection = served, served.catalog, served.collection

    def seen(self, request: gr.Request, words: str, sort: str) -> Seen:
        """What there is, and what goes on."""
        found, editor = self.found(), is_editor(request)
        failed, busy = any(each.status == "failed" for each in found), bool(self._served.jobs.newest("running"))
        return Seen(
            _jobs(self._served),
            _totals(found, self._collection, editor),
            _rows(_sorted(_matching(found, words), sort), editor),
            gr.update(visible=editor),
            gr.update(visible=editor, interactive=failed),
            gr.update(visible=editor, interactive=busy),
        )

    def found(self) -> list[Document]:
        """The documents, without those that are being written or removed at this moment."""
        writing = self._served.desk.writing.locked()  # asked first: what is done then is not left out
        found = self._catalog.documents(self._collection)
        return [document for document in found if not (writing and document.reason in IN_HAND)]

    def stopped(self, request: gr.Request, words: str, sort: str) -> Seen:
        """With nothing going on."""
        check_editor(request)
        for job in self._served.jobs.newest("running"):
            self._served.jobs.stop(job.id)
        return self.seen(request, words, sort)

    def retried(self, request: gr.Request, words: str, sort: str) -> Seen:
        """With what failed under way once more."""
        check_editor(request)
        if failed := _failed_files(self._catalog, self._collection, {document.doc for document in self.found()}):
            self._served.jobs.ingest(failed, who=identity_of(request.request).name)
        return self.seen(request, words, sort)


def _failed_files(catalog: Catalog, collection: str, listed: Container[str]) -> list[Path]:
    """The files that failed, or hold a document that did, of those that are listed."""
    rows = {row.doc: row for row in catalog.rows(collection)}
    found: dict[Path, None] = {}
    for row in rows.values():
        if row.status == "failed" and row.doc in listed:
            while row.parent in rows:
                row = rows[row.parent]
            found[Path(row.doc)] = None
    return list(found)


def _matching(found: Sequence[Document], words: str) -> list[Document]:
    wanted = words.casefold().split()
    return [
        document for document in found if all(word in f"{document.doc} {document.title}".casefold() for word in wanted)
    ]


def _sorted(found: list[Document], sort: str) -> list[Document]:
    keys: dict[str, Any] = {
        "Name": lambda document: PurePath(document.doc).name.casefold(),
        "Size": lambda document: -document.size,
        "Pages": lambda document: -document.pages,
        "Passages": lambda document: -document.chunks,
        "Failed first": lambda document: (document.status != "failed", document.doc),
    }
    return sorted(found, key=keys.get(sort, keys["Name"]))


def _totals(found: Sequence[Document], collection: str, editor: bool) -> str:
    if not found:
        remedy = "Drop some above; they stay on this machine." if editor else "Editors bring them in."
        return f'<div class="fn-empty">There are no documents yet. {remedy}</div>'
    failed = sum(document.status == "failed" for document in found)
    told = [
        counted(len(found) - failed, "document"),
        counted(sum(document.chunks for document in found), "passage"),
        _size(sum(document.size for document in found)),
        *([f"{failed:,} failed"] if failed else []),
    ]
    who = "" if editor else "; editors bring documents in and take them out"
    return f'<div class="fn-about">{safe(", ".join(told))} in {safe(collection)}{who}</div>'


def _rows(found: Sequence[Document], editor: bool) -> str:
    if not found:
        return ""
    rows = "".join(_row(document, editor) for document in found[:SHOWN])
    more = f"<p class='fn-about'>{len(found) - SHOWN:,} more; find them by name</p>" if len(found) > SHOWN else ""
    head = "<tr><th>Document</th><th>State</th><th>Pages</th><th>Passages</th><th>Size</th><th></th></tr>"
    return f'<table class="fn-table"><thead>{head}</thead><tbody>{rows}</tbody></table>{more}'


def _row(document: Document, editor: bool) -> str:
    name = PurePath(document.doc).name
    failed = document.status == "failed"
    state = f"<strong>failed</strong> while {safe(_DOING.get(document.stage, document.stage))}" if failed else "ready"
    why = f'<div class="fn-why">{safe(document.reason)}</div>' if document.reason else ""
    button = (
        f'<button class="fn-remove" data-id="{safe(document.id)}" aria-label="Remove {safe(name)}">Remove</button>'
        if editor
        else ""
    )
    cells = (document.pages or "", f"{document.chunks:,}", _size(document.size))
    return (
        f'<tr class="{"fn-failed" if failed else ""}">'
        f'<td><span title="{safe(document.doc)}">{safe(name)}</span>{why}</td>'
        f"<td>{state}</td>{''.join(f'<td class=fn-figure>{cell}</td>' for cell in cells)}<td>{button}</td></tr>"
    )


_DOING = {"read": "reading", "parse": "parsing", "chunk": "cutting", "embed": "embedding", "store": "storing"}


def _jobs(served: Served) -> str:
    """What is going on, what waits, and how the last one ended."""
    running, waiting = served.jobs.newest("running"), served.jobs.newest("waiting")
    told = "".join(_running(job, served.jobs.progress(job.id)) for job in running)
    if waiting:
        told += f'<div class="fn-job">{counted(len(waiting), "job")} waiting</div>'
    last = next(iter(served.jobs.newest()), None)
    if not told and last is not None and last.over:
        told = _ended(last)
    return told


def _running(job: Job, progress: Progress | None) -> str:
    what = "Removing" if job.kind == "remove" else "Bringing in"
    if progress is None:
        return f'<div class="fn-job">{what} {counted(len(job.names), "document")} …</div>'
    share = progress.files / progress.of if progress.of else 0.0
    names = ", ".join(map(_in_hand, progress.in_hand[:3])) or progress.stage
    bar = f'<progress max="1" value="{share:.3f}" aria-label="{what}"></progress>'
    return (
        f'<div class="fn-job">{what}: {progress.files:,} of {progress.of:,} {bar} '
        f'<span class="fn-about">{safe(names)}</span></div>'
    )


def _in_hand(item: InHand) -> str:
    page = f", page {item.page:,} of {item.pages:,}" if item.pages else ""
    return f"{PurePath(item.doc).name}{page}"


def _ended(job: Job) -> str:
    if job.state == "failed":
        return f'<div class="fn-job fn-problem" role="alert">{safe(job.error)}</div>'
    files = (job.counts or {}).get("files", {})
    told = ", ".join(f"{files[name]:,} {name}" for name in OUTCOMES if files.get(name))
    return f'<div class="fn-job">Last job {safe(job.state)}{safe(": " + told) if told else ""}</div>'


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit != "MB" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
