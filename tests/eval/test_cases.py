"""Labelled directories: what is read, and how each kind of bad row is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.cases import LONGEST_LINE, read_claims, read_qa, read_retrieval, spread
from rag.errors import EvalError

CORPUS: list[dict[str, Any]] = [
    {"_id": "d1", "title": "Rent", "text": "The rent is 900 euros."},
    {"_id": "d2", "text": "The lease ends in May."},
    {"_id": 3, "title": "", "text": ""},
]
QUESTIONS = [{"_id": "q1", "text": "How much is the rent?"}, {"_id": "q2", "text": "When does the lease end?"}]


def made(
    folder: Path, corpus: Any = CORPUS, questions: Any = QUESTIONS, qrels: str = "q1\td1\t1\n", name: str = "qrels.tsv"
) -> Path:
    folder.mkdir(exist_ok=True)
    for file, rows in (("corpus.jsonl", corpus), ("queries.jsonl", questions)):
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (folder / file).write_text(text)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return folder


def test_documents_questions_and_judgements_are_read(tmp_path: Path) -> None:
    data = read_retrieval(made(tmp_path / "leases", qrels="q1\td1\t2\nq1\td2\t0\nq2\td1\t0\n"))
    assert data.name == "leases"
    assert [(entry.id, entry.title, entry.empty) for entry in data.corpus] == [
        ("d1", "Rent", False),
        ("d2", "", False),
        ("3", "", True),
    ]
    assert data.questions == {"q1": "How much is the rent?"}
    assert data.relevant == {"q1": {"d1": 2, "d2": 0}}
    assert data.unjudged == 1
    assert data.left_out == {}


def test_judgements_may_lie_where_beir_has_them_or_where_one_says(tmp_path: Path) -> None:
    folder = made(tmp_path, name="qrels/test.tsv")
    assert list(read_retrieval(folder).questions) == ["q1"]
    (tmp_path / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td2\t1\n")
    assert list(read_retrieval(folder, tmp_path / "train.tsv").questions) == ["q2"]


def test_the_document_a_question_was_written_from_is_left_out(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "qrels_source.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td2\t-1\n")
    assert read_retrieval(folder).left_out == {"q1": frozenset({"d2"})}


def test_a_mark_of_byte_order_and_blank_lines_do_not_matter(tmp_path: Path) -> None:
    folder = made(tmp_path)
    path = folder / "corpus.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n\n")
    assert len(read_retrieval(folder).corpus) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": ""}, r"corpus\.jsonl is empty"),
        ({"corpus": "not json\n"}, r"corpus\.jsonl:1: Invalid JSON"),
        ({"corpus": [{"_id": "d1"}]}, r"corpus\.jsonl:1: field text: Field required"),
        ({"corpus": [*CORPUS, {"_id": "d1", "text": "x"}]}, r"corpus\.jsonl:4: _id 'd1' is that of line 1 too"),
        ({"corpus": [{"_id": "d1", "text": 7}]}, r"corpus\.jsonl:1: field text: Input should be a valid string"),
        ({"corpus": [{"_id": "", "text": "x"}]}, r"corpus\.jsonl:1: field _id: String should have at least 1"),
        ({"corpus": "[1, 2]\n"}, r"corpus\.jsonl:1: Input should be an object"),
        ({"questions": [{"_id": "q1", "text": ""}]}, r"queries\.jsonl:1: field text"),
        ({"qrels": "q1\td9\t1\n"}, r"qrels\.tsv:2: corpus-id 'd9' is not in corpus\.jsonl"),
        ({"qrels": "q1\td1\t1\nq9\td1\t1\n"}, r"qrels\.tsv:3: query-id 'q9' is not in queries\.jsonl"),
        ({"qrels": "q1\td1\n"}, r"qrels\.tsv:2: field score: Field required"),
        ({"qrels": "q1\td1\thigh\n"}, r"qrels\.tsv:2: field score: "),
        ({"qrels": "q1\td1\t0\n"}, r"no question with a relevant document"),
        ({"qrels": ""}, r"no question with a relevant document"),
    ],
)
def test_a_bad_row_is_named_with_file_line_and_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EvalError, match=message) as found:
        read_retrieval(made(tmp_path, **changes))
    assert "\n" not in str(found.value)


def test_columns_that_are_not_named_are_missed(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "qrels.tsv").write_text("q1 0 d1 1\n")
    with pytest.raises(EvalError, match=r"qrels\.tsv:1: found the columns \['q1 0 d1 1'\], expected \['query-id'"):
        read_retrieval(folder)


def test_what_is_not_utf8_is_named(tmp_path: Path) -> None:
    folder = made(tmp_path)
    with (folder / "corpus.jsonl").open("ab") as file:
        file.write('{"_id": "d9", "text": "café"}\n'.encode("latin-1"))
    with pytest.raises(EvalError, match=r"corpus\.jsonl:4: not UTF-8"):
        read_retrieval(folder)


def test_an_endless_line_is_refused_before_it_is_all_read(tmp_path: Path) -> None:
    folder = made(tmp_path, corpus='{"_id": "d1", "text": "' + "x" * (LONGEST_LINE + 10) + '"}\n')
    with pytest.raises(EvalError, match=r"corpus\.jsonl:1: the line has more than 8,000,000 bytes"):
        read_retrieval(folder)


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    folder = made(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(EvalError, match=missing.replace(".", r"\.")):
        read_retrieval(folder)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match="is no directory"):
        read_retrieval(tmp_path / "nowhere")


def rows(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_questions_with_answers_are_read(tmp_path: Path) -> None:
    folder = made(tmp_path / "leases")
    rows(
        folder / "qa.jsonl",
        {"id": 7, "question": "How much?", "answers": ["900"], "relevant": ["d1"], "pages": [2], "difficulty": "easy"},
        {"id": "b", "question": "Who is king?", "answerable": False},
    )
    data = read_qa(folder)
    assert (data.name, len(data.corpus)) == ("leases", 3)
    assert [(each.id, each.answerable, each.pages) for each in data.questions] == [("7", True, (2,)), ("b", False, ())]
    alone = read_qa(folder / "qa.jsonl")
    assert (alone.name, alone.corpus, alone.questions) == ("qa", (), data.questions)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a", "answers": ["x"]}, "qa.jsonl:2: field question: Field required"),
        ({"id": "a", "question": "?"}, "an answerable question needs a reference answer in `answers`"),
        ({"id": "a", "question": "?", "answers": [" "]}, "an answerable question needs a reference answer"),
        ({"id": "a", "question": "?", "answers": "x"}, "qa.jsonl:2: field answers: Input should be a valid array"),
        ({"id": "q", "question": "?", "answers": ["x"]}, "id 'q' is that of line 1 too"),
        ({"id": "a", "question": "?", "answers": ["x"], "relevant": ["d9"]}, "field relevant: 'd9' is not in corpus"),
    ],
)
def test_bad_questions_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    folder = made(tmp_path)
    rows(folder / "qa.jsonl", {"id": "q", "question": "?", "answers": ["x"]}, row)
    with pytest.raises(EvalError) as raised:
        read_qa(folder)
    assert message in str(raised.value)
    with pytest.raises(EvalError, match="does not exist"):
        read_qa(tmp_path / "nowhere")


def test_claims_are_read(tmp_path: Path) -> None:
    claim = {"id": "c1", "set": "x", "context": "It rains.", "question": None, "claim": "It rains.", "label": 1}
    (read,) = read_claims(rows(tmp_path / "claims.jsonl", claim))
    assert (read.context, read.label, read.group) == ("It rains.", 1, None)
    assert read_claims(tmp_path) == (read,)
    with pytest.raises(EvalError, match=r"claims.jsonl:1: field label: Input should be 0 or 1"):
        read_claims(rows(tmp_path / "claims.jsonl", {**claim, "label": 2}))


def test_a_sample_is_spread_over_all() -> None:
    assert spread(range(10), 4) == (0, 2, 5, 7)
    assert spread(range(3), None) == spread(range(3), 9) == (0, 1, 2)
