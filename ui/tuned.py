"""Records of the tuned model -> text for a terminal. Knows nothing about flags or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from rag.finetune.runs import TuningRun
from ui.records import counted
from ui.terminal import harmless, interval, quoted, rendered

BY = {"alone": "what the models wrote", "shown": "what is shown of it, once passages and sentences were checked"}
EXAMPLES = {
    "gained": "right with the tuned model only",
    "wrong": "wrong with the tuned model",
    "declined_in_vain": "declined in vain by the tuned model",
}
PARTS = {"train": "to learn from:", "validation": "to measure on:"}
STAGES = {"first_token": "first token", "total": "answer"}
METRICS = (
    "correct", "contains", "f1", "em", "faithfulness", "answer_rate", "wrong_answer_rate", "declines", "over_refusal",
    "balanced_abstention", "context_recall", "held_contains", "held_over_refusal", "tokens", "oracle_correct",
    "oracle_contains", "oracle_f1", "oracle_em", "oracle_faithfulness", "oracle_over_refusal",
)  # fmt: skip


def compared(record: Mapping[str, Any]) -> str:
    """Base model and tuned model side by side, set after set.

    Args:
        record: `sets`: name -> summary.
    """
    return "\n\n".join("\n".join(_of_set(name, summary)) for name, summary in record["sets"].items())


def versions(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row a version; a star marks the one that answers."""
    table = Table(box=None, pad_edge=False)
    for name in ("", "version", "promoted", "method", "made from", "adapter"):
        table.add_column(name)
    for row in rows:
        shown = (row["version"], row["created"], row["method"], row["base"], row["sha256"][:12])
        table.add_row("*" if row["current"] else "", *(Text(harmless(str(each))) for each in shown))
    return rendered(table)


def data(record: Mapping[str, Any]) -> str:
    """What data to learn from was made of, a row a source."""
    table = Table(box=None, pad_edge=False)
    columns = ("documents", "held out", "sheets", "questions", "declined")
    table.add_column("source")
    for name in columns:
        table.add_column(name, justify="right")
    for each in record["sources"]:
        made = [each["train"][name] + each["validation"][name] for name in columns[2:]]
        shown = (each.get("documents", each.get("rows", 0)), len(each["held_out"]), *made)
        table.add_row(Text(harmless(each["name"])), *(f"{number:,}" for number in shown))
    sizes = (f"{record[part]['questions']:,} questions in {counted(record[part]['sheets'], 'sheet')}" for part in PARTS)
    return rendered(table) + "\n" + "; ".join(map(" ".join, zip(PARTS.values(), sizes, strict=True)))


def trained_record(run: TuningRun) -> dict[str, Any]:
    """A finished training in plain values; its history is in its `run.json`."""
    done = {name: value for name, value in run.header["finished"].items() if name != "history"}
    last = run.header["finished"]["history"][-1]
    return {
        "run": run.folder.name,
        "folder": str(run.folder),
        "base": run.header["base"],
        "plan": run.header["plan"],
        **done,
        "steps": last["step"],
        "tokens_per_second": last["tokens_per_second"],
    }


def trained(run: TuningRun) -> str:
    """A finished training in a few lines."""
    done, name = trained_record(run), harmless(run.folder.name)
    return (
        f"{name}: step {done['step']:,} of {done['steps']:,} did best, held-out loss {done['held_loss']:.3f}\n"
        f"compare it with what answers now: footnote finetune evaluate {name} SET"
    )


def averaged(record: Mapping[str, Any]) -> str:
    """What an average is made of, and what to do with it."""
    of = ", ".join(f"{each['version']}@{each['sha256'][:12]}" for each in record["averaged"])
    name = harmless(record["run"])
    return (
        f"{name}: the mean of {harmless(of)}; its rank leaves out {record['lost']:.1%} of it\n"
        f"compare it with what answers now: footnote finetune evaluate {name} SET"
    )


def promoted(record: Mapping[str, Any]) -> str:
    """Whether a model may answer from now on, and why not."""
    if record["holds"]:
        return f"{record['version']} answers from now on; `footnote finetune rollback` takes that back"
    return "\n".join((f"{harmless(record['run'])} is not promoted:", *(f"  {each}" for each in record["reasons"])))


def exported(record: Mapping[str, Any]) -> str:
    """What was written where."""
    files = (f"  {harmless(each['name'])}  {each['bytes']:,} bytes" for each in record["files"])
    return "\n".join((f"{record['format']} in {harmless(record['path'])}", *files))


def _of_set(name: str, summary: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{harmless(name)}: {counted(summary['documents'], 'document')}, {counted(summary['n'], 'question')}, "
        f"{summary['unanswerable']:,} without an answer; {summary['failed']:,} failed"
    )
    yield from (f"{model}: {harmless(called)}" for model, called in summary["models"].items())
    for by, label in BY.items():
        yield from ("", label, _table(summary, by))
    yield from ("", _declined(summary), "", *_speed(summary), *_examples(summary))
    for each in summary["failures"][:5]:
        yield f"failed: question {harmless(each['id'])}, {each['system']}: {harmless(each['reason'])}"


def _table(summary: Mapping[str, Any], by: str) -> str:
    """A row a metric: both models, and the difference between them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for name in ("base", "tuned", "tuned - base", "p", "n"):
        table.add_column(name, justify="right")
    base, tuned = (summary["metrics"][f"{model} {by}"] for model in ("base", "tuned"))
    for metric in (each for each in METRICS if each in base or each in tuned):
        shown = [interval(figures[metric]) if metric in figures else "-" for figures in (base, tuned)]
        found = summary["differences"][by].get(metric)
        difference = (interval(found, "+"), f"{found['p']:.4f}", f"{found['n']:,}") if found else ("-", "", "")
        table.add_row(metric.replace("_", " "), *shown, *difference)
    return rendered(table)


def _declined(summary: Mapping[str, Any]) -> str:
    """Who declined how often."""
    table = Table(box=None, pad_edge=False)
    table.add_column("declined by")
    models = summary["declined_by"]
    columns = [(model, condition) for model, found in models.items() for condition in found]
    for model, condition in columns:
        table.add_column(f"{model} {condition}", justify="right")
    for who in ("retrieval", "model", "checker"):
        table.add_row(who, *(f"{models[model][condition][who]:,}" for model, condition in columns))
    return rendered(table)


def _speed(summary: Mapping[str, Any]) -> Iterator[str]:
    """How long answers took, a line a model."""
    for model, times in summary["latency_ms"].items():
        if times:
            rate = summary["tokens_per_second"][model]
            took = "; ".join(f"{label} {_seconds(times[of])}" for of, label in STAGES.items())
            yield f"{model}: {took}" + (f"; {rate:.1f} tokens/s" if rate else "")


def _seconds(took: Mapping[str, float]) -> str:
    return ", ".join(f"{ms / 1000:.2f} s ({share})" for share, ms in took.items())


def _examples(summary: Mapping[str, Any]) -> Iterator[str]:
    for name, label in EXAMPLES.items():
        found = summary["examples"].get(name)
        if found:
            yield from ("", f"{label}:")
        for each in found or ():
            yield f"  {quoted(each['question'], 120)} ({quoted(' / '.join(each['references']), 80)})"
            yield from (f"    {model}: {quoted(each[model], 160) or '-'}" for model in ("base", "tuned"))
