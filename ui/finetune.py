"""The commands `footnote finetune ...`: training what answers and what checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.finetune.recipe import PAIRS, SEED
from ui.command import AsJson, Collection, Home, say, settings_of, show

if TYPE_CHECKING:
    from rag.finetune.records import Progress

finetune = typer.Typer(help="Train models of your own.", no_args_is_help=True, rich_markup_mode=None)


@finetune.callback()
def _group() -> None:
    """Keep the name of the command, although there is only one."""


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
