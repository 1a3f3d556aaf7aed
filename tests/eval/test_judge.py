"""Judging answers: what counts, what does not, what stays in the denominator, and how judges are compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.cases import Answered, Context
from eval.gate import gate
from eval.importers import AnswerSet, answers_of
from eval.judge import evaluate, made_of, share_of_all
from eval.judges import LOCAL, Judge, open_judges
from eval.measure import measure_judge
from eval.report import page, report
from eval.run import Run, made_with, read_run
from eval.stats import mean
from rag.errors import EvalError, LLMError, SettingsError
from rag.settings import Settings
from rag.verify import Support, Verdict
from rag.windows import Passage
from ui import terminal
from ui.cli import main

RENT = "The rent is 900 euros a month. It is due on the first."
NASTY = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


class WordChecker:
    """Supports a sentence by the share of its words in a passage; a question claims nothing. May break on a word."""

    def __init__(self, id_: str = "words-1", breaks_on: str = "", whole: bool = False) -> None:
        self.id, self._breaks_on, self._whole = id_, breaks_on, whole
        self.seen: list[str] = []

    def check(self, claims: Sequence[str], passages: Sequence[Passage], question: str = "") -> list[Verdict]:
        if self._breaks_on and any(self._breaks_on in claim for claim in claims):
            raise LLMError("the model\nran out of memory")
        self.seen += claims
        return [self._verdict(claim, passages) for claim in claims]

    def _verdict(self, claim: str, passages: Sequence[Passage]) -> Verdict:
        if claim.endswith("?"):
            return Verdict(0.9, reasons=("a question",), checkable=False)
        wanted = claim.strip(".").lower().split()
        shares = [sum(word in each.text.lower() for word in wanted) / len(wanted) for each in passages]
        best = max(range(len(shares)), key=shares.__getitem__)
        end = len(passages[best].text) if self._whole else passages[best].text.index(".") + 1
        reasons = () if shares[best] == 1 else ("words are missing",)
        return Verdict(shares[best], (Support(shares[best], best, 0, end),), reasons)


def answered(id_: str, text: str, *contexts: str, question: str = "What is the rent?") -> Answered:
    return Answered(id=id_, question=question, answer=text, contexts=tuple(Context(text=each) for each in contexts))


Judged = Callable[..., tuple[dict[str, Any], Run]]


@pytest.fixture
def judged(settings: Settings) -> Judged:
    def judge(
        answers: Sequence[Answered], judges: Sequence[Judge] = (), name: str = "run", dataset: str = "answers"
    ) -> tuple[dict[str, Any], Run]:
        asked = judges or (Judge(LOCAL, WordChecker(), 0.6),)
        data = AnswerSet(dataset, tuple(answers))
        run = Run.begin(settings.home / "runs" / name, "judge", made_of(settings, asked, data), fresh=True)
        return evaluate(asked, data, run, lambda _: None), run

    return judge


def test_each_sentence_has_its_support_place_and_reasons(judged: Judged) -> None:
    record, run = judged([answered("a", "The rent is 900 euros. Pets are allowed here.", "Ships sail.", RENT)])
    one, two = run.records[0]["answers"][LOCAL]["sentences"]
    assert (one["text"], one["support"], one["supported"]) == ("The rent is 900 euros.", 1.0, True)
    assert one["citation"] == {
        "context": 1,
        "doc": "",
        "page": None,
        "start": 0,
        "end": 30,
        "quote": "The rent is 900 euros a month.",
    }
    assert (two["supported"], two["citation"], two["reasons"]) == (False, None, ["words are missing"])
    assert run.records[0]["answers"][LOCAL]["outcome"] == "partly faithful"
    assert record["metrics"][LOCAL]["faithful_share"]["value"] == 0.5
    assert record["least_faithful"][0]["supported"] == 1


def test_questions_and_greetings_count_neither_way(judged: Judged) -> None:
    record, run = judged(
        [answered("a", "The rent is 900 euros. Shall I go on?", RENT), answered("b", "Shall I go on?", RENT)]
    )
    assert run.records[0]["answers"][LOCAL]["faithful_share"] == 1
    assert run.records[1]["answers"][LOCAL]["outcome"] == "claims nothing"
    assert (record["judged"], record["claims_nothing"], record["metrics"][LOCAL]["faithful_share"]["n"]) == (1, 1, 1)
    assert record["sentences"][LOCAL] == {"supported": 1, "unsupported": 0, "not_checkable": 2, "failed": 0}


def test_abstentions_count_neither_way_even_without_contexts(judged: Judged) -> None:
    record, _ = judged(
        [
            answered("a", "The rent is 900 euros.", RENT),
            answered("b", "The documents do not say. Please rephrase the question.", RENT),
            answered("c", "I don't know."),
        ]
    )
    assert (record["n"], record["judged"], record["abstained"], record["failed"]) == (3, 1, 2, 0)
    assert record["metrics"][LOCAL]["faithful_share"]["value"] == 1
    assert record["metrics"][LOCAL]["abstention_rate"]["value"] == pytest.approx(2 / 3)


def test_failures_stay_in_the_denominator_as_the_worst(judged: Judged) -> None:
    checker = Judge(LOCAL, WordChecker(breaks_on="Crash"), 0.6)
    record, run = judged(
        [
            answered("a", "The rent is 900 euros.", RENT),
            answered("b", "  ", RENT),
            answered("c", "The rent is 900 euros. It is due on the first.", "", " \n"),
            answered("d", "Crash.", RENT),
        ],
        [checker],
    )
    assert (record["failed"], record["judged"], record["n"]) == (3, 1, 4)
    assert [failure["reason"] for failure in record["failures"]] == [
        "the answer is empty",
        "no context holds any text, so nothing can support the answer",
        "the model ran out of memory",
    ]
    assert record["metrics"][LOCAL]["faithful_share"]["value"] == 0.25
    assert record["metrics"][LOCAL]["sentence_share"]["value"] == pytest.approx(1 / 5), "an empty answer counts as one"
    assert [each["covered"] for each in run.records] == [True, False, False, False]


def test_where_nothing_is_judged_there_is_no_share(judged: Judged, settings: Settings) -> None:
    record, _ = judged([answered("a", "I don't know.", RENT)])
    assert list(record["metrics"][LOCAL]) == ["abstention_rate"]
    run = read_run("run", settings)
    assert "I don&#39;t know." in page([run], report([run]))
    assert "1 abstained" in terminal.judged(record)


def test_footnote_marks_of_another_system_are_no_claims(judged: Judged) -> None:
    checker = WordChecker()
    _, run = judged(
        [answered("a", "The rent is 900 euros [1][2]. It is due on the first [3, 4].", RENT)],
        [Judge(LOCAL, checker, 0.6)],
    )
    assert checker.seen == ["The rent is 900 euros.", "It is due on the first."]
    assert run.records[0]["answers"][LOCAL]["sentences"][0]["text"] == "The rent is 900 euros [1][2]."


def test_the_share_of_sentences_is_resampled_by_answers() -> None:
    tallies = [(10, 10), (0, 10)] * 10
    whole, naive = share_of_all(tallies), mean([1.0] * 100 + [0.0] * 100)
    assert whole.value == naive.value == 0.5
    assert whole.high - whole.low > 2.5 * (naive.high - naive.low)
    assert share_of_all(tallies) == whole
    assert share_of_all([(1, 2)]) == (0.5, 0.5, 0.5)


def test_two_judges_are_compared_sentence_by_sentence(judged: Judged) -> None:
    strict = Judge("llm", WordChecker("strict", whole=True, breaks_on="Crash"), 0.95)
    texts = ("The rent is 900 euros.", "The rent is 900 euros a week.", "Lions roar at dawn.", "Crash is due.")
    rows = [answered(str(n), text, RENT) for n, text in enumerate(texts)]
    record, run = judged(rows, [strict, Judge(LOCAL, WordChecker(), 0.6)])
    found = record["disagreement"]
    assert (found["n"], found["judge_only"], found["local_only"]) == (3, 0, 1)
    assert found["share"]["value"] == pytest.approx(1 / 3)
    assert found["kappa"] == pytest.approx(0.4, abs=1e-4), "2 of 3 agree, 4 of 9 would by chance"
    assert [(each["id"], each["sentence"], each["text"]) for each in found["examples"]] == [("1", 1, texts[1])]
    assert record["main"]["system"] == "llm"
    assert (record["failed"], record["metrics"]["llm"]["faithful_share"]["n"]) == (1, 4)
    assert record["metrics"][LOCAL]["faithful_share"]["value"] == pytest.approx(3 / 4)
    cited = run.records[0]["answers"]["llm"]["sentences"][0]["citation"]
    assert cited["quote"] == "The rent is 900 euros a month.", "the place in it is the local checker's"
    shown = terminal.judged(record)
    assert "llm and local differ on 0.333" in shown
    assert "answer 1, sentence 1, llm 0.86, local 0.86" in shown
    assert "failed:\n  answer 3, llm: the model ran out of memory" in shown


def test_judges_that_always_agree_have_no_kappa(judged: Judged) -> None:
    rows = [answered("a", "The rent is 900 euros.", RENT)]
    record, _ = judged(rows, [Judge("llm", WordChecker("other"), 0.5), Judge(LOCAL, WordChecker(), 0.6)])
    assert (record["disagreement"]["kappa"], record["disagreement"]["share"]["value"]) == (None, 0)
    assert "no kappa" in terminal.judged(record)


def test_a_run_repeats_and_goes_on(judged: Judged, settings: Settings) -> None:
    rows = [answered(str(n), f"The rent is 90{n} euros. It is due on the first.", RENT) for n in range(6)]
    judged(rows, name="one")
    judged(rows, name="two")
    first, second = ((settings.home / "runs" / name / "records.jsonl").read_bytes() for name in ("one", "two"))
    assert first == second
    (settings.home / "runs" / "two" / "records.jsonl").write_bytes(b"".join(second.splitlines(keepends=True)[:2]))
    header = json.loads((settings.home / "runs" / "two" / "run.json").read_text())
    del header["summary"]
    (settings.home / "runs" / "two" / "run.json").write_text(json.dumps(header))
    asked, data, heard = (Judge(LOCAL, WordChecker(), 0.6),), AnswerSet("answers", tuple(rows)), []
    evaluate(
        asked, data, Run.begin(settings.home / "runs" / "two", "judge", made_of(settings, asked, data)), heard.append
    )
    assert (settings.home / "runs" / "two" / "records.jsonl").read_bytes() == first
    assert heard == ["going on after 2 of 6 answers"]


def test_two_systems_answers_to_the_same_questions_can_be_compared(judged: Judged, settings: Settings) -> None:
    good = [answered(str(n), "The rent is 900 euros.", RENT) for n in range(12)]
    bad = [answered(str(n), "Lions roar at dawn.", RENT) for n in range(12)]
    judged(good, name="before")
    judged(bad, name="after", dataset="others")
    after, before = (read_run(name, settings) for name in ("after", "before"))
    found = gate(after, before, 0.01)
    assert (found["metric"], found["difference"]["value"], found["holds"]) == ("faithful_share", -1.0, False)
    assert [row["metric"] for row in report([before, after])["differences"]] == ["faithful_share", "fully_faithful"]


def test_scores_of_different_judges_are_not_compared(judged: Judged, settings: Settings) -> None:
    rows = [answered("a", "The rent is 900 euros.", RENT)]
    judged(rows, name="one")
    judged(rows, [Judge(LOCAL, WordChecker("words-2"), 0.6)], name="two")
    one, two = (read_run(name, settings) for name in ("one", "two"))
    with pytest.raises(EvalError, match=r"local judged run 'two' as words-2, from 0.6, and run 'one' as words-1"):
        gate(two, one, 0.01)
    assert report([one, two])["differences"] == []


def test_runs_without_a_case_in_common_are_not_compared(judged: Judged, settings: Settings) -> None:
    judged([answered("a", "The rent is 900 euros.", RENT), answered("b", "I don't know.", RENT)], name="one")
    judged([answered("a", "I don't know.", RENT), answered("b", "The rent is 900 euros.", RENT)], name="two")
    one, two = (read_run(name, settings) for name in ("one", "two"))
    with pytest.raises(EvalError, match="no case has 'faithful_share' of 'local' in both"):
        gate(two, one, 0.01)
    assert report([one, two])["differences"] == []


def test_the_page_shows_sentences_and_text_stays_text(judged: Judged, settings: Settings) -> None:
    text = f"The rent is 900 euros. {NASTY} roars at dawn. Shall I go on?"
    judged([answered("a", text, RENT, NASTY + ".", question=NASTY), answered("b", "", RENT)])
    run = read_run("run", settings)
    html = page([run], report([run]))
    for shown in (
        "not supported",
        "1 of 2 sentences supported",
        "words are missing",
        "claims nothing",
        "partly faithful",
    ):
        assert shown in html
    assert "context 1:" in html
    assert "The answer is empty." in html
    assert html.count("<script>") == 1
    assert "<img" not in html


def test_the_command(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["none.jsonl"], "none.jsonl cannot be read"),
        ([str(tmp_path / "a.jsonl"), "--judge", "llm"], "--judge llm needs a language model on a server"),
        ([str(tmp_path / "a.jsonl"), "--judge", str(tmp_path / "none")], r"no weights at"),
    ):
        row = {"question": "?", "answer": "The rent is 900 euros.", "contexts": [RENT]}
        (tmp_path / "a.jsonl").write_text(json.dumps(row))
        with pytest.raises(SystemExit) as ended:
            main(["eval", "judge", *arguments, "--home", str(settings.home)])
        assert ended.value.code == 1
        assert message in capsys.readouterr().err


def test_answers_of_a_run_are_judged(settings: Settings) -> None:
    hit = {"doc": "lease.pdf", "title": "Lease", "page": 2, "text": RENT}
    run = Run.begin(settings.home / "runs" / "asked", "answers", made_with(settings, dataset="leases", cases="0f"))
    given = {"text": "The rent is 900 euros.", "outcome": "correct", "hits": [hit]}
    for id_, answers in (("q1", {"footnote": given}), ("q2", {"footnote": {"outcome": "failed"}})):
        run.add({"id": id_, "question": "What is the rent?", "answers": answers}, {})
    run.finish({"dataset": "leases", "n": 2})
    data = answers_of(read_run("asked", settings), "footnote")
    assert (data.name, [each.answer for each in data.answers]) == ("leases", ["The rent is 900 euros.", ""])
    assert data.answers[0].contexts == (Context(text=RENT, doc="lease.pdf", page=2),)
    with pytest.raises(EvalError, match="has no answers of 'oracle'; it has those of footnote"):
        answers_of(read_run("asked", settings), "oracle")


def test_only_answers_of_a_run_can_be_judged(judged: Judged, settings: Settings) -> None:
    judged([answered("a", "The rent is 900 euros.", RENT)])
    with pytest.raises(EvalError, match="run 'run' measured judge; only answers can be judged"):
        measure_judge(settings, Path("run"), lambda _: None)
    with pytest.raises(EvalError, match="no run"):
        measure_judge(settings, settings.home, lambda _: None)


@pytest.mark.slow
def test_the_command_with_the_real_checker(
    real_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"user_input": "What is the rent?", "response": "The rent is 900 euros a month.", "retrieved_contexts": [RENT]},
        {"user_input": "Who sings?", "response": "Whales sing in the Atlantic.", "retrieved_contexts": [RENT]},
        {"user_input": "And pets?", "response": "The documents do not say.", "retrieved_contexts": [RENT]},
        {"user_input": "And cats?", "response": "Yes."},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["eval", "judge", str(tmp_path / "a.json"), "--home", str(real_settings.home), *extra])
        assert ended.value.code == 3
        out = capsys.readouterr().out
    found = json.loads(out)
    assert (found["n"], found["judged"], found["abstained"], found["failed"]) == (4, 2, 1, 1)
    assert found["metrics"]["local"]["faithful_share"]["value"] == pytest.approx(1 / 3)
    assert [each["outcome"] for each in found["answers"]] == ["faithful", "unfaithful", "abstained", "failed"]
    assert found["answers"][0]["sentences"][0]["citation"]["quote"] == "The rent is 900 euros a month."


def test_the_local_checker_is_opened_with_the_support_that_is_set(settings: Settings) -> None:
    (judge,) = open_judges("local", settings.model_copy(update={"min_support": 0.7}), WordChecker())
    assert (judge.name, judge.threshold) == ("local", 0.7)
    with pytest.raises(SettingsError, match="FOOTNOTE_LLM_BASE_URL"):
        open_judges("llm", settings, WordChecker())
