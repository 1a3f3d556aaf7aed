"""A labelled corpus -> a collection of the product, indexed once and kept by its content.

Documents are cut, embedded and stored by the same functions as a user's own. Knows nothing about questions or metrics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from uuid import UUID, uuid5

from eval.cases import Entry
from ingest.parse.document import Piece, assemble
from ingest.stages import Prepared, Recipe, cut, embed
from rag.embed import Embedder
from rag.settings import Settings
from rag.store.opening import open_store
from rag.store.points import FORMAT
from rag.store.protocol import Store

NAMESPACE = UUID("5c8a1f0e-8f0b-5d3c-9b1e-7a54c1d20b66")
BATCH = 256
"""Passages embedded and written at once."""
DONE = "complete"
"""Written last."""

Say = Callable[[str], None]


def open_corpus(settings: Settings, embedder: Embedder, corpus: Sequence[Entry], say: Say) -> Store:
    """The collection of a corpus; indexed now where it is not there yet, or was begun only.

    It is kept in the cache, in a directory named after the documents, the embedder, and how text is cut. Passages have
    the document's id as `doc`. To be closed.

    Raises:
        StoreError: the index cannot be written or opened.
        SettingsError: a passage would not fit the embedder's window.
    """
    recipe = Recipe.of(settings, embedder)
    home = settings.cache_dir / "eval" / key_of(corpus, embedder, recipe)
    store = open_store(settings.model_copy(update={"home": home, "qdrant_url": ""}), embedder, create=True)
    try:
        if not (home / DONE).exists():
            _index(store, embedder, recipe, corpus, say)
            store.optimize()
            (home / DONE).touch()
    except BaseException:
        store.close()
        raise
    return store


def key_of(corpus: Sequence[Entry], embedder: Embedder, recipe: Recipe) -> str:
    """Names a corpus as it is indexed: 16 hex digits."""
    digest = hashlib.sha256(f"{FORMAT}\0{embedder.id}\0{embedder.backend}\0{recipe.chunking}".encode())
    for entry in corpus:
        for part in (entry.id, entry.title, entry.text):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]


def _index(store: Store, embedder: Embedder, recipe: Recipe, corpus: Sequence[Entry], say: Say) -> None:
    there = store.ids()
    missing = (prepared for prepared in _prepared(recipe, corpus) if prepared.chunk.id not in there)
    done = len(there)
    while batch := list(islice(missing, BATCH)):
        store.upsert(embed(embedder, batch, [False] * len(batch)))
        done += len(batch)
        say(f"indexing: {done:,} passages")


def _prepared(recipe: Recipe, corpus: Sequence[Entry]) -> Iterator[Prepared]:
    for entry in corpus:
        if not entry.empty:
            parsed = assemble(entry.title, [Piece(entry.text if entry.text.strip() else entry.title)])
            yield from cut(parsed, recipe, str(uuid5(NAMESPACE, entry.id)), entry.id, "eval")
