"""End to end figures: what counts as correct, wrong and declined, and that nothing drops out of a mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from eval import answers
from eval.answers import CLOSED_BOOK, ORACLE, PRODUCT, evaluate, made_of, without
from eval.cases import Entry, QASet, Question
from eval.corpus import open_corpus
from eval.run import Run
from rag.answer import Rag
from rag.errors import LLMError
from rag.prompt import ABSTENTION
from rag.settings import Settings
from rag.types import Message
from tests.conftest import ParrotLLM, WordChecker, WordCountEmbedder
from ui.cli import main

CORPUS = (
    Entry(_id="lease.md", title="Lease", text="The flat costs 900 euros a month. It ends on 31 May 2027."),
    Entry(_id="ferry.md", title="Ferries", text="The Aurora carries 240 people to the island. She sails at noon."),
)
RENT = Question(id="q1", question="What costs the flat a month?", answers=("900 euros",), relevant=("lease.md",))
AURORA = Question(id="q2", question="How many people carries the Aurora?", answers=("240",), relevant=("ferry.md",))
CAPITAL = Question(id="q3", question="What is the capital of Peru?", answerable=False)
Asked = Callable[..., dict[str, Any]]


class Scripted(ParrotLLM):
    """Answers by a word of the question."""

    def __init__(self, replies: dict[str, str]) -> None:
        super().__init__()
        self.replies = replies

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        question = messages[-1].content.rpartition("Question: ")[2]
        reply = next(reply for word, reply in self.replies.items() if word in question)
        if reply == "fails":
            raise LLMError("the model ran out of memory")
        yield reply


@pytest.fixture
def asked(settings: Settings, embedder: WordCountEmbedder) -> Asked:
    def ask(
        replies: dict[str, str],
        questions: Sequence[Question] = (RENT, AURORA, CAPITAL),
        systems: Sequence[str] = (PRODUCT,),
        name: str = "run",
    ) -> dict[str, Any]:
        chosen = settings.model_copy(update={"min_relevance": -1.0})
        data = QASet("town", CORPUS, tuple(questions))
        with Rag(
            chosen, embedder, open_corpus(chosen, embedder, CORPUS, lambda _: None), Scripted(replies), WordChecker()
        ) as rag:
            run = Run.begin(settings.home / "runs" / name, "answers", made_of(rag, data, systems), fresh=True)
            return evaluate(rag, data, run, systems, lambda _: None) | {"records": run.records}

    return ask


def values(record: dict[str, Any], system: str = PRODUCT) -> dict[str, float]:
    return {name: figure["value"] for name, figure in record["metrics"][system].items()}


def test_right_answers_and_right_refusals(asked: Asked) -> None:
    record = asked({"flat": "The flat costs 900 euros a month.", "Aurora": "240", "Peru": ABSTENTION})
    found = values(record)
    assert (record["n"], record["unanswerable"], record["failed"]) == (3, 1, 0)
    assert found["correct"] == found["contains"] == found["hit@4"] == found["citation_recall"] == 1
    assert found["em"] == 0.5
    assert found["answer_rate"] == pytest.approx(2 / 3)
    assert found["wrong_answer_rate"] == found["over_refusal"] == found["unanswerable_answered"] == 0
    assert record["metrics"][PRODUCT]["em"]["n"] == 2, "an unanswerable question has no reference to be compared with"


def test_wrong_answers_refusals_and_inventions(asked: Asked) -> None:
    record = asked({"flat": "The flat costs 800 euros.", "Aurora": ABSTENTION, "Peru": "The island."})
    found = values(record)
    assert found["correct"] == found["contains"] == 0
    assert found["answer_rate"] == found["wrong_answer_rate"] == pytest.approx(2 / 3)
    assert found["over_refusal"] == 0.5
    assert found["unanswerable_answered"] == 1
    assert [each["answers"][PRODUCT]["outcome"] for each in record["records"]] == ["wrong", "declined", "wrong"]
    assert [each["covered"] for each in record["records"]] == [True, False, True]


def test_what_no_document_says_is_declined_and_kept_in_the_record(asked: Asked) -> None:
    said = {"flat": "The flat costs 900 euros. Is that dear?", "Aurora": "Bananas are yellow.", "Peru": "Lima."}
    record = asked(said)
    flat, aurora, peru = (each["answers"][PRODUCT] for each in record["records"])
    assert [flat["outcome"], aurora["outcome"], peru["outcome"]] == ["correct", "declined", "rightly declined"]
    assert [each["text"] for each in flat["written"]] == ["The flat costs 900 euros.", "Is that dear?"]
    assert [(each["text"], each["support"], each["checkable"]) for each in aurora["written"]] == [
        ("Bananas are yellow.", 0.0, True)
    ]


def test_failures_stay_in_every_mean(asked: Asked) -> None:
    right = asked({"flat": "900 euros", "Aurora": "240", "Peru": ABSTENTION})
    record = asked({"flat": "900 euros", "Aurora": "fails", "Peru": ABSTENTION})
    assert record["failures"] == [{"id": "q2", "system": PRODUCT, "reason": "the model ran out of memory"}]
    assert record["failed"] == 1
    assert values(record)["contains"] == values(record)["f1"] == 0.5
    assert values(record)["wrong_answer_rate"] == pytest.approx(1 / 3)
    for name, figure in right["metrics"][PRODUCT].items():
        assert record["metrics"][PRODUCT][name]["n"] == figure["n"], name


def test_footnotes_to_other_documents_cost_precision(asked: Asked) -> None:
    record = asked(
        {"flat": "The flat costs 900 euros a month. The Aurora carries 240 people to the island."}, questions=[RENT]
    )
    assert values(record)["citation_precision"] == 0.5
    assert values(record)["citation_recall"] == 1


def test_long_answers_are_compared_as_texts(asked: Asked) -> None:
    long = RENT.model_copy(update={"answers": ("It costs 900 euros a month and ends on 31 May 2027",), "long": True})
    near = asked({"flat": "The flat costs 900 euros a month, until 31 May 2027."}, questions=[long])
    assert values(near)["correct"] == 1
    assert values(near)["contains"] == 0
    assert 0.5 < values(near)["rouge_l"] < 1
    assert 0.5 < values(near)["similarity"] <= 1
    assert values(asked({"flat": "It is blue."}, questions=[long]))["correct"] == 0
    assert "rouge_l" not in values(asked({"flat": "900 euros"}, questions=[RENT]))


def test_the_right_page_counts_where_it_is_known(asked: Asked) -> None:
    paged = RENT.model_copy(update={"pages": (7,)})
    assert values(asked({"flat": "900 euros"}, questions=[paged]))["page_hit@4"] == 0
    assert "page_hit@4" not in values(asked({"flat": "900 euros"}, questions=[RENT]))


def test_closed_book_gets_no_passages(asked: Asked) -> None:
    record = asked({"flat": "900 euros", "Aurora": "240", "Peru": "Lima"}, systems=(PRODUCT, CLOSED_BOOK))
    assert values(record, CLOSED_BOOK)["contains"] == 1
    assert "hit@4" not in values(record, CLOSED_BOOK)
    assert all(each["answers"][CLOSED_BOOK]["hits"] == [] for each in record["records"])


def test_the_oracle_searches_the_right_documents_only(asked: Asked) -> None:
    record = asked({"flat": "900 euros", "Aurora": "240", "Peru": ABSTENTION}, systems=(PRODUCT, ORACLE))
    docs = [{hit["doc"] for hit in each["answers"][ORACLE]["hits"]} for each in record["records"]]
    assert docs == [{"lease.md"}, {"ferry.md"}, set()]
    assert values(record, ORACLE)["hit@1"] == 1
    assert {hit["doc"] for hit in record["records"][0]["answers"][PRODUCT]["hits"]} == {"lease.md", "ferry.md"}


def test_two_runs_leave_the_same_records(asked: Asked, settings: Settings) -> None:
    for name in ("one", "two"):
        asked({"flat": "900 euros", "Aurora": "240", "Peru": ABSTENTION}, name=name)
    one, two = ((settings.home / "runs" / name / "records.jsonl").read_bytes() for name in ("one", "two"))
    assert one == two
    assert len(one.splitlines()) == 3


def test_confidence_orders_answers_for_the_risk_curve(asked: Asked) -> None:
    invented = {"Aurora": "The Aurora carries 17 people.", "Peru": "She sails to Lima at noon."}
    record = asked({"flat": "The flat costs 900 euros a month.", **invented})
    curve = record["risk_coverage"][PRODUCT]
    assert curve["coverage"][-1] == 1
    assert curve["risk"][0] == 0
    assert curve["risk"][-1] == pytest.approx(2 / 3)


def test_documents_that_are_left_out_make_their_questions_unanswerable() -> None:
    corpus = tuple(Entry(_id=f"d{n}", text=f"Text {n}.") for n in range(400))
    asked = tuple(Question(id=f"q{n}", question="?", answers=("a",), relevant=(f"d{n}",)) for n in range(400))
    both = Question(id="both", question="?", answers=("a",), relevant=tuple(f"d{n}" for n in range(400)))
    data = without(QASet("set", corpus, (*asked, both)), 0.25)
    there = {entry.id for entry in data.corpus}
    assert 60 < 400 - len(there) < 140
    assert all(question.answerable == (question.relevant[0] in there) for question in data.questions[:-1])
    assert data.questions[-1].answerable, "some of its documents are there still"
    assert without(QASet("set", corpus, asked), 0.25).corpus == data.corpus
    assert without(QASet("set", corpus, asked), 0) == QASet("set", corpus, asked)


def test_a_collection_of_ones_own_is_asked_by_file_name(open_rag: Callable[..., Rag], settings: Settings) -> None:
    rag = open_rag({"lease.md": "# Lease\n\n" + CORPUS[0].text}, Scripted({"flat": "900 euros"}))
    data = QASet("mine", (), (RENT,))
    run = Run.begin(settings.home / "runs" / "mine", "answers", made_of(rag, data, [PRODUCT]))
    assert values(evaluate(rag, data, run, [PRODUCT], lambda _: None))["hit@1"] == 1


def test_records_are_plain_json(asked: Asked) -> None:
    record = asked({"flat": "900 euros", "Aurora": "240", "Peru": ABSTENTION})
    assert json.loads(json.dumps(record["records"])) == record["records"]
    assert answers.outcome(RENT, _answer("900 euros")) == "correct"


def _answer(text: str) -> Any:
    from rag.types import Answer, Timings

    return Answer("?", text, False, (), (), Timings(0.0))


@pytest.mark.slow
def test_real_questions_are_answered_and_a_cut_run_goes_on(
    real_settings: Settings, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "answers", str(shared / "data" / "qa-xquad-en"), "--limit", "6", "--run", "six", "--json"]
    arguments = [*command, "--home", str(real_settings.home)]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["n"], record["failed"]) == (6, 0)
    assert record["metrics"][PRODUCT]["hit@4"]["value"] > 0.8
    kept = Path(record["run"])
    whole = (kept / "records.jsonl").read_bytes()
    header = json.loads((kept / "run.json").read_text())
    header.pop("summary")
    (kept / "run.json").write_text(json.dumps(header))
    (kept / "records.jsonl").write_bytes(whole[: whole.index(b"\n", whole.index(b"\n") + 1) + 40])
    with pytest.raises(SystemExit):
        main(arguments)
    said = capsys.readouterr()
    assert "going on after 2 of 6 questions" in said.err
    assert json.loads(said.out)["metrics"] == record["metrics"]
    assert (kept / "records.jsonl").read_bytes() == whole
