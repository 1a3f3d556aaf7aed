"""What stricter settings would have made of a run: the same rules as the product's own, without another answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.answers import PRODUCT, evaluate, made_of
from eval.cases import Entry, QASet, Question
from eval.corpus import open_corpus
from eval.run import Finished, Run, read_run
from eval.strictness import MODES, THRESHOLDS, remaining, strictness
from rag.answer import Rag
from rag.errors import EvalError
from rag.settings import Settings
from tests.conftest import WordChecker, WordCountEmbedder
from tests.eval.test_answers import Scripted
from ui.cli import main

LEASE = "The flat costs 900 euros a month. It ends on 31 May 2027."
CORPUS = (Entry(_id="lease.md", title="Lease", text=LEASE),)
RENT = Question(id="q1", question="What costs the flat a month?", answers=("900 euros",), relevant=("lease.md",))
END = Question(id="q2", question="When does it end?", answers=("31 May 2027",), relevant=("lease.md",))
PERU = Question(id="q3", question="What is the capital of Peru?", answerable=False)
BROKEN = Question(id="q4", question="Is it broken?", answers=("no",))
HALF_TRUE = "Zebras juggle quartz at night. The flat costs 900 euros a month."
FIGURES = ("answer_rate", "wrong_answer_rate", "correct", "over_refusal")
REPLIES = {"flat": HALF_TRUE, "end": "It ends on 31 May 2027.", "Peru": "Lima costs euros a month.", "broken": "fails"}


def made(settings: Settings, name: str = "run", **changes: Any) -> Finished:
    chosen = settings.model_copy(update={"min_relevance": -1.0, **changes})
    embedder, data = WordCountEmbedder(), QASet("town", CORPUS, (RENT, END, PERU, BROKEN))
    store = open_corpus(chosen, embedder, CORPUS, lambda _: None)
    with Rag(chosen, embedder, store, Scripted(REPLIES), WordChecker()) as rag:
        run = Run.begin(settings.home / "runs" / name, "answers", made_of(rag, data, [PRODUCT]))
        evaluate(rag, data, run, [PRODUCT], lambda _: None)
    return read_run(str(run.directory), settings)


def row(record: dict[str, Any], mode: str, threshold: float) -> dict[str, float]:
    (found,) = (each for each in record["rows"] if (each["strictness"], each["min_support"]) == (mode, threshold))
    return {name: found[name]["value"] for name in FIGURES}


def test_every_mode_at_every_threshold_with_failures_in_the_denominator(settings: Settings) -> None:
    record = strictness(made(settings))
    assert [(each["strictness"], each["min_support"]) for each in record["rows"]] == [
        (mode, threshold) for mode in MODES for threshold in THRESHOLDS
    ]
    assert (record["n"], record["failed"], record["unanswerable"]) == (4, 1, 1)
    assert row(record, "mark", 0.6) == {
        "answer_rate": 0.75,
        "wrong_answer_rate": 0.5,
        "correct": 0.5,
        "over_refusal": 0,
    }
    strict = row(record, "refuse", 0.9)
    assert strict.pop("over_refusal") == pytest.approx(1 / 3)
    assert strict == {"answer_rate": 0.25, "wrong_answer_rate": 0.25, "correct": 0.5}
    for each in record["rows"]:
        assert each["answer_rate"]["low"] <= each["answer_rate"]["value"] <= each["answer_rate"]["high"]


@pytest.mark.parametrize("mode", ["mark", "refuse"])
@pytest.mark.parametrize("threshold", [0.2, 0.6, 0.9])
def test_what_is_counted_is_what_the_product_would_have_said(settings: Settings, mode: str, threshold: float) -> None:
    as_asked = made(settings, "strict", strictness=mode, min_support=threshold)
    figures = {name: each["value"] for name, each in as_asked.summary["metrics"][PRODUCT].items()}
    counted = row(strictness(made(settings, "plain")), mode, threshold)
    assert counted == {name: figures[name] for name in counted}
    assert row(strictness(as_asked), mode, threshold) == counted, "declined answers keep what was written"


def test_the_threshold_of_the_run_has_a_row_of_its_own(settings: Settings) -> None:
    record = strictness(made(settings, min_support=0.47))
    thresholds = [each["min_support"] for each in record["rows"] if each["strictness"] == "mark"]
    assert thresholds == sorted({*THRESHOLDS, 0.47})
    unchecked = row(record, "refuse", 0)
    assert unchecked["answer_rate"] == 0.75, "without a check every answer stands"


def test_what_remains_of_an_answer() -> None:
    written = [
        {"text": "Is it dear?", "support": 0.0, "checkable": False},
        {"text": "It costs 900 euros.", "support": 0.7, "checkable": True},
        {"text": "Zebras juggle.", "support": 0.1, "checkable": True},
    ]
    assert remaining(written, "mark", 0.6) == "Is it dear? It costs 900 euros. Zebras juggle."
    assert remaining(written, "drop", 0.6) == "Is it dear? It costs 900 euros."
    assert remaining(written, "refuse", 0.6) == ""
    assert remaining(written, "mark", 0.8) == "", "nothing that it claims is supported"
    assert remaining(written[:1], "mark", 0.1) == ""
    assert remaining([], "mark", 0.1) == ""


def test_the_command_prints_a_table_and_draws(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(settings)
    drawn = tmp_path / "strictness.svg"
    main_(["eval", "strictness", "run", "--plot", str(drawn), "--home", str(settings.home)])
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "town: 4 questions, 1 without an answer; 1 failed"
    assert len(table) == 2 + len(MODES) * len(THRESHOLDS)
    assert [line.split()[3] for line in table if "(as run)" in line] == ["0.5"]
    text = drawn.read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert all(f"{mode}: answered wrongly" in text for mode in MODES)
    main_(["eval", "strictness", "run", "--json", "--home", str(settings.home)])
    assert json.loads(capsys.readouterr().out)["made_with"] == {"strictness": "mark", "min_support": 0.5}


def main_(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


def test_runs_that_cannot_be_used_are_named(settings: Settings) -> None:
    run = made(settings, "dropped", strictness="drop")
    with pytest.raises(EvalError, match="strictness drop"):
        strictness(run)
    old = [
        {**each, "answers": {PRODUCT: {"outcome": "correct", "text": "900 euros"}}} for each in made(settings).records
    ]
    with pytest.raises(EvalError, match="does not hold the support"):
        strictness(Finished(run.directory, "answers", run.made_with, run.summary, tuple(old)))
    with pytest.raises(EvalError, match="measured retrieval"):
        strictness(Finished(run.directory, "retrieval", run.made_with, run.summary, run.records))
