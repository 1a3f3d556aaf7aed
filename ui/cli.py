"""The `footnote` command: reads flags, prints, and knows nothing about how the work is done.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done; 1 a Footnote error, shown in one line;
2 wrong usage; 3 done, but some files failed or a check did not hold.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.errors import FootnoteError, StoreLocked
from ui.accounts import accounts
from ui.command import (
    SOME_FAILED,
    STOPPED,
    AsJson,
    Collection,
    Docs,
    Folders,
    Home,
    Since,
    Strict,
    Types,
    Until,
    Where,
    catalog_of,
    check_collection,
    filter_of,
    pairs_of,
    say,
    settings_of,
    show,
    traced,
)
from ui.finetune import finetune
from ui.measure import bench, evaluation

if TYPE_CHECKING:
    from rag.answer import Rag
    from rag.filter import Filter, Pairs
    from rag.settings import Settings
    from ui.remote import Remote

app = typer.Typer(
    help="Answers questions about your own documents, on your own machine, and footnotes every sentence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(bench, name="bench")
app.add_typer(evaluation, name="eval")
app.add_typer(finetune, name="finetune")
app.add_typer(accounts, name="users")


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.", show_default=False)],
    prune: Annotated[bool, typer.Option("--prune", help="Take documents out whose files have gone.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and keep the index in step with the folders.")] = False,
    cluster: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Read and embed on a Ray cluster: local, auto or ray://HOST:PORT.")
    ] = "",
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Say this about every document of this run, to filter by; repeatable."),
    ] = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Bring files and folders into the index; what has not changed is left alone."""
    from functools import partial

    from ui.ingesting import ingest_with_progress
    from ui.workplace import workplace

    settings, said = traced(settings_of(home, collection)), pairs_of(metadata, "--metadata")
    if watch:
        _watch(settings, paths, said, as_json)
        return
    opening = partial(workplace, create=True, cluster=cluster)
    record, text = ingest_with_progress(settings, catalog_of(settings), paths, prune, opening, said)
    show(record, text, as_json)
    if record["interrupted"]:
        raise typer.Exit(STOPPED)
    if record["files"]["failed"]:
        raise typer.Exit(SOME_FAILED)


def _watch(settings: Settings, folders: Sequence[Path], metadata: Pairs, as_json: bool) -> None:
    """Print what became of every batch of changes; with JSON, an object a line."""
    from ui.watching import Watching

    if files := [str(path) for path in folders if path.is_file()]:
        raise typer.BadParameter(f"--watch takes folders, and {', '.join(files)} is a file", param_hint="PATH...")
    stopped = False
    for record, text in Watching(settings, catalog_of(settings), metadata=metadata).steps(folders):
        show(record, text, as_json)
        stopped = record["interrupted"]
    if stopped:
        raise typer.Exit(STOPPED)


@app.command()
def search(
    question: str,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many passages.")] = 10,
    doc: Docs = None,
    folder: Folders = None,
    type_: Types = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Show the passages that fit a question best."""
    from time import perf_counter

    from ui import records, terminal

    settings = settings_of(home, collection)
    within = filter_of(settings, doc, folder, type_, since, until, where)
    with answering(settings) as rag:
        started = perf_counter()
        hits = rag.search(question, k, within=within)
        elapsed = round((perf_counter() - started) * 1000, 1)
    _say_if_nothing_matched(within, hits)
    record = {"hits": [records.hit(hit) for hit in hits], "timings_ms": {"total": elapsed}}
    show(record, terminal.hits(hits), as_json)


@app.command()
def ask(
    question: str,
    doc: Docs = None,
    folder: Folders = None,
    type_: Types = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    strictness: Strict = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Answer a question, every sentence checked and footnoted."""
    from ui import records, terminal

    settings = traced(settings_of(home, collection, strictness=strictness))
    within = filter_of(settings, doc, folder, type_, since, until, where)
    with answering(settings) as rag:
        if as_json:
            answer = rag.answer(question, within=within, strictness=strictness)
            show(records.answer(answer), "", True)
        else:
            answer = terminal.stream_answer(rag.stream(question, within=within, strictness=strictness))
    _say_if_nothing_matched(within, answer.hits)


@contextmanager
def answering(settings: Settings) -> Iterator[Rag | Remote]:
    """What answers: the index here, or the process that has it open and serves people."""
    from rag.answer import Rag
    from ui.remote import Remote
    from ui.workplace import check_free

    try:
        check_free(settings)
        rag = Rag.open(settings)
    except StoreLocked as locked:
        if locked.owner is None or not locked.owner.url:
            raise
        say(f"asking {locked.owner.url}, whose settings count")
        yield Remote(locked.owner.url, token=locked.owner.token)
        return
    with rag:
        yield rag


def _say_if_nothing_matched(within: Filter, found: Sequence[object]) -> None:
    """By meaning, every passage that a filter matches is found; so where nothing is, it matches none."""
    from ui.narrow import NO_MATCH

    if not (found or within.empty):
        say(NO_MATCH)


@app.command()
def docs(
    doc: Docs = None,
    folder: Folders = None,
    type_: Types = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """List the documents with their status, pages, passages, and why some failed."""
    from ui import records, terminal
    from ui.narrow import matching

    settings = settings_of(home, collection)
    within = filter_of(settings, doc, folder, type_, since, until, where)
    catalog = catalog_of(settings)
    found = matching(catalog.documents(settings.collection), within)
    if within.empty and not found:
        check_collection(settings, catalog)
    _say_if_nothing_matched(within, found)
    record = {"collection": settings.collection, "documents": [records.document(d) for d in found]}
    show(record, terminal.documents(found, settings.collection), as_json)


@app.command()
def remove(
    names: Annotated[
        list[str], typer.Argument(metavar="DOC...", help="Paths as `footnote docs` lists them, or file names.")
    ],
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Take documents out of the index; the files themselves stay."""
    from ui.ingesting import remove_documents

    settings = settings_of(home, collection)
    catalog = catalog_of(settings)
    check_collection(settings, catalog)
    removed = remove_documents(settings, catalog, names)
    show({"removed": removed}, "\n".join(f"removed {doc}" for doc in removed), as_json)


@app.command()
def audit(
    sample: Annotated[int, typer.Option(min=0, help="How many documents to read anew and compare.")] = 20,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what does not hold.")] = False,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Prove that the index holds what the documents say, passage by passage; mend it with --repair."""
    from ui.auditing import audited

    settings = settings_of(home, collection)
    catalog = catalog_of(settings)
    check_collection(settings, catalog)
    record, text = audited(settings, catalog, sample, repair)
    show(record, text, as_json)
    if not record["holds"]:
        raise typer.Exit(SOME_FAILED)


@app.command()
def chat(
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default: 7860).")] = None,
    auth: Annotated[
        bool | None, typer.Option("--auth/--no-auth", help="Ask for a sign-in (default: no).", show_default=False)
    ] = None,
    strictness: Strict = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Serve the chat page and the REST API."""
    from ui.serving import serve

    settings = settings_of(home, collection, host=host, port=port, auth=auth, strictness=strictness)
    serve(settings, catalog_of(settings), lambda url: show({"url": url}, f"Footnote is ready at {url}", as_json))


@app.command()
def doctor(as_json: AsJson = False, collection: Collection = None, home: Home = None) -> None:
    """Check versions, weights, store, disk and GPU; say what is missing and what mends it."""
    from ui import terminal
    from ui.doctor import examine

    checks = examine(settings_of(home, collection))
    record = {"ok": all(check.ok for check in checks), "checks": [check.as_dict() for check in checks]}
    show(record, terminal.checks(checks), as_json)
    if not record["ok"]:
        raise typer.Exit(SOME_FAILED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; the console script's entry point. A Footnote error becomes one line and exit code 1."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("footnote").setLevel(logging.INFO)
    try:
        app(arguments)
    except FootnoteError as error:
        line = " ".join(str(error).split())
        say(f"error: {line}")
        if "--json" in arguments:
            show({"error": line, "kind": type(error).__name__}, "", True)
        sys.exit(1)
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
