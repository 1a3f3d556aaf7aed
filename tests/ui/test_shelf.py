"""What the documents' part of the page lists while the index is being written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from ingest.catalog import Catalog
from ingest.pipeline import Ingestion
from ingest.writer import remove
from rag.answer import Rag
from tests.conftest import OpenRag
from tests.ingest.inline import Inline
from ui.desk import Desk
from ui.server.served import Served
from ui.shelf import _failed_files, _Shelf


class Shown:
    """As much of `Served` as the list takes."""

    def __init__(self, rag: Rag, catalog: Catalog) -> None:
        self.catalog, self.collection, self.desk = catalog, rag.settings.collection, Desk(rag, catalog)


def bring(rag: Rag, catalog: Catalog, folder: Path) -> None:
    readers = Inline(rag.settings, rag.embedder)
    list(Ingestion(rag.settings, rag.embedder, rag.store, catalog, readers=readers).run([folder]))


def take_out(rag: Rag, catalog: Catalog, _: Path) -> None:
    remove(next(row for row in catalog.rows("default") if row.doc.endswith("b.txt")), "default", rag.store, catalog)


@pytest.mark.parametrize(("step", "work"), [("upsert", bring), ("delete", take_out)])
def test_what_is_being_written_is_not_called_failed_and_what_was_cut_short_is(
    open_rag: OpenRag,
    catalog: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    work: Callable[[Rag, Catalog, Path], None],
) -> None:
    rag = open_rag({"a.md": "# Rent\n\nThe rent is due monthly.\n", "broken.pdf": "%PDF-1.4 nothing"})
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.txt").write_text("The lease ends in May.")
    if work is take_out:
        bring(rag, catalog, tmp_path / "more")
    shown, seen = Shown(rag, catalog), list[tuple[list[str], list[str]]]()
    shelf, done = _Shelf(cast(Served, shown)), getattr(rag.store, step)

    def look() -> None:
        found = shelf.found()
        failed = _failed_files(catalog, "default", {document.doc for document in found})
        seen.append((sorted(Path(each.doc).name for each in found), sorted(path.name for path in failed)))

    def looked(*arguments: Any) -> Any:
        with shown.desk.writing:
            look()
        look()
        return done(*arguments)

    monkeypatch.setattr(rag.store, step, looked)
    work(rag, catalog, tmp_path / "more")
    assert seen == [
        (["a.md", "broken.pdf"], ["broken.pdf"]),
        (["a.md", "b.txt", "broken.pdf"], ["b.txt", "broken.pdf"]),
    ]
