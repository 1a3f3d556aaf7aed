"""Conversations that people keep, in SQLite: per owner and collection, with names, to be found again.

Knows nothing about who an owner is, how answers are made, or how they are shown.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any
from uuid import uuid4

from ingest.ledger import explained
from rag.errors import SettingsError
from rag.filter import Filter
from rag.settings import Settings
from rag.types import Answer
from ui.server.kept import Conversation, Listed, Turn, clean, filter_of, filter_record, name_of, packed, unpacked

LOCAL = "local"
"""The owner of what is asked on the machine itself, where nobody logs in."""
FILE = "conversations.db"
SCHEMA = 1
"""Kept in SQLite's `user_version`; goes up with every change of the tables."""
WAIT = 30.0
"""Seconds to wait for another process that is writing."""
MOST_WORDS = 32
"""Of a text that is looked for; more do not count."""

_CREATE = """
CREATE TABLE conversations (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    collection TEXT NOT NULL,
    begun TEXT NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    changed INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX by_owner ON conversations (owner, collection, updated);
CREATE TABLE turns (
    conversation INTEGER NOT NULL REFERENCES conversations (key) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    id TEXT NOT NULL,
    question TEXT NOT NULL,
    said TEXT NOT NULL,
    answer TEXT NOT NULL,
    strictness TEXT NOT NULL,
    within TEXT NOT NULL,
    time TEXT NOT NULL,
    PRIMARY KEY (conversation, number)
);
"""
_STEPS = (_CREATE,)
"""What makes each version of the schema out of the one before. `changed` is 1 where `words` has to be brought up to."""
_WORDS = "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')"
"""What is written in each conversation, by its key; all of it stands in the other tables, too."""
_TEXT = """
name || char(10) || COALESCE(
    (SELECT group_concat(question || char(10) || said, char(10)) FROM turns WHERE conversation = key), '')
"""
_NAME = """
COALESCE(NULLIF(name, ''), (SELECT question FROM turns WHERE conversation = key ORDER BY number LIMIT 1), begun)
"""
_LISTED = f"""
SELECT id, {_NAME}, created, updated, (SELECT count(*) FROM turns WHERE conversation = key)
FROM conversations WHERE owner = ? AND collection = ? AND {{}} ORDER BY updated DESC, key DESC LIMIT ? OFFSET ?
"""  # noqa: S608 - of constants
_KEY = "(SELECT key FROM conversations WHERE owner = ? AND id = ?)"
_PUT = """
INSERT INTO turns (conversation, number, id, question, said, answer, strictness, within, time)
SELECT key, (SELECT COALESCE(max(number) + 1, 0) FROM turns WHERE conversation = key), ?, ?, ?, ?, ?, ?, ?
FROM conversations WHERE owner = ? AND id = ?
"""
_DROP_LAST = f"""
DELETE FROM turns WHERE (conversation, number) IN
    (SELECT conversation, max(number) FROM turns WHERE conversation = {_KEY})
"""  # noqa: S608 - of constants


class Conversations:
    """The open store; safe to use from several threads and processes.

    An owner reaches nothing of another's: an id of theirs is as good as none. Every method raises `SettingsError` where
    the file cannot be read or written.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, full_text: bool) -> None:
        """Use `open`."""
        self._path, self._connection, self._full_text, self._lock = path, connection, full_text, RLock()

    @classmethod
    def open(cls, settings: Settings, full_text: bool = True) -> Conversations:
        """Open the store under the home directory, or make a new one that nobody else on the machine can read.

        Args:
            settings: where the home directory is.
            full_text: search with SQLite's FTS5, where this Python has it; else every text is looked through.

        Raises:
            SettingsError: it is no such store, was written by a newer Footnote, or cannot be opened.
        """
        path = settings.home / FILE
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)
            path.chmod(0o600)  # SQLite gives the files beside it the same rights
            connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
            try:
                _bring_up_to_date(path, connection)
                opened = cls(path, connection, full_text and _has_fts5(connection))
                opened._catch_up()
            except BaseException:
                connection.close()
                raise
        return opened

    def start(self, owner: str, collection: str, question: str) -> str:
        """Begin a conversation, which is called by its first question until it gets a name; returns its id."""
        id_, now = uuid4().hex, _now()
        with self._changing() as connection:
            connection.execute(
                "INSERT INTO conversations (id, owner, collection, begun, created, updated) VALUES (?, ?, ?, ?, ?, ?)",
                (id_, owner, collection, clean(question), now, now),
            )
        return id_

    def add(self, owner: str, id: str, answer: Answer, strictness: str = "", within: Filter | None = None) -> str:
        """Put a question with its answer at the end.

        Args:
            owner: whose conversation.
            id: which one.
            answer: the question and what was answered.
            strictness: what it was asked with; empty for the setting.
            within: the documents that it was asked of; all of them without.

        Returns:
            The turn's id; empty where there is no such conversation, or no longer.
        """
        turn, now = uuid4().hex, _now()
        said = (clean(answer.question), clean(answer.text), packed(answer))
        asked_with = (strictness, json.dumps(filter_record(within or Filter())))
        with self._changing() as connection:
            done = connection.execute(_PUT, (turn, *said, *asked_with, now, owner, id))
            connection.execute(
                "UPDATE conversations SET updated = ?, changed = 1 WHERE owner = ? AND id = ?", (now, owner, id)
            )
        return turn if done.rowcount else ""

    def replace_last(
        self, owner: str, id: str, answer: Answer, strictness: str = "", within: Filter | None = None
    ) -> str:
        """Put a question with its answer in the place of the last one; see `add`."""
        with self._changing() as connection:
            connection.execute(_DROP_LAST, (owner, id))
            return self.add(owner, id, answer, strictness, within)

    def rename(self, owner: str, id: str, name: str) -> bool:
        """Give a conversation a name; a blank one lets it be called by its first question again.

        Returns:
            False where there is no such conversation.
        """
        with self._changing() as connection:
            done = connection.execute(
                "UPDATE conversations SET name = ?, changed = 1 WHERE owner = ? AND id = ?", (name_of(name), owner, id)
            )
        return bool(done.rowcount)

    def recent(self, owner: str, collection: str, offset: int = 0, limit: int = 50) -> list[Listed]:
        """An owner's conversations about a collection, those with the newest turn first."""
        return self._listed("TRUE", owner, collection, limit, offset)

    def search(self, owner: str, collection: str, text: str, offset: int = 0, limit: int = 50) -> list[Listed]:
        """The owner's conversations that hold all the words, or words that begin so, in questions, answers or names.

        The newest come first; a text without words finds none.
        """
        words = re.findall(r"[^\W_]+", text)[:MOST_WORDS]  # nothing that a query language could take for its own
        if not words:
            return []
        if self._full_text:
            found = "key IN (SELECT rowid FROM words WHERE words MATCH ?)"
            return self._listed(found, owner, collection, " ".join(f'"{word}"*' for word in words), limit, offset)
        found = " AND ".join(f"({_TEXT}) LIKE ?" for _ in words)
        return self._listed(found, owner, collection, *(f"%{word}%" for word in words), limit, offset)

    def read(self, owner: str, id: str) -> Conversation | None:
        """A whole conversation; None where the owner has none of this id."""
        with self._lock, _explained(self._path), self._connection as connection:
            connection.execute("BEGIN")  # so that all of it is of the same moment
            found = connection.execute(
                f"SELECT id, collection, {_NAME}, created, updated FROM conversations WHERE owner = ? AND id = ?",  # noqa: S608
                (owner, id),
            ).fetchone()
            turns = connection.execute(
                f"SELECT id, answer, strictness, within, time FROM turns WHERE conversation = {_KEY} ORDER BY number",  # noqa: S608
                (owner, id),
            ).fetchall()
        if found is None:
            return None
        id, collection, name, created, updated = found
        return Conversation(id, collection, name_of(name), created, updated, tuple(_turn(*row) for row in turns))

    def delete(self, owner: str, id: str) -> bool:
        """Forget a conversation; False where the owner has none of this id."""
        return bool(self._forget("owner = ? AND id = ?", owner, id))

    def delete_all(self, owner: str, collection: str) -> int:
        """Forget all conversations of an owner about a collection; returns how many there were."""
        return self._forget("owner = ? AND collection = ?", owner, collection)

    def forget(self, collection: str) -> None:
        """Forget all conversations about a collection, whoever had them."""
        self._forget("collection = ?", collection)

    def close(self) -> None:
        """Let go of the file. The store cannot be used after that."""
        with self._lock:
            self._connection.close()

    def _listed(self, condition: str, *values: str | int) -> list[Listed]:
        rows = self._execute(_LISTED.format(condition), *values)
        return [Listed(id_, name_of(name), *rest) for id_, name, *rest in rows]

    def _forget(self, where: str, *values: str) -> int:
        """Delete, and leave nothing of it in the files."""
        with self._changing() as connection:
            done = connection.execute(f"DELETE FROM conversations WHERE {where}", values)  # noqa: S608
            if self._full_text:
                connection.execute("DELETE FROM words WHERE rowid NOT IN (SELECT key FROM conversations)")
                connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return done.rowcount

    def _catch_up(self) -> None:
        """Bring the words up to what was written without them, by another Python perhaps."""
        if self._full_text:
            with self._changing() as connection:
                connection.execute(_WORDS)
                connection.execute("DELETE FROM words WHERE rowid NOT IN (SELECT key FROM conversations)")

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """All of what is done inside, or nothing; also where it is a part of something else."""
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            with _explained(self._path), self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                self._index()

    def _index(self) -> None:
        """Put what was changed among the words."""
        if not self._full_text:
            return
        for (key,) in self._connection.execute("SELECT key FROM conversations WHERE changed").fetchall():
            self._connection.execute("DELETE FROM words WHERE rowid = ?", (key,))
            self._connection.execute(
                f"INSERT INTO words (rowid, text) SELECT key, {_TEXT} FROM conversations WHERE key = ?",  # noqa: S608
                (key,),
            )
            self._connection.execute("UPDATE conversations SET changed = 0 WHERE key = ?", (key,))

    def _execute(self, statement: str, *values: str | int) -> list[Any]:
        with self._lock, _explained(self._path):
            return self._connection.execute(statement, values).fetchall()


def _turn(id: str, answer: str, strictness: str, within: str, time: str) -> Turn:
    return Turn(id, unpacked(answer), strictness, filter_of(json.loads(within)), time)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _has_fts5(connection: sqlite3.Connection) -> bool:
    return ("ENABLE_FTS5",) in connection.execute("PRAGMA compile_options").fetchall()


def _bring_up_to_date(path: Path, connection: sqlite3.Connection) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")
    with connection:
        connection.execute("BEGIN IMMEDIATE")  # two processes may both find a new file: the second sees the tables
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found > SCHEMA:
            raise SettingsError(
                f"the conversations {path} have version {found}, this Footnote knows versions up to {SCHEMA}; "
                "update Footnote, or use another --home"
            )
        for step in _STEPS[found:]:
            for statement in filter(str.strip, step.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _explained(path: Path) -> AbstractContextManager[None]:
    return explained(path, "the conversations", SettingsError, "move the file away")
