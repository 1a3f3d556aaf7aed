"""The ledger of documents in SQLite: what was seen, what became of it, and why.

Knows nothing about chunks, vectors or how files are read. A row that says `indexed` is written after the data.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, astuple, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any
from uuid import UUID

from ingest.discover import plain
from ingest.ledger import explained
from rag.errors import IngestError
from rag.filter import Pairs, merged
from rag.types import Document

SCHEMA = 4
"""Kept in SQLite's `user_version`; goes up with every change of the tables."""
WAIT = 30.0
"""Seconds to wait for another process that is writing."""

_CREATE = """
CREATE TABLE documents (
    collection TEXT NOT NULL,
    doc TEXT NOT NULL,
    doc_id TEXT NOT NULL,
    title TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('indexed', 'failed')),
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    pages INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    parser_version TEXT NOT NULL,
    chunker_version TEXT NOT NULL,
    embedder_id TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (collection, doc)
);
"""
_SINCE_2 = """
ALTER TABLE documents ADD COLUMN revision TEXT NOT NULL DEFAULT '';
ALTER TABLE documents ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
ALTER TABLE documents ADD COLUMN parent TEXT NOT NULL DEFAULT '';
ALTER TABLE documents ADD COLUMN members INTEGER NOT NULL DEFAULT 0;
ALTER TABLE documents ADD COLUMN first_seen TEXT NOT NULL DEFAULT '';
CREATE INDEX by_content ON documents (collection, sha256);
CREATE INDEX by_parent ON documents (collection, parent);
"""
_SINCE_3 = """
ALTER TABLE documents ADD COLUMN date TEXT NOT NULL DEFAULT '';
ALTER TABLE documents ADD COLUMN dated INTEGER NOT NULL DEFAULT 0;
ALTER TABLE documents ADD COLUMN own TEXT NOT NULL DEFAULT '[]';
ALTER TABLE documents ADD COLUMN given TEXT NOT NULL DEFAULT '[]';
"""
_SINCE_4 = """
ALTER TABLE documents ADD COLUMN parent_revision TEXT NOT NULL DEFAULT '';
"""
_STEPS = (_CREATE, _SINCE_2, _SINCE_3, _SINCE_4)
"""What makes each version of the schema out of the one before."""

NOTHING = "[]"
"""Nothing, `packed`."""


def packed(metadata: Pairs) -> str:
    """Keys and values as the catalog keeps them."""
    return json.dumps([(plain(key), plain(value)) for key, value in metadata])


def unpacked(text: str) -> Pairs:
    """Keys and values that were `packed`."""
    return tuple((key, value) for key, value in json.loads(text))


@dataclass(frozen=True, slots=True)
class Row:
    """What the catalog knows about one document; see `rag.types.Document` for the fields they share."""

    doc: str
    doc_id: str
    title: str
    sha256: str
    size: int
    mtime_ns: int
    status: str
    stage: str = ""
    reason: str = ""
    pages: int = 0
    chunks: int = 0
    parser_version: str = ""
    chunker_version: str = ""
    embedder_id: str = ""
    updated_at: str = ""
    """ISO 8601, UTC; set on writing where it is empty."""
    revision: str = ""
    """Names content, parser and chunking: that of the document's chunks in the index."""
    fingerprint: str = ""
    """Sum of the ids of the document's chunks; see `Fingerprint`."""
    parent: str = ""
    """The document that this one was found in, such as the mail of an attachment; empty for a file."""
    members: int = 0
    """How many documents were found in this one."""
    first_seen: str = ""
    """ISO 8601, UTC; kept when the row is replaced."""
    date: str = ""
    """ISO day; see `rag.types.Chunk.date`."""
    dated: bool = False
    """True where the format has the date, not the file or what the document was found in."""
    own: str = NOTHING
    """What the format says about the document; see `packed`."""
    given: str = NOTHING
    """What the user said about it."""
    parent_revision: str = ""
    """The revision, but for the user's word, that `parent` had when this document was last seen to be in it."""

    @property
    def document(self) -> Document:
        """The row as the rest of the program sees it."""
        shared = asdict(self)
        names = {field.name for field in fields(Document)} - {"id", "metadata"}
        return Document(id=self.doc_id, metadata=self.metadata, **{name: shared[name] for name in names})

    @property
    def metadata(self) -> Pairs:
        """What is said about the document; the user's word counts."""
        return merged(unpacked(self.own), unpacked(self.given))

    def kept(self, now: Row, members: int) -> Row:
        """The row of an unchanged document with what it was compared by `now`, so that it need not be read again."""
        row = replace(self, size=now.size, mtime_ns=now.mtime_ns, parent_revision=now.parent_revision, members=members)
        return row if row == self else replace(row, updated_at="")


_COLUMNS = tuple(field.name for field in fields(Row))
_PUT = (
    f"INSERT OR REPLACE INTO documents (collection, {', '.join(_COLUMNS)}) "  # noqa: S608
    f"VALUES ({', '.join('?' for _ in ('collection', *_COLUMNS))})"
)


class Fingerprint:
    """Of a set of chunk ids, added in any order: equal for equal sets, and for others only by an accident of 2^-128."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._sum = 0
        for id_ in ids:
            self.add(id_)

    def add(self, id_: str) -> None:
        """Count one id in; each only once."""
        self._sum = (self._sum + UUID(id_).int) % (1 << 128)

    def __str__(self) -> str:
        return f"{self._sum:032x}"


class Catalog:
    """The open ledger; safe to use from several threads and, one writing at a time, several processes.

    Every method raises `IngestError` where the file cannot be read or written.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path, self._connection, self._lock = path, connection, RLock()

    @classmethod
    def open(cls, path: Path, wait: float = WAIT) -> Catalog:
        """Open the ledger, or make a new one with the folders it lies in; `wait` seconds for who else writes to it.

        Raises:
            IngestError: it is no ledger, was written by a newer Footnote, or cannot be opened.
        """
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
            try:
                _bring_up_to_date(path, connection)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def get(self, collection: str, doc: str) -> Row | None:
        """The row of one document, by its exact name."""
        return next(iter(self._select("collection = ? AND doc = ?", collection, plain(doc))), None)

    def put(self, collection: str, *rows: Row) -> None:
        """Write rows in the place of those that their documents have, all or none. Durable when the call returns."""
        with self._transaction() as connection:
            connection.executemany(_PUT, [(collection, *astuple(_stamped(row))) for row in rows])

    def remove(self, collection: str, doc: str) -> None:
        """Forget a document; nothing happens where it is not known."""
        self._execute("DELETE FROM documents WHERE collection = ? AND doc = ?", collection, plain(doc))

    def forget(self, collection: str) -> None:
        """Forget all documents of a collection, and of what is built to take its place (`NAME@...`)."""
        name = "substr(collection, 1, instr(collection, '@') - 1)"
        self._execute(f"DELETE FROM documents WHERE ? IN (collection, {name})", collection)  # noqa: S608

    def move(self, source: str, target: str) -> None:
        """Make one collection's rows those of another, which loses the ones it had; all or none."""
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM documents WHERE collection = ?", (source,)).fetchone():
                connection.execute("DELETE FROM documents WHERE collection = ?", (target,))
                connection.execute("UPDATE documents SET collection = ? WHERE collection = ?", (target, source))

    def rows(self, collection: str) -> list[Row]:
        """All rows of a collection, sorted by name."""
        return self._select("collection = ?", collection)

    def members(self, collection: str, doc: str) -> list[Row]:
        """Rows of the documents found in a document, not of those found in them in turn."""
        return self._select("collection = ? AND parent = ?", collection, plain(doc))

    def inside(self, collection: str, doc: str) -> list[Row]:
        """Rows of the documents found in a document, at any depth; a container before what was found in it."""
        direct = self.members(collection, doc)
        return [each for row in direct for each in (row, *self.inside(collection, row.doc))]

    def with_content(self, collection: str, sha256: str) -> list[Row]:
        """Rows of the documents with a content."""
        return self._select("collection = ? AND sha256 = ?", collection, sha256)

    def chunks(self, collection: str) -> int:
        """How many chunks a collection's documents have together."""
        ((total,),) = self._execute("SELECT COALESCE(SUM(chunks), 0) FROM documents WHERE collection = ?", collection)
        return int(total)

    def documents(self, collection: str) -> list[Document]:
        """All documents of a collection, sorted by name."""
        return [row.document for row in self._select("collection = ?", collection)]

    def find(self, collection: str, name: str) -> list[Document]:
        """Documents that a person may mean by `name`: that very path, that path resolved, or else its last parts."""
        everything = self.documents(collection)
        here = os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 - a name need not be a path
        for exact in (name, here, os.path.realpath(here)):
            if found := [document for document in everything if document.doc == plain(exact)]:
                return found
        tail = os.sep + os.path.normpath(plain(name)).lstrip(os.sep)
        return [document for document in everything if document.doc.endswith(tail)]

    def collections(self) -> list[str]:
        """Names of the collections that hold a document, sorted; those being built anew are left out."""
        rows = self._execute(
            "SELECT DISTINCT collection FROM documents WHERE instr(collection, '@') = 0 ORDER BY collection"
        )
        return [str(name) for (name,) in rows]

    def version(self) -> str:
        """Another one after every change, by whichever process, while the catalog stays open."""
        with self._lock, _explained(self._path):
            (others,) = self._connection.execute("PRAGMA data_version").fetchone()
            return f"{others}-{self._connection.total_changes}"

    def close(self) -> None:
        """Let go of the file. The catalog cannot be used after that."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _explained(self._path), _all_or_none(self._connection):
            yield self._connection

    def _select(self, where: str, *values: str) -> list[Row]:
        statement = f"SELECT {', '.join(_COLUMNS)} FROM documents WHERE {where} ORDER BY doc"  # noqa: S608
        return [Row(*row) for row in self._execute(statement, *values)]

    def _execute(self, statement: str, *values: str | int) -> list[Any]:
        with self._lock, _explained(self._path):
            return self._connection.execute(statement, values).fetchall()


def _bring_up_to_date(path: Path, connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > SCHEMA:
        raise IngestError(
            f"the catalog {path} has version {found}, this Footnote knows versions up to {SCHEMA}; "
            "update Footnote, or use another --home"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    with _all_or_none(connection):  # two processes may both find a new file: the second sees the table
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        for step in _STEPS[found:]:
            for statement in filter(str.strip, step.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


@contextmanager
def _all_or_none(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _stamped(row: Row) -> Row:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return replace(
        row,
        doc=plain(row.doc),
        title=plain(row.title),
        reason=plain(row.reason),
        parent=plain(row.parent),
        updated_at=row.updated_at or now,
        first_seen=row.first_seen or now,
    )


def _explained(path: Path) -> AbstractContextManager[None]:
    return explained(path, "the catalog", IngestError, "move it away and ingest again")
