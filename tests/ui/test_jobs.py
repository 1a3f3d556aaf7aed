"""The queue of jobs: what survives a restart, what stops, and what listeners hear."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from ingest.catalog import Catalog
from ingest.discover import discover
from ingest.progress import Progress
from ingest.results import FileResult, Summary
from rag.answer import Rag
from rag.errors import IngestError, StoreError
from rag.filter import Pairs
from rag.settings import Settings
from tests.conftest import until
from tests.ui.held import HeldEmbedder, open_held
from ui.desk import Desk
from ui.server.joblist import KEPT, Job, JobConflict, JobList, NoSuchJob, now
from ui.server.jobs import Jobs, Removal
from ui.server.jobwatch import Event
from ui.workplace import Here, Workplace

Open = Callable[..., Jobs]


@pytest.fixture
def embedder() -> HeldEmbedder:
    return HeldEmbedder()


@pytest.fixture
def rag(settings: Settings, embedder: HeldEmbedder) -> Iterator[Rag]:
    with open_held(settings, embedder) as opened:
        yield opened


@pytest.fixture
def writing() -> Lock:
    return Lock()


@pytest.fixture
def discarded() -> list[Path]:
    return []


@pytest.fixture
def opened(
    settings: Settings,
    catalog: Catalog,
    writing: Lock,
    discarded: list[Path],
    embedder: HeldEmbedder,
    request: pytest.FixtureRequest,
) -> Iterator[Open]:
    """Opens the jobs of the home, not started; another time is what a restarted server does."""
    each: list[Jobs] = []

    def open_(place: Workplace | None = None) -> Jobs:
        found = place or Here(request.getfixturevalue("rag"), catalog)
        each.append(Jobs(settings, catalog, found, writing, lambda file, _asked: discarded.append(file)))
        return each[-1]

    yield open_
    embedder.go_on.set()
    for jobs in each:
        jobs.close()


@pytest.fixture
def jobs(opened: Open) -> Jobs:
    found = opened()
    found.start()
    return found


class QuickPlace:
    """Calls every file indexed, one by one, and waits before each until it is let go. Writes nothing."""

    note = ""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.fails: Exception | None = None

    def begin(self) -> QuickRun:
        return QuickRun(self)

    def remove(self, docs: Sequence[str]) -> list[str]:
        return [doc for doc in docs if "unknown" not in doc]


class QuickRun:
    def __init__(self, place: QuickPlace) -> None:
        self.place, self.summary, self.stopped = place, Summary(), False

    def run(self, paths: Sequence[Path], _prune: bool = False, _metadata: Pairs = ()) -> Iterator[FileResult]:
        for found in discover(paths):
            self.place.asked.set()
            assert self.place.go_on.wait(60)
            if self.place.fails:
                raise self.place.fails
            if self.stopped:
                self.summary.interrupted = True
                return
            result = FileResult(str(found.path), "indexed", 1, 1)
            self.summary.add(result)
            yield result

    def stop(self) -> None:
        self.stopped = True

    def progress(self) -> Progress:
        return Progress(self.summary.seen, 3, 0, 0, 0.0, None, ())


@pytest.fixture
def place() -> Iterator[QuickPlace]:
    found = QuickPlace()
    yield found
    found.go_on.set()


@pytest.fixture
def quick(opened: Open, place: QuickPlace) -> Jobs:
    """Jobs that read no document."""
    found = opened(place)
    found.start()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three documents, one of which cannot be read."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("# Rent\n\nThe rent is 900 euros a month.\n")
    (tmp_path / "in" / "b.txt").write_text("The lease ends on 31 May 2027.\n")
    (tmp_path / "in" / "empty.txt").write_text("")
    return tmp_path / "in"


def many(folder: Path) -> Path:
    """Adds more than the pipeline embeds at once."""
    for number in range(12):
        (folder / f"{number:02}.txt").write_text(f"Document {number} tells of subject {number}. " * 1000)
    return folder


def over(jobs: Jobs, job: Job) -> Job:
    found = asyncio.run(jobs.settled(job.id, 60))
    assert found.over
    return found


def statuses(jobs: Jobs, job: Job) -> dict[str, str]:
    return {Path(result.doc).name: result.status for result in jobs.results(job.id)}


async def heard(jobs: Jobs, job: Job, after: str = "") -> list[Event]:
    return [event async for event in jobs.watch(job.id, after)]


def test_jobs_are_done_in_their_order(jobs: Jobs, catalog: Catalog, folder: Path, discarded: list[Path]) -> None:
    first = jobs.ingest([folder], metadata=(("project", "Aurora"),), who="ana")
    second = jobs.remove([str(folder / "a.md")])
    done = over(jobs, first)
    assert (done.state, done.who, done.error) == ("done", "ana", "")
    assert done.counts is not None
    assert done.counts["files"] == {"seen": 3, "indexed": 2, "unchanged": 0, "removed": 0, "failed": 1}
    assert [failure["path"] for failure in done.counts["failures"]] == [str(folder / "empty.txt")]
    assert done.created < done.started < done.ended
    removed = over(jobs, second)
    assert removed.counts is not None
    assert removed.counts["files"]["removed"] == 1
    assert {Path(row.doc).name for row in catalog.rows("default")} == {"b.txt", "empty.txt"}
    assert catalog.rows("default")[0].metadata == (("project", "Aurora"),)
    assert discarded == [folder / "a.md"]
    assert (folder / "a.md").exists()
    assert [job.id for job in jobs.newest()] == [second.id, first.id]


def test_what_a_killed_server_left_goes_on(opened: Open, settings: Settings, jobs: Jobs, folder: Path) -> None:
    over(jobs, jobs.ingest([folder / "a.md"]))
    jobs.close()
    killed = JobList.open(settings.home / "jobs.db")
    cut, waiting = (Job(name, "default", "ingest", (str(folder),), created=now()) for name in ("cut", "waiting"))
    killed.add(cut)
    killed.add(waiting)
    assert killed.begin("cut")
    killed.close()
    again = opened()
    assert again.get("cut").state == "running"
    again.start()
    assert over(again, cut).state == "done"
    assert statuses(again, cut) == {"a.md": "unchanged", "b.txt": "indexed", "empty.txt": "failed"}
    assert over(again, waiting).started > again.get("cut").started


def test_a_server_that_ends_leaves_its_job_for_the_next(
    opened: Open, jobs: Jobs, embedder: HeldEmbedder, catalog: Catalog, folder: Path
) -> None:
    embedder.go_on.clear()
    cut, later = jobs.ingest([many(folder)]), jobs.ingest([folder / "a.md"])
    assert embedder.asked.wait(60)
    closing = threading.Thread(target=jobs.close)
    closing.start()
    until(jobs._closing.is_set)
    embedder.go_on.set()
    closing.join(60)
    again = opened()
    assert [job.state for job in (again.get(cut.id), again.get(later.id))] == ["waiting", "waiting"]
    assert len(catalog.rows("default")) < 15
    again.start()
    assert over(again, cut).state == "done"
    assert len(catalog.rows("default")) == 15
    assert over(again, later).state == "done"


def test_what_waits_and_what_runs_can_be_stopped(quick: Jobs, place: QuickPlace, folder: Path) -> None:
    place.go_on.clear()
    running, waiting = quick.ingest([folder]), quick.ingest([folder])
    assert place.asked.wait(60)
    assert quick.stop(waiting.id).state == "stopped"
    assert quick.stop(running.id).state == "running"
    place.go_on.set()
    stopped = over(quick, running)
    assert stopped.state == "stopped"
    assert stopped.counts is not None
    assert stopped.counts["interrupted"]
    for job in (running, waiting):
        with pytest.raises(JobConflict, match="is stopped"):
            quick.stop(job.id)
    again = quick.retry(running.id)
    assert over(quick, again).state == "done"
    assert len(quick.results(again.id)) == 3
    assert quick.get(running.id).state == "stopped"


def test_nothing_follows_where_the_list_says_that_a_job_is_over(
    quick: Jobs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, refused, events = JobList.end, list[str](), list[Event]()

    def ended(jobs: JobList, id_: str, *how: Any) -> None:
        end(jobs, id_, *how)
        try:
            quick.stop(id_)
        except JobConflict as error:
            refused.append(str(error))
        events.extend(asyncio.run(heard(quick, quick.get(id_))))

    monkeypatch.setattr(JobList, "end", ended)
    over(quick, quick.ingest([folder]))
    until(lambda: events and events[-1].kind == "end")
    assert len(refused) == 1
    assert "is done" in refused[0]
    assert [event.data["state"] for event in events if event.kind == "progress"] == ["done"]


def test_a_job_that_begins_and_ends_at_the_first_look_is_heard_whole(
    quick: Jobs, place: QuickPlace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.go_on.clear()
    held = quick.ingest([folder / "a.md"])
    assert place.asked.wait(60)
    job, found = quick.ingest([folder]), quick._found

    def late(id_: str) -> Job | None:
        place.go_on.set()
        over(quick, job)
        return found(id_)

    monkeypatch.setattr(quick, "_found", late)
    kinds = [event.kind for event in asyncio.run(heard(quick, job))]
    assert kinds == ["result", "result", "result", "progress", "end"]
    assert over(quick, held).state == "done"


def test_only_what_failed_is_tried_again(jobs: Jobs, folder: Path) -> None:
    first = over(jobs, jobs.ingest([folder], prune=True, metadata=(("tag", "x"),)))
    (folder / "empty.txt").write_text("The deposit is 1800 euros.\n")
    again = jobs.retry(first.id, failed_only=True, who="ben")
    assert (again.names, again.prune, again.metadata) == ((str(folder / "empty.txt"),), False, (("tag", "x"),))
    assert over(jobs, again).state == "done"
    assert statuses(jobs, again) == {"empty.txt": "indexed"}
    with pytest.raises(JobConflict, match="nothing to try again"):
        jobs.retry(first.id, failed_only=True)


def test_a_job_that_is_not_over_is_not_tried_again(opened: Open, folder: Path) -> None:
    jobs = opened(QuickPlace())
    job = jobs.ingest([folder])
    with pytest.raises(JobConflict, match="is waiting"):
        jobs.retry(job.id)


def test_a_job_that_fails_holds_up_no_other(
    quick: Jobs, place: QuickPlace, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = over(quick, quick.ingest([folder / "nowhere"]))
    assert (gone.state, "no such file or folder" in gone.error) == ("failed", True)
    place.fails = StoreError("the index\ncannot be written")
    unwritten = over(quick, quick.ingest([folder]))
    assert (unwritten.state, unwritten.error) == ("failed", "the index cannot be written")
    place.fails = ZeroDivisionError("by accident")
    failed = over(quick, quick.ingest([folder]))
    assert (failed.state, "ZeroDivisionError" in failed.error, "by accident" in caplog.text) == ("failed", True, True)
    place.fails = None
    assert over(quick, quick.ingest([folder])).state == "done"


def test_a_file_that_has_gone_holds_up_no_other(quick: Jobs, folder: Path) -> None:
    job = over(quick, quick.ingest([folder / "gone.txt", folder / "b.txt"]))
    assert job.state == "done"
    assert statuses(quick, job) == {"b.txt": "indexed", "gone.txt": "failed"}
    assert job.counts is not None
    assert job.counts["files"]["failed"] == 1


def test_every_listener_hears_everything(quick: Jobs, place: QuickPlace, folder: Path) -> None:
    place.go_on.clear()

    async def leaves(job: Job) -> str:
        async with aclosing(quick.watch(job.id)) as events:
            return (await anext(events)).kind

    async def listen() -> tuple[list[Event], ...]:
        job = quick.ingest([folder])
        listening = [asyncio.ensure_future(heard(quick, job)) for _ in range(3)]
        assert await leaves(job) == "progress"
        place.go_on.set()
        return tuple(await asyncio.gather(*listening))

    first, *others = asyncio.run(listen())
    told = [(event.id, event.data) for event in first if event.kind != "progress"]
    assert [Path(data["doc"]).name for _, data in told[:-1]] == ["a.md", "b.txt", "empty.txt"]
    assert told[-1][0] == "end"
    assert told[-1][1]["state"] == "done"
    assert all([(event.id, event.data) for event in each if event.kind != "progress"] == told for each in others)
    last = [event.data for event in first if event.kind == "progress"][-1]
    assert (last["state"], last["files"], last["of"]) == ("done", 3, 3)


def test_a_listener_goes_on_where_it_was(opened: Open, quick: Jobs, folder: Path) -> None:
    job = over(quick, quick.ingest([folder]))
    results = [event for event in asyncio.run(heard(quick, job)) if event.kind == "result"]
    assert len(results) == 3
    later = [event for event in asyncio.run(heard(quick, job, results[0].id)) if event.kind == "result"]
    assert later == results[1:]
    for of_another_run in ("0123abcd-2", "nonsense", f"{results[0].id}x"):
        again = [event for event in asyncio.run(heard(quick, job, of_another_run)) if event.kind == "result"]
        assert again == results
    quick.close()
    kinds = [event.kind for event in asyncio.run(heard(opened(QuickPlace()), job))]
    assert kinds == ["progress", "end"]


def test_a_listener_hears_that_the_connection_lives(opened: Open, folder: Path) -> None:
    jobs = opened(QuickPlace())
    job = jobs.ingest([folder])

    async def listen() -> list[str]:
        kinds = []
        async with aclosing(jobs.watch(job.id, beat=0.0)) as events:
            async for event in events:
                kinds.append(event.kind)
                if len(kinds) == 2:
                    break
        return kinds

    assert asyncio.run(listen()) == ["progress", "beat"]


def test_listeners_are_let_go_when_the_server_ends(opened: Open, folder: Path) -> None:
    jobs = opened(QuickPlace())
    job = jobs.ingest([folder])

    async def listen() -> list[str]:
        kinds = []
        async for event in jobs.watch(job.id):
            kinds.append(event.kind)
            jobs.close()
        return kinds

    assert asyncio.run(listen()) == ["progress"]


def test_work_of_other_processes_and_jobs_exclude_each_other(
    settings: Settings, rag: Rag, catalog: Catalog, place: QuickPlace, folder: Path
) -> None:
    desk = Desk(rag, catalog)
    jobs = Jobs(settings, catalog, place, desk.writing, lambda _file, _asked: None)
    jobs.start()
    try:
        place.go_on.clear()
        job = jobs.ingest([folder])
        assert place.asked.wait(60)
        assert desk.ingest([folder], False) is None
        assert desk.remove(["x"]) is None
        place.go_on.set()
        assert over(jobs, job).state == "done"
        until(lambda: not desk.writing.locked())
        with desk.writing:  # as a run that was handed over does
            job = jobs.ingest([folder])
            assert asyncio.run(jobs.settled(job.id, 0.5)).state == "waiting"
        assert over(jobs, job).state == "done"
        until(lambda: desk.remove(["x"]) == [])
    finally:
        place.go_on.set()
        jobs.close()


def test_two_servers_of_one_home_do_not_share_a_job(opened: Open, quick: Jobs, place: QuickPlace, folder: Path) -> None:
    """They may serve the same collection of a Qdrant server."""
    place.go_on.clear()
    job = quick.ingest([folder])
    assert place.asked.wait(60)
    other = opened(place)
    other.start()
    time.sleep(0.3)
    assert other.get(job.id).state == "running"
    with pytest.raises(JobConflict, match="runs here"):
        other.stop(job.id)
    place.go_on.set()
    assert over(quick, job).state == "done"


def test_jobs_of_other_collections_are_left_alone(quick: Jobs, settings: Settings, folder: Path) -> None:
    others = JobList.open(settings.home / "jobs.db")
    others.add(Job("other", "letters", "ingest", (str(folder),), created=now()))
    assert others.begin("other")
    over(quick, quick.ingest([folder / "a.md"]))
    assert others.get("other").state == "running"
    with pytest.raises(NoSuchJob, match="collection 'letters'"):
        quick.get("other")
    others.close()


def test_a_removal_stops_between_documents(folder: Path) -> None:
    gone = list[Path]()
    names = ["/no/unknown.txt", str(folder / "a.md"), str(folder / "b.txt")]
    removal = Removal(QuickPlace(), names, gone.append)
    going = removal.run()
    assert next(going).doc == str(folder / "a.md")
    removal.stop()
    assert list(going) == []
    assert (removal.summary.removed, removal.summary.interrupted) == (1, True)
    assert gone == [folder / "a.md"]


def test_only_the_last_jobs_are_kept(settings: Settings) -> None:
    kept = JobList.open(settings.home / "jobs.db")
    kept.add(Job("first", "default", "remove", ("x",), created=now()))
    kept.add(Job("elsewhere", "letters", "remove", ("x",), created=now()))
    kept.end("elsewhere", "done", None, "")
    for number in range(KEPT + 3):
        kept.add(Job(f"{number}", "default", "remove", ("x",), created=now()))
        kept.end(f"{number}", "failed", None, "")
    assert {job.id for job in kept.newest("default", most=1000)} == {"first", *map(str, range(3, KEPT + 3))}
    assert kept.get("elsewhere").state == "done"
    with pytest.raises(NoSuchJob, match="no job '2'"):
        kept.get("2")
    kept.close()


def test_names_that_are_no_utf_8_come_back_as_they_were(settings: Settings) -> None:
    kept = JobList.open(settings.home / "jobs.db")
    name = "/tmp/caf\udce9.txt"
    kept.add(Job("x", "default", "ingest", (name,), metadata=(("tag", "é=x"),), who="Ana \udce9", created=now()))
    assert kept.get("x").names == (name,)
    assert kept.get("x").metadata == (("tag", "é=x"),)
    kept.close()


def test_nobody_else_of_the_machine_reads_the_list(settings: Settings) -> None:
    path = settings.home / "jobs.db"
    kept = JobList.open(path)
    kept.add(Job("x", "default", "ingest", ("/tmp",), created=now()))
    assert {stat.S_IMODE(each.stat().st_mode) for each in settings.home.glob("jobs.db*")} == {0o600}
    kept.close()


def test_a_list_that_cannot_be_used_is_named(settings: Settings) -> None:
    path = settings.home / "jobs.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database " * 100)
    with pytest.raises(IngestError, match=r"jobs\.db cannot be used: .*; move it away"):
        JobList.open(path)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(IngestError, match="has version 99"):
        JobList.open(path)
