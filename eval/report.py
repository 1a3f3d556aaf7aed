"""Finished runs -> one page with tables, plots and every question; the same as Markdown and as figures.

The page needs no network: styles, script and plots are in it. Knows nothing about how runs are made.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from eval import plots
from eval.faithfulness import KIND, curves
from eval.gate import SIGNIFICANT, compared, judged_by, same_cases
from eval.run import Finished, write_whole
from rag.errors import EvalError

FILES = ("html.j2", "css", "js")
MOST = 12
"""Runs on one page."""
SHOWN = 6_000
"""Characters of a passage on the page; the records have all."""


def report(runs: Sequence[Finished]) -> dict[str, Any]:
    """What the page says in numbers.

    Returns:
        `runs` (each with `name`, `kind`, `dataset`, `n`, `failed`, `main`, `figures`), and `differences`: every later
        run against the first one, for each system and score that both have, where their cases are the same.

    Raises:
        EvalError: the runs are of different kinds, two have the same name, or there are too many.
    """
    if len(runs) > MOST:
        raise EvalError(f"{len(runs)} runs are too many for one page; give at most {MOST}")
    if len({run.kind for run in runs}) > 1:
        kinds = ", ".join(f"{run.name} ({run.kind})" for run in runs)
        raise EvalError(f"the runs measure different things: {kinds}; make a report of each kind")
    names = [run.name for run in runs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise EvalError(f"run {sorted(twice)[0]!r} is given twice; give each once, or rename its directory")
    return {
        "runs": [
            {
                "name": run.name,
                "kind": run.kind,
                "dataset": run.summary["dataset"],
                "n": run.summary["n"],
                "failed": run.summary["failed"],
                "main": run.summary["main"],
                "figures": figures(run),
            }
            for run in runs
        ],
        "differences": [row for run in runs[1:] for row in _differences(run, runs[0])],
    }


def figures(run: Finished) -> Mapping[str, Mapping[str, Any]]:
    """System -> metric -> figure with its interval."""
    if run.kind == KIND:
        return _of_sets(run.summary)
    found: Mapping[str, Mapping[str, Any]] = run.summary.get("systems") or run.summary["metrics"]
    return found


def _of_sets(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of a run over labelled claims: those of each set, with the baselines' below the checker's."""
    main = summary["main"]
    whole = summary["mean"] if len(summary["mean_of"]) > 1 else {}
    sets = {
        name: each["metrics"] | {f"auroc, {baseline}": its["auroc"] for baseline, its in each["baselines"].items()}
        for name, each in summary["sets"].items()
    }
    return {**sets, **({"mean": whole} if whole else {}), main["system"]: {main["metric"]: summary[main["metric"]]}}


def _differences(run: Finished, baseline: Finished) -> Iterator[dict[str, Any]]:
    """Every score of a run against another's; nothing where the cases are not the same."""
    if not same_cases(run, baseline):
        return
    for system, metrics in figures(run).items():
        for metric in metrics:
            if not _both_scored(run, baseline, system, metric):
                continue
            found = compared(run, baseline, system, metric)
            yield {
                "run": run.name,
                "baseline": baseline.name,
                "system": system,
                "metric": metric,
                **found._asdict(),
                "significant": found.p < SIGNIFICANT,
            }


def _both_scored(run: Finished, baseline: Finished, system: str, metric: str) -> bool:
    """True where a case has this score in both, of the same judge; rates of a whole run are nobody's."""
    one, other = (
        {record["id"] for record in each.records if metric in record["scores"].get(system, {})}
        for each in (run, baseline)
    )
    return bool(one & other) and judged_by(run, system) == judged_by(baseline, system)


def markdown(record: Mapping[str, Any]) -> str:
    """The tables for a pull request."""
    lines = []
    for run in record["runs"]:
        systems = run["figures"]
        metrics = list(dict.fromkeys(metric for each in systems.values() for metric in each))
        lines += [
            f"**{run['name']}**: {run['dataset']}, {run['n']} cases, {run['failed']} failed",
            "",
            f"| | {' | '.join(systems)} |",
            f"|---|{'---|' * len(systems)}",
            *(
                f"| {metric} | {' | '.join(_figure(each.get(metric)) for each in systems.values())} |"
                for metric in metrics
            ),
            "",
        ]
    if changed := [row for row in record["differences"] if row["significant"]]:
        lines += ["Significant differences (p < .05):", ""]
        lines += [
            f"- {row['run']} against {row['baseline']}, {row['metric']} of {row['system']}: {row['value']:+.3f} "
            f"[{row['low']:+.3f}, {row['high']:+.3f}], p {row['p']:.4f}"
            for row in changed
        ]
    elif record["differences"]:
        lines.append("No significant difference (p < .05) between the runs.")
    return "\n".join(lines).strip()


def _figure(figure: Mapping[str, float] | None) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]" if figure else ""


def page(runs: Sequence[Finished], record: Mapping[str, Any]) -> str:
    """The page.

    Args:
        runs: what it shows in detail.
        record: their `report`.
    """
    from jinja2 import Environment, StrictUndefined

    template, style, script = (files("eval").joinpath(f"report.{end}").read_text("utf-8") for end in FILES)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    cases = _cases(runs)
    return environment.from_string(template).render(
        runs=record["runs"],
        differences=record["differences"],
        settings=_settings(runs),
        latency={run.name: _latency(run) for run in runs},
        plots=list(_plots(runs)),
        cases=cases,
        statuses=list(dict.fromkeys(status for case in cases for _, status in case["statuses"])),
        shown=SHOWN,
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write(text: str, path: Path) -> Path:
    """Put the page where it belongs; gives the path.

    Raises:
        EvalError: it cannot be written there.
    """
    try:
        write_whole(path, text)
    except OSError as error:
        raise EvalError(
            f"{path} cannot be written: {error.strerror or error}; choose another place with --out"
        ) from None
    return path


def _latency(run: Finished) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """System -> stage -> percentile -> milliseconds."""
    if "search_ms" in run.summary:
        return {run.summary["main"]["system"]: {"search": run.summary["search_ms"]}}
    found: Mapping[str, Mapping[str, Mapping[str, float]]] = run.summary.get("latency_ms", {})
    return found


def _plots(runs: Sequence[Finished]) -> Iterator[tuple[str, str]]:
    if runs[0].kind == KIND:
        yield from _plots_of_claims(runs)
        return
    metric = runs[0].summary["main"]["metric"]
    yield f"{metric} of every system", plots.intervals(metric, _rows(runs, metric))
    curves = {
        (f"{run.name}: {system}" if len(runs) > 1 else system): curve
        for run in runs
        for system, curve in run.summary.get("risk_coverage", {}).items()
        if curve["coverage"]
    }
    if curves:
        yield "Risk and coverage", plots.risk_coverage(curves)
    bins = {run.name: run.summary["reliability"]["bins"] for run in runs if "reliability" in run.summary}
    if any(bins.values()):
        yield "Reliability of the confidence", plots.reliability(bins)


def _rows(runs: Sequence[Finished], metric: str) -> dict[str, Mapping[str, float]]:
    """A metric of every system of every run."""
    return {
        (f"{run.name}: {system}" if len(runs) > 1 else system): metrics[metric]
        for run in runs
        for system, metrics in figures(run).items()
        if metric in metrics
    }


def _plots_of_claims(runs: Sequence[Finished]) -> Iterator[tuple[str, str]]:
    """AUROC of every set, and a line a set for each curve."""
    if rows := _rows(runs, "auroc"):
        yield "auroc of every set", plots.intervals("auroc", rows)
    rocs: dict[str, Any] = {}
    bins: dict[str, Any] = {}
    for run in runs:
        above = f"{run.name}: " if len(runs) > 1 else ""
        lines, reliable = curves(run.records)
        rocs |= {above + name: line for name, line in lines.items()}
        bins |= {above + name: each for name, each in reliable.items()}
    if rocs:
        yield "Supported claims recognised, over unsupported ones taken for supported (ROC)", plots.roc(rocs)
    yield "Reliability: how often claims of a score are supported", plots.reliability(bins, "score", "share supported")


def _settings(runs: Sequence[Finished]) -> list[tuple[str, list[str]]]:
    """What the runs were made with: a row a setting, those that differ first."""
    flat = [dict(_flat(run.made_with)) for run in runs]
    names = list(dict.fromkeys(name for each in flat for name in each))
    rows = [(name, [str(each.get(name, "")) for each in flat]) for name in names]
    return sorted(rows, key=lambda row: len(set(row[1])) == 1)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, part in value.items():
        if isinstance(part, Mapping):
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}".removeprefix("settings."), part


def _cases(runs: Sequence[Finished]) -> list[dict[str, Any]]:
    """Every question of the first run, with what each run made of it."""
    others = [{record["id"]: record for record in run.records} for run in runs]
    cases = []
    for record in runs[0].records:
        mine = [(run, each[record["id"]]) for run, each in zip(runs, others, strict=True) if record["id"] in each]
        cases.append(
            {
                "id": record["id"],
                "question": record.get("claim", record["question"]),
                "references": record.get("references"),
                "relevant": list(record["relevant"]),
                "statuses": [(run.name, _status(run, each)) for run, each in mine],
                "runs": [(run.name, each) for run, each in mine],
            }
        )
    return cases


def _status(run: Finished, record: Mapping[str, Any]) -> str:
    """One word for what became of a case."""
    system = run.summary["main"]["system"]
    if system in record["failures"]:
        return "failed"
    if "outcome" in record:
        return str(record["outcome"])
    if "answers" in record:
        return str(record["answers"][system]["outcome"])
    found = record["scores"][system]
    return "first" if found["hit@1"] else "found" if found["recall@10"] else "missed"
