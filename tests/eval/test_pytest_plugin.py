"""The fixture and marker that people use in their own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from eval.pytest_plugin import Evaluation
from eval.run import Finished, Run, made_with, read_run
from rag.settings import Settings

TESTS = """
import pytest

@pytest.mark.footnote_eval(passages=3)
def test_found(footnote_eval):
    assert footnote_eval.settings.passages == 3
    run = footnote_eval.retrieval("leases", name="now")
    assert run.summary["systems"]["hybrid+rerank"]["hit@1"]["value"] == 1.0
    assert footnote_eval.gate(run, baseline=run.directory)["difference"]["value"] == 0

def test_worse(footnote_eval):
    run = footnote_eval.retrieval("leases", name="short", limit=1)
    footnote_eval.gate(run, baseline="short", min_coverage=1.1)

def test_other():
    pass
"""


def kept(settings: Settings, name: str, scores: list[float]) -> Finished:
    run = Run.begin(settings.home / "runs" / name, "answers", made_with(settings, dataset="leases", cases="0f"))
    for number, score in enumerate(scores):
        run.add({"id": f"q{number}", "scores": {"footnote": {"correct": score}}, "covered": True}, 1.5)
    run.finish({"n": len(scores), "failed": 0, "main": {"system": "footnote", "metric": "correct"}})
    return read_run(name, settings)


def test_a_test_fails_in_one_line_where_the_run_is_worse(settings: Settings) -> None:
    evaluation = Evaluation(settings)
    kept(settings, "before", [1.0] * 40)
    after = kept(settings, "after", [0.0] * 10 + [1.0] * 30)
    with pytest.raises(pytest.fail.Exception, match="after against before: correct of footnote dropped"):
        evaluation.gate(after, baseline="before")
    assert evaluation.gate(after, baseline="before", max_drop=0.3)["difference"]["value"] == -0.25


def test_pytest_finds_it(pytestconfig: pytest.Config) -> None:
    (entry,) = [each for each in entry_points(group="pytest11") if each.value == "eval.pytest_plugin"]
    assert pytestconfig.pluginmanager.has_plugin(entry.name)


def test_nothing_of_footnote_is_loaded_before_a_test_asks() -> None:
    code = (
        "import sys, eval.pytest_plugin; print(sorted({name.split('.')[0] for name in sys.modules} & {'rag', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_in_a_project_of_ones_own(real_settings: Settings, tmp_path: Path) -> None:
    data = tmp_path / "project" / "leases"
    data.mkdir(parents=True)
    (data / "corpus.jsonl").write_text(
        '{"_id": "a", "text": "The rent is 900 euros."}\n{"_id": "b", "text": "The ferry sails at noon."}\n'
    )
    (data / "queries.jsonl").write_text('{"_id": "q", "text": "How much is the rent?"}\n')
    (data / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")
    (data.parent / "test_quality.py").write_text(TESTS)

    def run(*arguments: str) -> str:
        environment = os.environ | {"FOOTNOTE_HOME": str(real_settings.home)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", *arguments]
        return subprocess.run(command, cwd=data.parent, env=environment, capture_output=True, text=True).stdout

    printed = run()
    assert "1 failed, 2 passed" in printed
    assert "short against short: 100.0% of the cases have a result, 110.0% are asked for" in printed
    assert "1 passed, 2 deselected" in run("-m", "not footnote_eval")
