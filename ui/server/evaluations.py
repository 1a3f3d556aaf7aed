"""Evaluations of answers that the server makes: one at a time, on a thread of its own, told of as they go on.

What is made is a run under the home directory, as the command line makes it. One that was cut short goes on when the
same is started again. Knows nothing about HTTP, or about how answers are judged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any, Literal, NamedTuple

from eval import answers
from eval.cases import QASet, spread
from eval.corpus import open_corpus
from eval.run import Finished, Run, made_with
from rag.answer import Rag
from rag.errors import EvalError, FootnoteError
from rag.priority import give_way
from ui.server.evalsets import Sets
from ui.server.queued import Queued, Stopped
from ui.server.runlist import Figure, Listed, NoSuchEvaluation, Order, Runs
from ui.server.turns import Turns

log = logging.getLogger("footnote.evaluations")

KIND = "answers"
SYSTEMS = (answers.PRODUCT,)
EVERY = 0.5
"""Seconds between two looks at what there is to tell."""
BEAT = 15.0
"""Seconds of silence after which a listener is told that the connection lives."""
PATIENCE = 30.0
"""Seconds that an evaluation may take to come to an end; a killed one loses its last question alone."""

State = Literal["running", "finished", "unfinished", "failed"]


class EvaluationConflict(EvalError):
    """What was asked of an evaluation does not go with what is the case."""

    status = 409


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A run, or what is to become one, with how far it is."""

    id: str
    kind: str
    """What is measured: `answers`, or what the command line can measure beside."""
    set: str
    """The name or place of what was asked, or of the data set."""
    state: State
    """`unfinished` where it was stopped or cut off, `failed` where it ended with an error since the server started."""
    who: str
    started: str
    """ISO 8601, UTC; empty where the server did not start it."""
    changed: str
    """When its last result was written."""
    questions: int | None
    """How many there are; None where nobody said."""
    done: int
    failed: int
    """Questions that ended with an error. They count as answered wrongly."""
    figures: Mapping[str, Figure]
    stage: str = ""
    """What goes on."""
    eta: float | None = None
    """Seconds left; None as long as nobody can tell."""
    error: str = ""


class Event(NamedTuple):
    """Something to tell about an evaluation."""

    kind: Literal["progress", "end", "beat"]
    evaluation: Evaluation


class _Live:
    """The evaluation that goes on, or was the last one. Written by its thread, read by any."""

    def __init__(self, id_: str, order: Order) -> None:
        self.id, self.order = id_, order
        self.stopping, self.over = Flag(), Flag()
        self.stage, self.error = "preparing", ""
        self._run: Run | None = None
        self._before, self._begun, self._failed = 0, 0.0, 0

    def take(self, run: Run) -> None:
        """Here the results are kept from now on."""
        self._before, self._begun, self._run = len(run.records), time.monotonic(), run
        self.stage = "answering"

    def say(self, what: str) -> None:
        """What goes on. Raises Stopped where it is to end."""
        if self._run is None:
            self.stage = what
        if self.stopping.is_set():
            raise Stopped

    def end(self) -> None:
        """Nothing follows. The records are let go: the disk has them."""
        self._failed = _failures(self._run) if self._run else 0
        self._run = None
        self.over.set()

    def told(self, listed: Listed | None, over: bool) -> Evaluation:
        """How it stands, given what the disk holds of it, and whether it was over when the disk was looked at."""
        run, order = self._run, self.order  # the run may be let go meanwhile
        done = len(run.records) if run else listed.done if listed else 0
        state: State = "running"
        if over:
            state = "failed" if self.error else "finished" if listed and listed.finished else "unfinished"
        return Evaluation(
            self.id, KIND, order.set, state, order.who, order.started, listed.changed if listed else order.started,
            order.questions, done, _failures(run) if run else self._failed, listed.figures if listed else {},
            "" if over else self.stage, self._eta(done) if run else None, self.error,
        )  # fmt: skip

    def _eta(self, done: int) -> float | None:
        new = done - self._before
        if new < 1:
            return None
        return round((time.monotonic() - self._begun) / new * (self.order.questions - done), 1)


def _failures(run: Run) -> int:
    return sum(bool(record["failures"]) for record in list(run.records))


class Floor:
    """Holds the one evaluation of a process, whichever of its collections it is about."""

    def __init__(self) -> None:
        self.starting = Lock()
        self.live: _Live | None = None


class Evaluations:
    """What is measured, and was, with one collection's settings. Safe to use from several threads."""

    def __init__(self, rag: Rag, turns: Turns, floor: Floor | None = None) -> None:
        """Nothing is loaded or begun yet.

        Args:
            rag: whose settings and models answer; its collection is asked where a set has no documents of its own.
            turns: the queue at the language model, which is shared with everybody who asks.
            floor: shared by all that are served by one process.
        """
        self.rag, self.floor = rag, floor or Floor()
        self.sets, self.runs = Sets(rag.settings), Runs(rag.settings)
        self._turns, self._closing = turns, Flag()
        self._thread: Thread | None = None

    def start(self, set_: str | Path, limit: int | None = None, who: str = "") -> Evaluation:
        """Begin to ask a set, or go on where the same was cut short. Waits for models that are being loaded.

        Args:
            set_: a name of `Sets.listed`, or a place of this machine.
            limit: ask so many of the questions only, evenly spread.
            who: who asks for it.

        Raises:
            EvaluationConflict: another one is going on.
            NoSuchSet: there is no set by this name.
            SetRefused: the set cannot be used.
            FootnoteError: a model cannot be loaded.
        """
        with self.floor.starting:
            self._check_free()
            data = self.sets.at(set_) if isinstance(set_, Path) else self.sets.named(set_)
            data = replace(data, questions=spread(data.questions, limit))
            order = Order(str(set_), len(data.questions), self._key(data), who, _now())
            begun = self.runs.resumable(order.key)
            live = _Live(begun.id if begun else self._new_id(data.name), order)
            self.floor.live = live
            self._thread = Thread(target=self._work, args=(live, data), name="footnote-evaluation", daemon=True)
            self._thread.start()
        return self._told(live)

    def stop(self, id_: str) -> Evaluation:
        """End one that goes on; what it has measured is kept.

        Raises:
            NoSuchEvaluation: there is none by this id.
            EvaluationConflict: it does not go on.
        """
        live = self._live(id_)
        if live is None or live.over.is_set():
            raise EvaluationConflict(f"evaluation {id_!r} is {self.get(id_).state}; only one that runs can be stopped")
        live.stopping.set()
        return self._told(live)

    def close(self) -> None:
        """End what was started here, and let listeners go. What hangs is not waited for."""
        self._closing.set()
        if self._thread is not None and self._thread.is_alive():
            if self.floor.live is not None:
                self.floor.live.stopping.set()
            self._thread.join(PATIENCE)

    def listed(self) -> list[Evaluation]:
        """All of the home directory, the one that was written last first; above them the one that goes on."""
        live, found = self.floor.live, self.runs.listed()
        told = [_at_rest(each) for each in found if live is None or each.id != live.id]
        if live is None:
            return told
        first = self._told(live)
        if first.state == "running":
            return [first, *told]
        return sorted([first, *told], key=lambda each: (each.changed, each.id), reverse=True)

    def get(self, id_: str) -> Evaluation:
        """One of them. Raises NoSuchEvaluation."""
        live = self._live(id_)
        return self._told(live) if live else _at_rest(self.runs.get(id_))

    def going_on(self) -> Evaluation | None:
        """The one that goes on; None where none does."""
        live = self.floor.live
        return None if live is None or live.over.is_set() else self._told(live)

    def read(self, id_: str) -> Finished:
        """All that was measured. Raises EvalError as `Runs.read` does."""
        return self.runs.read(id_)

    def watch(self, id_: str, beat: float = BEAT) -> Generator[Event]:
        """What happens to one until it does not go on any more. Blocks; whoever stops listening stops nothing else.

        Raises:
            NoSuchEvaluation: there is none by this id.
        """
        last, quiet = None, time.monotonic()
        while True:
            live, found = self._live(id_), self.get(id_)
            if live is None or found.state != "running" or self._closing.is_set():
                yield Event("end", found)
                return
            if (seen := replace(found, eta=None, changed="")) != last:
                last, quiet = seen, time.monotonic()
                yield Event("progress", found)
            elif time.monotonic() - quiet >= beat:
                quiet = time.monotonic()
                yield Event("beat", found)
            live.over.wait(EVERY)

    def _live(self, id_: str) -> _Live | None:
        live = self.floor.live
        return live if live is not None and live.id == id_ else None

    def _told(self, live: _Live) -> Evaluation:
        over, listed = live.over.is_set(), None  # asked before the disk is read, which then has all of it
        with suppress(NoSuchEvaluation):  # before its first question
            listed = self.runs.get(live.id)
        return live.told(listed, over)

    def _check_free(self) -> None:
        if (other := self.going_on()) is not None:
            raise EvaluationConflict(f"evaluation {other.id!r} is going on; wait until it is over, or stop it")

    def _key(self, data: QASet) -> str:
        """Names what an evaluation is made with, before its documents are indexed."""
        rag = self.rag
        documents = [entry.model_dump() for entry in data.corpus] or sorted(rag.store.ids())
        made = made_with(
            rag.settings,
            dataset=data.name,
            documents=documents,
            questions=[question.model_dump() for question in data.questions],
            models=[rag.embedder.id, rag.embedder.backend, rag.llm.name, rag.checker.id],
        )
        return hashlib.sha256(json.dumps(made, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def _new_id(self, name: str) -> str:
        """A name for a run that there is not yet."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "set"
        id_ = first = f"{plain[:80]}-{KIND}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        number = 2
        while (self.runs.folder / id_).exists():
            id_, number = f"{first}-{number}", number + 1
        return id_

    def _work(self, live: _Live, data: QASet) -> None:
        give_way()
        try:
            self._measure(live, data)
        except Stopped:
            log.info("evaluation %s was stopped", live.id)
        except FootnoteError as error:
            live.error = " ".join(str(error).split())
        except Exception as error:  # told to those who watch, and logged with its traceback
            log.exception("an evaluation failed")
            live.error = f"the evaluation failed: {error!r}; see what the server printed"
        finally:
            live.end()

    def _measure(self, live: _Live, data: QASet) -> None:
        with self._asked(live, data) as rag:
            made = answers.made_of(rag, data, SYSTEMS)
            run = Run.begin(self.runs.folder / live.id, KIND, made)
            self.runs.order(live.id, live.order)
            live.take(run)
            answers.evaluate(rag, data, run, SYSTEMS, live.say)

    @contextmanager
    def _asked(self, live: _Live, data: QASet) -> Iterator[Rag]:
        """What answers: over the set's documents, or where it has none over the collection."""
        if not data.corpus:
            yield Queued(self.rag, self.rag.store, self._turns, live.stopping)
            return
        with closing(open_corpus(self.rag.settings, self.rag.embedder, data.corpus, live.say)) as store:
            yield Queued(self.rag, store, self._turns, live.stopping)


def _at_rest(run: Listed) -> Evaluation:
    order = run.order
    return Evaluation(
        run.id, run.kind, run.set, "failed" if run.error else "finished" if run.finished else "unfinished",
        order.who if order else "", order.started if order else "", run.changed,
        order.questions if order else run.done if run.finished else None, run.done, run.failed, run.figures,
        error=run.error,
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def as_record(found: Evaluation) -> dict[str, Any]:
    """An evaluation as a plain dictionary."""
    fields = ("id", "kind", "set", "state", "who", "started", "changed", "questions", "done", "failed", "stage", "eta")
    figures = {name: figure._asdict() for name, figure in found.figures.items()}
    return {**{name: getattr(found, name) for name in fields}, "figures": figures, "error": found.error}
