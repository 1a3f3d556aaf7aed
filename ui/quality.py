"""The page's part about quality: measure answers on a set or on feedback, watch that, open and compare reports.

Knows nothing about how answers are judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from rag.errors import FootnoteError
from ui.parts import QUIET, Part, check_editor, is_editor
from ui.progress import left
from ui.records import counted
from ui.render import safe
from ui.server.access import identity_of
from ui.server.evalsets import FEEDBACK, Known
from ui.server.evaluations import Evaluation, Evaluations
from ui.server.runlist import FIGURES, Figure
from ui.trust import METRICS, Agreement, Trust, trust

EVERY = 2.0
"""Seconds between two looks at what is going on."""
SHOWN = 100
"""Runs in the table; the API lists all."""
QUESTIONS = 50
"""How many are asked where nobody says otherwise: enough for a first impression, in minutes and not hours."""
ABOUT = """
<h2 class="fn-title">Quality</h2>
<div class="fn-about">Asks questions whose answers are known, and counts how often Footnote gets them right.
Other people's questions take turns with these.</div>"""
NO_SETS = (
    "There is nothing to measure with yet. Like or correct some answers under Ask, and measure with that feedback; "
    "or put a folder with corpus.jsonl and qa.jsonl into the folder sets of Footnote's home directory."
)
NO_RUNS = "Nothing has been measured yet. Choose a set and press Start; its figures and its report appear here."
HEADINGS = {
    "faithfulness": ("Faithful", "share of an answer's sentences that the checker finds in the passages"),
    "correctness": ("Correct", "share of the questions that were answered right, or rightly declined"),
    "contains": ("Contains", "share of the answers that hold the words of a reference"),
    "abstention": ("Declined", "share of the questions that were declined"),
}
AGREEMENT = {
    "auroc": ("AUROC", "how often a supported claim scores above an unsupported one; 0.5 is chance"),
    "balanced_accuracy": ("Balanced", "mean share of supported and of unsupported claims that are told right"),
    "f1_unsupported": ("F1 unsupported", "how well unsupported claims are found"),
    "calibration_error": ("Calibration error", "how far scores are from shares of supported claims; lower is better"),
}
TRUSTED = """
<p>“Faithful” is what Footnote's checker says, and the checker errs. “Correct” and “Contains” compare words with the
reference answers, so a right answer in other words counts as wrong. The brackets hold the 95 % interval: where those of
two runs overlap, compare the runs before you call one better.</p>
<p>How far the checker agrees with people:</p>"""

Seen = tuple[tuple[str, ...], tuple[Known, ...]]
"""Which runs and sets the page knows of."""


def build(evaluations: Evaluations) -> Part:
    """The part, in the place where this is called."""
    page = _Page(evaluations)
    known = gr.State(((), ()))
    gr.HTML(ABOUT)
    with gr.Column(elem_id="fn-measure") as starting:
        with gr.Row(equal_height=True):
            set_ = gr.Dropdown([], label="Set", elem_id="fn-set", min_width=200, scale=2)
            limit = gr.Number(QUESTIONS, label="Questions at most", precision=0, minimum=1, min_width=140)
            start = gr.Button("Start", variant="primary", size="sm", min_width=100, elem_id="fn-start-evaluation")
            stop = gr.Button("Stop", size="sm", min_width=80, elem_id="fn-stop-evaluation")
        path = gr.Textbox(
            "",
            label="Or the path of a set on this machine",
            placeholder="/home/me/sets/leases, or a file like qa.jsonl about your own documents",
            max_length=4096,
            visible=evaluations.sets.local,
            elem_id="fn-set-path",
        )
    live = gr.HTML(elem_id="fn-evaluation")
    runs = gr.HTML(elem_id="fn-runs")
    with gr.Row(equal_height=True):
        chosen = gr.Dropdown(
            [], value=[], multiselect=True, max_choices=2, label="Open a report, or compare two", elem_id="fn-chosen"
        )
        links = gr.HTML(elem_id="fn-report")
    trusted = gr.HTML(elem_id="fn-trusted")
    inputs, outputs = [known, set_], [live, runs, starting, set_, chosen, known]
    gr.Timer(EVERY).tick(page.seen, inputs, outputs, **QUIET)
    start.click(page.started, [*inputs, path, limit], outputs, **QUIET)
    stop.click(page.stopped, inputs, outputs, **QUIET)
    chosen.change(page.linked, chosen, links, **QUIET)
    return Part(page.loaded, inputs, [*outputs, trusted])


class _Page:
    """What the part shows, and does."""

    def __init__(self, evaluations: Evaluations) -> None:
        self._evaluations = evaluations

    def loaded(self, request: gr.Request, known: Seen, set_: str | None) -> tuple[Any, ...]:
        """What changes while somebody looks on, and what does not."""
        return *self.seen(request, known, set_), disclosure(trust(self._evaluations))

    def seen(self, request: gr.Request, known: Seen, set_: str | None) -> tuple[Any, ...]:
        """What is going on, and the runs; lists to choose from only where they are others than before."""
        listed, sets = self._evaluations.listed(), self._evaluations.sets.listed()
        finished = [each for each in listed if each.state == "finished"]
        now: Seen = (tuple(each.id for each in finished), tuple(sets))
        return (
            going_on(listed),
            table(listed, bool(sets)),
            gr.update(visible=is_editor(request)),
            gr.skip() if now[1] == known[1] else _sets(sets, set_),
            gr.skip() if now[0] == known[0] else gr.update(choices=[(each.id, each.id) for each in finished]),
            now,
        )

    def started(self, request: gr.Request, known: Seen, set_: str | None, path: str, limit: float | None) -> Any:
        """Begin to measure."""
        check_editor(request)
        wanted = int(limit) if limit and limit >= 1 else None
        try:
            place = self._place(request, path.strip()) if path.strip() else set_
            if not place:
                raise gr.Error("Choose a set first.", print_exception=False)
            self._evaluations.start(place, wanted, identity_of(request.request).name)
        except FootnoteError as error:
            raise _told(error) from error
        return self.seen(request, known, set_)

    def stopped(self, request: gr.Request, known: Seen, set_: str | None) -> Any:
        """End what goes on."""
        check_editor(request)
        try:
            if (running := self._evaluations.going_on()) is not None:
                self._evaluations.stop(running.id)
        except FootnoteError as error:
            raise _told(error) from error
        return self.seen(request, known, set_)

    def linked(self, chosen: Sequence[str]) -> str:
        """Where the report of one run is, or of two, the older one first."""
        known = {each.id: each for each in self._evaluations.listed() if each.state == "finished"}
        runs = sorted((known[id_] for id_ in chosen[:2] if id_ in known), key=lambda run: run.changed)
        if not runs:
            return ""
        if len({run.kind for run in runs}) > 1:
            return '<div class="fn-empty">These two measure different things and cannot be compared.</div>'
        label = "Open the report" if len(runs) == 1 else "Compare the two"
        return _link(report_at(*(run.id for run in runs[::-1])), label)

    def _place(self, request: gr.Request, path: str) -> Path:
        client = request.request.client
        return self._evaluations.sets.place(path, client.host if client else "")


def report_at(id_: str, against: str = "") -> str:
    """The address of a report, seen from the page."""
    compared = f"?against={quote(against, safe='')}" if against else ""
    return f"api/v1/evaluations/{quote(id_, safe='')}/report{compared}"


def going_on(listed: Sequence[Evaluation]) -> str:
    """The evaluation that runs, or why the last one failed."""
    first = next((each for each in listed if each.state == "running"), None)
    if first is not None:
        return f'<div class="fn-job" role="status">{_running(first)}</div>'
    failed = [each for each in listed[:1] if each.state == "failed"]
    return "".join(f'<div class="fn-job fn-problem" role="alert">{safe(each.error)}</div>' for each in failed)


def _running(run: Evaluation) -> str:
    of = run.questions or 0
    share = run.done / of if of else 0.0
    failed = f"{counted(run.failed, 'question')} failed" if run.failed else ""
    told = ", ".join(filter(None, [run.stage, left(run.eta), failed]))
    bar = f'<progress max="1" value="{share:.3f}" aria-label="Measuring"></progress>'
    return (
        f"Measuring with {safe(_short(run.set))}: {run.done:,} of {of:,} questions {bar} "
        f'<span class="fn-about">{safe(told)}</span>'
    )


def table(listed: Sequence[Evaluation], sets: bool) -> str:
    """A row a run, the newest first; where there is none, what to do first."""
    if not listed:
        return f'<div class="fn-empty">{safe(NO_RUNS if sets else NO_SETS)}</div>'
    rows = "".join(map(_row, listed[:SHOWN]))
    more = f"<p class='fn-about'>{len(listed) - SHOWN:,} older ones; the API lists them</p>"
    return (
        f'<table class="fn-table"><thead><tr><th>Run</th><th>When</th><th>Questions</th>{_head(HEADINGS)}</tr></thead>'
        f"<tbody>{rows}</tbody></table>{more if len(listed) > SHOWN else ''}"
    )


def _head(headings: Mapping[str, tuple[str, str]]) -> str:
    return "".join(
        f'<th class="fn-figure" title="{safe(about)}">{safe(name)}</th>' for name, about in headings.values()
    )


def _row(run: Evaluation) -> str:
    finished = run.state == "finished"
    name = _link(report_at(run.id), run.id) if finished else safe(run.id)
    others = [f"{name} {_written(each)}" for name, each in run.figures.items() if name not in FIGURES]
    below = " · ".join([run.kind, _short(run.set), *others, *filter(None, [_unfinished(run)])])
    done = f"{run.done:,}" if finished else f"{run.done:,} of {run.questions:,}" if run.questions else f"{run.done:,}"
    figures = "".join(f'<td class="fn-figure">{_score(run.figures.get(name))}</td>' for name in HEADINGS)
    when = run.changed[:16].replace("T", " ")
    return (
        f'<tr class="{"fn-failed" if run.state == "failed" else ""}"><td>{name}<div class="fn-why">{safe(below)}</div>'
        f'</td><td title="UTC">{safe(when)}</td><td class="fn-figure">{done}</td>{figures}</tr>'
    )


def _unfinished(run: Evaluation) -> str:
    """What is to be done about a run that has no figures."""
    if run.state == "failed":
        return f"failed: {run.error}"
    if run.state == "unfinished":
        again = "start the same again" if run.started else "give the command that began it again"
        return f"unfinished: {again} to go on"
    return "running" if run.state == "running" else ""


def _score(figure: Figure | None) -> str:
    """A figure, from which it is one click to how far it can be trusted."""
    if figure is None:
        return ""
    return f'<a class="fn-score" href="#fn-agreement" title="How far can it be trusted?">{safe(_written(figure))}</a>'


def _written(figure: Figure, digits: int = 2) -> str:
    return f"{figure.value:.{digits}f} [{figure.low:.2f}, {figure.high:.2f}]"


def disclosure(found: Trust) -> str:
    """How far the figures can be trusted, closed."""
    rows = "".join(map(_agreement, found.rows))
    body = (
        f'<table class="fn-table"><thead><tr><th>Labelled claims</th><th>Claims</th>{_head(AGREEMENT)}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        if rows
        else ""
    )
    source = safe(found.source) + (f": {_link(report_at(found.run), found.run)}" if found.run else "")
    return (
        '<details id="fn-trust"><summary>How far can these figures be trusted?</summary>'
        f'<div id="fn-agreement">{TRUSTED}{body}<p class="fn-about">{source}</p></div></details>'
    )


def _agreement(row: Agreement) -> str:
    cells = (_written(row.figures[name], 3) if name in row.figures else "" for name in METRICS)
    claims = "" if row.claims is None else f"{row.claims:,}"
    figures = "".join(f'<td class="fn-figure">{safe(cell)}</td>' for cell in (claims, *cells))
    return f"<tr><td>{safe(row.name)}</td>{figures}</tr>"


def _sets(found: Sequence[Known], chosen: str | None) -> Mapping[str, Any]:
    """The sets to choose from, with how much each asks; what was chosen stays so."""
    choices = [(f"{each.name} ({counted(each.questions, _noun(each))})", each.name) for each in found]
    names = [each.name for each in found]
    value = chosen if chosen in names else next(iter(names), None)
    update: Mapping[str, Any] = gr.update(choices=choices, value=value)
    return update


def _noun(known: Known) -> str:
    return "verdict" if known.name == FEEDBACK else "question"


def _short(set_: str) -> str:
    return Path(set_).name or set_


def _link(at: str, label: str) -> str:
    """A link that opens beside the page."""
    return f'<a class="fn-save" href="{safe(at)}" target="_blank" rel="noopener">{safe(label)}</a>'


def _told(error: FootnoteError) -> gr.Error:
    """An error for the page, which shows it as HTML."""
    return gr.Error(safe(str(error)), print_exception=False)
