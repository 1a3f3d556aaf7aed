"""Settings -> the store they name. The only place that knows both stores."""

from __future__ import annotations

from pathlib import Path

from rag.embed import Embedder
from rag.errors import CollectionMissing
from rag.settings import Settings
from rag.store.protocol import Store


def index_directory(settings: Settings) -> Path:
    """Where the embedded index of the settings' collection lies."""
    return settings.home / "collections" / settings.collection


def open_store(settings: Settings, embedder: Embedder, create: bool = False, url: str = "") -> Store:
    """The collection's store: a Qdrant server where `qdrant_url` is set, else embedded Qdrant Edge.

    Args:
        settings: which store and collection.
        embedder: whose vectors the collection holds.
        create: make the collection where it does not exist.
        url: where this process serves people, for the message that a second process gets.

    Raises:
        CollectionMissing: it does not exist and `create` is False.
        StoreError: it is locked, unreachable, or was built with another embedder.
    """
    if settings.qdrant_url:
        from rag.store.server import ServerStore

        return ServerStore.connect(
            settings.qdrant_url,
            settings.qdrant_api_key.get_secret_value(),
            settings.qdrant_timeout,
            settings.collection,
            embedder.dim,
            embedder.id,
            create,
        )
    from rag.store.edge import EdgeStore

    directory = index_directory(settings)
    if not create and not EdgeStore.exists(directory):
        raise CollectionMissing(
            f"no collection {settings.collection!r} in {settings.home}; "
            f"run `footnote ingest PATH --collection {settings.collection}` first"
        )
    return EdgeStore.open(directory, embedder.dim, embedder.id, url)
