"""Tuning as a person does it, with real weights: data, training, evaluation, promotion, an answer, and back again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rag.adapters import SHIPPED_FOLDER
from rag.finetune.runs import read_run
from rag.settings import Settings
from tests.ui.test_sheets import corpus
from ui.cli import main

pytestmark = pytest.mark.slow


class Footnote:
    """The command line over one home."""

    def __init__(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings, self._capsys = settings, capsys

    def __call__(self, *words: str | Path, code: int = 0) -> dict[str, Any]:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main([*map(str, words), "--home", str(self.settings.home), "--json"])
        captured = self._capsys.readouterr()
        assert done.value.code == code, captured.out + captured.err
        found: dict[str, Any] = json.loads(captured.out)
        return found


@pytest.fixture
def footnote(real_settings: Settings, capsys: pytest.CaptureFixture[str]) -> Footnote:
    return Footnote(real_settings, capsys)


def judged_better(footnote: Footnote, run: str) -> None:
    """Stand in for an evaluation of hundreds of questions, which no test has the time for: good figures by hand."""
    kept = read_run(run, footnote.settings)
    record = kept.evaluation()
    better = {"mean": 0.2, "value": 0.2, "low": 0.1, "high": 0.3, "p": 0.001, "n": 200, "difference": 0.2}
    for summary in record["sets"].values():
        summary["n"], summary["failed"] = 200, 0
        for by in summary["differences"]:
            summary["differences"][by] = {
                name: dict(better)
                for name in ("faithfulness", "correct", "f1", "declines", "over_refusal", "balanced_abstention")
            }
    kept.evaluated(record)


def test_the_whole_way_and_back(footnote: Footnote, tmp_path: Path) -> None:
    data = corpus(tmp_path / "animals")
    made = footnote("finetune", "data", data, "--sheets", "10", "--held-out", "0.25")
    assert made["train"]["declined"] > 0
    trained = footnote("finetune", "train", "--run", "mine", "--epochs", "0.4", "--measure-every", "3")
    assert trained["steps"] >= 3
    assert (footnote.settings.home / "finetune" / "mine" / "report.html").read_text().count("<svg") == 1
    again = footnote("finetune", "train", "--run", "mine", code=1)
    assert "is finished" in again["error"]
    compared = footnote("finetune", "evaluate", "mine", data, "--limit", "3", "--no-oracle")
    assert compared["sets"]["animals"]["n"] == 3
    refused = footnote("finetune", "promote", "mine", code=3)
    assert not refused["holds"]
    assert refused["reasons"]
    assert [each["version"] for each in footnote("finetune", "list")["versions"] if each["current"]] == ["shipped"]
    judged_better(footnote, "mine")
    assert footnote("finetune", "promote", "mine")["version"] == "v1"
    notes = tmp_path / "whales.md"
    notes.write_text("# Whales\n\nThe blue whale eats four tons of krill a day.\n")
    footnote("ingest", notes)
    assert "+v1@" in footnote("ask", "How much krill does the blue whale eat a day?")["model"]
    assert footnote("finetune", "rollback")["current"] == "shipped"
    answer = footnote("ask", "How much krill does the blue whale eat a day?")
    assert "+shipped@" in answer["model"]
    assert "four tons" in answer["answer"]


def test_what_cannot_be_trained_says_so_in_a_line(footnote: Footnote, tmp_path: Path) -> None:
    assert "footnote finetune data" in footnote("finetune", "train", tmp_path, code=1)["error"]
    assert "no training 'absent'" in footnote("finetune", "evaluate", "absent", tmp_path, code=1)["error"]
    assert "there is no version 'v7'" in footnote("finetune", "use", "v7", code=1)["error"]
    assert "shipped is a version already" in footnote("finetune", "promote", "shipped", code=1)["error"]
    assert "no version answered before" in footnote("finetune", "rollback", code=1)["error"]
    assert "torch sees no CUDA" in footnote("finetune", "train", "--device", "cuda", code=1)["error"]


def test_the_adapter_that_ships_is_small_and_says_what_it_is() -> None:
    note = json.loads((SHIPPED_FOLDER / "footnote.json").read_text(encoding="utf-8"))
    assert (SHIPPED_FOLDER / "adapter_model.safetensors").stat().st_size <= 12 << 20
    assert note["data"]["train"]["declined"] > 0
    assert (SHIPPED_FOLDER / "README.md").read_text(encoding="utf-8").count("xquad-en")
