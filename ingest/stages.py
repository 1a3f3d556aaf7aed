"""What is done to one document, in whichever process: parse, cut, weigh the terms; and to many chunks: embed.

The pipeline and the cluster run the same functions. Knows nothing about processes, the catalog or the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ingest.chunk import CHUNKER_VERSION, Chunker
from ingest.context import CONTEXT_TOKENS
from ingest.parse.document import Context, Member, ParsedDocument
from ingest.parse.table import PARSER_VERSION, parse
from rag.errors import ParseError, SettingsError
from rag.filter import Pairs, merged
from rag.sparse import encode_document
from rag.types import Chunk, IndexedChunk, SparseVector, Vectors

if TYPE_CHECKING:  # every process that reads files imports this module, and has no use for these
    from rag.embed import Embedder
    from rag.settings import Settings

BATCH = 64
"""Chunks that are handed on at once."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How documents are read and cut, all that another process needs to know of the settings."""

    count_tokens: Callable[[str], int]
    chunk_tokens: int
    chunk_overlap: int
    languages: str
    max_unpacked: int
    """Bytes."""
    context_tokens: int = 0
    """Room for title and headings above a passage, beside `chunk_tokens`."""

    @classmethod
    def of(cls, settings: Settings, embedder: Embedder) -> Recipe:
        """The recipe that the settings make.

        Raises:
            SettingsError: a chunk would not fit the embedder's window.
        """
        room = embedder.window - 2
        if settings.chunk_tokens > room:
            raise SettingsError(
                f"chunk_tokens is {settings.chunk_tokens}, but the embedder's window takes {room}; lower chunk_tokens"
            )
        return cls(
            embedder.count_tokens,
            settings.chunk_tokens,
            settings.chunk_overlap,
            settings.ocr_languages,
            settings.max_unpacked_mb << 20,
            min(CONTEXT_TOKENS, room - settings.chunk_tokens),
        )

    @property
    def chunking(self) -> str:
        """Names how text is cut; kept in the catalog as the chunker's version."""
        return f"{CHUNKER_VERSION}:{self.chunk_tokens}:{self.chunk_overlap}:{self.context_tokens}"

    def revision(self, sha256: str, given: Pairs = ()) -> str:
        """Names what becomes of a content, about which the user says something: 16 hex digits."""
        said = json.dumps(given) if given else ""
        return hashlib.sha256(f"{sha256}:{PARSER_VERSION}:{self.chunking}{said}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Task:
    """A document to be read."""

    path: Path
    """Where its bytes are: the file itself, or where a member was unpacked."""
    name: str
    """Its file name without suffix, which titles it where it has no other title."""
    doc: str
    doc_id: str
    revision: str
    size: int
    """Bytes."""
    date: str = ""
    """Its ISO day where the format has none."""
    given: Pairs = ()
    """What the user says about it."""


class Outline(NamedTuple):
    """What is known of a document once it is parsed."""

    title: str = ""
    pages: int = 0
    notes: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    date: str = ""
    """Its own ISO day; empty where the format has none."""
    metadata: Pairs = ()
    """What the format says about it."""


class Prepared(NamedTuple):
    """A chunk on its way to being embedded."""

    chunk: Chunk
    sparse: SparseVector
    dense: Vectors | None = None
    """Its vector where it has one already, shape (dim,)."""


Batch = tuple[Prepared, ...]


def prepare(
    task: Task, recipe: Recipe, spool: Path, progress: Callable[[int, int], None] | None = None
) -> Iterator[Outline | Batch]:
    """The outline of a document, then its chunks in batches.

    Raises:
        ParseError: the document cannot be read, or holds nothing.
    """
    beat = {"progress": progress} if progress else {}
    parsed = parse(task.path, Context(spool, recipe.languages, recipe.max_unpacked, **beat))
    about = parsed.title
    if parsed.title == task.path.stem:  # no part of the content: a renamed file must not be embedded anew
        parsed, about = replace(parsed, title=task.name), ""
    yield Outline(parsed.title, parsed.pages, parsed.notes, parsed.members, parsed.date, parsed.metadata)
    parsed = replace(parsed, date=parsed.date or task.date, metadata=merged(parsed.metadata, task.given))
    prepared = cut(parsed, recipe, task.doc_id, task.doc, task.revision, about)
    batch = tuple(islice(prepared, BATCH))
    if not batch:
        raise ParseError("no text in it; nothing to index")
    while batch:
        yield batch
        batch = tuple(islice(prepared, BATCH))


def cut(
    parsed: ParsedDocument, recipe: Recipe, doc_id: str, doc: str, revision: str, about: str | None = None
) -> Iterator[Prepared]:
    """The chunks of a parsed document, in order; see `Chunker.chunks`."""
    chunks = _chunker(recipe).chunks(parsed, doc_id, doc, revision, about)
    return (Prepared(chunk, encode_document(chunk.searchable)) for chunk in chunks)


@lru_cache(maxsize=1)
def _chunker(recipe: Recipe) -> Chunker:
    return Chunker(recipe.count_tokens, recipe.chunk_tokens, recipe.chunk_overlap, recipe.context_tokens)


def embed(embedder: Embedder, prepared: Sequence[Prepared], hidden: Sequence[bool]) -> list[IndexedChunk]:
    """Chunks with their vectors, embedding those that have none. Raises EmbedError."""
    bare = [item.chunk.searchable for item in prepared if item.dense is None]
    vectors = iter(embedder.embed(bare) if bare else ())
    return [
        IndexedChunk(item.chunk, next(vectors) if item.dense is None else item.dense, item.sparse, hide)
        for item, hide in zip(prepared, hidden, strict=True)
    ]
