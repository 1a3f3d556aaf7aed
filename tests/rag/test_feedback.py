"""What people said of answers becomes what a model learns: liked answers, corrections, and what was rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rag.errors import FinetuneError
from rag.finetune.feedback import read_feedback
from rag.prompt import ABSTENTION

PASSAGE = {"text": "Whales are mammals.", "title": "Whales", "headings": ["Kinds"], "doc": "whales.md"}


def written(path: Path, *rows: dict[str, Any]) -> Path:
    full = [{"question": "What are whales?", "answer": "fish", "passages": [PASSAGE], **row} for row in rows]
    path.write_text("\n".join(map(json.dumps, full)) + "\n")
    return path


def test_liked_answers_and_corrections_are_learned_with_what_was_rejected(tmp_path: Path) -> None:
    path = written(
        tmp_path / "feedback.jsonl",
        {"verdict": "up", "answer": "mammals"},
        {"verdict": "down", "correction": "mammals"},
        {"verdict": "down", "correction": ABSTENTION},
        {"verdict": "down"},
    )
    asked = [each for sheet in read_feedback(path) for each in sheet.asked]
    assert [(each.answer, each.rejected) for each in asked] == [("mammals", ""), ("mammals", "fish"), ("", "fish")]
    assert {(each.kind, each.source, each.document) for each in asked} == {("feedback", "feedback.jsonl", "whales.md")}


def test_the_passages_stay_as_they_were_shown(tmp_path: Path) -> None:
    (sheet,) = read_feedback(written(tmp_path / "feedback.jsonl", {"verdict": "up", "answer": "mammals"}))
    (passage,) = sheet.passages
    assert (passage.title, passage.headings, passage.text) == ("Whales", ("Kinds",), "Whales are mammals.")


@pytest.mark.parametrize(
    ("row", "said"),
    [({"verdict": "sideways"}, "field verdict"), ({"verdict": "up", "passages": None}, "field passages")],
)
def test_a_line_that_is_no_feedback_is_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    path = written(tmp_path / "feedback.jsonl", {"verdict": "up"}, row)
    with pytest.raises(FinetuneError, match=f"feedback.jsonl:2: {said}"):
        read_feedback(path)


def test_a_file_that_is_no_feedback_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{\n")
    with pytest.raises(FinetuneError, match=r"broken.jsonl:1 is no JSON"):
        read_feedback(tmp_path / "broken.jsonl")
    with pytest.raises(FinetuneError, match="cannot be read"):
        read_feedback(tmp_path / "absent.jsonl")


def test_a_verdict_that_was_changed_counts_as_it_is_now(tmp_path: Path) -> None:
    path = written(
        tmp_path / "feedback.jsonl",
        {"id": "ana", "verdict": "up", "answer": "fish"},
        {"id": "ben", "verdict": "up", "answer": "birds"},
        {"verdict": "up", "answer": "plants"},
        {"verdict": "up", "answer": "stones"},
        {"id": "ana", "verdict": "down", "answer": "fish", "correction": "mammals"},
    )
    assert [sheet.asked[0].answer for sheet in read_feedback(path)] == ["birds", "plants", "stones", "mammals"]


def test_a_last_line_that_breaks_off_does_not_count(tmp_path: Path) -> None:
    path = written(tmp_path / "feedback.jsonl", {"verdict": "up", "answer": "mammals"})
    whole = path.read_bytes()
    next_ = whole.replace(b"mammals", "Säuger".encode()).rstrip()
    for cut in range(len(next_)):
        path.write_bytes(whole + next_[:cut])
        assert len(read_feedback(path)) == 1
    path.write_bytes(whole + next_)  # all of it but the line break, as editors leave it
    assert len(read_feedback(path)) == 2


def test_line_separators_inside_a_text_end_no_line(tmp_path: Path) -> None:
    row = {"question": "What are whales?", "answer": "mam\u2028mals\x85", "verdict": "up", "passages": [PASSAGE]}
    path = tmp_path / "feedback.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [sheet.asked[0].answer for sheet in read_feedback(path)] == ["mam\u2028mals"]


def test_an_answer_without_passages_teaches_nothing(tmp_path: Path) -> None:
    assert read_feedback(written(tmp_path / "feedback.jsonl", {"verdict": "up", "passages": []})) == []
