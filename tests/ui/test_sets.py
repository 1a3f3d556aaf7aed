"""Data sets on disk -> what a training learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rag.errors import EvalError
from rag.finetune import recipe
from rag.finetune.recipe import Texts
from ui.sets import labelled, material, unseen


def put(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    put(
        tmp_path / "asked" / "corpus.jsonl",
        [{"_id": str(i), "title": "", "text": f"Ship {i} sank." + "x" * 10} for i in range(4)],
    )
    put(
        tmp_path / "asked" / "qa.jsonl",
        [{"id": "q", "question": "What did ship 1 do?", "answers": ["sank"], "relevant": ["1"]}],
    )
    row = {"id": "a", "set": "labelled", "question": None, "context": "It sank.", "claim": "It swam.", "label": 0}
    put(tmp_path / "labelled" / "claims.jsonl", [row, {**row, "id": "b", "claim": "It sank.", "label": 1}])
    used = Texts("asked", times=2, every=2, longest=15)
    monkeypatch.setattr(recipe, "QUESTIONS", (used,))
    monkeypatch.setattr(recipe, "CLAIMS", (Texts("labelled"),))
    monkeypatch.setattr(recipe, "BLEND", ("labelled",))
    monkeypatch.setattr(recipe, "ALTERED", (used._replace(others=True),))
    return tmp_path


def test_the_model_and_the_altered_claims_have_no_text_in_common(folder: Path) -> None:
    learned = material(folder)
    assert learned.documents == (*["Ship 0 sank.xxx", "Ship 2 sank.xxx"] * 2, "It sank.")
    assert [(each.claim, each.label) for example in learned.examples for each in example.claims][-2:] == [
        ("It swam.", 0),
        ("It sank.", 1),
    ]
    others = unseen(folder)
    assert others == ["Ship 1 sank." + "x" * 10, "Ship 3 sank." + "x" * 10, "x" * 7, "x" * 7]


def test_labelled_claims_keep_their_labels(folder: Path) -> None:
    found = labelled(folder)
    assert {name: [(each.claim, each.label) for each in rows] for name, rows in found.items()} == {
        "labelled": [("It swam.", 0), ("It sank.", 1)]
    }


def test_a_set_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "asked" / "qa.jsonl").unlink()
    with pytest.raises(EvalError, match="asked"):
        unseen(tmp_path)
