"""Searching in conversations: what is counted, and that a question made to stand alone finds more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.cases import Asked, Conversation, ConversationSet, Entry, read_conversations
from eval.follow_ups import evaluate, scored
from rag.embed import open_embedder
from rag.errors import EvalError
from rag.settings import Settings
from tests.conftest import ParrotLLM, WordCountEmbedder, make_hit
from ui.cli import main

DATA = Path(__file__).parents[1] / "data" / "conversations"
RENT = {"kind": "first", "question": "What is the rent of Birch Lane?", "answer": "900 euros."}
DEPOSIT = {"kind": "ellipsis", "question": "And the deposit?", "answer": "1,800 euros."}
DOCUMENTS = {
    "birch": "Birch Lane: the rent is 900 euros, the deposit is 1,800 euros.",
    "elm": "Elm Court: the deposit is 700 euros, and the deposit is due in May.",
}


def silent(_text: str) -> None:
    pass


def data(*turns: dict[str, str]) -> ConversationSet:
    asked = [Asked(**{"document": "birch", "quote": "the rent is 900 euros", **turn}) for turn in turns]
    corpus = tuple(Entry(_id=id_, text=text) for id_, text in DOCUMENTS.items())
    return ConversationSet("leases", corpus, (Conversation(_id="c", split="dev", turns=asked),))


def write(folder: Path, *rows: object) -> Path:
    corpus = [{"_id": id_, "text": text} for id_, text in DOCUMENTS.items()]
    for name, lines in (("corpus.jsonl", corpus), ("conversations.jsonl", rows)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def test_a_passage_counts_where_it_holds_the_words_and_is_of_the_document() -> None:
    asked = Asked(kind="first", question="?", answer="", document="a", quote="nine cats")
    right, elsewhere, other = (
        make_hit("of nine cats", 0, doc="a"),
        make_hit("of nine cats", 1, doc="b"),
        make_hit("of dogs", 2, doc="a"),
    )
    assert scored([right], asked) == {"recall@1": 1.0, "recall@5": 1.0, "document@1": 1.0}
    assert scored([other, elsewhere, right], asked) == {"recall@1": 0.0, "recall@5": 1.0, "document@1": 1.0}
    assert scored([elsewhere, *[other] * 4, right], asked) == {"recall@1": 0.0, "recall@5": 0.0, "document@1": 0.0}
    assert set(scored([], asked).values()) == {0.0}


def test_follow_ups_are_counted_apart_and_found_by_what_was_said_before(
    settings: Settings, embedder: WordCountEmbedder
) -> None:
    record = evaluate(settings, embedder, data(RENT, DEPOSIT), silent)
    assert (record["dataset"], record["documents"], record["conversations"]) == ("leases", 2, 1)
    assert (record["n"], record["failed"]) == (2, 0)
    follow_up, alone = record["groups"]["follow-up"], record["groups"]["alone"]
    assert (follow_up["n"], alone["n"]) == (1, 1)
    assert list(follow_up["systems"]) == ["question", "rules", "rules+question"]
    assert {name: figures["document@1"]["value"] for name, figures in follow_up["systems"].items()} == {
        "question": 0.0,
        "rules": 1.0,
        "rules+question": 1.0,
    }
    assert follow_up["systems"]["rules"]["document@1"]["gain"]["value"] == 1.0
    assert alone["systems"]["rules"]["document@1"]["gain"]["value"] == 0.0


def test_a_language_model_is_measured_beside_the_rules(settings: Settings, embedder: WordCountEmbedder) -> None:
    llm = ParrotLLM(says="What is the deposit of Birch Lane?")
    record = evaluate(settings, embedder, data(RENT, DEPOSIT), silent, llm)
    systems = record["groups"]["follow-up"]["systems"]
    assert list(systems) == ["question", "rules", "rules+question", "llm", "llm+question"]
    assert systems["llm"]["document@1"]["value"] == 1.0


def test_what_fails_counts_as_not_found(settings: Settings, embedder: WordCountEmbedder) -> None:
    long = {**RENT, "question": "x" * (settings.max_question_chars + 1)}
    record = evaluate(settings, embedder, data(RENT, long), silent)
    assert (record["n"], record["failed"]) == (2, 1)
    assert {(each["conversation"], each["turn"]) for each in record["failures"]} == {("c", 2)}
    assert "at most 8,000" in record["failures"][0]["reason"]
    assert record["groups"]["alone"]["systems"]["question"]["recall@1"]["value"] == 0.5


def test_only_a_part_may_be_measured(settings: Settings, embedder: WordCountEmbedder) -> None:
    assert evaluate(settings, embedder, data(RENT), silent, split="dev")["n"] == 1
    with pytest.raises(EvalError, match="no conversation has the split 'held'; there are: 'dev'"):
        evaluate(settings, embedder, data(RENT), silent, split="held")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"document": "oak"}, r"conversations\.jsonl:2: field turns\.1\.document: 'oak' is not in corpus\.jsonl; "),
        ({"quote": "a cow"}, r"conversations\.jsonl:2: field turns\.1\.quote: 'a cow' is not in the text of 'birch'; "),
        ({"question": ""}, r"conversations\.jsonl:2: field turns\.1\.question: .+; correct the row"),
        ({"answer": None}, r"conversations\.jsonl:2: field turns\.1\.answer: .+; correct the row"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    turn = {**RENT, "document": "birch", "quote": "the rent"}
    rows = [{"_id": "a", "turns": [turn]}, {"_id": "b", "turns": [turn, {**turn, **change}]}]
    with pytest.raises(EvalError, match=said):
        read_conversations(write(tmp_path, *rows))


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match=r"is no directory; give one with corpus\.jsonl and conversations\.jsonl$"):
        read_conversations(tmp_path / "none")


def test_the_set_of_our_own_can_be_read_and_has_all_kinds_in_both_halves() -> None:
    found = read_conversations(DATA)
    kinds = {
        split: [turn.kind for c in found.conversations if c.split == split for turn in c.turns]
        for split in ("dev", "held")
    }
    assert set(kinds["dev"]) == set(kinds["held"])
    for turns in kinds.values():
        assert sum(kind not in ("first", "switch") for kind in turns) >= 50
        assert turns.count("switch") >= 10


@pytest.mark.slow
def test_follow_ups_find_more_and_questions_that_stand_alone_find_the_same(real_settings: Settings) -> None:
    record = evaluate(real_settings, open_embedder(real_settings), read_conversations(DATA), silent, split="held")
    assert record["failed"] == 0
    follow_ups, alone = (record["groups"][name]["systems"]["rules+question"] for name in ("follow-up", "alone"))
    for metric in ("recall@1", "recall@5"):
        assert follow_ups[metric]["gain"]["low"] > 0.05
        assert alone[metric]["gain"]["value"] >= 0


@pytest.mark.slow
def test_the_command_prints_a_row_for_each_way_of_searching(
    real_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "conversations", str(DATA), "--split", "dev", "--home", str(real_settings.home)]
    printed = []
    for arguments in (command, [*command, "--json"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        printed.append(capsys.readouterr().out)
    assert printed[0].count("rules+question") == 2
    record = json.loads(printed[1])
    assert list(record["groups"]["follow-up"]["systems"]) == ["question", "rules", "rules+question"]
