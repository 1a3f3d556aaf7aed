"""Reads and embeds documents with actors on several machines: to `ingest.feed` the same as the sandbox on one.

What an actor had in hand when it was lost is given to another; a document's events come in order all the same.
Knows nothing about Ray, the catalog or the store.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ingest.node import About, Embedded, Told, append, parts, relocated
from ingest.posts import Node, Post, posts
from ingest.progress import InHand
from ingest.sandbox import Chunks, Event, Refused, Started
from ingest.stages import Batch, Task
from rag.errors import IngestError
from rag.settings import Settings

log = logging.getLogger("footnote.crew")

GROUP = 256
"""Chunks that an encoder gets at once, where so many wait."""
AHEAD = 2
"""Calls that an encoder has: one that it works on, one that waits."""
LOSSES = 3
"""A document, or a post, is given up after so many actors were lost over it."""
HIRE = 2.0
"""Seconds between two looks at the cluster's nodes."""
UNMANNED = 300.0
"""Seconds without anybody to read, or to embed, after which the run ends."""
_GIVEN_UP = f"{LOSSES} processes of the cluster were lost over it (the last: {{reason}}); ingest it again"


class Cluster(Protocol):
    """Where actors live. A call's answer is asked for once, when it is done."""

    def explained(self) -> AbstractContextManager[None]:
        """Connects first; tells errors of the cluster as `IngestError`."""

    def nodes(self) -> list[Node]:
        """The machines that are alive."""

    def start(self, post: Post, settings: Settings) -> Any:
        """An actor for a post: `ingest.node`'s Reader or Encoder."""

    def call(self, actor: Any, method: str, *arguments: Any) -> Any:
        """Call a method of an actor; returns at once with what stands for the answer."""

    def done(self, calls: Collection[Any], timeout: float) -> list[Any]:
        """Those calls that are answered, waiting up to `timeout` seconds for the first."""

    def answer(self, call: Any, host: str) -> tuple[Any, str]:
        """A call's answer, and why its actor was lost; empty where it was not. Raises IngestError."""

    def kill(self, actor: Any) -> None:
        """End an actor."""

    def close(self, readers: Sequence[Any], actors: Sequence[Any]) -> None:
        """End all actors; readers may clean up before. Never raises."""


@dataclass(slots=True, eq=False)
class _Item:
    """An event on its way out."""

    event: Event
    waits: bool = False
    """True for chunks that are not embedded yet."""
    losses: int = 0

    @property
    def batch(self) -> Batch:
        """The chunks that wait to be embedded."""
        return self.event.batch if self.waits and isinstance(self.event, Chunks) else ()


@dataclass(slots=True, eq=False)
class _Job:
    """A document in hand."""

    task: Task
    out: deque[_Item] = field(default_factory=deque)
    begun: float = 0.0
    beat: tuple[int, int] = (0, 0)
    losses: int = 0
    avoids: set[str] = field(default_factory=set)
    """Nodes that cannot read the file."""
    complete: bool = False
    """True where its reader is done with it."""
    refused: bool = False


@dataclass(slots=True, eq=False)
class _Actor:
    post: Post
    handle: Any
    ready: bool = False
    calls: int = 0
    job: _Job | None = None
    """What a reader reads."""
    story: Iterator[Any] = field(default_factory=lambda: iter(()))
    """The calls for it that are to come."""
    batches: list[tuple[_Job, _Item]] = field(default_factory=list)
    """What an encoder has to do."""
    held: int = 0


class Crew:
    """What `ingest.sandbox.Pool` is to one machine. To be used from one thread, except `in_hand` and `peak`."""

    def __init__(self, settings: Settings, about: About, cluster: Cluster, spool: Path) -> None:
        """`settings` go to the nodes; `about` is what every node must agree with."""
        self._settings, self._about, self._cluster, self._spool = settings, about, cluster, spool
        self._waiting: deque[_Job] = deque()
        self._jobs: dict[str, _Job] = {}
        self._to_embed: deque[tuple[_Job, _Item]] = deque()
        self._actors: dict[Post, _Actor] = {}
        self._failures: dict[Post, int] = {}
        self._calls: dict[Any, tuple[_Actor, Callable[[Any], None]]] = {}
        self._looked, self._manned, self._reason = 0.0, 0.0, ""
        self.peak = 0

    def submit(self, task: Task) -> None:
        """Queue a document; its events come from `poll`."""
        with suppress(OSError):  # as the node will find it; one that is gone is told by the node
            task = replace(task, size=task.path.stat().st_size)
        job = _Job(task)
        self._jobs[task.doc] = job
        self._waiting.append(job)

    @property
    def has_room(self) -> bool:
        """True where a document submitted now would soon be read."""
        return len(self._waiting) < max(1, len(self._ready("read")))

    @property
    def is_idle(self) -> bool:
        """True where no event will come."""
        return not self._jobs

    def in_hand(self) -> list[InHand]:
        """What is being read now, the longest first."""
        now = time.monotonic()
        jobs = [actor.job for actor in list(self._actors.values()) if actor.job is not None]
        found = [InHand(job.task.doc, now - job.begun, *job.beat) for job in jobs]
        return sorted(found, key=lambda item: -item.seconds)

    def poll(self, timeout: float) -> list[Event]:
        """Events that have come, waiting up to `timeout` seconds. Readers go on only between two calls.

        Raises:
            IngestError: the cluster cannot be reached, or has nobody who reads and embeds.
        """
        with self._cluster.explained():
            self._hire()
            self._dispatch()
            for call in self._cluster.done(self._calls, timeout):
                if call in self._calls:  # not that of an actor which was given up meanwhile
                    self._answered(call)
            self._dispatch()
        self.peak = max(self.peak, sum(actor.held for actor in self._actors.values()))
        return list(self._events())

    def forget(self, doc_id: str) -> None:
        """Remove what a document left in the spool."""
        shutil.rmtree(self._spool / doc_id, ignore_errors=True)

    def close(self) -> None:
        """End the actors, and the cluster if it was started for this run; empty the spool."""
        readers = [actor for actor in self._actors.values() if actor.post.kind == "read" and actor.ready]
        self._cluster.close([actor.handle for actor in readers], [actor.handle for actor in self._actors.values()])
        for held in (self._actors, self._calls, self._jobs, self._waiting, self._to_embed):
            held.clear()
        shutil.rmtree(self._spool, ignore_errors=True)

    # --- actors

    def _ready(self, kind: str) -> list[_Actor]:
        return [actor for actor in list(self._actors.values()) if actor.ready and actor.post.kind == kind]

    def _hire(self) -> None:
        """Man the posts that are empty: at the start, where a node came, where an actor was lost."""
        now = time.monotonic()
        if self._looked and now - self._looked < HIRE:
            return
        self._looked, self._manned = now, self._manned or now
        wanted = posts(self._cluster.nodes(), self._settings)
        for post in wanted:
            if post not in self._actors and self._failures.get(post, 0) < LOSSES:
                self._start(post)
        if self._ready("read") and self._ready("embed"):
            self._manned = now
        elif now - self._manned > UNMANNED or self._is_hopeless():
            raise IngestError(
                f"nobody on the Ray cluster can read and embed ({self._reason or 'no free CPU'}); "
                "see `ray status`, and free or add nodes that have Footnote"
            )

    def _is_hopeless(self) -> bool:
        """True where nobody can be hired to read, or to embed, because all who were tried failed."""
        missing = {"read", "embed"} - {post.kind for post in self._actors}
        return any(post.kind in missing for post, times in self._failures.items() if times >= LOSSES)

    def _start(self, post: Post) -> None:
        settings = self._settings.model_copy(update={"threads": self._settings.threads or post.threads})
        actor = self._actors[post] = _Actor(post, self._cluster.start(post, settings))
        self._call(actor, self._cluster.call(actor.handle, "ready"), partial(self._arrived, actor))

    def _arrived(self, actor: _Actor, about: About) -> None:
        if about != self._about:
            raise IngestError(
                f"node {actor.post.host} has {tuple(about)}, expected {tuple(self._about)}; "
                "install the same Footnote and weights on every node"
            )
        actor.ready = True

    def _call(self, actor: _Actor, call: Any, then: Callable[[Any], None]) -> None:
        actor.calls += 1
        self._calls[call] = (actor, then)

    def _answered(self, call: Any) -> None:
        actor, then = self._calls.pop(call)
        actor.calls -= 1
        answer, loss = self._cluster.answer(call, actor.post.host)
        if loss:
            self._lost(actor, loss)
        else:
            then(answer)

    def _lost(self, actor: _Actor, reason: str) -> None:
        """An actor is gone; what it had in hand is done again by another."""
        log.warning("lost a process that should %s on node %s: %s", actor.post.kind, actor.post.host, reason)
        self._reason = reason
        self._cluster.kill(actor.handle)
        del self._actors[actor.post]
        self._calls = {call: owner for call, owner in self._calls.items() if owner[0] is not actor}
        self._failures[actor.post] = 0 if actor.ready else self._failures.get(actor.post, 0) + 1
        self._looked = 0.0
        if actor.job is not None:
            self._again(actor.job, reason)
        for job, item in reversed(actor.batches):
            item.losses += 1
            if item.losses < LOSSES:
                self._to_embed.appendleft((job, item))
            elif item.waits:
                self._refuse(job, "embed", _GIVEN_UP.format(reason=reason))

    def _again(self, job: _Job, reason: str) -> None:
        """Have a document read anew, or give it up."""
        job.losses += 1
        job.complete = job.refused or job.losses == LOSSES
        if not job.complete:
            self._waiting.appendleft(job)
        elif not job.refused:
            self._refuse(job, "parse", _GIVEN_UP.format(reason=reason))

    # --- reading and embedding

    def _dispatch(self) -> None:
        """Give actors something to do."""
        encoders = self._ready("embed")
        for actor in sorted(encoders, key=lambda actor: actor.calls):
            while actor.calls < AHEAD and (group := self._group()):
                actor.batches += group
                texts = [[prepared.chunk.searchable for prepared in item.batch] for _, item in group]
                call = self._cluster.call(actor.handle, "embed", texts)
                self._call(actor, call, partial(self._embedded, actor, group))
        readers = self._ready("read")
        for actor in [reader for reader in readers if reader.job is None]:
            self._give(actor, {reader.post.node for reader in readers})
        if sum(len(item.batch) for _, item in self._to_embed) >= GROUP * max(1, len(encoders)):
            return  # embedding is behind
        for actor in [reader for reader in readers if reader.job is not None and not reader.calls]:
            self._call(actor, next(actor.story), partial(self._told, actor))

    def _give(self, reader: _Actor, nodes: set[str]) -> None:
        """Give a reader the first document that its node may be able to read."""
        for job in list(self._waiting):
            if reader.post.node not in job.avoids or job.avoids >= nodes:
                self._waiting.remove(job)
                reader.job, job.begun, job.beat = job, time.monotonic(), (0, 0)
                reader.story = self._story(reader, job)
                return

    def _story(self, reader: _Actor, job: _Job) -> Iterator[Any]:
        """The calls that it takes to read a document. What was unpacked here goes to the node first."""
        task = job.task
        if task.path.is_relative_to(self._spool):
            where = task.path.relative_to(self._spool)
            for piece in parts(task.path, where):
                yield self._cluster.call(reader.handle, "take", piece)
            task = replace(task, path=where)
        yield self._cluster.call(reader.handle, "read", task)
        while True:
            yield self._cluster.call(reader.handle, "more")

    def _told(self, reader: _Actor, told: Told | None) -> None:
        job = reader.job
        if told is None or job is None:
            return
        job.beat, reader.held = told.beat, told.held
        if told.last:
            reader.job, job.complete = None, not told.unreadable
        if told.unreadable:
            self._elsewhere(job, reader.post.node, told.unreadable)
        if job.refused:
            return
        for event in told.events:
            self._add(job, relocated(event, self._spool.joinpath))
        for piece in told.pieces:
            append(self._spool, piece)

    def _elsewhere(self, job: _Job, node: str, reason: str) -> None:
        """A node cannot read the file: another one may."""
        seen = node in job.avoids
        job.avoids.add(node)
        if seen or job.avoids >= {reader.post.node for reader in self._ready("read")}:
            job.complete = True
            self._refuse(job, "read", reason)
        else:
            self._waiting.appendleft(job)

    def _add(self, job: _Job, event: Event) -> None:
        if isinstance(event, Started):
            self._drop(job)
        item = _Item(event, isinstance(event, Chunks))
        job.out.append(item)
        if item.waits:
            self._to_embed.append((job, item))

    def _drop(self, job: _Job) -> None:
        """Forget what came of a document so far."""
        for item in job.out:
            item.waits = False
        job.out.clear()
        self.forget(job.task.doc_id)

    def _refuse(self, job: _Job, stage: str, reason: str) -> None:
        self._drop(job)
        job.out.append(_Item(Refused(job.task.doc, stage, reason)))
        job.refused = True

    def _group(self) -> list[tuple[_Job, _Item]]:
        """Batches that wait to be embedded, for one call."""
        group: list[tuple[_Job, _Item]] = []
        size = 0
        while self._to_embed and size < GROUP:
            job, item = self._to_embed.popleft()
            if item.waits:
                group.append((job, item))
                size += len(item.batch)
        return group

    def _embedded(self, encoder: _Actor, group: list[tuple[_Job, _Item]], answer: Embedded) -> None:
        encoder.held = answer.held
        encoder.batches = encoder.batches[len(group) :]  # calls are answered in order
        for (job, item), vectors in zip(group, answer.batches, strict=True):
            if not item.waits:  # forgotten meanwhile
                continue
            if isinstance(vectors, str):
                self._refuse(job, "embed", vectors)
                continue
            pairs = zip(item.batch, vectors, strict=True)
            item.event = Chunks(item.event.doc, tuple(one._replace(dense=vector) for one, vector in pairs))
            item.waits = False

    def _events(self) -> Iterator[Event]:
        """What can go out, each document's in order."""
        for doc, job in list(self._jobs.items()):
            while job.out and not job.out[0].waits:
                yield job.out.popleft().event
            if job.complete and not job.out:
                del self._jobs[doc]
