"""Ingestion and removal with progress on stderr, for the command line. Knows nothing about flags."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ingest.catalog import Catalog
from ingest.pipeline import FileResult, Ingestion, peak_rss_mb, remove
from rag.answer import Rag
from rag.errors import FootnoteError, IngestError
from rag.settings import Settings
from ui import records


def ingest_with_progress(settings: Settings, catalog: Catalog, paths: Sequence[Path]) -> tuple[dict[str, Any], str]:
    """Ingest paths; returns the JSON record and its text form.

    Raises:
        IngestError: a path does not exist.
        StoreError: the index cannot be written.
    """
    _all_exist(paths)
    console = Console(stderr=True, emoji=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        Rag.open(settings, create=True) as rag,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        run = Ingestion(settings, rag.embedder, rag.store, catalog)
        task = progress.add_task("reading files")
        for result in run.run(paths):
            done = run.summary
            progress.update(task, description=f"{done.seen} files, {done.pages} pages, {done.chunks} passages")
            _report(console, result)
    record = records.summary(run.summary, peak_rss_mb())
    return record, _text(record)


def _all_exist(paths: Sequence[Path]) -> None:
    """Refuse a mistyped path before anything is opened or made."""
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise IngestError(f"no such file or folder: {', '.join(missing)}; check the spelling")


def _report(console: Console, result: FileResult) -> None:
    """A line for each file that failed or was read in part."""
    if result.status == "failed":
        console.print(f"failed   {result.doc} ({result.stage}): {result.reason}", markup=False, soft_wrap=True)
    elif result.reason:
        console.print(f"in part  {result.doc}: {result.reason}", markup=False, soft_wrap=True)


def _text(record: dict[str, Any]) -> str:
    files = ", ".join(f"{count} {name}" for name, count in record["files"].items() if count and name != "seen")
    return (
        f"{records.counted(record['files']['seen'], 'file')}: {files or 'none'}; "
        f"{records.counted(record['chunks'], 'passage')} from {records.counted(record['pages'], 'page')} "
        f"in {record['seconds']:.1f} s "
        f"({record['chunks_per_second']:.0f} passages/s, peak memory {record['peak_rss_mb']:.0f} MB)"
    )


def remove_documents(settings: Settings, catalog: Catalog, names: Sequence[str]) -> list[str]:
    """Remove every document that a name stands for; nothing is removed unless every name stands for one.

    Raises:
        FootnoteError: a name stands for no document, or for several.
    """
    documents = {}
    for name in names:
        found = catalog.find(settings.collection, name)
        if len(found) != 1:
            which = ", ".join(document.doc for document in found[:5]) or "none"
            raise FootnoteError(
                f"{name!r} stands for {len(found)} documents of collection {settings.collection!r} ({which}); "
                "give a path as `footnote docs` lists it"
            )
        documents[found[0].doc] = found[0]
    with Rag.open(settings) as rag:
        for document in documents.values():
            remove(document, settings.collection, rag.store, catalog)
    sys.stderr.flush()
    return list(documents)
