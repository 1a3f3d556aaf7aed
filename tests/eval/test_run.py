"""Runs on disk: what resumes, what is refused, and what a gate says of two of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.gate import gate
from eval.run import Finished, Run, made_with, name_of, read_run
from rag.errors import EvalError
from rag.settings import Settings


def made(settings: Settings, **more: Any) -> dict[str, Any]:
    return made_with(settings, dataset="leases", cases="0f", **more)


def record(id_: str, score: float = 1.0, covered: bool = True) -> dict[str, Any]:
    return {"id": id_, "scores": {"ours": {"f1": score, "em": 0.0}}, "covered": covered}


def finished(directory: Path, settings: Settings, scores: list[float], failed: int = 0, uncovered: int = 0) -> Finished:
    run = Run.begin(directory, "answers", made(settings), fresh=True)
    for number, score in enumerate(scores):
        run.add(record(f"q{number}", score, number >= uncovered), 1.5)
    run.finish({"n": len(scores), "failed": failed, "main": {"system": "ours", "metric": "f1"}})
    return read_run(str(directory), settings)


def test_what_was_kept_survives_and_half_a_line_does_not(settings: Settings, tmp_path: Path) -> None:
    run = Run.begin(tmp_path / "a", "answers", made(settings))
    run.add(record("q1"), 1.0)
    run.add(record("q2"), 2.0)
    with (tmp_path / "a" / "records.jsonl").open("a") as file:
        file.write('{"id": "q3"')
    again = Run.begin(tmp_path / "a", "answers", made(settings))
    assert [each["id"] for each in again.records] == ["q1", "q2"]
    assert again.timings == [1.0, 2.0]
    again.add(record("q3"), 3.0)
    rows = (tmp_path / "a" / "records.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == ["q1", "q2", "q3"]


def test_a_record_whose_timing_was_lost_is_made_again(settings: Settings, tmp_path: Path) -> None:
    run = Run.begin(tmp_path / "a", "answers", made(settings))
    run.add(record("q1"), 1.0)
    with (tmp_path / "a" / "records.jsonl").open("a") as file:
        file.write(json.dumps(record("q2")) + "\n")
    assert [each["id"] for each in Run.begin(tmp_path / "a", "answers", made(settings)).records] == ["q1"]


def test_a_run_with_other_settings_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    Run.begin(tmp_path / "a", "answers", made(settings)).add(record("q1"), 1.0)
    other = made(settings.model_copy(update={"passages": 9}))
    with pytest.raises(EvalError, match=r"passages 4, now 9.*--fresh"):
        Run.begin(tmp_path / "a", "answers", other)
    assert len(Run.begin(tmp_path / "a", "answers", made(settings)).records) == 1
    assert not Run.begin(tmp_path / "a", "answers", other, fresh=True).records


def test_where_things_are_makes_no_other_run(settings: Settings, tmp_path: Path) -> None:
    Run.begin(tmp_path / "a", "answers", made(settings)).add(record("q1"), 1.0)
    elsewhere = settings.model_copy(update={"cache": tmp_path / "cache", "threads": 1, "port": 99})
    assert len(Run.begin(tmp_path / "a", "answers", made(elsewhere)).records) == 1
    assert "llm_api_key" not in json.dumps(made(settings))


def test_a_finished_run_is_replaced_when_asked_only(settings: Settings, tmp_path: Path) -> None:
    finished(tmp_path / "a", settings, [1.0])
    with pytest.raises(EvalError, match="is finished"):
        Run.begin(tmp_path / "a", "answers", made(settings))
    assert Run.begin(tmp_path / "a", "answers", made(settings), again=True).records == []


def test_a_folder_of_something_else_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear Ms Adler")
    for flags in ({}, {"fresh": True}, {"again": True}):
        with pytest.raises(EvalError, match="holds other files"):
            Run.begin(tmp_path, "answers", made(settings), **flags)
    assert (tmp_path / "letter.txt").exists()


def test_runs_of_other_data_have_other_names(settings: Settings) -> None:
    assert name_of("answers", made(settings)).startswith("leases-answers-")
    assert name_of("answers", made(settings)) == name_of("answers", made(settings))
    assert name_of("answers", made(settings)) != name_of("answers", made(settings, limit=3))


@pytest.mark.parametrize("content", ["", "[]", '{"kind": "answers"}', "\x00"])
def test_a_damaged_run_is_named(settings: Settings, tmp_path: Path, content: str) -> None:
    finished(tmp_path / "a", settings, [1.0])
    (tmp_path / "a" / "run.json").write_text(content)
    with pytest.raises(EvalError, match=r"run\.json is damaged"):
        read_run(str(tmp_path / "a"), settings)


def test_runs_that_cannot_be_read(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(EvalError, match="none yet"):
        read_run("scifact", settings)
    finished(settings.home / "runs" / "leases", settings, [1.0, 0.5])
    assert read_run("leases", settings).records[1]["scores"]["ours"]["f1"] == 0.5
    with pytest.raises(EvalError, match="one of: leases"):
        read_run("scifact", settings)
    Run.begin(tmp_path / "half", "answers", made(settings))
    with pytest.raises(EvalError, match="not finished"):
        read_run(str(tmp_path / "half"), settings)
    (settings.home / "runs" / "leases" / "records.jsonl").write_text("")
    with pytest.raises(EvalError, match="0 records, its summary says 2"):
        read_run("leases", settings)


def test_the_gate_holds_where_nothing_changed_or_got_better(settings: Settings, tmp_path: Path) -> None:
    old = finished(tmp_path / "old", settings, [0.5] * 40)
    same, better = finished(tmp_path / "same", settings, [0.5] * 40), finished(tmp_path / "new", settings, [0.9] * 40)
    assert gate(same, old, 0.01)["holds"]
    found = gate(better, old, 0.01)
    assert found["holds"]
    assert found["difference"]["value"] == pytest.approx(0.4)


def test_the_gate_falls_on_a_drop_that_is_no_accident(settings: Settings, tmp_path: Path) -> None:
    old = finished(tmp_path / "old", settings, [1.0] * 40)
    worse = finished(tmp_path / "new", settings, [0.0] * 10 + [1.0] * 30)
    assert gate(worse, old, 0.01)["reasons"] == ["f1 of ours dropped by 0.2500 (p 0.0021), 0.01 is allowed"]
    assert gate(worse, old, 0.3)["holds"]
    one = finished(tmp_path / "one", settings, [0.0] + [1.0] * 39)
    assert gate(one, old, 0.01)["holds"], "one case of forty may be an accident"
    assert gate(worse, old, 0.01, metric="em")["holds"]


def test_the_gate_falls_on_failures_and_on_too_few_results(settings: Settings, tmp_path: Path) -> None:
    old = finished(tmp_path / "old", settings, [1.0] * 10)
    assert gate(finished(tmp_path / "a", settings, [1.0] * 10, failed=1), old, 0.01)["reasons"] == [
        "1 of 10 cases failed"
    ]
    few = finished(tmp_path / "b", settings, [1.0] * 10, uncovered=4)
    assert gate(few, old, 0.01)["holds"]
    assert gate(few, old, 0.01, min_coverage=0.8)["reasons"] == [
        "60.0% of the cases have a result, 80.0% are asked for"
    ]


def test_what_cannot_be_compared(settings: Settings, tmp_path: Path) -> None:
    old = finished(tmp_path / "old", settings, [1.0] * 10)
    with pytest.raises(EvalError, match="not over the same cases"):
        gate(finished(tmp_path / "new", settings, [1.0] * 9), old, 0.01)
    with pytest.raises(EvalError, match=r"no 'mrr' of 'ours'; it has ours, each with f1, em"):
        gate(old, old, 0.01, metric="mrr")


def test_how_a_server_is_run_makes_no_other_run(settings: Settings) -> None:
    served = settings.model_copy(
        update={"auth": True, "log_format": "json", "answer_cache": 0, "otlp_endpoint": "http://x"}
    )
    assert made(served) == made(settings)
    assert made(settings.model_copy(update={"passages": 3})) != made(settings)
