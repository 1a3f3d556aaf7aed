"""The page of runs: its figures, that text stays text, and what a person sees and can do in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.report import markdown, page, report, write
from eval.run import Finished, Run, made_with, read_run
from eval.stats import mean, risk_coverage
from rag.errors import EvalError
from rag.settings import Settings
from ui.cli import main

NASTY = "<script>document.title='owned'</script><img src=x onerror=alert(1)>{{ 7*7 }}"
METRICS = ("correct", "f1")


def case(number: int, right: bool, failed: bool = False, text: str = "It ends on 31 May 2027.") -> dict[str, Any]:
    answer = {
        "text": text,
        "outcome": "correct" if right else "wrong",
        "confidence": 0.9 if right else 0.4,
        "sentences": [
            {"text": text, "support": 0.9, "citations": [{"doc": "lease.pdf", "page": 2, "quote": "31 May 2027"}]}
        ],
        "hits": [{"doc": "lease.pdf", "title": "Lease", "page": 2, "text": f"Passage {number}: it ends on 31 May."}],
    }
    return {
        "id": f"q{number}",
        "question": f"Question number {number} about {'leases' if number % 2 else 'boats'}?",
        "references": ["31 May"],
        "relevant": ["lease.pdf"],
        "answers": {"footnote": {"outcome": "failed"} if failed else answer},
        "scores": {"footnote": {name: float(right and not failed) for name in METRICS}},
        "failures": {"footnote": "the model ran out of memory"} if failed else {},
        "covered": not failed,
    }


def answered(settings: Settings, name: str, cases: list[dict[str, Any]], **more: Any) -> Finished:
    made = made_with(settings, dataset="leases", cases="0f", **more)
    run = Run.begin(settings.home / "runs" / name, "answers", made)
    for each in cases:
        run.add(each, {})
    scores = [each["scores"]["footnote"]["f1"] for each in cases]
    given = [each["answers"]["footnote"] for each in cases if not each["failures"]]
    curve = risk_coverage([a["confidence"] for a in given], [a["outcome"] == "correct" for a in given], len(cases))
    run.finish(
        {
            "dataset": "leases",
            "n": len(cases),
            "failed": sum(bool(each["failures"]) for each in cases),
            "main": {"system": "footnote", "metric": "correct"},
            "metrics": {
                "footnote": {
                    **{metric: {**mean(scores)._asdict(), "n": len(cases)} for metric in METRICS},
                    "answer_rate": {**mean([1.0] * len(cases))._asdict(), "n": len(cases)},
                }
            },
            "risk_coverage": {"footnote": curve._asdict()},
            "reliability": {"bins": [{"confidence": 0.9, "accuracy": 0.8, "n": 5}], "error": 0.1},
            "latency_ms": {"footnote": {"total": {"p50": 1200.5, "p95": 2000.0}}},
        }
    )
    return read_run(name, settings)


@pytest.fixture
def two(settings: Settings) -> list[Finished]:
    old = answered(settings, "before", [case(n, right=True) for n in range(12)], llm="small")
    new = [case(n, right=n > 7) for n in range(11)] + [case(11, right=False, failed=True)]
    return [old, answered(settings, "after", new, llm="smaller")]


def test_figures_and_differences(two: list[Finished]) -> None:
    record = report(two)
    assert [run["name"] for run in record["runs"]] == ["before", "after"]
    assert record["runs"][1]["failed"] == 1
    assert [(row["metric"], row["significant"]) for row in record["differences"]] == [("correct", True), ("f1", True)]
    assert record["differences"][0]["value"] == pytest.approx(-9 / 12)
    assert report(two[:1])["differences"] == []


def test_runs_over_other_cases_are_shown_but_not_compared(two: list[Finished], settings: Settings) -> None:
    other = answered(settings, "other", [case(99, right=True)])
    record = report([two[0], other])
    assert record["differences"] == []
    assert "different cases" in page([two[0], other], record)


def test_what_makes_no_report(two: list[Finished], settings: Settings) -> None:
    with pytest.raises(EvalError, match="'before' is given twice"):
        report([two[0], two[0]])
    Run.begin(settings.home / "runs" / "r", "retrieval", made_with(settings, dataset="d", cases="1")).finish({"n": 0})
    with pytest.raises(EvalError, match=r"measure different things: before \(answers\), r \(retrieval\)"):
        report([two[0], read_run("r", settings)])
    with pytest.raises(EvalError, match="at most 12"):
        report(two * 7)
    with pytest.raises(EvalError, match="choose another place with --out"):
        write("", settings.home / "no" / "such" / "folder.html")


def test_the_summary_for_a_pull_request(two: list[Finished]) -> None:
    lines = markdown(report(two)).splitlines()
    assert lines[0] == "**before**: leases, 12 cases, 0 failed"
    assert "| correct | 1.000 [1.000, 1.000] |" in lines
    assert any(line.startswith("- after against before, correct of footnote: -0.750 [") for line in lines)
    assert "No significant difference" not in markdown(report(two))
    assert "Significant" not in markdown(report(two[:1]))


def test_the_same_runs_give_the_same_page(two: list[Finished]) -> None:
    assert page(two, report(two)) == page(two, report(two))


def test_text_of_documents_and_models_stays_text(settings: Settings) -> None:
    bad = case(1, right=False, text=NASTY)
    bad["question"] = bad["references"][0] = bad["answers"]["footnote"]["hits"][0]["text"] = NASTY
    bad["relevant"] = [f'x" onclick="{NASTY}']
    run = answered(settings, "nasty", [bad])
    text = page([run], report([run]))
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert "49" not in text.split("Questions</h2>")[1].split("<script>")[0]


def test_the_page_refers_to_nothing_outside(two: list[Finished]) -> None:
    text = page(two, report(two))
    assert "default-src 'none'" in text
    for reference in ('src="http', "src='http", 'href="http', "@import", "url(http"):
        assert reference not in text


def test_the_command_writes_the_page_and_prints_the_summary(
    two: list[Finished], settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["eval", "report", "before", "after", "--out", str(out), "--home", str(settings.home), *extra])
        assert ended.value.code == 0
        printed = capsys.readouterr()
        assert f"wrote {out}" in printed.err
        assert out.read_text().startswith("<!doctype html>")
    assert json.loads(printed.out)["page"] == str(out)
    assert json.loads(printed.out)["differences"][0]["significant"]


@pytest.mark.slow
def test_a_person_reads_searches_and_opens(two: list[Finished], tmp_path: Path, browser: Any) -> None:
    write(page(two, report(two)), tmp_path / "report.html")
    view = browser.new_page(viewport={"width": 1000, "height": 900})
    problems: list[str] = []
    view.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    view.on("pageerror", lambda error: problems.append(str(error)))
    view.on("request", lambda request: problems.append(request.url) if not request.url.startswith("file:") else None)
    view.goto((tmp_path / "report.html").as_uri())
    assert view.title() == "Footnote evaluation: before, after"
    shown = view.locator("details.case:not([hidden])")
    assert (shown.count(), view.locator("#shown").text_content()) == (12, "12 of 12")
    assert view.locator("figure svg").count() == 3
    assert view.locator("figure svg").first.bounding_box()["width"] > 300
    assert view.get_by_text("worse", exact=True).count() == 2
    view.fill("#words", "boats 4:")
    assert shown.count() == 1
    shown.locator("summary").click()
    assert view.get_by_text("Passage 4: it ends on 31 May.").first.is_visible()
    view.fill("#words", "")
    view.get_by_label("runs differ").check()
    assert view.locator("#shown").text_content() == "9 of 12"
    view.get_by_label("failed", exact=True).check()
    assert shown.count() == 1
    view.fill("#words", "no such words")
    assert view.get_by_text("No question fits.").is_visible()
    for width in (400, 1000):
        view.set_viewport_size({"width": width, "height": 900})
        assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert problems == []
    view.close()
