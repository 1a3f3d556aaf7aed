"""Ingestion and removal with progress on stderr, for the command line. Knows nothing about flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from ingest import quarantine
from ingest.catalog import Catalog
from ingest.results import FileResult, Summary
from ingest.watch import missing
from rag.errors import FootnoteError, IngestError
from rag.filter import Pairs
from rag.settings import Settings
from ui import records
from ui.interrupt import stoppable
from ui.progress import shown
from ui.terminal import harmless, ingested
from ui.workplace import Opening, Run, to_write, workplace


class Outcome(NamedTuple):
    """What a run did, for scripts and for people."""

    record: dict[str, Any]
    text: str


def stderr() -> Console:
    """Where progress and messages go."""
    return Console(stderr=True, emoji=False, highlight=False)


def ingest_with_progress(
    settings: Settings,
    catalog: Catalog,
    paths: Sequence[Path],
    prune: bool = False,
    opening: Opening = to_write,
    metadata: Pairs = (),
) -> Outcome:
    """Ingest paths, here or in the process that owns the index; `metadata` is said about every document of them.

    Raises:
        IngestError: a path does not exist.
        StoreError: the index cannot be written.
    """
    all_exist(paths)
    console, seen = stderr(), set[str]()
    with opening(settings, catalog) as place:
        if place.note:
            say(console, place.note)
        run = place.begin()
        with stoppable(run.stop) as stopping, shown(run.progress, stopping, console):
            for result in run.run(paths, prune, metadata):
                seen.add(result.doc)
                report(console, result)
    if run.summary.interrupted:
        say_where_it_stopped(console, run)
    elif not prune:
        _say_what_has_gone(console, missing(catalog, settings.collection, paths, seen))
    return outcome(settings, catalog, run.summary)


def outcome(settings: Settings, catalog: Catalog, summary: Summary) -> Outcome:
    """Bring the report of failed documents up to date; what is to be shown of the run.

    Raises:
        IngestError: the report cannot be written.
    """
    record = records.summary(summary, quarantine.write(settings, catalog))
    return Outcome(record, ingested(record))


def all_exist(paths: Sequence[Path]) -> None:
    """Refuse a mistyped path before anything is opened or made."""
    gone = [str(path) for path in paths if not path.exists()]
    if gone:
        raise IngestError(f"no such file or folder: {', '.join(gone)}; check the spelling")


def report(console: Console, result: FileResult) -> None:
    """A line for each document that failed or was read in part."""
    if result.status == "failed":
        say(console, f"failed   {result.doc} ({result.stage}): {result.reason}")
    elif result.reason and result.status == "indexed":
        say(console, f"in part  {result.doc}: {result.reason}")


def say(console: Console, text: str) -> None:
    """A line on stderr, above the progress."""
    console.print(harmless(text), markup=False, soft_wrap=True)


def say_where_it_stopped(console: Console, run: Run) -> None:
    """How much was done, and how to go on."""
    done = run.summary.seen
    of = records.counted(max(run.progress().of, done), "file")
    say(console, f"stopped: {done:,} of {of} done; run the same command again to go on")


def _say_what_has_gone(console: Console, gone: Sequence[object]) -> None:
    if gone:
        documents = records.counted(len(gone), "document")
        remedy = "add `--prune` to take what has gone out of the index"
        say(console, f"{documents} of these folders without a file; {remedy}")


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
    with workplace(settings, catalog) as place:
        removed = place.remove(list(documents))
    quarantine.write(settings, catalog)
    return removed
