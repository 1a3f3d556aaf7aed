"""Scores of rankings: by hand, through the product's own store, and with what fails counted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from eval import retrieval
from eval.cases import Entry, RetrievalSet, read_retrieval
from eval.corpus import open_corpus
from eval.retrieval import made_of, scored
from eval.run import Run
from rag.embed import Embedder, open_embedder
from rag.errors import EmbedError
from rag.settings import Settings
from tests.conftest import WordCountEmbedder

SYSTEMS = ["bm25", "dense", "hybrid", "hybrid+rerank", "rank-bm25"]
DOCUMENTS = {
    "rent": ("Rent", "The flat costs 900 euros a month."),
    "end": ("Lease", "It ends on 31 May 2027."),
    "boats": ("Ferries", "The Aurora carries 240 people to the island."),
    "nothing": ("", ""),
}


def data(**changes: object) -> RetrievalSet:
    fields: dict[str, object] = {
        "name": "leases",
        "corpus": tuple(Entry(_id=id_, title=title, text=text) for id_, (title, text) in DOCUMENTS.items()),
        "questions": {"q1": "When does it end? May 2027", "q2": "How many people does the Aurora carry?"},
        "relevant": {"q1": {"end": 1}, "q2": {"boats": 1}},
        "left_out": {},
        "unjudged": 3,
    }
    return RetrievalSet(**{**fields, **changes})  # type: ignore[arg-type]


def silent(_text: str) -> None:
    pass


def evaluate(
    settings: Settings, embedder: Embedder, data: RetrievalSet, limit: int | None = None, name: str = "run"
) -> dict[str, Any]:
    run = Run.begin(settings.home / "runs" / name, "retrieval", made_of(settings, embedder, data, limit), fresh=True)
    return retrieval.evaluate(settings, embedder, data, run, silent, limit)


def test_metrics_by_hand() -> None:
    found = scored(["x", "a", "b"], {"a": 3, "b": 1, "c": 0, "d": 1})
    ideal = 3 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["ndcg@10"] == pytest.approx((3 / math.log2(3) + 1 / math.log2(4)) / ideal)
    assert found["recall@5"] == found["recall@100"] == pytest.approx(2 / 3)
    assert found["mrr"] == 0.5
    assert found["hit@1"] == 0.0
    assert scored(["a"], {"a": 1})["hit@1"] == 1.0


def test_who_finds_nothing_scores_nothing() -> None:
    assert set(scored([], {"a": 1}).values()) == {0.0}


def test_every_system_is_measured_on_every_question(settings: Settings, embedder: WordCountEmbedder) -> None:
    record = evaluate(settings, embedder, data())
    assert (record["dataset"], record["documents"], record["n"], record["failed"]) == ("leases", 4, 2, 0)
    assert record["unjudged"] == 3
    assert list(record["systems"]) == SYSTEMS
    for system in SYSTEMS:
        assert record["systems"][system]["recall@100"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert record["search_ms"]["p50"] > 0


def test_a_title_alone_is_enough_to_be_found_by(settings: Settings, embedder: WordCountEmbedder) -> None:
    asked = data(questions={"q": "Ferries"}, relevant={"q": {"boats": 1}})
    record = evaluate(settings, embedder, asked)
    assert record["systems"]["bm25"]["hit@1"]["value"] == 1.0


def test_what_is_left_out_is_neither_found_nor_missing(settings: Settings, embedder: WordCountEmbedder) -> None:
    question = {"q": "The Aurora carries people"}
    with_ = evaluate(settings, embedder, data(questions=question, relevant={"q": {"rent": 1}}))
    without = data(questions=question, relevant={"q": {"rent": 1}}, left_out={"q": frozenset({"boats"})})
    assert (
        evaluate(settings, embedder, without)["systems"]["dense"]["mrr"]["value"]
        > (with_["systems"]["dense"]["mrr"]["value"])
    )


def test_a_corpus_is_indexed_once_and_an_interrupted_one_is_finished(settings: Settings) -> None:
    class Counting(WordCountEmbedder):
        texts = 0
        fails_after = 10**9

        def embed(self, texts):  # type: ignore[no-untyped-def]
            self.texts += len(texts)
            if self.texts > self.fails_after:
                raise EmbedError("out of memory")
            return super().embed(texts)

    counting = Counting()
    corpus = [Entry(_id=str(n), text=f"Document {n} speaks of subject {n}.") for n in range(600)]
    counting.fails_after = 300
    with pytest.raises(EmbedError):
        open_corpus(settings, counting, corpus, silent)
    counting.fails_after, counting.texts = 10**9, 0
    said: list[str] = []
    store = open_corpus(settings, counting, corpus, said.append)
    assert store.count() == 600
    store.close()
    assert counting.texts == 600 - 256
    assert said[-1] == "indexing: 600 passages"
    open_corpus(settings, counting, corpus, silent).close()
    assert counting.texts == 600 - 256
    open_corpus(settings, counting, corpus[:-1], silent).close()
    assert counting.texts == 600 - 256 + 599


def test_a_question_that_fails_counts_as_the_worst_score(settings: Settings, embedder: WordCountEmbedder) -> None:
    questions = {"q1": "May 2027", "q2": "x" * (settings.max_question_chars + 1)}
    record = evaluate(settings, embedder, data(questions=questions, relevant={"q1": {"end": 1}, "q2": {"end": 1}}))
    assert (record["n"], record["failed"]) == (2, 1)
    assert {(each["id"], each["system"]) for each in record["failures"]} == {("q2", "hybrid"), ("q2", "hybrid+rerank")}
    assert "at most 8,000" in record["failures"][0]["reason"]
    assert record["systems"]["hybrid"]["mrr"]["value"] == 0.5


def test_the_first_questions_only(settings: Settings, embedder: WordCountEmbedder) -> None:
    assert evaluate(settings, embedder, data(), limit=1)["n"] == 1


def test_two_runs_leave_the_same_records(settings: Settings, embedder: WordCountEmbedder) -> None:
    for name in ("one", "two"):
        evaluate(settings, embedder, data(), name=name)
    one, two = (settings.home / "runs" / name for name in ("one", "two"))
    assert (one / "records.jsonl").read_bytes() == (two / "records.jsonl").read_bytes()
    assert len((one / "records.jsonl").read_text().splitlines()) == 2


def test_a_run_that_was_cut_short_asks_what_is_left(settings: Settings, embedder: WordCountEmbedder) -> None:
    whole = evaluate(settings, embedder, data(), name="whole")
    run = Run.begin(settings.home / "runs" / "cut", "retrieval", made := made_of(settings, embedder, data(), None))
    first = json.loads((settings.home / "runs" / "whole" / "records.jsonl").read_text().splitlines()[0])
    run.add({**first, "question": "kept"}, {"hybrid+rerank": 1.0})
    (run.directory / "records.jsonl").open("a").write('{"id": "q2", "que')
    again = Run.begin(run.directory, "retrieval", made)
    record = retrieval.evaluate(settings, embedder, data(), again, silent)
    assert record["systems"] == whole["systems"]
    assert [each["question"] for each in again.records] == ["kept", "How many people does the Aurora carry?"]


@pytest.mark.slow
def test_both_halves_together_beat_either_on_real_questions(real_settings: Settings, shared: Path) -> None:
    found = read_retrieval(shared / "data" / "cranfield")
    record = evaluate(real_settings, open_embedder(real_settings), found)
    ndcg = {system: values["ndcg@10"]["value"] for system, values in record["systems"].items()}
    assert record["failed"] == 0
    assert ndcg["hybrid+rerank"] > 1.1 * max(ndcg["bm25"], ndcg["dense"])
    assert min(ndcg["bm25"], ndcg["dense"]) > ndcg["rank-bm25"]
    assert retrieval.METRICS.keys() == record["systems"]["bm25"].keys()
