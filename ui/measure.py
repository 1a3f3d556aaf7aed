"""The commands `footnote eval ...` and `footnote bench ...`: how good it is, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ui.command import SOME_FAILED, AsJson, Collection, Home, say, settings_of, show

if TYPE_CHECKING:
    from eval.run import Finished

bench = typer.Typer(help="Measure speed, side by side with a peer.", no_args_is_help=True, rich_markup_mode=None)
evaluation = typer.Typer(help="Measure quality against labelled data.", no_args_is_help=True, rich_markup_mode=None)

RunName = Annotated[
    str | None, typer.Option("--run", metavar="NAME", help="Keep the run under this name.", show_default=False)
]
AnswerFormat = Literal["auto", "footnote", "ragas", "deepeval"]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Use so many questions, answers or claims of a set only, spread evenly."),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin anew where a run of this name is there.")]


@evaluation.command("retrieval")
def eval_retrieval(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="corpus.jsonl, queries.jsonl and qrels.tsv.")],
    qrels: Annotated[
        Path | None, typer.Option(help="Judgements in the place of the directory's own.", show_default=False)
    ] = None,
    limit: Limit = None,
    run: RunName = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """How well documents are found, against labelled questions."""
    from eval.measure import measure_retrieval
    from ui import terminal

    measured = measure_retrieval(settings_of(home, collection), directory, say, qrels, limit, run, fresh)
    _show_run(measured, terminal.retrieval(measured.summary), as_json)


@evaluation.command("conversations")
def eval_conversations(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="corpus.jsonl and conversations.jsonl.")],
    split: Annotated[
        str | None, typer.Option(help="Conversations that are marked so only.", show_default=False)
    ] = None,
    llm: Annotated[bool, typer.Option("--llm", help="Let the language model rewrite questions, too.")] = False,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """How well passages are found when questions follow each other, with and without making them stand alone."""
    from eval.cases import read_conversations
    from eval.follow_ups import evaluate
    from rag.embed import open_embedder
    from rag.llm import open_llm
    from ui import terminal

    settings, data = settings_of(home, collection), read_conversations(directory)
    writer = open_llm(settings) if llm else None
    record = evaluate(settings, open_embedder(settings), data, say, writer, split)
    show(record, terminal.conversations(record), as_json)
    if record["failed"]:
        raise typer.Exit(SOME_FAILED)


@evaluation.command("answers")
def eval_answers(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A directory with corpus.jsonl and qa.jsonl, or a file like qa.jsonl."),
    ],
    limit: Limit = None,
    unanswerable: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share of the documents left out, so that their questions have no answer."),
    ] = 0.0,
    closed_book: Annotated[bool, typer.Option("--closed-book", help="Ask the language model alone, too.")] = False,
    oracle: Annotated[bool, typer.Option("--oracle", help="Search nothing but the right documents, too.")] = False,
    run: RunName = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """How good answers are, against reference answers; a file of questions is asked of your own collection."""
    from eval.answers import CLOSED_BOOK, ORACLE
    from eval.measure import measure_answers
    from ui import terminal

    settings = settings_of(home, collection)
    brackets = (CLOSED_BOOK,) * closed_book + (ORACLE,) * oracle
    measured = measure_answers(settings, path, say, brackets, unanswerable, limit, run, fresh)
    _show_run(measured, terminal.answers(measured.summary), as_json)


@evaluation.command("strictness")
def eval_strictness(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Name or directory of a run of `footnote eval answers`.")],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the figures into this SVG file, too.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """What each strictness and threshold would have made of a run's answers; nothing is written anew."""
    from eval import plots
    from eval.report import write
    from eval.run import read_run
    from eval.strictness import strictness
    from ui import terminal

    record = strictness(read_run(name, settings_of(home, collection)))
    if plot:
        write(plots.strictness(record["rows"]), plot)
        say(f"wrote {plot}")
    show(record, terminal.strictness(record), as_json)


@evaluation.command("judge")
def eval_judge(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Answers with questions and contexts; or a run of `footnote eval answers`."
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(metavar="JUDGE", help="Who judges: local, llm, or the path or hub id of a cross-encoder."),
    ] = "local",
    format_: Annotated[
        AnswerFormat, typer.Option("--format", help="Whose fields the answers have; auto goes by the first one.")
    ] = "auto",
    system: Annotated[str, typer.Option(help="Of a run: whose answers.")] = "footnote",
    limit: Limit = None,
    run: RunName = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Which sentences of any system's answers are supported by the passages that they were written from."""
    from eval.judge import by_sentence
    from eval.measure import measure_judge
    from ui import terminal

    measured = measure_judge(settings_of(home, collection), path, say, judge, format_, system, limit, run, fresh)
    _show_run(measured, terminal.judged(measured.summary), as_json, answers=by_sentence(measured))


@evaluation.command("faithfulness")
def eval_faithfulness(
    sets: Annotated[
        list[Path],
        typer.Argument(metavar="SET...", help="Claims with labels: files like claims.jsonl, or directories with one."),
    ],
    baselines: Annotated[bool, typer.Option("--baselines", help="Compare with plainer measures, too.")] = False,
    limit: Limit = None,
    run: RunName = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """How far the checker of sentences can be trusted: its scores against people's labels."""
    from eval.measure import measure_faithfulness
    from ui import terminal

    measured = measure_faithfulness(settings_of(home, collection), sets, say, baselines, limit, run, fresh)
    _show_run(measured, terminal.faithfulness(measured.summary), as_json)


def _show_run(run: Finished, text: str, as_json: bool, **more: Any) -> None:
    show({**run.summary, **more, "run": str(run.directory)}, text, as_json)
    if run.summary["failed"]:
        raise typer.Exit(SOME_FAILED)


@evaluation.command("gate")
def eval_gate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or directory of the new run.")],
    baseline: Annotated[str, typer.Option(metavar="RUN", help="Name or directory of the run to compare with.")],
    max_drop: Annotated[float, typer.Option(min=0, help="How much worse the mean may be.")] = 0.01,
    min_coverage: Annotated[float, typer.Option(min=0, max=1, help="Share of cases that need a result.")] = 0.0,
    metric: Annotated[
        str | None, typer.Option(help="Which score (default: the run's own).", show_default=False)
    ] = None,
    system: Annotated[str | None, typer.Option(help="Whose score (default: Footnote's).", show_default=False)] = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Compare a run with a baseline; exit code 3 where it got significantly worse or anything failed."""
    from eval.gate import gate
    from eval.run import read_run
    from ui import terminal

    settings = settings_of(home, collection)
    record = gate(read_run(run, settings), read_run(baseline, settings), max_drop, min_coverage, system, metric)
    show(record, terminal.gate(record), as_json)
    if not record["holds"]:
        raise typer.Exit(SOME_FAILED)


@evaluation.command("report")
def eval_report(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names or directories of finished runs.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the page goes (default: beside the first run).", show_default=False),
    ] = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Write a page of one or more runs with figures, plots and every question; print the summary as Markdown."""
    from eval.report import markdown, page, report, write
    from eval.run import read_run

    settings = settings_of(home, collection)
    runs = [read_run(name, settings) for name in names]
    record = report(runs)
    written = write(page(runs, record), out or runs[0].directory / "report.html")
    show(record | {"page": str(written)}, markdown(record), as_json)
    say(f"wrote {written}")


@evaluation.command("from-feedback")
def eval_from_feedback(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the set goes; one that was made so is replaced.")
    ],
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="What people said of answers (default: `<home>/feedback.jsonl`).", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Make questions with answers out of what people said of answers, for `footnote eval answers`."""
    from eval.from_feedback import make
    from ui.feedback import cases
    from ui.server.feedback import FILE

    settings = settings_of(home, collection)
    record = make(path or settings.home / FILE, out, collection or "")
    show(record, cases(record), as_json)


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


@bench.command("verify")
def bench_verify(
    answers: Annotated[int, typer.Option(min=20, help="How many answers.")] = 40,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """How fast sentences are checked against passages; there is no peer."""
    from eval.bench.verify import run

    _bench(run(settings_of(home, collection), answers, say), as_json)


@bench.command("serve")
def bench_serve(
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 60,
    searchers: Annotated[int, typer.Option(min=1, help="Clients that search.")] = 20,
    askers: Annotated[int, typer.Option(min=0, help="Clients that ask.")] = 4,
    files: Annotated[int, typer.Option(min=1, help="Files that are ingested meanwhile.")] = 50,
    pause: Annotated[float, typer.Option(min=0, help="Seconds from a search's answer to the client's next one.")] = 1.0,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """How a server does under load, on loopback: searches and answers while files are ingested."""
    from eval.bench.serve import run

    _bench(run(settings_of(home, collection), seconds, searchers, askers, files, pause, say), as_json)


def _bench(record: dict[str, Any], as_json: bool) -> None:
    from ui import terminal

    show(record, terminal.benchmark(_lines(record)), as_json)


def _lines(record: dict[str, Any]) -> dict[str, Any]:
    """A record with an entry for each element of its lists, so that each has a line."""
    lines: dict[str, Any] = {}
    for name, value in record.items():
        lines |= {f"{name} {n}": each for n, each in enumerate(value, 1)} if isinstance(value, list) else {name: value}
    return lines
