"""The tuned model against the base model: who declined, what was hidden, and that nothing drops out of a mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eval.cases import Entry, QASet, Question
from eval.corpus import open_corpus
from eval.gains import ALONE, BASE, CONDITIONS, ORACLE, REMOVED, RETRIEVED, SHOWN, TUNED
from eval.measure import measure_tuned
from eval.report import markdown, page, report
from eval.run import Run, read_run
from eval.tuned import KIND, Hiding, about, evaluate, made_of
from rag.answer import Rag
from rag.errors import EvalError, LLMError
from rag.prompt import ABSTENTION
from rag.settings import Settings
from rag.sparse import encode_query
from rag.store.protocol import Store
from rag.types import Message
from tests.conftest import ParrotLLM, WordChecker, WordCountEmbedder

LEASE = Entry(_id="lease.md", title="Lease", text="The flat costs 900 euros a month. It ends on 31 May 2027.")
FERRY = Entry(_id="ferry.md", title="Ferries", text="The Aurora carries 240 people to the island. She sails at noon.")
CORPUS = (LEASE, FERRY)
RENT = Question(id="q1", question="What costs the flat a month?", answers=("900 euros",), relevant=("lease.md",))
AURORA = Question(id="q2", question="How many people carries the Aurora?", answers=("240",), relevant=("ferry.md",))
CAPITAL = Question(id="q3", question="What is the capital of Peru?", answerable=False)
RIGHT = {"flat": "The flat costs 900 euros a month.", "Aurora": "240 people.", "Peru": ABSTENTION}
INVENTED = {"flat": "Bananas grow in Ecuador.", "Aurora": "Bananas grow in Ecuador.", "Peru": "Lima is lovely."}


class Writer(ParrotLLM):
    """Answers by a word of the question; where it is honest, only with what stands in the passages."""

    def __init__(self, name: str, replies: dict[str, str], honest: bool = False) -> None:
        super().__init__()
        self.name, self.replies, self.honest = name, replies, honest

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        self.asked.append(list(messages))
        passages, _, question = messages[-1].content.rpartition("Question: ")
        reply = next(reply for word, reply in self.replies.items() if word in question)
        if reply == "fails":
            raise LLMError("the model ran out of memory")
        known = reply.rpartition(" ")[2].strip(".") in passages
        yield from (reply if known or not self.honest else "I don't know.").partition(" ")


@dataclass
class Comparison:
    """Compares two models over the corpus; `store` is what they search."""

    settings: Settings
    embedder: WordCountEmbedder
    store: Store
    names: Iterator[int] = field(default_factory=count)

    def __call__(
        self,
        base: ParrotLLM,
        tuned: ParrotLLM,
        questions: Sequence[Question] = (RENT, AURORA, CAPITAL),
        conditions: Sequence[str] = CONDITIONS,
        name: str = "",
        **changes: object,
    ) -> dict[str, Any]:
        chosen = self.settings.model_copy(update={"min_relevance": -1.0, **changes})
        data = QASet("town", CORPUS, tuple(questions))
        one, two = (Rag(chosen, self.embedder, self.store, llm, WordChecker()) for llm in (base, tuned))
        directory = chosen.home / "runs" / (name or f"run{next(self.names)}")
        run = Run.begin(directory, KIND, made_of(one, two, data, conditions))
        return evaluate(one, two, data, run, lambda _: None, conditions) | {"records": run.records}


@pytest.fixture
def compare(settings: Settings, embedder: WordCountEmbedder) -> Iterator[Comparison]:
    store = open_corpus(settings, embedder, CORPUS, lambda _: None)
    yield Comparison(settings, embedder, store)
    store.close()


def values(found: dict[str, Any], system: str) -> dict[str, float]:
    return {name: figure["value"] for name, figure in found["metrics"][system].items()}


def test_an_honest_model_beats_one_that_invents(compare: Comparison) -> None:
    found = compare(Writer("guesser", INVENTED), Writer("reader", RIGHT, honest=True))
    assert (found["n"], found["unanswerable"], found["failed"]) == (3, 1, 0)
    assert found["models"] == {"base": "guesser", "tuned": "reader"}
    base, tuned = values(found, "base alone"), values(found, "tuned alone")
    assert tuned["correct"] == tuned["contains"] == tuned["faithfulness"] == tuned["declines"] == 1
    assert tuned["wrong_answer_rate"] == tuned["over_refusal"] == 0
    assert base["correct"] == base["contains"] == base["faithfulness"] == base["declines"] == 0
    assert base["wrong_answer_rate"] == base["answer_rate"] == 1
    gained = found["differences"][ALONE]
    assert gained["correct"]["value"] == gained["declines"]["value"] == gained["balanced_abstention"]["value"] == 1
    assert (gained["correct"]["n"], gained["declines"]["n"], gained["balanced_abstention"]["n"]) == (3, 3, 2)
    assert gained["wrong_answer_rate"]["value"] == -1
    assert [each["id"] for each in found["examples"]["gained"]] == ["q1", "q2", "q3"]


def test_what_is_shown_counts_the_checker_and_what_is_written_does_not(compare: Comparison) -> None:
    found = compare(Writer("guesser", INVENTED), Writer("reader", RIGHT, honest=True))
    shown = values(found, "base shown")
    assert shown["declines"] == 1, "the checker declines for the model"
    assert shown["over_refusal"] == 1
    assert "faithfulness" not in shown, "no answer is left that could be faithful"
    assert values(found, "tuned shown")["over_refusal"] == 0


def test_who_declined_is_told_apart(compare: Comparison) -> None:
    silent = Writer("silent", {"flat": "I don't know.", "Aurora": "", "Peru": ABSTENTION})
    found = compare(Writer("guesser", INVENTED), silent)
    assert found["declined_by"][BASE][RETRIEVED] == {"retrieval": 0, "model": 0, "checker": 3}
    assert found["declined_by"][TUNED][RETRIEVED] == {"retrieval": 0, "model": 3, "checker": 0}
    rent = found["records"][0]["answers"]
    assert (rent[BASE][RETRIEVED]["text"], rent[BASE][RETRIEVED]["said"]) == (ABSTENTION, "Bananas grow in Ecuador.")
    assert [each["supported"] for each in rent[BASE][RETRIEVED]["sentences"]] == [False]
    assert rent[TUNED][RETRIEVED]["said"] == "I don't know."
    assert values(found, "tuned alone")["over_refusal"] == 1
    assert [each["id"] for each in found["examples"]["declined_in_vain"]] == ["q1", "q2"]


def test_what_the_passages_hold_is_counted_apart(compare: Comparison) -> None:
    """Nobody can find what stands in no passage, and it is right to decline then."""
    elsewhere = Question(id="q4", question="Who owns the flat?", answers=("Ada Lovelace",), relevant=("lease.md",))
    found = compare(
        Writer("guesser", INVENTED), Writer("shy", {**RIGHT, "Aurora": ABSTENTION}), (RENT, AURORA, elsewhere)
    )
    tuned = values(found, "tuned alone")
    assert tuned["context_recall"] == pytest.approx(2 / 3)
    assert (tuned["over_refusal"], tuned["held_over_refusal"]) == (pytest.approx(1 / 3), 1 / 2)
    assert (tuned["contains"], tuned["held_contains"]) == (pytest.approx(1 / 3), 1 / 2)
    assert found["metrics"]["tuned alone"]["held_contains"]["n"] == 2
    assert [each["answers"][TUNED][RETRIEVED]["held"] for each in found["records"]] == [True, True, False]


def test_a_model_that_was_not_asked_is_not_judged_alone(compare: Comparison) -> None:
    base, tuned = Writer("guesser", INVENTED), Writer("reader", RIGHT)
    found = compare(base, tuned, min_relevance=1.0)
    assert base.asked == tuned.asked == []
    assert found["declined_by"][TUNED][RETRIEVED] == {"retrieval": 3, "model": 0, "checker": 0}
    assert found["metrics"]["tuned alone"] == {}
    assert values(found, "tuned shown")["over_refusal"] == 1
    assert found["latency_ms"][TUNED] == {}, "nothing was written whose speed could be told"


def test_removed_documents_are_in_no_passage(compare: Comparison) -> None:
    reader = Writer("reader", RIGHT, honest=True)
    found = compare(Writer("guesser", INVENTED), reader)
    rent, aurora, capital = (record["answers"][TUNED] for record in found["records"])
    assert {*rent[RETRIEVED]["hits"]} == {*aurora[RETRIEVED]["hits"]} == {"lease.md", "ferry.md"}
    assert ({*rent[ORACLE]["hits"]}, {*aurora[ORACLE]["hits"]}) == ({"lease.md"}, {"ferry.md"})
    assert ({*rent[REMOVED]["hits"]}, {*aurora[REMOVED]["hits"]}) == ({"ferry.md"}, {"lease.md"})
    assert list(capital) == [RETRIEVED], "it has no right documents, to search or to hide"
    hidden = [text for (*_, last) in reader.asked if "900" not in (text := last.content) and "flat" in text]
    assert len(hidden) == 1, "only the question without its document was asked without the figure"


def test_hiding_asks_for_more_until_enough_is_left(settings: Settings, embedder: WordCountEmbedder) -> None:
    corpus = [Entry(_id=f"d{n}", text=f"The ferry {'sails ' * n}at noon.") for n in range(20)]
    store = open_corpus(settings, embedder, corpus, lambda _: None)
    question = "The ferry sails at noon."
    dense, sparse = embedder.embed_query(question), encode_query(question)
    hiding = Hiding(store)
    everything, three = store.candidates(dense, sparse, 20), store.candidates(dense, sparse, 3)
    assert hiding.candidates(dense, sparse, 3) == three, "nothing is hidden yet"
    first = {chunk.doc for chunk in store.fetch([id_ for ranking in three for id_, _ in ranking])}
    hiding.hide(sorted(first))
    for ranking, whole in zip(hiding.candidates(dense, sparse, 3), everything, strict=True):
        ids = [id_ for id_, _ in whole if store.fetch([id_])[0].doc not in first]
        assert [id_ for id_, _ in ranking] == ids[:3]
    hiding.hide([entry.id for entry in corpus])
    assert hiding.candidates(dense, sparse, 3) == ([], [])
    hiding.hide([])
    assert hiding.candidates(dense, sparse, 3) == three
    assert hiding.count() == 20
    store.close()


def test_a_model_that_fails_is_wrong_in_every_figure(compare: Comparison) -> None:
    reader = Writer("reader", RIGHT, honest=True)
    right = compare(Writer("guesser", INVENTED), reader)
    found = compare(Writer("guesser", INVENTED), Writer("reader", RIGHT | {"Aurora": "fails"}, honest=True))
    assert found["failed"] == 1
    assert [(each["id"], each["system"]) for each in found["failures"]] == [
        ("q2", "tuned retrieved"),
        ("q2", "tuned oracle"),
        ("q2", "tuned removed"),
    ]
    assert found["failures"][0]["reason"] == "the model ran out of memory"
    tuned = values(found, "tuned alone")
    assert tuned["contains"] == 0.5
    assert tuned["correct"] == tuned["declines"] == pytest.approx(2 / 3)
    assert tuned["wrong_answer_rate"] == pytest.approx(1 / 3)
    assert tuned["faithfulness"] == tuned["oracle_correct"] == 0.5
    for system in ("tuned alone", "tuned shown"):
        for name, figure in right["metrics"][system].items():
            assert name == "tokens" or found["metrics"][system][name]["n"] == figure["n"], name
    assert "q2" not in [each["id"] for each in found["examples"]["wrong"]], "there is no text to look at"


def test_a_cut_run_asks_nothing_twice(compare: Comparison) -> None:
    def models(reply: str) -> tuple[Writer, Writer]:
        return Writer("guesser", INVENTED), Writer("reader", RIGHT | {"Peru": reply}, honest=True)

    class PoweredOff(Writer):
        def stream(self, messages: Sequence[Message]) -> Generator[str]:
            if "Peru" in messages[-1].content:
                raise KeyboardInterrupt
            yield from super().stream(messages)

    whole = compare(*models(ABSTENTION), name="whole")
    with pytest.raises(KeyboardInterrupt):
        compare(Writer("guesser", INVENTED), PoweredOff("reader", RIGHT, honest=True), name="cut")
    base, tuned = models(ABSTENTION)
    found = compare(base, tuned, name="cut")
    assert (len(base.asked), len(tuned.asked)) == (1, 1), "only what was not recorded"
    assert found["records"] == whole["records"]
    assert found["metrics"] == whole["metrics"]
    directory = compare.settings.home / "runs"
    one, two = ((directory / name / "records.jsonl").read_bytes() for name in ("whole", "cut"))
    assert one == two


def test_the_oracle_can_be_left_out(compare: Comparison) -> None:
    found = compare(Writer("a", INVENTED), Writer("b", RIGHT), conditions=(RETRIEVED, REMOVED))
    assert all(ORACLE not in record["answers"][BASE] for record in found["records"])
    assert not [name for name in found["metrics"]["tuned alone"] if name.startswith(ORACLE)]
    assert "declines" in found["metrics"]["tuned alone"]


def test_long_answers_are_correct_from_half_of_their_words(compare: Comparison) -> None:
    long = RENT.model_copy(update={"answers": ("It costs 900 euros a month and ends on 31 May 2027",), "long": True})
    near = Writer("near", {"flat": "The flat costs 900 euros a month, until 31 May 2027."})
    found = compare(Writer("far", {"flat": "The flat costs a lot."}), near, questions=[long])
    assert (values(found, "base alone")["correct"], values(found, "tuned alone")["correct"]) == (0, 1)
    assert values(found, "tuned alone")["contains"] == 0


def test_faithfulness_counts_sentences_of_what_was_answered(compare: Comparison) -> None:
    half = Writer(
        "half", {"flat": "The flat costs 900 euros a month. Bananas grow in Ecuador.", "Aurora": "I don't know."}
    )
    found = compare(Writer("guesser", INVENTED), half, questions=[RENT, AURORA])
    assert found["metrics"]["tuned alone"]["faithfulness"]["value"] == 0.5
    assert found["metrics"]["tuned alone"]["faithfulness"]["n"] == 1, "what was declined keeps to nothing"
    assert found["differences"][ALONE]["faithfulness"]["value"] == 0.5
    dropped = compare(Writer("guesser", INVENTED), half, questions=[RENT, AURORA], strictness="drop")
    assert values(dropped, "tuned alone")["faithfulness"] == 0.5
    assert values(dropped, "tuned shown")["faithfulness"] == 1, "the sentence without support is not shown"


def test_tokens_are_those_that_the_model_wrote(compare: Comparison) -> None:
    found = compare(Writer("guesser", INVENTED), Writer("reader", RIGHT), questions=[RENT])
    assert (values(found, "base alone")["tokens"], values(found, "tuned alone")["tokens"]) == (4, 7)
    assert found["latency_ms"][BASE].keys() == {"first_token", "total"}
    assert found["latency_ms"][BASE]["total"]["p95"] > 0


@pytest.mark.parametrize(
    ("held_out", "ids"),
    [(("lease.md",), ["q1"]), (["lease.md", "ferry.md"], ["q1", "q2"]), ((), ["q1", "q2", "q3", "both"])],
)
def test_only_what_is_about_held_out_documents_is_asked(held_out: Collection[str], ids: list[str]) -> None:
    both = Question(id="both", question="?", answers=("a",), relevant=("lease.md", "other.md"))
    data = about(QASet("town", CORPUS, (RENT, AURORA, CAPITAL, both)), held_out)
    assert [question.id for question in data.questions] == ids
    assert data.corpus == CORPUS, "all of it is searched"


def test_held_out_documents_that_nobody_asks_about_are_refused() -> None:
    with pytest.raises(
        EvalError, match=r"town: none of its 1 questions is about the 1 documents that were held out; .*"
    ):
        about(QASet("town", CORPUS, (RENT,)), ("ferry.md",))


def test_other_models_are_another_run(compare: Comparison) -> None:
    compare(Writer("guesser", INVENTED), Writer("reader@1", RIGHT), questions=[RENT], name="one")
    header = json.loads((compare.settings.home / "runs" / "one" / "run.json").read_text())
    assert header["made_with"]["llm"] == {"base": "guesser", "tuned": "reader@1"}
    header.pop("summary")
    (compare.settings.home / "runs" / "one" / "run.json").write_text(json.dumps(header))
    with pytest.raises(EvalError, match=r"llm.tuned 'reader@1', now 'reader@2'"):
        compare(Writer("guesser", INVENTED), Writer("reader@2", RIGHT), questions=[RENT], name="one")


def test_a_finished_comparison_can_be_put_on_a_page(compare: Comparison) -> None:
    compare(Writer("guesser", INVENTED), Writer("reader", RIGHT, honest=True), name="town")
    run = read_run("town", compare.settings)
    record = report([run])
    assert record["runs"][0]["figures"].keys() == {f"{model} {by}" for model in (BASE, TUNED) for by in (ALONE, SHOWN)}
    assert "| correct |" in markdown(record)
    shown: Callable[[str], bool] = page([run], record).__contains__
    assert shown("How many people carries the Aurora?")
    assert shown("rightly declined")


@pytest.mark.slow
def test_a_set_on_disk_is_asked_over_real_passages(real_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text("".join(f"{entry.model_dump_json(by_alias=True)}\n" for entry in CORPUS))
    (tmp_path / "qa.jsonl").write_text("".join(f"{each.model_dump_json()}\n" for each in (RENT, AURORA, CAPITAL)))
    guesser, reader = Writer("guesser", INVENTED), Writer("reader", RIGHT, honest=True)
    told: list[str] = []
    done = measure_tuned(real_settings, guesser, reader, tmp_path, told.append, ("ferry.md",), oracle=False)
    assert (done.kind, done.summary["n"], done.summary["documents"]) == (KIND, 1, 2)
    assert [record["id"] for record in done.records] == ["q2"]
    assert list(done.records[0]["answers"][TUNED]) == [RETRIEVED, REMOVED]
    assert done.summary["differences"][SHOWN]["correct"]["value"] == 1
    whole = measure_tuned(real_settings, guesser, reader, tmp_path, told.append, limit=2)
    assert whole.summary["n"] == 2
    assert whole.name != done.name, "a run of other questions does not take the place of the first"
