"""The commands `footnote finetune ...`: training what answers and what checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rag.finetune.plan import Method, Plan
from rag.finetune.recipe import PAIRS, SEED, TUNED_SEED
from ui.command import SOME_FAILED, AsJson, Collection, Home, say, settings_of, show

if TYPE_CHECKING:
    from rag.finetune.plan import Told
    from rag.finetune.records import Progress

finetune = typer.Typer(help="Train models of your own.", no_args_is_help=True, rich_markup_mode=None)


DEFAULTS = Plan()
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name or directory of a training, or a version.")]


@finetune.command("data")
def data(
    sets: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SET]...",
            help="Directories with corpus.jsonl and qa.jsonl; none for the documents of the collection.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where it goes (default: `<home>/finetune/data`).", show_default=False),
    ] = None,
    sheets: Annotated[int, typer.Option(min=4, help="Sheets of passages to ask about, of each set.")] = 200,
    held_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the documents that are kept for `evaluate`.")
    ] = 0.2,
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Make the data of the adapter that ships; SET is the folder of its sets.")
    ] = False,
    from_feedback: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What people said of answers, too.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = TUNED_SEED,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Make data to tune the language model on: questions about passages, answered and declined."""
    from ui import tuned
    from ui.sheets import make

    if recipe and len(sets or ()) != 1:
        raise typer.BadParameter("--recipe takes one folder, which holds the recipe's sets", param_hint="SET")
    settings = settings_of(home, collection)
    folder = out or settings.home / "finetune" / "data"
    record = make(settings, sets or (), folder, sheets, held_out, seed, say, recipe, from_feedback)
    show(record, tuned.data(record), as_json)


@finetune.command("train")
def train(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]", help="What `data` made (default: `<home>/finetune/data`).", show_default=False
        ),
    ] = None,
    run: Annotated[str, typer.Option("--run", metavar="NAME", help="Name of the training.")] = "tuned",
    method: Annotated[Method, typer.Option(help="What is trained, and how.")] = DEFAULTS.method,
    rank: Annotated[int, typer.Option(min=1, help="Of LoRA's matrices.")] = DEFAULTS.rank,
    virtual: Annotated[int, typer.Option(min=1, help="Tokens of prompt and prefix tuning.")] = DEFAULTS.virtual,
    rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = DEFAULTS.rate,
    epochs: Annotated[float, typer.Option(min=0.001, help="How often each sheet is learned from.")] = DEFAULTS.epochs,
    packs: Annotated[
        int, typer.Option(min=1, help="Sheets that a step learns from; a GPU reads them together.")
    ] = DEFAULTS.packs,
    measure_every: Annotated[
        int, typer.Option(min=1, help="Steps between two looks at the data that is held out.")
    ] = DEFAULTS.measure_every,
    patience: Annotated[
        int, typer.Option(min=1, help="Looks without a better one until training stops.")
    ] = DEFAULTS.patience,
    start: Annotated[
        str, typer.Option(metavar="VERSION", help="What to go on from: a version, an adapter's directory, or none.")
    ] = "shipped",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where it is trained.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = TUNED_SEED,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew where a training of this name is there.")] = False,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Train an adapter of the language model; a training that was cut short goes on where it was."""
    from eval.training import write_page
    from rag.finetune.runs import runs_folder
    from rag.finetune.train import train as tune
    from ui import tuned

    settings = settings_of(home, collection)
    plan = replace(
        DEFAULTS,
        method=method,
        rank=rank,
        virtual=virtual,
        rate=rate,
        epochs=epochs,
        packs=packs,
        measure_every=measure_every,
        patience=patience,
        seed=seed,
    )
    source = folder or settings.home / "finetune" / "data"
    done = tune(settings, source, runs_folder(settings) / run, plan, device, start, fresh, say, _told)
    say(f"wrote {write_page(done)}")
    show(tuned.trained_record(done), tuned.trained(done), as_json)


@finetune.command("average")
def average(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Trainings or versions, two or more.")],
    run: Annotated[str, typer.Option("--run", metavar="NAME", help="Name of the average.")] = "average",
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Make one adapter of several of the same model: the mean of what they change."""
    from ui import tuned
    from ui.tuning import averaged

    record = averaged(settings_of(home, collection), runs, run)
    show(record, tuned.averaged(record), as_json)


@finetune.command("evaluate")
def evaluate(
    run: RunArgument,
    sets: Annotated[
        list[Path],
        typer.Argument(metavar="SET...", help="Directories with corpus.jsonl and qa.jsonl, or files like it."),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Ask so many questions of each set only.", show_default=False)
    ] = None,
    oracle: Annotated[bool, typer.Option("--oracle/--no-oracle", help="Search the right documents alone, too.")] = True,
    against: Annotated[
        str,
        typer.Option(
            metavar="VERSION", help="What it is compared with (default: what answers now).", show_default=False
        ),
    ] = "",
    everything: Annotated[
        bool, typer.Option("--everything", help="Ask also about documents that the training has seen.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask anew what was asked already.")] = False,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Compare what answers now with what was tuned, on questions about documents that training has not seen."""
    from ui import tuned
    from ui.tuning import compare

    record = compare(settings_of(home, collection), run, sets, limit, against, oracle, everything, fresh, say)
    show(record, tuned.compared(record), as_json)
    if any(each["failed"] for each in record["sets"].values()):
        raise typer.Exit(SOME_FAILED)


@finetune.command("promote")
def promote(run: RunArgument, as_json: AsJson = False, collection: Collection = None, home: Home = None) -> None:
    """Let a training's model answer from now on; exit code 3 where it was not measured to be better."""
    from ui import tuned
    from ui.tuning import promoted

    record = promoted(settings_of(home, collection), run)
    show(record, tuned.promoted(record), as_json)
    if not record["holds"]:
        raise typer.Exit(SOME_FAILED)


@finetune.command("list")
def list_(as_json: AsJson = False, collection: Collection = None, home: Home = None) -> None:
    """List the versions of the model, and say which one answers."""
    from ui import tuned
    from ui.tuning import listed

    record = listed(settings_of(home, collection))
    show(record, tuned.versions(record["versions"]), as_json)


@finetune.command("use")
def use(
    version: Annotated[
        str,
        typer.Argument(metavar="VERSION", help="A promoted version, `shipped`, or `none` for the model as it came."),
    ],
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Let this version answer from now on."""
    from rag.finetune.registry import use as choose

    choose(settings_of(home, collection), version)
    show({"current": version}, f"{version} answers from now on", as_json)


@finetune.command("rollback")
def rollback(as_json: AsJson = False, collection: Collection = None, home: Home = None) -> None:
    """Let the version answer again that did before the last change."""
    from rag.finetune.registry import rollback as back

    version = back(settings_of(home, collection))
    show({"current": version}, f"{version} answers from now on", as_json)


@finetune.command("export")
def export(
    run: RunArgument,
    format_: Annotated[
        Literal["adapter", "safetensors", "gguf"], typer.Option("--format", help="What it is written as.")
    ] = "gguf",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where it goes (default: beside the training).", show_default=False),
    ] = None,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Write a training's model for other programs: Ollama, llama.cpp, vLLM, transformers."""
    from ui import tuned
    from ui.tuning import exported

    record = exported(settings_of(home, collection), run, format_, out)
    show(record, tuned.exported(record), as_json)


def _told(told: Told) -> None:
    held = f", held out {told.held:.3f}" if told.held is not None else ""
    say(
        f"step {told.step:,} of {told.of:,}: loss {told.loss:.3f}{held}; {told.tokens_per_second:.0f} tokens/s, "
        f"{told.seconds_left / 60:.0f} min left"
    )


@finetune.command("verifier")
def verifier(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds the data sets of the recipe.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the checker goes (default: `<home>/checker`).", show_default=False),
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Claims to learn from.")] = PAIRS,
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = SEED,
    as_json: AsJson = False,
    collection: Collection = None,
    home: Home = None,
) -> None:
    """Train the checker of sentences; a run that was cut short goes on where it was."""
    from rag.finetune.verifier import train_checker
    from ui import terminal
    from ui.sets import labelled, material, unseen

    settings = settings_of(home, collection)
    record = train_checker(
        settings,
        material(data),
        labelled(data),
        unseen(data),
        out or settings.home / "checker",
        pairs,
        seed,
        _said(say),
    )
    show(record, terminal.benchmark(record), as_json)


def _said(say: Callable[[str], None]) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        left = (progress.of - progress.pairs) / max(progress.pairs_per_second, 1e-9) / 60
        say(
            f"{progress.pairs:,} of {progress.of:,} claims, {progress.pairs_per_second:.1f} a second, "
            f"{left:.0f} min left; loss {progress.loss:.3f}, words {progress.token_loss:.3f}, "
            f"right {progress.accuracy:.3f}"
        )

    return tell
