"""The `footnote` command: reads flags, prints, and knows nothing about how the work is done.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done; 1 a Footnote error, shown in one line;
2 wrong usage; 3 done, but some files failed or a check did not hold.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag.errors import FootnoteError

if TYPE_CHECKING:
    from ingest.catalog import Catalog
    from rag.settings import Settings

STOPPED = 1
SOME_FAILED = 3

app = typer.Typer(
    help="Answers questions about your own documents, on your own machine, and footnotes every sentence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
bench = typer.Typer(help="Measure speed, side by side with a peer.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench, name="bench")
evaluation = typer.Typer(help="Measure quality against labelled data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(evaluation, name="eval")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Collection = Annotated[
    str | None, typer.Option("--collection", metavar="NAME", help="Set of documents (default: default).")
]
Home = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="Home directory (default: $FOOTNOTE_HOME, else ~/.footnote)."),
]


def settings_of(home: Path | None, collection: str | None, **flags: Any) -> Settings:
    """The settings that the flags, the environment and footnote.toml add up to."""
    from rag.settings import Settings

    return Settings.load(home=home, collection=collection, **flags)


def catalog_of(settings: Settings) -> Catalog:
    """The catalog under the home directory."""
    from ingest.catalog import Catalog

    return Catalog.open(settings.home / "catalog.sqlite")


def check_collection(settings: Settings, catalog: Catalog) -> None:
    """Refuse the name of a collection that does not exist; the default one may be empty still.

    Raises:
        CollectionMissing: naming those that there are.
    """
    from rag.errors import CollectionMissing

    known = catalog.collections()
    if settings.collection not in (*known, "default"):
        raise CollectionMissing(
            f"no collection {settings.collection!r}; there are: {', '.join(known) or 'none yet'}; "
            f"run `footnote ingest PATH --collection {settings.collection}` to make it"
        )


def say(message: str) -> None:
    """A line for the person, on stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def show(record: dict[str, Any], text: str, as_json: bool) -> None:
    """A command's result on stdout: the JSON object, or the text."""
    sys.stdout.write((json.dumps(record, ensure_ascii=False) if as_json else text) + "\n")
    sys.stdout.flush()


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.", show_default=False)],
    prune: Annotated[bool, typer.Option("--prune", help="Take documents out whose files have gone.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and keep the index in step with the folders.")] = False,
    cluster: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Read and embed on a Ray cluster: local, auto or ray://HOST:PORT.")
    ] = "",
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Bring files and folders into the index; what has not changed is left alone."""
    from functools import partial

    from ui.ingesting import ingest_with_progress
    from ui.workplace import workplace

    settings = settings_of(home, collection)
    if watch:
        _watch(settings, paths, as_json)
        return
    opening = partial(workplace, create=True, cluster=cluster)
    record, text = ingest_with_progress(settings, catalog_of(settings), paths, prune, opening)
    show(record, text, as_json)
    if record["interrupted"]:
        raise typer.Exit(STOPPED)
    if record["files"]["failed"]:
        raise typer.Exit(SOME_FAILED)


def _watch(settings: Settings, folders: Sequence[Path], as_json: bool) -> None:
    """Print what became of every batch of changes; with JSON, an object a line."""
    from ui.watching import Watching

    if files := [str(path) for path in folders if path.is_file()]:
        raise typer.BadParameter(f"--watch takes folders, and {', '.join(files)} is a file", param_hint="PATH...")
    stopped = False
    for record, text in Watching(settings, catalog_of(settings)).steps(folders):
        show(record, text, as_json)
        stopped = record["interrupted"]
    if stopped:
        raise typer.Exit(STOPPED)


@app.command()
def search(
    question: str,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many passages.")] = 10,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Show the passages that fit a question best."""
    from time import perf_counter

    from rag.answer import Rag
    from ui import records, terminal

    with Rag.open(settings_of(home, collection)) as rag:
        started = perf_counter()
        hits = rag.search(question, k)
        elapsed = round((perf_counter() - started) * 1000, 1)
    record = {"hits": [records.hit(hit) for hit in hits], "timings_ms": {"total": elapsed}}
    show(record, terminal.hits(hits), as_json)


@app.command()
def ask(
    question: str,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Answer a question, every sentence checked and footnoted."""
    from rag.answer import Rag
    from ui import records, terminal

    with Rag.open(settings_of(home, collection)) as rag:
        if as_json:
            show(records.answer(rag.answer(question)), "", True)
        else:
            terminal.stream_answer(rag.stream(question))


@app.command()
def docs(as_json: AsJson = False, collection: Collection = None, home: Home = None) -> None:
    """List the documents with their status, pages, passages, and why some failed."""
    from ui import records, terminal

    settings = settings_of(home, collection)
    catalog = catalog_of(settings)
    found = catalog.documents(settings.collection)
    if not found:
        check_collection(settings, catalog)
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
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Serve the chat page and the REST API."""
    from ui.serving import serve

    settings = settings_of(home, collection, host=host, port=port)
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


@evaluation.command("retrieval")
def eval_retrieval(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="corpus.jsonl, queries.jsonl and qrels.tsv.")],
    qrels: Annotated[
        Path | None, typer.Option(help="Judgements in the place of the directory's own.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask the first so many questions only.")] = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """How well documents are found, against labelled questions."""
    from eval.cases import read_retrieval
    from eval.retrieval import evaluate
    from rag.embed import open_embedder
    from ui import terminal

    settings = settings_of(home, collection)
    data = read_retrieval(directory, qrels)
    record = evaluate(settings, open_embedder(settings), data, say, limit)
    show(record, terminal.retrieval(record), as_json)
    if record["failed"]:
        raise typer.Exit(SOME_FAILED)


@bench.command("embed")
def bench_embed(
    texts: Annotated[int, typer.Option(min=16, help="How many passages.")] = 256,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Our embedder against SentenceTransformer.encode on the same weights."""
    from eval.bench.embed import run

    _bench(run(settings_of(home, collection), texts, say), as_json)


@bench.command("store")
def bench_store(
    points: Annotated[int, typer.Option(min=100, help="How many points.")] = 20000,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """The embedded store against qdrant-client's local mode."""
    import tempfile

    from eval.bench.store import run

    settings_of(home, collection)
    with tempfile.TemporaryDirectory(prefix="footnote-bench-") as folder:
        _bench(run(points, Path(folder), progress=say), as_json)


@bench.command("llm")
def bench_llm(as_json: AsJson = False, collection: Collection = None, home: Home = None) -> None:
    """Our language model runtime against llama.cpp on the same file."""
    from eval.bench.llm import run

    _bench(run(settings_of(home, collection), say), as_json)


@bench.command("ingest")
def bench_ingest(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="What to ingest.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many files only.")] = None,
    scale: Annotated[bool, typer.Option("--scale", help="Measure how the cost grows with the index, too.")] = False,
    size: Annotated[
        list[int] | None, typer.Option(help="Passages in an index for --scale; may be repeated.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Bulk ingestion against LlamaIndex's own stack over the same files."""
    from eval.bench.ingest import SIZES, grow, run

    if directory is None and not scale:
        raise typer.BadParameter("give a folder, or --scale, which makes its own texts", param_hint="DIR")
    settings = settings_of(home, collection)
    record = run(settings, directory, limit, say) if directory else {}
    record |= grow(settings, size or SIZES, say) if scale else {}
    _bench(record, as_json)


def _bench(record: dict[str, Any], as_json: bool) -> None:
    from ui import terminal

    show(record, terminal.benchmark(_lines(record)), as_json)


def _lines(record: dict[str, Any]) -> dict[str, Any]:
    """A record with an entry for each element of its lists, so that each has a line."""
    lines: dict[str, Any] = {}
    for name, value in record.items():
        lines |= {f"{name} {n}": each for n, each in enumerate(value, 1)} if isinstance(value, list) else {name: value}
    return lines


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
