"""Files -> what has to be done about each: nothing, a copy of what is known, or reading it. Drives the sandbox.

Runs in a thread of its own beside the embedding, which takes the events from a bounded queue. Knows nothing about
embedding or how documents are stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePath
from queue import Full, Queue
from threading import Event as Flag
from typing import NamedTuple, Protocol

from ingest.catalog import Catalog, Fingerprint, Row, packed, unpacked
from ingest.discover import Found, day_of, doc_id_of, plain, sha256_of
from ingest.labels import Labels
from ingest.parse.document import Member
from ingest.parse.table import PARSER_VERSION
from ingest.progress import InHand
from ingest.sandbox import Event, Finished, Opened, Refused
from ingest.stages import Recipe, Task
from ingest.writer import is_there
from rag.errors import ParseError
from rag.store.protocol import Store

DEPTH = 5
"""An attachment in a message in an archive: so many containers may lie within each other."""
QUEUE = 16
"""Events that wait for the embedder; with batches of 64 about a thousand chunks."""
_INSTALL = "apt-get install"
"""Every note that names a missing program says how to install it."""
_RACY_NS = 2_000_000_000
"""A file changed so shortly before it was indexed may have been changed again with the same time stamp."""


@dataclass(slots=True)
class Doc:
    """A document of this run."""

    row: Row
    """As the catalog will have it, but for what comes of it."""
    path: Path
    """Where its bytes are."""
    known: Row | None
    depth: int = 0
    members: tuple[Member, ...] = ()
    keep: bool = False
    """True where the index has it already and it is read for its members alone."""
    anew: bool = False
    """True where what the index has of it goes before it is read: its passages would have the same revision."""


class Unchanged(NamedTuple):
    """The index has the document as it is; `row` is what the catalog should say."""

    row: Row
    met: bool = True
    """False for one found in another document that was not opened, because it is as it was."""


class Copy(NamedTuple):
    """The same content is in the index, under another name or with other words of the user about it."""

    source: Row
    moved: bool = False
    """True where its file has gone, so that the document seems to have been renamed."""
    met: bool = True
    """As for `Unchanged`."""


class Gone(NamedTuple):
    """A document that was found in this one is there no more, nor what was found in it."""

    row: Row


class End(NamedTuple):
    """Nothing follows. `error` is what ended the feed before its time."""

    error: BaseException | None


class Readers(Protocol):
    """Who reads documents: `ingest.sandbox.Pool`, or a cluster. Used by the feed's thread, `in_hand` by any."""

    peak: int
    """Most bytes that its processes have held together."""

    @property
    def has_room(self) -> bool:
        """True where a document submitted now would soon be read."""

    @property
    def is_idle(self) -> bool:
        """True where no event will come."""

    def submit(self, task: Task) -> None:
        """Queue a document; its events come from `poll`."""

    def poll(self, timeout: float) -> list[Event]:
        """Events that have come, waiting up to `timeout` seconds for the first."""

    def in_hand(self) -> list[InHand]:
        """What is being read now, the longest first."""

    def forget(self, doc_id: str) -> None:
        """Remove what was unpacked from a document."""

    def close(self) -> None:
        """End everything, and remove what was unpacked."""


Step = tuple[Doc, Event | Unchanged | Copy | Gone] | End


class Feed:
    """Decides about files, has them read, and puts what comes of it on `steps`."""

    def __init__(
        self,
        catalog: Catalog,
        ledger: str,
        store: Store,
        recipe: Recipe,
        embedder_id: str,
        pool: Readers,
        labels: Labels,
    ) -> None:
        """`ledger` is the name under which the catalog keeps the collection."""
        self.steps: Queue[Step] = Queue(QUEUE)
        self.stopped = Flag()
        self._catalog, self._ledger, self._store = catalog, ledger, store
        self._recipe, self._embedder_id, self._pool, self._labels = recipe, embedder_id, pool, labels
        self._known = {row.doc: row for row in catalog.rows(ledger)}
        self._in_step = store.count() == sum(row.chunks for row in self._known.values())
        self._coming: dict[str, str] = {}
        """Revisions that documents will have when the steps put so far are taken; empty for none."""
        self._docs: dict[str, Doc] = {}
        self._waiting: deque[Doc] = deque()
        self._unsettled: dict[str, int] = {}

    @property
    def in_step(self) -> bool:
        """True where the store held as many chunks as the catalog says, when the run began."""
        return self._in_step

    def run(self, files: Sequence[Found]) -> None:
        """Work through the files, members as they are found. Ends with an `End`, whatever happens."""
        error: BaseException | None = None
        try:
            coming = iter(files)
            while not self.stopped.is_set():
                self._submit(coming)
                if self._pool.is_idle and not self._waiting:
                    break
                for event in self._pool.poll(0.2):
                    self._handle(event)
        except BaseException as raised:  # noqa: BLE001 - told to the thread that embeds, which raises it
            error = raised
        finally:
            try:
                self._pool.close()
            finally:  # without an end the other thread would wait for ever
                self.steps.put(End(error))

    def _submit(self, coming: Iterator[Found]) -> None:
        while self._pool.has_room and not self.stopped.is_set():
            if self._waiting:
                self._decide(self._waiting.popleft())
            elif (found := next(coming, None)) is not None:
                self._decide(self._doc(found))
            else:
                return

    def _doc(self, found: Found) -> Doc:
        name = plain(str(found.path))
        known = self._known.get(name)
        row = self._row(name, found.path, found.size, found.mtime_ns, known)
        given = self._labels.of(name, known)
        return Doc(replace(row, date=day_of(found.mtime_ns), given=given), found.path, known)

    def _member(self, container: Doc, member: Member) -> Doc:
        name = plain(f"{container.row.doc}/{member.name}")
        known = self._known.get(name)
        row = self._row(name, Path(name), member.path.stat().st_size, 0, known)
        above = container.row
        given = self._labels.of(name, known, above.given)
        row = replace(
            row, parent=above.doc, parent_revision=self._recipe.revision(above.sha256), date=above.date, given=given
        )
        return Doc(row, member.path, known, container.depth + 1)

    def _row(self, name: str, path: Path, size: int, mtime_ns: int, known: Row | None) -> Row:
        """A document's catalog row as long as nothing has come of it."""
        return Row(
            doc=name,
            doc_id=doc_id_of(path),
            title=plain(PurePath(name).stem),
            sha256="",
            size=size,
            mtime_ns=mtime_ns,
            status="failed",
            parser_version=PARSER_VERSION,
            chunker_version=self._recipe.chunking,
            embedder_id=self._embedder_id,
            first_seen=known.first_seen if known else "",
        )

    def _decide(self, doc: Doc) -> None:
        """Find out whether anything has to be done about a document, and have it done."""
        known = doc.known
        if known and self._looks_the_same(known, doc):
            doc.row = replace(doc.row, sha256=known.sha256)
        else:
            try:
                if doc.depth > DEPTH:
                    raise ParseError(f"more than {DEPTH} archives or messages within each other; unpack some")
                doc.row = replace(doc.row, sha256=sha256_of(doc.path))
            except ParseError as error:
                self._refuse(doc, "read", str(error))
                return
        doc.row = self._revised(doc.row)
        if known and self._is_indexed(known, doc.row):
            doc.anew = _lacks_help(known)
            self._read(doc) if doc.anew else self._settled_or_members(doc, known)
        elif known and self._is_alike(known, doc.row) and self._is_complete(known) and not _lacks_help(known):
            self._relabel(doc, known)
        elif source := self._source(doc):
            self._copy(doc, source)
        else:
            self._read(doc)

    def _revised(self, row: Row) -> Row:
        """A row with the revision that its document will have."""
        row = replace(row, revision=self._recipe.revision(row.sha256, unpacked(row.given)))
        self._coming[row.doc] = row.revision
        return row

    def _looks_the_same(self, known: Row, doc: Doc) -> bool:
        """True where size and time say that the content is that of the last time; it is not read then."""
        if known.status != "indexed" or (known.size, known.mtime_ns) != (doc.row.size, doc.row.mtime_ns):
            return False
        indexed = datetime.fromisoformat(known.updated_at).timestamp() * 1e9
        return 0 < known.mtime_ns < indexed - _RACY_NS

    def _is_indexed(self, known: Row, row: Row) -> bool:
        """True where the same content was indexed in the same way, and its chunks are still in this store."""
        return known.revision == row.revision and self._is_alike(known, row)

    def _is_alike(self, known: Row, row: Row) -> bool:
        """As `_is_indexed`, whatever the user said about it."""
        return _recipe_of(known) == _recipe_of(row) and self._is_whole(known)

    def _is_whole(self, row: Row) -> bool:
        """True where a document was indexed and the store has its chunks, neither less nor more."""
        if row.status != "indexed":
            return False
        return self._in_step or str(Fingerprint(self._store.ids(row.doc_id))) == row.fingerprint

    def _settled_or_members(self, doc: Doc, known: Row) -> None:
        """Leave an indexed document alone, unless members of it are missing, damaged or failed."""
        if not self._is_complete(known):
            doc.keep = True
            self._read(doc)
            return
        self._settle_inside(doc, known)
        self._settle(doc, Unchanged(known.kept(doc.row, known.members)))

    def _is_complete(self, known: Row) -> bool:
        """True unless something that is in a document is missing, damaged, failed, or still as it was before.

        The last is so where a run ended after a container that had changed, and before what is in it.
        """
        if not known.members:
            return True
        direct, revision = self._catalog.members(self._ledger, known.doc), self._recipe.revision(known.sha256)
        return len(direct) == known.members and all(
            row.parent_revision == revision and self._is_whole(row) and not _lacks_help(row) and self._is_complete(row)
            for row in direct
        )

    def _relabel(self, doc: Doc, known: Row) -> None:
        """Write a document, and what was found in it, once more with what the user says about it now."""
        self._settle_inside(doc, known)
        doc.row = replace(doc.row, members=known.members)
        self._settle(doc, Copy(known))

    def _settle_inside(self, doc: Doc, known: Row) -> None:
        """What was found in a document that need not be opened: nothing new, or what the user says about it now."""
        for row in self._catalog.inside(self._ledger, known.doc) if known.members else ():
            given = self._labels.of(row.doc, row)
            new = replace(row, given=given, status="failed", chunks=0, fingerprint="", updated_at="")
            same = given == row.given
            step = Unchanged(row, met=False) if same else Copy(row, met=False)
            self._emit(Doc(row if same else self._revised(new), doc.path, row, doc.depth + 1), step)

    def _source(self, doc: Doc) -> Row | None:
        """A document with the same content, indexed in the same way, from which everything can be copied."""
        suffix = PurePath(doc.row.doc).suffix.lower()
        for row in self._catalog.with_content(self._ledger, doc.row.sha256):
            alike = PurePath(row.doc).suffix.lower() == suffix and not row.members and row.doc != doc.row.doc
            stays = self._coming.get(row.doc, row.revision) == row.revision
            if alike and stays and self._is_alike(row, doc.row):
                return row
        return None

    def _copy(self, doc: Doc, source: Row) -> None:
        moved = not source.parent and not is_there(source.doc)
        if moved:
            self._coming[source.doc] = ""
            doc.row = self._revised(replace(doc.row, given=self._labels.of(doc.row.doc, doc.known, source.given)))
        self._drop_members(doc, ())
        self._settle(doc, Copy(source, moved))

    def _read(self, doc: Doc) -> None:
        row = doc.row
        self._docs[row.doc] = doc
        name = PurePath(row.doc).stem
        given = unpacked(row.given)
        self._pool.submit(Task(doc.path, name, row.doc, row.doc_id, row.revision, row.size, row.date, given))

    def _handle(self, event: Event) -> None:
        doc = self._docs[event.doc]
        if isinstance(event, Opened):
            outline, doc.members = event.outline, event.outline.members
            doc.row = replace(
                doc.row,
                members=len(doc.members),
                date=outline.date or doc.row.date,
                dated=bool(outline.date),
                own=packed(outline.metadata),
            )
        if isinstance(event, Finished | Refused):
            del self._docs[event.doc]
            self._drop_members(doc, () if isinstance(event, Refused) else doc.members)
            if isinstance(event, Finished) and doc.members:
                self._unsettled[doc.row.doc] = len(doc.members)
                self._emit(doc, event)
                self._waiting.extendleft(self._member(doc, member) for member in reversed(doc.members))
                self._settle_parent(doc)
                return
            self._pool.forget(doc.row.doc_id)
            self._settle(doc, event)
            return
        self._emit(doc, event)

    def _drop_members(self, doc: Doc, members: Sequence[Member]) -> None:
        """Tell which documents found in this one the last time are no longer in it."""
        if doc.known is None:
            return
        names = {plain(f"{doc.row.doc}/{member.name}") for member in members}
        for row in self._catalog.members(self._ledger, doc.known.doc):
            if row.doc not in names:
                self._coming |= {each.doc: "" for each in (row, *self._catalog.inside(self._ledger, row.doc))}
                self._emit(doc, Gone(row))

    def _refuse(self, doc: Doc, stage: str, reason: str) -> None:
        self._coming[doc.row.doc] = ""
        self._drop_members(doc, ())
        self._settle(doc, Refused(doc.row.doc, stage, reason))

    def _settle(self, doc: Doc, event: Event | Unchanged | Copy) -> None:
        self._emit(doc, event)
        self._settle_parent(doc)

    def _settle_parent(self, doc: Doc) -> None:
        """A container's spool can go when the last of its members is settled."""
        parent = doc.row.parent
        if parent in self._unsettled:
            self._unsettled[parent] -= 1
            if not self._unsettled[parent]:
                del self._unsettled[parent]
                self._pool.forget(doc_id_of(Path(parent)))

    def _emit(self, doc: Doc, event: Event | Unchanged | Copy | Gone) -> None:
        while not self.stopped.is_set():
            try:
                self.steps.put((doc, event), timeout=0.2)
            except Full:
                continue
            return


def _recipe_of(row: Row) -> tuple[str, ...]:
    """What a document's passages were made of, and how."""
    return row.sha256, row.parser_version, row.chunker_version, row.embedder_id


def _lacks_help(row: Row) -> bool:
    """True where a part of a document was left out for want of a program, which may be there by now."""
    return row.status == "indexed" and _INSTALL in row.reason
