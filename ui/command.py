"""What every command shares: its flags, the settings they add up to, and how results are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from ingest.catalog import Catalog
    from rag.filter import Filter, Pairs
    from rag.settings import Settings

STOPPED = 1
SOME_FAILED = 3

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Collection = Annotated[
    str | None, typer.Option("--collection", metavar="NAME", help="Set of documents (default: default).")
]
Home = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="Home directory (default: $FOOTNOTE_HOME, else ~/.footnote)."),
]
DAY = "%Y-%m-%d"
Docs = Annotated[
    list[str] | None,
    typer.Option("--doc", metavar="DOC", help="Only this document: a path or a file name; repeatable."),
]
Folders = Annotated[
    list[str] | None, typer.Option("--folder", metavar="DIR", help="Only documents below this folder; repeatable.")
]
Types = Annotated[
    list[str] | None, typer.Option("--type", metavar="SUFFIX", help="Only documents of this type: pdf; repeatable.")
]
Since = Annotated[
    datetime | None,
    typer.Option("--since", formats=[DAY], metavar="YYYY-MM-DD", help="Only documents from this day on."),
]
Until = Annotated[
    datetime | None, typer.Option("--until", formats=[DAY], metavar="YYYY-MM-DD", help="Only documents up to this day.")
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Only documents with this metadata: author=Ana; repeatable."),
]
Strict = Annotated[
    Literal["mark", "drop", "refuse"] | None,
    typer.Option(
        "--strictness",
        help="Sentences without support: mark them, drop them, or refuse the whole answer (default: mark).",
        show_default=False,
    ),
]


def settings_of(home: Path | None, collection: str | None, **flags: Any) -> Settings:
    """The settings that the flags, the environment and footnote.toml add up to."""
    from rag.settings import Settings

    return Settings.load(home=home, collection=collection, **flags)


def traced(settings: Settings) -> Settings:
    """The same settings; where they name a collector, it is told what the command does. Raises SettingsError."""
    from rag.tracing import start_tracing

    start_tracing(settings)
    return settings


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


def pairs_of(given: Iterable[str] | None, flag: str) -> Pairs:
    """`KEY=VALUE` as pairs. Raises BadParameter."""
    split = [(text, *text.partition("=")) for text in given or ()]
    for text, key, sign, _ in split:
        if not (key.strip() and sign):
            raise typer.BadParameter(f"KEY=VALUE is expected, not {text!r}", param_hint=flag)
    return tuple((key.strip(), value.strip()) for _, key, _, value in split)


def filter_of(
    settings: Settings,
    documents: list[str] | None,
    folders: list[str] | None,
    types: list[str] | None,
    since: datetime | None,
    until: datetime | None,
    where: list[str] | None,
) -> Filter:
    """The filter that the flags add up to, checked against the catalog.

    Raises:
        FilterError: it names what there is not.
        CollectionMissing: there is a filter, but no such collection.
    """
    from rag.filter import Filter

    within = Filter(
        tuple(documents or ()),
        tuple(folders or ()),
        tuple(types or ()),
        since.date() if since else None,
        until.date() if until else None,
        pairs_of(where, "--where"),
    )
    if within.empty:
        return within
    from ui.narrow import checked

    catalog = catalog_of(settings)
    check_collection(settings, catalog)
    return checked(within, catalog, settings.collection)


def say(message: str) -> None:
    """A line for the person, on stderr."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def show(record: dict[str, Any], text: str, as_json: bool) -> None:
    """A command's result on stdout: the JSON object, or the text."""
    sys.stdout.write((json.dumps(record, ensure_ascii=False) if as_json else text) + "\n")
    sys.stdout.flush()
