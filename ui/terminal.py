"""Records -> text for a terminal. Knows nothing about flags or JSON.

Text of documents may hold anything, so control characters (terminal escapes among them) are shown, never sent.
"""

from __future__ import annotations

import io
import json
import sys
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rag.types import Answer, Citation, Document, Event, Finished, Hit, Piece, Sentence
from ui.records import counted, left_out, place, why

if TYPE_CHECKING:
    from ui.doctor import Check

SENTENCES = {
    "supported": "sentences supported",
    "unsupported": "sentences not supported",
    "failed": "... of failed answers",
    "not_checkable": "... that claim nothing",
}

AGREEMENT = {
    "auroc": "AUROC",
    "balanced_accuracy": "balanced",
    "f1_unsupported": "F1 unsup.",
    "calibration_error": "calibration",
}
"""Metric -> the heading of its column."""


def harmless(text: str) -> str:
    """The text with control characters other than line breaks and tabs replaced by a visible mark."""
    return "".join(
        c if c in "\n\t" or c.isprintable() or unicodedata.category(c) == "Zs" else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def quoted(text: str, width: int = 220) -> str:
    """A text in one line, cut where it is longer."""
    return textwrap.shorten(harmless(text), width, placeholder=" …")


def hits(found: Sequence[Hit]) -> str:
    """Numbered passages with score and place."""
    if not found:
        return "nothing found"
    blocks = []
    for number, hit in enumerate(found, start=1):
        via = ", ".join(f"{via.system} #{via.rank}" if via.rank else via.system for via in hit.via)
        head = f"{number:>2}. {harmless(place(hit))}  [{hit.score:.3f}; {via}]"
        blocks.append(f"{head}\n{textwrap.indent(quoted(hit.chunk.with_header, 400), '    ')}")
    return "\n\n".join(blocks)


def stream_answer(events: Iterator[Event], out: Console | None = None) -> Answer:
    """Show an answer as it is written where stdout is a terminal, then its checked form."""
    console = out or Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)
    shown = ""
    for event in events:
        if isinstance(event, Piece) and console.is_terminal:
            piece = harmless(event.text)
            shown += piece
            console.print(piece, end="", style="dim")
        elif isinstance(event, Finished):
            if shown:
                console.print("\n")
            console.print(answer(event.answer))
            return event.answer
    raise AssertionError("an answer's events end with Finished")


def answer(record: Answer) -> str:
    """Sentences with footnote marks, then the footnotes."""
    lines = [_sentence(sentence, record.abstained) for sentence in record.sentences]
    notes = {c.number: c for sentence in record.sentences for c in sentence.citations}
    if notes:
        lines += ["", *(_note(notes[number]) for number in sorted(notes))]
    elif record.hits:
        lines += ["", "Closest passages:", *(f"  {harmless(place(hit))}" for hit in record.hits[:3])]
    if missing := left_out(record):
        lines += ["", f'{missing}; --json lists it under "dropped".']
    return "\n".join(lines)


def _sentence(sentence: Sentence, abstained: bool) -> str:
    marks = "".join(f"[{citation.number}]" for citation in sentence.citations)
    if sentence.unsupported and not abstained:
        marks = f"({harmless(why(sentence))})"
    return f"{harmless(sentence.text)} {marks}".rstrip()


def _note(citation: Citation) -> str:
    return f"[{citation.number}] {harmless(place(citation))}\n    “{quoted(citation.quote)}”"


def rendered(table: Table) -> str:
    """A table as plain text, as wide as it needs to be."""
    console = Console(file=io.StringIO(), width=200, highlight=False, emoji=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip().splitlines())  # type: ignore[attr-defined]


def documents(found: Sequence[Document], collection: str) -> str:
    """A row a document; the reason of those that failed or were read in part below them."""
    if not found:
        return f"no documents in collection {collection!r}; run `footnote ingest PATH`"
    table = Table(box=None, pad_edge=False)
    for name in ("status", "pages", "passages", "document"):
        table.add_column(name, justify="right" if name in ("pages", "passages") else "left", overflow="fold")
    for document in found:
        reason = (
            f"\n{document.stage + ': ' if document.stage else ''}{harmless(document.reason)}" if document.reason else ""
        )
        cell = Text(harmless(document.doc) + reason)
        table.add_row(document.status, str(document.pages), str(document.chunks), cell)
    return rendered(table)


def checks(found: Sequence[Check]) -> str:
    """A row a check; what mends it below those that did not hold."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in found:
        mark = "ok" if check.ok and not check.remedy else "note" if check.ok else "MISSING"
        remedy = f"\n→ {check.remedy}" if check.remedy else ""
        table.add_row(mark, check.name, Text(harmless(check.detail) + remedy))
    return rendered(table)


def ingested(record: dict[str, Any]) -> str:
    """What a run did, in one line; below it where to read about what failed."""
    files = ", ".join(f"{count:,} {name}" for name, count in record["files"].items() if count and name != "seen")
    line = (
        f"{counted(record['files']['seen'], 'file')}: {files or 'none'}; "
        f"{counted(record['chunks'], 'passage')} from {counted(record['pages'], 'page')} "
        f"in {record['seconds']:.1f} s "
        f"({record['chunks_per_second']:.0f} passages/s, peak memory {record['peak_rss_mb']:.0f} MB)"
    )
    return f"{line}\nwhat failed, and why: {record['quarantine']}" if record["quarantine"] else line


def retrieval(record: Mapping[str, Any]) -> str:
    """A row a system, a column a metric, each with its 95 % interval."""
    table = Table(box=None, pad_edge=False)
    table.add_column("system")
    metrics = list(next(iter(record["systems"].values()), {}))
    for metric in metrics:
        table.add_column(metric, justify="right")
    for system, values in record["systems"].items():
        table.add_row(system, *(interval(values[metric]) for metric in metrics))
    line = f"{record['dataset']}: {counted(record['documents'], 'document')}, {counted(record['n'], 'question')}"
    line += f" ({record['unjudged']:,} without a judgement left out)" if record["unjudged"] else ""
    times = record["search_ms"]
    took = f"; a search took {times['p50']} ms (p50), {times['p95']} ms (p95)" if times else ""
    return "\n".join([f"{line}; {record['failed']:,} failed{took}", rendered(table), *_failed(record)])


def conversations(record: Mapping[str, Any]) -> str:
    """A row a system and a kind of turn, a column a metric, and what it gains on the bare question."""
    table = Table(box=None, pad_edge=False)
    for name in ("turns", "searched for"):
        table.add_column(name)
    metrics = ("recall@1", "recall@5", "document@1")
    for metric in metrics:
        table.add_column(metric, justify="right")
    table.add_column("recall@5 gained", justify="right")
    for group, found in record["groups"].items():
        for system, figures in found["systems"].items():
            gain = figures["recall@5"]["gain"]
            gained = "" if system == "question" else f"{interval(gain, '+')} p {gain['p']:.4f}"
            shown = [interval(figures[metric]) for metric in metrics]
            table.add_row(f"{group} ({found['n']})", system, *shown, gained)
    line = f"{record['dataset']}: {counted(record['documents'], 'document')}, "
    line += f"{counted(record['conversations'], 'conversation')}, {counted(record['n'], 'turn')}"
    failed = [
        f"failed: {each['conversation']}, turn {each['turn']}: {each['reason']}" for each in record["failures"][:5]
    ]
    return "\n".join([f"{line}; {record['failed']:,} failed", rendered(table), *failed])


def answers(record: Mapping[str, Any]) -> str:
    """A row a metric, a column a system, each figure with its 95 % interval."""
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for system in record["metrics"]:
        table.add_column(system, justify="right")
    table.add_column("n", justify="right")
    for name in next(iter(record["metrics"].values())):
        figures = [metrics.get(name) for metrics in record["metrics"].values()]
        shown = [interval(figure) if figure else "" for figure in figures]
        table.add_row(name, *shown, str(max(figure["n"] for figure in figures if figure)))
    areas = [f"{curve['area']:.3f}" for curve in record["risk_coverage"].values()]
    table.add_row("risk-coverage area", *areas, "")
    line = f"{record['dataset']}: {counted(record['n'], 'question')}, {record['unanswerable']:,} without an answer"
    times = record["latency_ms"]["footnote"].get("total")
    took = f"; an answer took {times['p50'] / 1000:.1f} s (p50), {times['p95'] / 1000:.1f} s (p95)" if times else ""
    return "\n".join([f"{line}; {record['failed']:,} failed{took}", rendered(table), *_failed(record)])


def strictness(record: Mapping[str, Any]) -> str:
    """A row a strictness and threshold, a column a figure with its 95 % interval."""
    table = Table(box=None, pad_edge=False)
    for name in ("strictness", "min_support", "answered", "answered wrongly", "correct", "over-refusal"):
        table.add_column(name, justify="left" if name == "strictness" else "right")
    made = record["made_with"]
    for row in record["rows"]:
        now = " (as run)" if made == {name: row[name] for name in made} else ""
        names = ("answer_rate", "wrong_answer_rate", "correct", "over_refusal")
        figures = [interval(row[name]) if name in row else "" for name in names]
        table.add_row(row["strictness"] + now, f"{row['min_support']:g}", *figures)
    line = f"{record['dataset']}: {counted(record['n'], 'question')}, {record['unanswerable']:,} without an answer"
    return f"{line}; {record['failed']:,} failed\n{rendered(table)}"


def judged(record: Mapping[str, Any]) -> str:
    """A row a metric, a column a judge; what is supported and what is not, the worst answers, and disagreement."""
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for judge in record["judges"]:
        table.add_column(f"{judge['name']}, from {judge['threshold']:g}", justify="right")
    table.add_column("n", justify="right")
    for name in dict.fromkeys(name for metrics in record["metrics"].values() for name in metrics):
        figures = [metrics.get(name) for metrics in record["metrics"].values()]
        shown = [interval(figure) if figure else "" for figure in figures]
        table.add_row(name, *shown, f"{max(figure['n'] for figure in figures if figure):,}")
    for name, label in SENTENCES.items():
        table.add_row(label, *(f"{counts[name]:,}" for counts in record["sentences"].values()), "")
    line = f"{record['dataset']}: {counted(record['n'], 'answer')}: {record['judged']:,} judged, "
    line += f"{record['abstained']:,} abstained, {record['claims_nothing']:,} claimed nothing"
    times = record["latency_ms"][record["main"]["system"]].get("check")
    took = f"; an answer took {times['p50']:.0f} ms (p50), {times['p95']:.0f} ms (p95)" if times else ""
    return "\n".join(
        [
            f"{line}; {record['failed']:,} failed{took}",
            rendered(table),
            *_least(record),
            *_differ(record),
            *_lost(record),
        ]
    )


def _least(record: Mapping[str, Any]) -> list[str]:
    """The answers that keep least to their passages, a line each."""
    lines = [
        f"  answer {each['id']}: {each['supported']} of {counted(each['checkable'], 'sentence')} supported: "
        f"{quoted(each['question'], 100)}"
        for each in record["least_faithful"]
    ]
    return ["", "least faithful:", *lines] if lines else []


def _differ(record: Mapping[str, Any]) -> list[str]:
    """Where the judge and the local checker say different things, a line an example."""
    found = record.get("disagreement")
    if not found or not found["n"]:
        return []
    kappa = "no kappa: both say the same of all" if found["kappa"] is None else f"Cohen's kappa {found['kappa']:.2f}"
    name = record["main"]["system"]
    lines = [
        "",
        f"{name} and local differ on {interval(found['share'])} of {counted(found['n'], 'sentence')} ({kappa}): "
        f"{found['judge_only']:,} supported by {name} alone, {found['local_only']:,} by local alone",
    ]
    return lines + [
        f"  answer {each['id']}, sentence {each['sentence']}, {name} {each['judge']:.2f}, local {each['local']:.2f}: "
        f"{quoted(each['text'], 120)}"
        for each in found["examples"]
    ]


def _lost(record: Mapping[str, Any]) -> list[str]:
    """The first answers that failed, a line each; the judge is named where another one did not fail."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for each in record["failures"]:
        by_reason.setdefault((each["id"], each["reason"]), []).append(each["system"])
    lines = [
        f"  answer {id_}{'' if len(systems) == len(record['judges']) else ', ' + systems[0]}: {harmless(reason)}"
        for (id_, reason), systems in by_reason.items()
    ]
    return ["", "failed:", *lines[:5], *(["  ..."] if len(lines) > 5 else [])] if lines else []


def faithfulness(record: Mapping[str, Any]) -> str:
    """A row a set, a column a metric, each with its 95 % interval; below it the baselines."""
    table = Table(box=None, pad_edge=False)
    table.add_column("set", max_width=22, overflow="fold")
    for name in ("n", *AGREEMENT.values(), "/s"):
        table.add_column(name, justify="right")
    for name, found in record["sets"].items():
        shown = [_short(found["metrics"].get(metric)) for metric in AGREEMENT]
        marked = Text(harmless(name) + ("" if found["held_out"] else " *"))
        table.add_row(marked, str(found["n"]), *shown, f"{found['claims_per_second']:.0f}")
    if len(record["mean_of"]) > 1:
        table.add_row("mean", "", *(_short(record["mean"].get(metric)) for metric in AGREEMENT), "")
    line = f"{record['dataset']}: {counted(record['n'], 'claim')}, supported from {record['threshold']:g}"
    failed = [f"failed: claim {each['id']}: {harmless(each['reason'])}" for each in record["failures"][:5]]
    return "\n".join(
        [f"{line}; {record['failed']:,} failed", rendered(table), *_remarks(record), *_baselines(record), *failed]
    )


def _remarks(record: Mapping[str, Any]) -> list[str]:
    """What must be known beside the figures of sets, a line each."""
    sets = record["sets"].items()
    untold = ", ".join(f"{harmless(name)} {found['abstained']:,}" for name, found in sets if found["abstained"])
    grounded = any(f"{name} (grounded)" in record["mean_of"] for name in record["sets"])
    return [
        *(["* learned from; not in the mean"] * any(not found["held_out"] for _, found in sets)),
        *(["the mean counts a set by its grounded claims"] * (grounded and len(record["mean_of"]) > 1)),
        *([f"the checker could not tell: {untold}"] if untold else []),
    ]


def _baselines(record: Mapping[str, Any]) -> list[str]:
    """The AUROC of the checker and of what it has to beat, a row a set."""
    names = list(dict.fromkeys(name for found in record["sets"].values() for name in found["baselines"]))
    if not names:
        return []
    table = Table(box=None, pad_edge=False)
    table.add_column("AUROC", max_width=20, overflow="fold")
    for name in ("checker", *names):
        table.add_column(name, justify="right", max_width=14)
    for name, found in record["sets"].items():
        areas = [found["metrics"], *(found["baselines"].get(each, {}) for each in names)]
        table.add_row(Text(harmless(name)), *(_short(area.get("auroc")) for area in areas))
    return ["", rendered(table)]


def _short(figure: Mapping[str, float] | None) -> str:
    """A figure between 0 and 1 with its interval, in at most 14 columns."""
    if figure is None:
        return "-"
    low, high = (f"{figure[end]:.2f}".removeprefix("0") for end in ("low", "high"))
    value = f"{figure['value']:.3f}" if figure["value"] < 0.9995 else "1.00"
    return f"{value.removeprefix('0')} {low}-{high}"


def _failed(record: Mapping[str, Any]) -> list[str]:
    """The first failures, a line each."""
    return [f"failed: question {each['id']}, {each['system']}: {each['reason']}" for each in record["failures"][:5]]


def interval(figure: dict[str, float], sign: str = "") -> str:
    """A figure with its interval; with a sign where one is wanted."""
    return f"{figure['value']:{sign}.3f} [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"


def gate(record: dict[str, Any]) -> str:
    """Whether a gate holds, how large the difference is, and why it does not hold."""
    difference = record["difference"]
    lines = [
        f"{'holds' if record['holds'] else 'does not hold'}: {record['run']} against {record['baseline']}, "
        f"{counted(record['n'], 'case')}, {record['failed']:,} failed",
        f"{record['metric']} of {record['system']}: {interval(difference, '+')}, p {difference['p']:.4f}",
    ]
    return "\n".join([*lines, *(f"- {reason}" for reason in record["reasons"])])


def benchmark(record: dict[str, Any]) -> str:
    """Figures of a benchmark, one a line."""
    return "\n".join(f"{name:<26} {json.dumps(value, ensure_ascii=False)}" for name, value in record.items())
