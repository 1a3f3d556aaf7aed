"""The comparison of two models and the list of versions, as a person reads them."""

from __future__ import annotations

from typing import Any

from tests.ui.test_terminal import ESCAPES, harmless
from ui import tuned

FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 40}
GAIN = {"value": 0.25, "low": 0.15, "high": 0.35, "p": 0.0002, "n": 38}


def record(text: str = "What costs the flat?", **changes: Any) -> dict[str, Any]:
    example = {"id": "q1", "question": text, "references": [text], "base": text, "tuned": ""}
    metrics = {"correct": FIGURE, "faithfulness": FIGURE, "balanced_abstention": FIGURE}
    counts = {"retrieval": 1, "model": 2, "checker": 30}
    summary = {
        "dataset": text,
        "models": {"base": text, "tuned": "small@1+v1@2"},
        "documents": 2,
        "n": 40,
        "unanswerable": 1,
        "failed": 1,
        "failures": [{"id": "q9", "system": "tuned removed", "reason": text}],
        "metrics": {f"{model} {by}": metrics for model in ("base", "tuned") for by in ("alone", "shown")},
        "differences": {"alone": {"correct": GAIN, "faithfulness": GAIN}, "shown": {"correct": GAIN}},
        "declined_by": {model: {"retrieved": counts, "removed": counts} for model in ("base", "tuned")},
        "latency_ms": {
            "base": {},
            "tuned": {"first_token": {"p50": 500, "p95": 900}, "total": {"p50": 2100, "p95": 4000}},
        },
        "tokens_per_second": {"base": None, "tuned": 51.4},
        "examples": {"gained": [example], "wrong": [], "declined_in_vain": [example]},
        **changes,
    }
    return {"run": "tuned", "sets": {"leases": summary}}


def row(shown: str, begins: str) -> list[str]:
    return next(line for line in shown.splitlines() if line.startswith(begins)).split("  ")


def test_both_models_stand_beside_each_other_with_the_difference() -> None:
    shown = tuned.compared(record())
    assert shown.startswith("leases: 2 documents, 40 questions, 1 without an answer; 1 failed\n")
    assert [cell.strip() for cell in row(shown, "correct") if cell] == [
        "correct",
        "0.500 [0.400, 0.600]",
        "0.500 [0.400, 0.600]",
        "+0.250 [+0.150, +0.350]",
        "0.0002",
        "38",
    ]
    assert shown.count("\ncorrect ") == 2, "what the models wrote, and what is shown"
    assert [cell.strip() for cell in row(shown, "balanced abstention") if cell][-1] == "-", "no difference is known"
    assert "tuned: first token 0.50 s (p50), 0.90 s (p95); answer 2.10 s (p50), 4.00 s (p95); 51.4 tokens/s" in shown
    assert "base: first token" not in shown
    assert row(shown, "checker")[-1].strip() == "30"


def test_examples_and_failures_are_shown_in_full() -> None:
    lines = tuned.compared(record()).splitlines()
    at = lines.index("right with the tuned model only:")
    assert lines[at + 1 : at + 4] == [
        "  What costs the flat? (What costs the flat?)",
        "    base: What costs the flat?",
        "    tuned: -",
    ]
    assert not [line for line in lines if line.startswith("wrong with")], "there is none"
    assert lines[-1] == "failed: question q9, tuned removed: What costs the flat?"


def test_every_set_has_its_tables() -> None:
    one = record()
    both = tuned.compared({"sets": {"leases": one["sets"]["leases"], "ferries": one["sets"]["leases"]}})
    assert both.count("declined by") == 2
    assert "\n\nferries: 2 documents" in both


def test_figures_that_there_are_not_leave_a_gap() -> None:
    bare = {f"{model} {by}": {} for model in ("base", "tuned") for by in ("alone", "shown")}
    bare["tuned shown"] = {"correct": FIGURE}
    shown = tuned.compared(record(metrics=bare, differences={"alone": {}, "shown": {}}, examples={}))
    assert [cell.strip() for cell in row(shown, "correct") if cell.strip()] == [
        "correct",
        "-",
        "0.500 [0.400, 0.600]",
        "-",
    ]


def test_no_text_commands_the_terminal() -> None:
    for escape in ESCAPES:
        assert harmless(tuned.compared(record(escape)))
        assert harmless(tuned.versions([version(escape)]))


def version(name: str, current: bool = False) -> dict[str, Any]:
    return {
        "version": name,
        "current": current,
        "created": "2026-11-23T11:50:09+00:00",
        "method": "lora",
        "base": name,
        "sha256": "a" * 64,
        "folder": "/home/ana/.footnote/models/v1",
    }


def test_a_star_marks_the_version_that_answers() -> None:
    empty = {"created": "", "method": "", "base": "", "sha256": "", "folder": ""}
    shown = tuned.versions([{"version": "none", "current": False, **empty}, version("v1", current=True)])
    heading, none, first = shown.splitlines()
    assert heading.split() == ["version", "promoted", "method", "made", "from", "adapter"]
    assert none.split() == ["none"]
    assert first.split() == ["*", "v1", "2026-11-23T11:50:09+00:00", "lora", "v1", "a" * 12]
