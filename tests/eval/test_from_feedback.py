"""Verdicts on answers become questions to ask again, as `footnote eval answers` reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.answers import PRODUCT, evaluate
from eval.cases import Question, read_qa
from eval.corpus import open_corpus
from eval.from_feedback import Cases, cases, make
from eval.run import Run
from rag.answer import Rag
from rag.errors import EvalError
from rag.finetune.feedback import Feedback
from rag.prompt import ABSTENTION
from rag.settings import Settings
from rag.types import Answer, Citation, Sentence, Timings
from tests.conftest import ParrotLLM, WordChecker, WordCountEmbedder, make_hit
from ui import feedback as shown
from ui.server.conversations import LOCAL, Conversations
from ui.server.feedback import Feedback as Store
from ui.server.feedback import given

RENT = {"text": "The monthly rent is 900 euros.", "title": "Lease", "headings": ["Rent"], "doc": "lease.pdf"}
WHALES = {"text": "1. whale", "header": "| rank | animal |", "title": "Sea", "headings": ["Sea", "Big"], "doc": "s.md"}

TIMES = Timings(1.0)


def line(verdict: str = "up", correction: str = "", **changes: Any) -> Feedback:
    row = {"question": "How much is the rent?", "answer": "900 euros", "passages": [RENT, WHALES], **changes}
    return Feedback.model_validate({**row, "verdict": verdict, "correction": correction})


def made(*lines: Feedback) -> Cases:
    return cases(lines)


def only(found: Cases) -> Question:
    (question,) = found.questions
    return question


def test_a_liked_answer_is_a_reference() -> None:
    question = only(made(line()))
    assert (question.question, question.answers, question.answerable) == ("How much is the rent?", ("900 euros",), True)


def test_a_correction_is_a_reference_and_what_it_corrects_is_none() -> None:
    assert only(made(line("down", " 900 euros ", answer="800"))).answers == ("900 euros",)


def test_a_refusal_makes_an_unanswerable_question() -> None:
    for refusal in (line("down", ABSTENTION), line("down", "The documents don't say."), line(answer=ABSTENTION)):
        question = only(made(refusal))
        assert (question.answerable, question.answers, question.relevant) == (False, (), ())


def test_a_dislike_alone_is_counted_and_makes_no_question() -> None:
    found = made(line("down"), line("down", "  "), line())
    assert (found.verdicts, found.uncorrected, len(found.questions)) == (3, 2, 1)


def test_passages_become_documents_each_once() -> None:
    found = made(line(), line("down", question="Which animal?"), line(passages=[{**RENT, "doc": "copy.pdf"}]))
    assert [(entry.title, entry.text) for entry in found.corpus] == [
        ("Lease › Rent", RENT["text"]),
        ("Sea › Big", "| rank | animal |\n1. whale"),
        ("Lease › Rent", RENT["text"]),
    ]
    assert len({entry.id for entry in found.corpus}) == 3
    assert [entry.id for entry in made(line()).corpus] == [entry.id for entry in found.corpus[:2]]


def test_the_documents_that_hold_the_answer_are_those_cited_or_those_with_its_words() -> None:
    rent, whales = (entry.id for entry in made(line()).corpus)
    assert only(made(line(cited=[1]))).relevant == (whales,)
    assert only(made(line())).relevant == (rent,)
    assert only(made(line("down", "900 euros", cited=[1]))).relevant == (rent,)  # the wrong answer cited that
    found = made(line("down", "950 pounds"))
    assert (only(found).relevant, found.unplaced) == ((), 1)
    assert made(line()).unplaced == 0


def test_verdicts_on_the_same_question_make_one_case() -> None:
    found = made(
        line(), line("up", question="how much  is THE rent?", answer="EUR 900"), line(), line(question="Else?")
    )
    assert [question.answers for question in found.questions] == [("900 euros", "EUR 900"), ("900 euros",)]
    assert found.overruled == 0


@pytest.mark.parametrize(
    ("later", "answers"),
    [
        (line("down", "950 euros"), ("950 euros",)),  # of just that answer
        (line("down", ABSTENTION), ()),
        (line("down", "950 euros", answer="10"), ("900 euros", "950 euros")),  # of another one
    ],
)
def test_what_is_said_later_overrules(later: Feedback, answers: tuple[str, ...]) -> None:
    found = made(line(), later)
    assert only(found).answers == answers
    assert found.overruled == (len(answers) != 2)


def test_a_follow_up_is_asked_as_it_was_made_to_stand_alone() -> None:
    found = made(line(question="And the rent?", searched="How much is the rent?"), line(question="Why?"))
    assert [question.question for question in found.questions] == ["How much is the rent?", "Why?"]


def test_long_references_need_not_stand_in_an_answer_word_for_word() -> None:
    assert not only(made(line(answer="It is 900 euros."))).long
    assert only(made(line(answer="It is 900 euros a month, heating excluded."))).long


# --- on disk


def put(path: Path, *lines: Feedback) -> Path:
    path.write_text("".join(each.model_dump_json() + "\n" for each in lines), encoding="utf-8")
    return path


def test_the_set_is_one_that_can_be_evaluated(tmp_path: Path) -> None:
    path = put(
        tmp_path / "feedback.jsonl",
        line(id="a"),
        line("down", ABSTENTION, question="Größe\u2028der Wale?"),
        line("down"),
        line("down", "900 euros a month", id="a", answer="800"),
    )
    record = make(path, tmp_path / "new" / "set")
    assert record == {
        "out": str(tmp_path / "new" / "set"),
        "feedback": str(path),
        "verdicts": 3,
        "questions": 2,
        "unanswerable": 1,
        "documents": 2,
        "uncorrected": 1,
        "overruled": 0,
        "unplaced": 1,
    }
    data = read_qa(tmp_path / "new" / "set")
    assert (data.corpus, data.name) == (made(line()).corpus, "set")
    assert [(question.question, question.answers) for question in data.questions] == [
        ("Größe\u2028der Wale?", ()),
        ("How much is the rent?", ("900 euros a month",)),
    ]
    text = shown.cases(record)
    assert "3 verdicts: 2 questions over 2 passages, 1 without an answer" in text
    assert "left out: 1 verdict that an answer is wrong" in text
    assert "contradicts" not in text


def test_a_set_is_replaced_but_nothing_else_is(tmp_path: Path) -> None:
    path, out = put(tmp_path / "feedback.jsonl", line()), tmp_path / "set"
    make(path, out)
    put(path, line(), line(question="Else?"))
    assert make(path, out)["questions"] == len(read_qa(out).questions) == 2
    other = tmp_path / "other"
    other.mkdir()
    (other / "corpus.jsonl").write_text("precious")
    with pytest.raises(EvalError, match="holds other files"):
        make(path, other)
    assert [(each.name, each.read_text()) for each in other.iterdir()] == [("corpus.jsonl", "precious")]


def test_one_collection_alone_can_be_taken(tmp_path: Path) -> None:
    path = put(tmp_path / "feedback.jsonl", line(collection="sea"), line(question="Else?", collection="land"))
    make(path, tmp_path / "set", "land")
    assert [question.question for question in read_qa(tmp_path / "set").questions] == ["Else?"]


def test_feedback_that_makes_no_question_is_told(tmp_path: Path) -> None:
    path = put(tmp_path / "feedback.jsonl", line("down"), line("down", question="Else?"))
    with pytest.raises(EvalError, match=r"feedback.jsonl makes no questions: of 2 verdicts, 2 say"):
        make(path, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "feedback.jsonl", line())
    with pytest.raises(EvalError, match=r"feedback.jsonl cannot be written"):
        make(path, path)


def test_the_same_feedback_makes_the_same_files(tmp_path: Path) -> None:
    path = put(tmp_path / "feedback.jsonl", line(), line(question="Else?"))
    for name in ("one", "two"):
        make(path, tmp_path / name)
    for file in ("corpus.jsonl", "qa.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
        assert all(json.loads(row) for row in (tmp_path / "one" / file).read_text("utf-8").strip().split("\n"))


def test_what_people_liked_is_measured_from_then_on(
    settings: Settings, embedder: WordCountEmbedder, tmp_path: Path
) -> None:
    """From the answer in a conversation to the figures of a model that gives it no longer."""
    hits = (make_hit("The flat costs 900 euros.", 0), make_hit("The ferry carries 240 people.", 1))
    note = Citation(1, hits[0].chunk.doc, "Doc", None, (), 0, 25, hits[0].chunk.text)
    said = Answer("What costs the flat?", "900 euros.", False, (Sentence("900 euros.", 0.9, (note,)),), hits, TIMES)
    kept, store = Conversations.open(settings), Store(settings)
    conversation = kept.start(LOCAL, "default", "Rent?")
    liked = kept.add(LOCAL, conversation, said)
    refused = kept.add(LOCAL, conversation, replace(said, question="What costs the castle?"))
    whole = kept.read(LOCAL, conversation)
    kept.close()
    assert whole is not None
    for line_ in (given(whole, liked, LOCAL, "up"), given(whole, refused, LOCAL, "down", ABSTENTION)):
        assert line_ is not None
        store.add(line_)
    make(store.path, tmp_path / "set")

    data = read_qa(tmp_path / "set")
    figures = []
    for says in ("900 euros.", "The flat costs nothing."):
        corpus = open_corpus(settings, embedder, data.corpus, lambda _: None)
        with Rag(settings, embedder, corpus, ParrotLLM(says), WordChecker()) as again:
            run = Run.begin(tmp_path / says, "answers", {}, fresh=True)
            figures.append(evaluate(again, data, run, (PRODUCT,), lambda _: None)["metrics"][PRODUCT])
    now, later = figures
    assert (now["contains"]["value"], later["contains"]["value"]) == (1, 0)
    assert now["citation_recall"]["value"] == now["hit@1"]["value"] == 1
    assert now["unanswerable_answered"]["n"] == 1
