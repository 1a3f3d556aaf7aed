"""Settings -> the store they name. The only place that knows both stores.

Where the embedder or the chunking changes, a new index is built beside the one that is searched, and takes its place
when it is complete: `open_store(..., beside=LABEL)`, then `put_in_place`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.errors import CollectionMissing
from rag.settings import Settings
from rag.store.points import embedder_of
from rag.store.protocol import Space, Store

if TYPE_CHECKING:
    from rag.store.aliases import Collections


def index_directory(settings: Settings) -> Path:
    """Where the embedded index of the settings' collection lies."""
    return settings.home / "collections" / settings.collection


def indexes(settings: Settings) -> list[str]:
    """Names of the collections that have an index, whether it holds anything or not. Opens none. Raises StoreError."""
    if settings.qdrant_url:
        with _on_server(settings) as collections:
            return collections.names()
    from rag.store import swap

    directory = settings.home / "collections"
    return sorted(each.name for each in directory.glob("*") if swap.exists(each))


def open_store(
    settings: Settings, embedder: Space, create: bool = False, url: str = "", token: str = "", beside: str = ""
) -> Store:
    """The collection's store: a Qdrant server where `qdrant_url` is set, else embedded Qdrant Edge.

    Args:
        settings: which store and collection.
        embedder: whose vectors the collection holds.
        create: make the collection where it does not exist.
        url: where this process serves people, for the message that a second process gets.
        token: a secret with which a second process of the same user can hand its work to this one.
        beside: a label; opens the index that is built under it beside the live one, made where missing. One that was
            begun with another label or embedder is removed first.

    Raises:
        CollectionMissing: it does not exist and `create` is False.
        StoreError: it is locked, unreachable, or was built with another embedder.
    """
    if settings.qdrant_url:
        return _open_on_server(settings, embedder, create, beside)
    from rag.store import swap
    from rag.store.edge import EdgeStore

    directory = index_directory(settings)
    if beside:
        return EdgeStore.open(swap.beside(directory), embedder.dim, embedder.id, url, token, label=beside)
    if not create and not EdgeStore.exists(directory):
        raise CollectionMissing(
            f"no collection {settings.collection!r} in {settings.home}; "
            f"run `footnote ingest PATH --collection {settings.collection}` first"
        )
    return EdgeStore.open(directory, embedder.dim, embedder.id, url, token)


def put_in_place(settings: Settings, embedder: Space, beside: Store, live: Store | None) -> Store:
    """Make the index that was built beside the live one take its place, and open it.

    A process that is killed meanwhile leaves the one or the other to be opened, and never a mixture.

    Args:
        settings: which store and collection.
        embedder: whose vectors the new index holds.
        beside: what `open_store(..., beside=LABEL)` returned; closed.
        live: the live index, where this process has it open; closed.

    Raises:
        StoreLocked: another process has the live index open; nothing happened.
        StoreError: the disk or the server failed.
    """
    from rag.store.edge import EdgeStore, put_in_place
    from rag.store.server import ServerStore

    if isinstance(beside, ServerStore):
        beside.put_in_place()
        beside.close()
        if live is not None:
            live.close()
        return open_store(settings, embedder)
    if not isinstance(beside, EdgeStore) or not isinstance(live, EdgeStore | None):
        raise TypeError(f"an index that open_store opened is wanted, not {type(beside)} and {type(live)}")
    return put_in_place(index_directory(settings), embedder.dim, embedder.id, beside, live)


def discard_beside(settings: Settings) -> None:
    """Remove the index that is built beside the live one, if there is one. Raises StoreLocked, StoreError."""
    if settings.qdrant_url:
        with _on_server(settings) as collections:
            collections.discard_beside()
        return
    from rag.store import swap
    from rag.store.edge import discard

    directory = swap.beside(index_directory(settings))
    if directory.exists():
        discard(directory)


def discard_index(settings: Settings) -> None:
    """Remove the collection's index, and what is built beside it. Raises StoreLocked, StoreError."""
    if settings.qdrant_url:
        with _on_server(settings) as collections:
            collections.discard()
        return
    from rag.store.edge import discard

    discard_beside(settings)
    if index_directory(settings).exists():
        discard(index_directory(settings))


def beside_label(settings: Settings) -> str:
    """The label of the index that is built beside the live one; empty where there is none. Opens nothing."""
    if settings.qdrant_url:
        with _on_server(settings) as collections:
            return collections.beside_label()
    from rag.store import swap

    return str((swap.read(swap.beside(index_directory(settings))) or {}).get("label", ""))


def index_identity(settings: Settings) -> tuple[int, str] | None:
    """The live index's dimension and embedder, None where there is none. Opens nothing.

    That of an older format is no embedder's: it has to be built anew like one of another embedder.

    Raises:
        StoreError: its record is damaged, or the server does not answer.
    """
    record = _record(settings)
    if record is None:
        return None
    return int(record.get("dim", 0)), embedder_of(record)


def _record(settings: Settings) -> dict[str, Any] | None:
    if settings.qdrant_url:
        with _on_server(settings) as collections:
            live = collections.live()
            return collections.record(live) if live else None
    from rag.store import swap

    return swap.read(index_directory(settings))


def _on_server(settings: Settings) -> AbstractContextManager[Collections]:
    from rag.store.server import collections

    key = settings.qdrant_api_key.get_secret_value()
    return collections(settings.qdrant_url, key, settings.qdrant_timeout, settings.collection)


def _open_on_server(settings: Settings, embedder: Space, create: bool, beside: str) -> Store:
    from rag.store.server import ServerStore

    return ServerStore.connect(
        settings.qdrant_url,
        settings.qdrant_api_key.get_secret_value(),
        settings.qdrant_timeout,
        settings.collection,
        embedder.dim,
        embedder.id,
        create,
        label=beside,
    )
