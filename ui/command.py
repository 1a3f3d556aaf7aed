"""What every command shares: its flags, the settings they add up to, and how results are printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ingest.catalog import Catalog
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
