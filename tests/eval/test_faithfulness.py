"""The checker against people's labels: what counts, what stays in the denominator, and who has learned from what."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.claim_sets import checker_for, held_out, read_sets
from eval.gate import gate
from eval.measure import measure_faithfulness
from eval.report import markdown, page, report
from eval.run import Finished, read_run
from rag.errors import EvalError, LLMError
from rag.settings import Settings
from rag.verify import Verdict
from rag.windows import Passage
from tests.conftest import WordChecker
from ui import terminal
from ui.cli import main

RENT = "The rent is 900 euros a month. It is due on the first."
NASTY = "<script>document.title='owned'</script>"


class Checker(WordChecker):
    """Remembers what it was asked; may have learned from sets, break on a word, and not be able to tell of another."""

    def __init__(self, trained_on: tuple[str, ...] = (), breaks_on: str = "Crash", untold: str = "Hello") -> None:
        self.trained_on, self._breaks_on, self._untold = trained_on, breaks_on, untold
        self.calls: list[tuple[list[str], str, str]] = []

    def check(self, claims: Sequence[str], passages: Sequence[Passage], question: str = "") -> list[Verdict]:
        self.calls.append((list(claims), passages[0].text, question))
        if any(self._breaks_on in claim for claim in claims):
            raise LLMError("the model\nran out of memory")
        found = super().check(claims, passages, question)
        untold = Verdict(0.0, (), ("a greeting claims nothing",), checkable=False)
        return [untold if self._untold in claim else each for claim, each in zip(claims, found, strict=True)]


def row(id_: str, claim: str, label: int, context: str = RENT, **more: Any) -> dict[str, Any]:
    return {"id": id_, "claim": claim, "label": label, "context": context, **more}


ROWS = [
    row("a", "The rent is 900 euros.", 1),
    row("b", "The rent is 90 roubles.", 0),
    row("c", "Lions roar at dawn.", 0),
    row("d", "It is due on the first.", 1),
]
Measure = Callable[..., Finished]


def written(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "claims.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return folder / name


@pytest.fixture
def measure(settings: Settings, tmp_path: Path) -> Measure:
    def measured(
        sets: dict[str, list[dict[str, Any]]], checker: Checker | None = None, name: str = "run", **options: Any
    ) -> Finished:
        paths = [written(tmp_path, each, rows) for each, rows in sets.items()]
        used = checker or Checker()
        return measure_faithfulness(settings, paths, lambda _: None, name=name, open_=lambda _: used, **options)

    return measured


def test_figures_of_a_set_are_those_of_its_scores(measure: Measure) -> None:
    run = measure({"leases": ROWS})
    found = run.summary["sets"]["leases"]
    assert {name: found[name] for name in ("n", "supported", "failed", "abstained", "held_out")} == {
        "n": 4, "supported": 2, "failed": 0, "abstained": 0, "held_out": True,
    }  # fmt: skip
    values = {name: figure["value"] for name, figure in found["metrics"].items()}
    assert (values["auroc"], values["balanced_accuracy"]) == (1, 0.75)
    assert values["f1_unsupported"] == pytest.approx(2 / 3)
    scores = [record["score"] for record in run.records]
    assert scores == [1, 0.6, 0, 1]
    assert values["calibration_error"] == pytest.approx(0.6 / 4)
    assert found["claims_per_second"] > 0
    assert run.summary["metrics"] == found["metrics"]
    assert (run.summary["dataset"], run.summary["n"], run.summary["failed"]) == ("leases", 4, 0)
    assert [record["outcome"] for record in run.records] == [
        "rightly supported", "wrongly supported", "rightly unsupported", "rightly supported",
    ]  # fmt: skip


def test_failures_stay_in_the_denominator_as_the_worst(measure: Measure) -> None:
    rows = [*ROWS, row("e", "Crash is due.", 1), row("f", "Crash of 900 euros.", 0)]
    run = measure({"leases": rows})
    found = run.summary["sets"]["leases"]
    assert (found["n"], found["failed"], run.summary["failed"]) == (6, 2, 2)
    assert [record["score"] for record in run.records[4:]] == [0, 1]
    assert found["metrics"]["auroc"]["value"] == pytest.approx(5.5 / 9)
    assert run.summary["failures"][0] == {"id": "e", "system": "checker", "reason": "the model ran out of memory"}
    assert [record["covered"] for record in run.records] == [True] * 4 + [False] * 2
    assert run.summary["correct"]["value"] == pytest.approx(3 / 6)
    assert "failed: claim e: the model ran out of memory" in terminal.faithfulness(run.summary)


def test_claims_that_cannot_be_told_lie_in_the_middle_and_are_counted(measure: Measure) -> None:
    run = measure({"leases": [*ROWS, row("e", "Hello.", 0)]})
    assert run.summary["sets"]["leases"]["abstained"] == 1
    assert (run.records[4]["score"], run.records[4]["outcome"]) == (0.5, "abstained")
    assert run.records[4]["reasons"] == ["a greeting claims nothing"]
    assert "the checker could not tell: leases 1" in terminal.faithfulness(run.summary)


def test_the_best_context_of_a_group_counts(measure: Measure) -> None:
    rows = [
        row("a", "The rent is 900 euros.", 0, "Ships sail.", group="g"),
        row("b", "The rent is 900 euros.", 1, RENT, group="g"),
        row("c", "Lions roar.", 0, "Ships sail.", group="h"),
        row("d", "Lions roar.", 0, RENT, group="h"),
        row("e", "Crash.", 1, RENT, group="i"),
        row("f", "Crash.", 0, RENT, group="i"),
    ]
    run = measure({"leases": rows})
    assert [(record["label"], record["score"]) for record in run.records] == [(1, 1), (0, 0), (1, 0)]
    assert run.records[0]["citation"]["context"] == 1
    assert run.records[0]["citation"]["quote"] == "The rent is 900 euros a month."
    found = run.summary["sets"]["leases"]
    assert (found["n"], found["supported"], found["failed"]) == (3, 2, 1)


def test_grounded_claims_have_a_row_and_stand_for_the_set_in_the_mean(measure: Measure) -> None:
    marked = [{**each, "grounded": each["id"] in "ac"} for each in ROWS]
    run = measure({"answers": marked, "leases": ROWS})
    assert list(run.summary["sets"]) == ["answers", "answers (grounded)", "leases"]
    found = run.summary["sets"]["answers (grounded)"]
    assert (found["n"], found["metrics"]["balanced_accuracy"]["value"]) == (2, 1)
    assert run.summary["mean_of"] == ["answers (grounded)", "leases"]
    assert run.summary["mean"]["balanced_accuracy"]["value"] == pytest.approx((1 + 0.75) / 2)
    assert run.summary["n"] == 8
    assert "the mean counts a set by its grounded claims" in terminal.faithfulness(run.summary)


def test_claims_with_the_same_context_are_checked_at_once(measure: Measure) -> None:
    checker = Checker()
    rows = [*ROWS[:2], row("e", "Yes.", 1, question="Is it?"), row("f", "It is.", 1, "It is.", question="Is it?")]
    measure({"leases": rows}, checker)
    assert checker.calls == [
        (["The rent is 900 euros.", "The rent is 90 roubles."], RENT, ""),
        (["Yes."], RENT, "Is it?"),
        (["It is."], "It is.", "Is it?"),
    ]


def test_where_a_set_was_learned_from_the_table_says_so_and_the_mean_leaves_it_out(measure: Measure) -> None:
    run = measure({"leases": ROWS, "boats": ROWS}, Checker(("boats",)))
    assert [found["held_out"] for found in run.summary["sets"].values()] == [True, False]
    assert run.summary["sets"]["boats"]["trained_on"] == ["boats"]
    assert run.summary["mean_of"] == ["leases"]
    assert "boats *" in terminal.faithfulness(run.summary)


def test_the_names_of_a_set_are_those_of_its_folder_its_rows_and_its_texts(tmp_path: Path) -> None:
    asked: list[str] = []

    def open_(name: str) -> Checker:
        asked.append(name)
        return Checker()

    paths = [
        written(tmp_path, "copy", [{**each, "set": "fever-symmetric-dev"} for each in ROWS]),
        written(tmp_path, "wice-claim-dev", ROWS),
        written(tmp_path, "other", ROWS) / "claims.jsonl",
        written(tmp_path, "begin-cmu-dev", ROWS),
    ]
    sets = read_sets(paths)
    assert [each.name for each in sets] == ["copy", "wice-claim-dev", "other", "begin-cmu-dev"]
    checkers = [checker_for(each, open_) for each in sets]
    assert asked == ["fever-symmetric-dev", "wice-oracle-dev", "other", "begin-cmu-dev"]
    assert [held_out(*pair) for pair in zip(sets, checkers, strict=True)] == [True, True, True, False]
    learned = Checker(("wice-oracle-dev", "fever-symmetric-dev"))
    assert [held_out(each, learned) for each in sets] == [False, False, True, False]


def test_a_limit_takes_whole_claims_of_every_set(tmp_path: Path) -> None:
    rows = [row(f"{n}{part}", f"Claim {n}.", 0, part, group=str(n)) for n in range(10) for part in "xyz"]
    (claims,) = read_sets([written(tmp_path, "groups", rows)], 4)
    assert [case.id for case in claims.cases] == ["0x", "2x", "5x", "7x"]
    assert {len(case.rows) for case in claims.cases} == {3}


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "bad", [ROWS[0], {**ROWS[1], "label": 2}])
    with pytest.raises(EvalError, match=r"claims.jsonl:2: field label: .* correct the row"):
        read_sets([path])
    one, other = (written(folder, "same", ROWS) for folder in (tmp_path, tmp_path / "bad"))
    with pytest.raises(EvalError, match="two sets are named 'same'"):
        read_sets([one, other])


def test_a_run_repeats_and_goes_on_within_a_batch(measure: Measure, settings: Settings) -> None:
    sets = {"leases": ROWS, "boats": [*ROWS, row("e", "Crash.", 0)]}
    first, second = (measure(sets, name=name).directory / "records.jsonl" for name in ("one", "two"))
    whole = first.read_bytes()
    assert second.read_bytes() == whole
    second.write_bytes(b"".join(whole.splitlines(keepends=True)[:6]))
    header = json.loads((second.parent / "run.json").read_text())
    summary = header.pop("summary")
    (second.parent / "run.json").write_text(json.dumps(header))
    checker = Checker()
    again = measure(sets, checker, name="two")
    assert second.read_bytes() == whole
    assert again.summary["sets"]["boats"]["metrics"] == summary["sets"]["boats"]["metrics"]
    assert len(checker.calls[0][0]) == 5, "the batch that was cut is checked as it was the first time"


def test_sets_with_one_label_have_no_auroc_and_do_not_count_in_its_mean(measure: Measure) -> None:
    run = measure({"leases": ROWS, "zeros": [ROWS[1], ROWS[2]]})
    assert list(run.summary["sets"]["zeros"]["metrics"]) == ["f1_unsupported", "calibration_error"]
    assert run.summary["mean"]["auroc"]["value"] == run.summary["sets"]["leases"]["metrics"]["auroc"]["value"]
    assert page([run], report([run]))


def test_claims_about_one_text_have_an_interval_all_the_same(measure: Measure) -> None:
    few = measure({"leases": [{**each, "id": f"{each['id']}{n}"} for n in range(5) for each in ROWS]}, name="few")
    figure = few.summary["metrics"]["balanced_accuracy"]
    assert figure["low"] < figure["value"] < figure["high"]
    rows = [{**each, "id": f"{each['id']}{n}", "context": f"{RENT} {n}"} for n in range(20) for each in ROWS[:3]]
    many = measure({"leases": rows}, name="many")
    figure = many.summary["metrics"]["balanced_accuracy"]
    assert figure["low"] == figure["high"] == 0.75, "every context has the same claims"


def test_the_gate_compares_two_checkers_claim_by_claim(measure: Measure) -> None:
    rows = [{**each, "id": f"{each['id']}{n}"} for n in range(5) for each in ROWS]
    before, after = measure({"leases": rows}, name="before"), measure({"leases": rows}, Checker(untold="rent"), "after")
    found = gate(after, before, 0.01)
    assert (found["system"], found["metric"]) == ("checker", "correct")
    assert found["coverage"] == 0.5
    assert [each["metric"] for each in report([before, after])["differences"]] == ["correct"]
    assert "leases" in markdown(report([before, after]))


def test_the_page_shows_curves_and_every_claim_as_text(measure: Measure) -> None:
    rows = [*ROWS, row("e", f"{NASTY} roars.", 0, f"{NASTY} {RENT}", question=NASTY)]
    run = measure({"leases": rows, "boats": ROWS})
    html = page([run], report([run]))
    for shown in ("(ROC)", "Reliability", "wrongly supported", "some words are missing", "People: ", "leases: e"):
        assert shown in html
    assert html.count("<script>") == 1


def test_the_table_fits_a_terminal(measure: Measure) -> None:
    perfect = [each for each in ROWS if each["id"] != "b"]
    names = ("a-rather-long-name-of-a-set", "fever-symmetric-dev", "leases")
    run = measure({name: [{**each, "grounded": True} for each in perfect] for name in names}, Checker(("leases",)))
    summary = dict(run.summary)
    figure = {"auroc": {"value": 1.0, "low": 1.0, "high": 1.0}}
    plain = dict.fromkeys(("content-word recall", "rouge-l", "embedding cosine", "maxsim"), figure["auroc"])
    for found in summary["sets"].values():
        found |= {"n": 10_000, "claims_per_second": 10_000.0}
        found["baselines"] = {name: {"auroc": value} for name, value in plain.items()}
    lines = terminal.faithfulness(summary).splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("AUROC") and "maxsim" in line for line in lines)


def test_the_command_names_what_is_wrong(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["eval", "faithfulness", "none.jsonl", "--home", str(settings.home)])
    assert ended.value.code == 1
    assert "none.jsonl cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_with_the_real_checker(
    real_settings: Settings, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared / "data" / "fever-symmetric-dev"
    arguments = ["eval", "faithfulness", str(path), "--limit", "60", "--baselines", "--home", str(real_settings.home)]
    records = []
    for name in ("one", "two"):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--run", name, "--json"])
        assert not ended.value.code
        found = json.loads(capsys.readouterr().out)
        records.append((read_run(name, real_settings).directory / "records.jsonl").read_bytes())
    assert records[0] == records[1]
    assert (found["n"], found["failed"], found["dataset"]) == (60, 0, "fever-symmetric-dev")
    assert found["metrics"]["auroc"]["value"] > 0.65
    figures = found["sets"]["fever-symmetric-dev"]
    assert figures["held_out"]
    assert "fever-symmetric-dev" not in figures["trained_on"]
    assert set(figures["baselines"]) == {"content-word recall", "rouge-l", "embedding cosine", "maxsim"}
    assert all(0.3 < each["auroc"]["value"] < 0.9 for each in figures["baselines"].values())
