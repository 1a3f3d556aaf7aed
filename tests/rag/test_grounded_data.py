"""Data to learn from: what is right depends on the passages that are shown, and sheets on disk are whole."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rag.errors import FinetuneError
from rag.finetune import data
from rag.finetune.data import Amounts, Corpus, Wanted, sheets
from rag.finetune.questions import Question
from rag.finetune.sheets import CARD, Asked, Sheet, Shown, read_card, read_sheets, write_sheets
from rag.types import Hit
from tests.conftest import make_chunk, make_hit, words

DOCUMENTS = {
    "titanic": (
        "The Titanic was built by Harland and Wolff in Belfast. The wreck of the Titanic was found by Robert Ballard "
        "in 1985. The Titanic carried 1,300 passengers on its first voyage.",
        "The Carpathia rescued many survivors of the Titanic. The wreck of the Carpathia was found in 2000.",
    ),
    "whales": (
        "The blue whale is the largest animal on Earth. Blue whales were hunted by Norwegian fleets until 1966.",
        "The heart of a blue whale has four chambers. The song of the blue whale was recorded in 1992.",
    ),
    "tea": (
        "Tea was brought to Europe by Portuguese merchants in 1610. The first tea garden in Assam was founded in 1837.",
        "Green tea contains more vitamins than black tea. Black tea of Assam is sold in 30 countries.",
    ),
    "chess": (
        "Chess became popular in Persia before 700. The first chess tournament of London was held in 1851.",
        "The queen of chess was called the fers in Persia. Deep Blue defeated Garry Kasparov in 1997.",
    ),
}
"""Document -> its passages."""
WANTED = (
    Wanted("Who found the wreck of the Titanic?", "Robert Ballard", ("titanic",)),
    Wanted("When was the wreck of the Carpathia found?", "2000", ("titanic",)),
    Wanted("Which fleets hunted blue whales?", "Norwegian fleets", ("whales",)),
    Wanted("When was the song of the blue whale recorded?", "1992", ("whales",)),
    Wanted("Who brought tea to Europe?", "Portuguese merchants", ("tea",)),
    Wanted("Where was chess popular before 700?", "Persia", ("chess",)),
    Wanted("Who was beaten by Deep Blue at chess?", "Garry Kasparov", ("chess",)),
    Wanted("Who plays tea chess against whales?", "", ()),
)
ANSWERS = {wanted.question: wanted.answer for wanted in WANTED}
AMOUNTS = Amounts(asked=len(WANTED), made=6)


def hits() -> list[Hit]:
    found = []
    for document, passages in DOCUMENTS.items():
        found += [make_hit(text, len(found) + i, doc=document, title=document) for i, text in enumerate(passages)]
    return found


def search(question: str, k: int) -> Sequence[Hit]:
    """By how many words a passage shares with the question."""
    return sorted(hits(), key=lambda hit: (-len(set(words(question)) & set(words(hit.chunk.text))), hit.chunk.id))[:k]


def corpus(wanted: Sequence[Wanted] = WANTED, **changes: Any) -> Corpus:
    texts = {document: "\n\n".join(passages) for document, passages in DOCUMENTS.items()}
    return Corpus.of("set", texts, **{"search": search, "wanted": wanted, **changes})


def some(amounts: Amounts = AMOUNTS, seeds: int = 8, **changes: Any) -> list[Sheet]:
    return [sheet for seed in range(seeds) for sheet in sheets(corpus(**changes), amounts, seed)]


def shown(sheet: Sheet) -> str:
    return " ".join(passage.text for passage in sheet.passages)


@pytest.fixture(autouse=True)
def as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passages are whole, and names are those of the documents."""
    monkeypatch.setattr(data, "CUT", 0.0)
    monkeypatch.setattr(data, "DISGUISED", 0.0)


@pytest.fixture
def nothing_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "TAKEN_OUT", 0.0)


@pytest.fixture
def all_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "TAKEN_OUT", 1.0)


@pytest.fixture
def by_rule(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Every question that was made by rule -> the answers that it was made with."""
    made: dict[str, set[str]] = {}
    real = data.questions

    def recorded(sentence: str, rng: random.Random, vocabulary: Collection[str]) -> list[Question]:
        found = real(sentence, rng, vocabulary)
        for each in found:
            made.setdefault(each.question, set()).add(each.answer)
        return found

    monkeypatch.setattr(data, "questions", recorded)
    return made


def test_the_same_seed_makes_the_same_sheets_and_another_one_others() -> None:
    assert some(seeds=2) == some(seeds=2)
    one, other = (list(sheets(corpus(), AMOUNTS, seed)) for seed in (1, 2))
    assert one != other


@pytest.mark.usefixtures("nothing_taken_out")
@pytest.mark.parametrize("wanted", [each for each in WANTED if each.answer], ids=lambda each: each.answer)
def test_a_question_whose_passage_is_there_is_answered(wanted: Wanted) -> None:
    found = some(Amounts(asked=1), wanted=[wanted])
    assert found
    for sheet in found:
        assert Asked(wanted.question, wanted.answer, "person", "set", wanted.documents[0]) in sheet.asked
        assert wanted.answer in shown(sheet)


@pytest.mark.usefixtures("all_taken_out")
@pytest.mark.parametrize("wanted", [each for each in WANTED if each.answer], ids=lambda each: each.answer)
def test_a_question_whose_passage_was_taken_out_is_one_to_decline(wanted: Wanted) -> None:
    found = [sheet for sheet in some(Amounts(asked=1), wanted=[wanted]) if wanted.answer not in shown(sheet)]
    assert found
    for sheet in found:
        assert Asked(wanted.question, "", "person", "set", wanted.documents[0]) in sheet.asked


def test_a_question_that_the_documents_do_not_answer_is_one_to_decline() -> None:
    asked = {each.answer for sheet in some() for each in sheet.asked if each.question == WANTED[-1].question}
    assert asked == {""}


def test_no_question_is_declined_whose_answer_is_shown(by_rule: dict[str, set[str]]) -> None:
    declined = [(sheet, each) for sheet in some() for each in sheet.asked if not each.answer]
    assert {each.kind for _, each in declined} == {"person", "rule"}
    for sheet, each in declined:
        for answer in by_rule.get(each.question, {ANSWERS.get(each.question, "")}):
            assert not answer or answer.lower() not in shown(sheet).lower(), each


def test_every_answer_is_shown_and_every_passage_is_one_of_the_documents(by_rule: dict[str, set[str]]) -> None:
    texts = {hit.chunk.text for hit in hits()}
    answered = [(sheet, each) for sheet in some() for each in sheet.asked if each.answer]
    assert {each.kind for _, each in answered} == {"person", "rule"}
    for sheet, each in answered:
        assert {passage.text for passage in sheet.passages} <= texts
        assert any(each.answer in passage.text for passage in sheet.passages if passage.document == each.document)
        assert each.kind == "person" or each.answer in by_rule[each.question]


def test_a_question_is_asked_once_in_a_sheet() -> None:
    for sheet in some():
        assert len({each.question.lower() for each in sheet.asked}) == len(sheet.asked)


@pytest.mark.usefixtures("nothing_taken_out")
def test_the_best_passage_is_first_mostly_and_elsewhere_at_times() -> None:
    wanted = WANTED[0]
    best = search(wanted.question, 1)[0].chunk.text
    places = [[p.text for p in sheet.passages].index(best) for sheet in some(Amounts(asked=1), 60, wanted=[wanted])]
    assert 0.3 < places.count(0) / len(places) < 0.9
    assert set(places) >= {0, 1, 2}


def test_questions_by_rule_that_the_checker_does_not_support_are_left_out() -> None:
    looked: list[str] = []

    def never(question: str, answer: str, hits: Sequence[Hit]) -> bool:
        looked.append(question)
        return False

    found = [each for sheet in some(supported=never) for each in sheet.asked if each.answer]
    assert looked
    assert {each.kind for each in found} == {"person"}  # what a person answered is not put in doubt


def asked_beside(word: str, wanted: Wanted) -> set[str]:
    """What is asked in the sheets that show a word."""
    found = [sheet for sheet in some(wanted=[wanted]) if word in shown(sheet)]
    assert found
    return {each.question for sheet in found for each in sheet.asked}


def test_part_of_a_word_is_no_answer() -> None:
    """ "10" stands in "1610", "30" in "1,300": nobody could say whether the passages answer."""
    asked = Wanted("How many merchants brought tea to Europe?", "10", ("tea",))
    assert asked.question not in asked_beside("1610", asked)


def test_another_documents_passage_with_the_same_words_is_no_answer_and_nothing_to_decline() -> None:
    asked = Wanted("When was the wreck found?", "1985", ("tea",))
    assert asked.question not in asked_beside("1985", asked)


def test_a_part_of_a_long_answer_is_nothing_to_decline() -> None:
    answer = "The Titanic was built by Harland and Wolff in Ireland at that time"
    asked = Wanted("Who built the Titanic?", answer, ("whales", "titanic"))
    assert asked.question not in asked_beside("Harland", asked)


@pytest.mark.usefixtures("all_taken_out")
def test_there_is_no_sheet_without_passages() -> None:
    def one(question: str, k: int) -> Sequence[Hit]:
        return [hit for hit in search(question, k) if "Ballard" in hit.chunk.text][:1]

    assert some(Amounts(asked=1), wanted=WANTED[:1], search=one) == []
    assert some(search=lambda question, k: []) == []


def test_there_are_as_many_as_are_wanted_at_most() -> None:
    found = list(sheets(corpus(), Amounts(asked=3, made=4, by_rule=2, people=1), 0))
    assert len(found) == 3 + 4
    for sheet in found:
        rules = [each for each in sheet.asked[1:] if each.kind == "rule"]
        assert sum(bool(each.answer) for each in rules) <= 2
        assert sum(each.kind == "person" for each in sheet.asked) <= 1 + 1 + 1  # the first, one more, one to decline
    assert list(sheets(corpus(), Amounts(), 0)) == []
    assert list(sheets(Corpus.of("empty", {"a": " "}, search), AMOUNTS, 0)) == []


def test_short_passages_are_sentences_of_theirs_and_the_answer_is_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CUT", 1.0)
    monkeypatch.setattr(data, "CUT_SENTENCES", (1,))
    monkeypatch.setattr(data, "TAKEN_OUT", 0.0)
    wanted = WANTED[0]
    whole = [passage for passages in DOCUMENTS.values() for passage in passages]
    for sheet in some(Amounts(asked=1), 20, wanted=[wanted]):
        for passage in sheet.passages:
            assert passage.text.count(".") == 1
            assert any(passage.text in text for text in whole)
        assert wanted.answer in shown(sheet)
        for each in sheet.asked:
            assert each.answer in shown(sheet), "what was cut away is no answer"


def test_half_of_the_sheets_have_other_names_but_none_that_training_is_measured_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data, "DISGUISED", 0.5)
    real = {passage for passages in DOCUMENTS.values() for passage in passages}
    disguised = [any(passage.text not in real for passage in sheet.passages) for sheet in some()]
    assert 0.3 < sum(disguised) / len(disguised) < 0.7
    measured = AMOUNTS.measured(0.5)
    assert (measured.asked, measured.made) == (4, 3)
    assert all(passage.text in real for sheet in some(measured) for passage in sheet.passages)


# On disk.

CHUNK = make_chunk('Grüße, "Zoë"\u2028\nA | B', headings=("One", "Two"), header="Name | Age")
SHEET = Sheet(
    (Shown.of(CHUNK), Shown("", (), "", "", "")),
    (
        Asked("Who?", 'Zoë,\n"herself"', "person", "set", "/documents/doc.md"),
        Asked("Where?", "", "rule", "set", ""),
        Asked("Why?", "because", "feedback", "file", "", rejected="I do not know."),
    ),
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    write_sheets(path, [SHEET, Sheet((), ()), SHEET])
    assert read_sheets(path) == [SHEET, Sheet((), ()), SHEET]
    assert len(path.read_text(encoding="utf-8").split("\n")) == 4  # a line each, that a person can read
    assert "Grüße" in path.read_text(encoding="utf-8")


def test_a_passage_is_shown_as_the_prompt_would_show_its_chunk() -> None:
    shown = Shown.of(CHUNK).hit.chunk
    assert (shown.title, shown.headings, shown.with_header) == (CHUNK.title, CHUNK.headings, CHUNK.with_header)
    assert shown.doc == CHUNK.doc


def line(**changes: object) -> str:
    return json.dumps({**asdict(SHEET), **changes})


def field(of: str, name: str, value: object) -> str:
    row: dict[str, Any] = json.loads(line())
    row[of][0][name] = value
    return json.dumps(row)


def without(of: str, name: str) -> str:
    row: dict[str, Any] = json.loads(line())
    del row[of][0][name]
    return json.dumps(row)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ('{"passages": [', "JSON"),
        ("", "JSON"),
        ("[]", "object"),
        ("null", "object"),
        ('{"passages": []}', "asked"),
        (line(asked={"question": "Who?"}), "asked"),
        (without("asked", "answer"), "asked.0.answer"),
        (without("passages", "text"), "passages.0.text"),
        (field("asked", "question", 7), "asked.0.question"),
        (field("passages", "text", None), "passages.0.text"),
        (field("passages", "headings", "One"), "passages.0.headings"),
        (field("passages", "headings", [1]), "passages.0.headings.0"),
    ],
)
def test_a_broken_line_is_named_with_its_file_and_fault_in_one_line(broken: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{line()}\n{broken}\n{line()}\n", encoding="utf-8")
    with pytest.raises(FinetuneError, match=r"train\.jsonl:2 ") as caught:
        read_sheets(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named_too(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(line().encode() + b'\n{"passages": [], "asked": [], "x": "\xff"}\n')
    with pytest.raises(FinetuneError, match=r"train\.jsonl:2 ") as caught:
        read_sheets(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.jsonl", "."])
def test_a_missing_file_says_how_to_make_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(FinetuneError, match="footnote finetune data") as caught:
        read_sheets(tmp_path / name)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", "[]", "\xff"])
def test_a_folder_without_a_whole_card_is_no_data(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / CARD).write_text(content, encoding="latin-1")
    with pytest.raises(FinetuneError, match="footnote finetune data") as caught:
        read_card(tmp_path)
    assert "\n" not in str(caught.value)


def failing() -> Iterator[Sheet]:
    yield SHEET
    raise KeyboardInterrupt


def test_writing_that_fails_midway_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_sheets(path, failing())
    assert list(tmp_path.iterdir()) == []
    write_sheets(path, [SHEET])
    with pytest.raises(KeyboardInterrupt):
        write_sheets(path, failing())
    assert list(tmp_path.iterdir()) == [path]
    assert read_sheets(path) == [SHEET]
