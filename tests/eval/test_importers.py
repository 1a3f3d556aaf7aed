"""Answers of other systems: what is read of RAGAS and DeepEval, in whichever shape of file, and what is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.cases import Answered
from eval.importers import read_answers
from rag.errors import EvalError

OURS = {"question": "When does it sail?", "answer": "At noon.", "contexts": ["She sails at noon."]}
RAGAS = {
    "user_input": "When does it sail?",
    "retrieved_contexts": ["She sails at noon."],
    "response": "At noon.",
    "reference": "At noon.",
    "rubric": None,
}
RAGAS_1 = {**OURS, "ground_truth": "At noon.", "faithfulness": float("nan")}
DEEPEVAL = {
    "input": "When does it sail?",
    "actual_output": "At noon.",
    "expected_output": "At noon.",
    "context": ["What should have been found."],
    "retrieval_context": ["She sails at noon."],
    "tools_called": None,
}
CAMEL = {
    "name": "test_case_0",
    "input": "When does it sail?",
    "actualOutput": "At noon.",
    "retrievalContext": [{"context": "She sails at noon.", "source": "ferry.pdf"}],
}


def saved(path: Path, value: Any, **options: Any) -> Path:
    path.write_text(json.dumps(value, **options), encoding="utf-8")
    return path


def saved_lines(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def told(answer: Answered) -> tuple[str, str, list[str]]:
    return answer.question, answer.answer, [each.text for each in answer.contexts]


@pytest.mark.parametrize(
    "row", [OURS, RAGAS, RAGAS_1, DEEPEVAL, CAMEL], ids=["ours", "ragas", "v1", "deepeval", "camel"]
)
def test_rows_of_each_system_in_each_shape_of_file(row: dict[str, Any], tmp_path: Path) -> None:
    files = [
        saved_lines(tmp_path / "a.jsonl", row, row),
        saved(tmp_path / "a.json", [row, row]),
        saved(tmp_path / "b.json", [row, row], indent=2),
        saved(tmp_path / "c.json", {"samples": [row, row]}),
        saved(tmp_path / "d.json", {"testFile": "t.py", "testCases": [row, row]}, indent=1),
        saved(tmp_path / "e.json", {"test_cases": [row, row]}),
    ]
    for file in files:
        data = read_answers(file)
        assert data.name == file.stem
        assert [each.id for each in data.answers] == ["1", "2"]
        assert {json.dumps(told(each)) for each in data.answers} == {
            json.dumps(("When does it sail?", "At noon.", ["She sails at noon."]))
        }


def test_a_file_of_one_row_and_one_with_a_mark_at_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\ufeff" + json.dumps(OURS), encoding="utf-8")
    assert len(read_answers(tmp_path / "a.jsonl").answers) == 1


def test_our_rows_keep_their_ids_documents_and_pages(tmp_path: Path) -> None:
    rows = ({**OURS, "id": "b", "contexts": [{"text": "Sun.", "doc": "a.pdf", "page": 3}]}, OURS)
    one, two = read_answers(saved_lines(tmp_path / "a.jsonl", *rows)).answers
    assert (one.id, two.id) == ("b", "2")
    assert (one.contexts[0].doc, one.contexts[0].page) == ("a.pdf", 3)


def test_what_a_system_did_not_give_is_kept_as_nothing(tmp_path: Path) -> None:
    silent = {"user_input": "And back?"}
    rows = read_answers(saved_lines(tmp_path / "a.jsonl", RAGAS, silent, {**RAGAS, "retrieved_contexts": None})).answers
    assert [told(each)[1:] for each in rows] == [("At noon.", ["She sails at noon."]), ("", []), ("At noon.", [])]


def test_a_format_that_is_named_is_not_guessed(tmp_path: Path) -> None:
    both = {**OURS, **DEEPEVAL, "actual_output": "At one."}
    path = saved_lines(tmp_path / "a.jsonl", both)
    assert [read_answers(path, name).answers[0].answer for name in ("footnote", "deepeval")] == ["At noon.", "At one."]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([OURS, {**OURS, "answer": 3}], r"a\.jsonl:2: field answer: Input should be a valid string; correct the row"),
        (
            [RAGAS, {**RAGAS, "retrieved_contexts": ["a", 1]}],
            r"a\.jsonl:2: field .*contexts.*1: Input should be a valid",
        ),
        ([RAGAS, {"response": "At noon."}], r"a\.jsonl:2: field user_input: Field required"),
        ([{**RAGAS, "user_input": [{"type": "human", "content": "Hi"}]}], "only single questions with answers"),
        ([DEEPEVAL, {**DEEPEVAL, "retrieval_context": "a"}], r"a\.jsonl:2: field retrieval_context: Input should be a"),
        ([OURS, {"question": "?", "answer": "a"}], r"a\.jsonl:2: field contexts: Field required"),
        ([{**OURS, "id": "x"}, {**OURS, "id": "x"}], r"a\.jsonl:2: field id: 'x' is an earlier row's"),
        ([{"prompt": "?", "text": "a"}], r"a\.jsonl:1: found the fields prompt, text; expected question, answer and"),
        ([3], "holds no answers"),
        ([OURS, 3], r"a\.jsonl:2: found int, expected an object"),
        (
            [{"user_input": "?", "reference": "a"}],
            r"no row has a field response or answer that is not empty \(found user",
        ),
        ([{**DEEPEVAL, "retrieval_context": []}], "no row has a field retrieval_context or retrievalContext"),
        ([{**OURS, "answer": "\ud800"}, OURS], r"a\.jsonl:1: Invalid JSON.*hex escape"),
    ],
)
def test_rows_that_cannot_be_used_are_named(rows: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(EvalError, match=message) as error:
        read_answers(saved_lines(tmp_path / "a.jsonl", *rows))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"[]", "is empty"),
        (b"hello", r"a\.json:1: not JSON"),
        (json.dumps(OURS).encode() + b"\n{oh", r"a\.json:2: not JSON"),
        (b'[\n{"question": "?"},\n oops]', r"a\.json:3: not JSON"),
        (b'{\n "test_cases": [\n 1,,2]}', r"a\.json:3: not JSON"),
        (b'{"test_cases": []}', "is empty"),
        (b'{"test_cases": [1]}', "element 1: found int"),
        (b"\xff\xfe", "not UTF-8"),
        (b'"text"', "holds no answers"),
    ],
)
def test_files_that_cannot_be_used_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(EvalError, match=message):
        read_answers(tmp_path / "a.json")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(EvalError, match="cannot be read"):
            read_answers(path)
