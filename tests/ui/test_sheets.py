"""Sets, collections and feedback become data: parted by document, seeded, with a card that says what it is made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rag.errors import FinetuneError
from rag.finetune.sheets import CARD, TRAIN, VALIDATION, read_card, read_sheets
from rag.settings import Settings
from tests.conftest import OpenRag, WordChecker, WordCountEmbedder
from ui import sheets
from ui.sheets import held_out, make, parts

ANIMALS = "whale shark tuna eel crab squid seal otter heron stork crane eagle".split()


def corpus(folder: Path) -> Path:
    """Twelve documents of three sentences, a question about each sentence."""
    folder.mkdir()
    entries, questions = [], []
    for number, animal in enumerate(ANIMALS):
        facts = [
            (f"The {animal} was described by Carl Linnaeus in {1740 + number}.", f"When was the {animal} described?"),
            (f"The {animal} eats {number + 20} kilograms of food a day.", f"How much does the {animal} eat a day?"),
        ]
        entries.append({"_id": animal, "title": animal.title(), "text": " ".join(text for text, _ in facts)})
        for text, question in facts:
            answer = str(1740 + number) if "described" in text else f"{number + 20} kilograms"
            questions.append({"id": question, "question": question, "answers": [answer], "relevant": [animal]})
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, entries)))
    (folder / "qa.jsonl").write_text("\n".join(map(json.dumps, questions)))
    return folder


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "open_embedder", lambda settings: WordCountEmbedder())
    monkeypatch.setattr(sheets, "open_checker", lambda settings: WordChecker())


def test_documents_of_a_group_stay_together_and_every_document_has_one_part() -> None:
    groups = {f"{title}-{n}": title for title in ANIMALS for n in range(3)}
    parted = parts(groups, 0.5, 2)
    assert sorted(id_ for part in parted for id_ in part) == sorted(groups)
    titles = [{groups[id_] for id_ in part} for part in parted]
    assert [len(each) for each in titles] == [6, 2, 4]
    assert not titles[0] & titles[1] | titles[1] & titles[2] | titles[0] & titles[2]
    assert parts(groups, 0.5, 2) == parted


def test_no_document_is_in_two_parts_and_the_card_says_what_is_held_out(settings: Settings, tmp_path: Path) -> None:
    data = corpus(tmp_path / "animals")
    record = make(settings, [data], tmp_path / "out", 20, 0.25, 0, print)
    card = read_card(tmp_path / "out")
    assert record == {"folder": str(tmp_path / "out"), **card}
    kept = held_out(card, "animals")
    assert len(kept) == 3
    seen = [
        {passage.document for sheet in read_sheets(tmp_path / "out" / name) for passage in sheet.passages}
        for name in (TRAIN, VALIDATION)
    ]
    assert not seen[0] & seen[1]
    assert not (seen[0] | seen[1]) & set(kept)
    asked = [each for sheet in read_sheets(tmp_path / "out" / TRAIN) for each in sheet.asked]
    assert {each.source for each in asked} == {"animals"}
    assert 0 < sum(not each.answer for each in asked) < len(asked)
    assert card["train"]["questions"] == len(asked)


def test_the_same_seed_makes_the_same_data(settings: Settings, tmp_path: Path) -> None:
    data = corpus(tmp_path / "animals")
    for name in ("one", "two"):
        make(settings, [data], tmp_path / name, 12, 0.25, 7, print)
    assert (tmp_path / "one" / TRAIN).read_bytes() == (tmp_path / "two" / TRAIN).read_bytes()


def test_a_collection_is_asked_about_by_rule(settings: Settings, tmp_path: Path, open_rag: OpenRag) -> None:
    texts = {
        f"{animal}.md": f"# {animal.title()}\n\nThe {animal} was described by Carl Linnaeus in {1740 + number}. "
        f"The {animal} of the northern sea lives in {number + 3} large groups near the coast of Norway.\n"
        for number, animal in enumerate(ANIMALS)
    }
    open_rag(texts).close()
    record = make(settings, [], tmp_path / "out", 12, 0.2, 0, print)
    assert record["sources"][0]["kind"] == "collection"
    asked = [each for sheet in read_sheets(tmp_path / "out" / TRAIN) for each in sheet.asked]
    assert {each.kind for each in asked} == {"rule"}
    assert any(not each.answer for each in asked)


def test_feedback_alone_is_data_too(settings: Settings, tmp_path: Path) -> None:
    rows = [
        {
            "question": f"What is {animal}?",
            "answer": "a fish",
            "verdict": "down",
            "correction": "an animal",
            "passages": [{"text": f"The {animal} is an animal.", "doc": animal}],
        }
        for animal in ANIMALS
    ]
    (tmp_path / "feedback.jsonl").write_text("\n".join(map(json.dumps, rows)))
    record = make(settings, [], tmp_path / "out", 12, 0.2, 0, print, feedback=tmp_path / "feedback.jsonl")
    assert (record["train"]["feedback"], record["validation"]["feedback"]) == (9, 3)


def test_too_little_to_learn_from_writes_nothing(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "feedback.jsonl").write_text("")
    with pytest.raises(FinetuneError, match="too little to learn from"):
        make(settings, [], tmp_path / "out", 12, 0.2, 0, print, feedback=tmp_path / "feedback.jsonl")
    assert not (tmp_path / "out" / CARD).exists()
