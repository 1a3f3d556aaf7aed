"""The report of failed documents, as a script reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingest import quarantine
from ingest.catalog import Catalog, Row
from rag.errors import IngestError
from rag.settings import Settings


def row(doc: str, status: str = "failed", **changes: Any) -> Row:
    fields: dict[str, Any] = {"doc_id": doc, "title": doc, "sha256": "00", "size": 3, "mtime_ns": 1, "status": status}
    return Row(doc, **{**fields, **changes})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_failed_document_has_a_line(settings: Settings, catalog: Catalog) -> None:
    inside = row("/d/mail.eml/b\u2028ü.pdf", stage="parse", reason="needs a password", parent="/d/mail.eml")
    catalog.put("default", row("/d/a.pdf", stage="read", reason="gone"), inside, row("/d/ok.txt", "indexed"))
    catalog.put("other", row("/d/elsewhere.pdf"))
    path = quarantine.write(settings, catalog)
    assert path == settings.home / "quarantine" / "default.jsonl"
    first, second = path.read_text(encoding="utf-8").split("\n")[:2]
    stored = {each.doc: each for each in catalog.rows("default")}
    assert json.loads(first) == {
        "path": "/d/a.pdf",
        "stage": "read",
        "reason": "gone",
        "sha256": "00",
        "size": 3,
        "parent": "",
        "first_seen": stored["/d/a.pdf"].first_seen,
        "updated_at": stored["/d/a.pdf"].updated_at,
    }
    assert json.loads(second)["parent"] == "/d/mail.eml"
    assert json.loads(second)["path"] == inside.doc
    assert [each.name for each in path.parent.iterdir()] == ["default.jsonl"]


def test_it_says_what_the_catalog_says_now(settings: Settings, catalog: Catalog) -> None:
    catalog.put("default", row("/d/a.pdf"), row("/d/b.pdf"))
    path = quarantine.write(settings, catalog)
    assert path is not None
    catalog.put("default", row("/d/a.pdf", "indexed"))
    quarantine.write(settings, catalog)
    assert [line["path"] for line in lines(path)] == ["/d/b.pdf"]


def test_where_nothing_failed_there_is_no_file(settings: Settings, catalog: Catalog) -> None:
    assert quarantine.write(settings, catalog) is None
    catalog.put("default", row("/d/a.pdf"))
    path = quarantine.write(settings, catalog)
    assert path is not None
    catalog.remove("default", "/d/a.pdf")
    assert quarantine.write(settings, catalog) is None
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_one_line(settings: Settings, catalog: Catalog) -> None:
    catalog.put("default", row("/d/a.pdf"))
    (settings.home / "quarantine").write_text("in the way")
    with pytest.raises(IngestError, match=r"default\.jsonl cannot be written: .*; check the disk"):
        quarantine.write(settings, catalog)
