"""Traces of ingestions: a span for the run, one for each document that is read, and for each batch that is written."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from ingest.catalog import Catalog
from ingest.pipeline import Ingestion
from rag.settings import Settings
from rag.store.opening import open_store
from tests.conftest import WordCountEmbedder
from tests.traces import Spans, said


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return Spans(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secret-folder"
    folder.mkdir()
    (folder / "lease.md").write_text("The rent is 900 euros.", encoding="utf-8")
    (folder / "empty.md").write_text("", encoding="utf-8")
    return folder


def test_a_run_tells_of_its_documents_and_names_none(
    settings: Settings, embedder: WordCountEmbedder, catalog: Catalog, folder: Path, spans: Spans
) -> None:
    with closing(open_store(settings, embedder, create=True)) as store:
        list(Ingestion(settings, embedder, store, catalog).run([folder]))
        run = spans.named("ingest")
        assert sorted(spans.below(run)) == ["document", "document", "embed", "optimize", "write"]
        assert said(run) == {"indexed": 1, "unchanged": 0, "removed": 0, "failed": 1, "passages": 1}
        documents = [each for each in spans.all() if each.name == "document"]
        failed, indexed = sorted(documents, key=lambda each: str(said(each)["outcome"]))
        assert said(indexed) == {"outcome": "indexed", "bytes": 22, "pages": 1, "passages": 1}
        assert [event.name for event in indexed.events] == ["read"]
        assert (said(failed)["outcome"], said(failed)["stage"]) == ("failed", "parse")
        assert not [text for text in ("lease", "euros", "secret-folder", "empty.md") if text in spans.text()]
        before = len(spans.all())
        list(Ingestion(settings, embedder, store, catalog).run([folder / "lease.md"]))
        assert [each.name for each in spans.all()[before:]] == ["ingest"]


def test_a_run_that_is_left_alone_ends_what_it_began(
    settings: Settings, embedder: WordCountEmbedder, catalog: Catalog, folder: Path, spans: Spans
) -> None:
    with closing(open_store(settings, embedder, create=True)) as store:
        results = Ingestion(settings, embedder, store, catalog).run([folder])
        next(results)
        results.close()  # type: ignore[attr-defined]
    assert said(spans.named("ingest"))["outcome"] == "stopped"
    assert all("outcome" in said(each) for each in spans.all() if each.name == "document")
