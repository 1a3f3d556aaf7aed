"""Ingestion with the help of other machines ends as it does on one, whatever goes wrong on the way.

First with a cluster inside the test, whose actors can be lost at will; then, slow, with Ray itself.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest
from pydantic import SecretStr

from ingest import crew as crews
from ingest.catalog import Catalog
from ingest.cluster import ClusterIngestion, RayCluster
from ingest.crew import Crew
from ingest.node import About, Encoder, Reader
from ingest.pipeline import Ingestion
from ingest.posts import Node, Post, posts
from ingest.progress import InHand
from ingest.results import FileResult
from ingest.sandbox import Chunks, Event, Finished, Opened, Refused, Started
from ingest.stages import Outline, Recipe, Task, prepare
from rag.embed import open_embedder
from rag.errors import EmbedError, IngestError, ParseError
from rag.settings import Settings
from rag.store.opening import open_store
from rag.store.protocol import Store
from rag.types import Vectors
from tests.conftest import ROOT, WordCountEmbedder

ONE, TWO = Node("1", "one", 1, 0), Node("2", "two", 1, 0)


def word_count(settings: Settings) -> WordCountEmbedder:
    return WordCountEmbedder()


class Squeamish(WordCountEmbedder):
    """Cannot embed a text with the word garlic."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        if any("garlic" in text for text in texts):
            raise EmbedError("garlic; leave it out")
        return super().embed(texts)


class Unguarded:
    """A sandbox without a process: quick, and good enough where the files do no harm."""

    peak = 0

    def __init__(self, recipe: Recipe, spool: Path) -> None:
        self.recipe, self.spool = recipe, spool
        self.tasks: deque[Task] = deque()
        self.events: Iterator[Event] = iter(())
        self.busy: Task | None = None

    @property
    def has_room(self) -> bool:
        return not self.tasks

    @property
    def is_idle(self) -> bool:
        return not self.tasks and self.busy is None

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def in_hand(self) -> list[InHand]:
        return [InHand(self.busy.doc, 0.0)] if self.busy else []

    def poll(self, timeout: float) -> list[Event]:
        if self.busy is None and self.tasks:
            self.busy = self.tasks.popleft()
            self.events = self.read(self.busy)
        event = next(self.events, None)
        if event is None or isinstance(event, Finished | Refused):
            self.busy = None
        return [event] if event else []

    def read(self, task: Task) -> Iterator[Event]:
        yield Started(task.doc)
        (self.spool / task.doc_id).mkdir(parents=True, exist_ok=True)
        try:
            for part in prepare(task, self.recipe, self.spool / task.doc_id):
                yield Opened(task.doc, part) if isinstance(part, Outline) else Chunks(task.doc, part)
        except ParseError as error:
            yield Refused(task.doc, "parse", str(error))
        else:
            yield Finished(task.doc)

    def forget(self, doc_id: str) -> None:
        shutil.rmtree(self.spool / doc_id, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self.spool, ignore_errors=True)


class InProcess:
    """A cluster inside the test: a call is carried out when its answer is asked for.

    `loses(post, method)` says before each call whether the actor is lost over it. Documents are read `guarded`, in
    processes of their own, where that is what the test is about.
    """

    def __init__(self, *nodes: Node, factory: Callable[[Settings], Any] = word_count, guarded: bool = False) -> None:
        self.guarded = guarded
        self.alive, self.factory = list(nodes), factory
        self.loses: Callable[[Post, str], bool] = lambda post, method: False
        self.delays: Callable[[str], bool] = lambda method: False
        self.posts: dict[int, Post] = {}
        self.settings: list[Settings] = []
        self.calls: dict[int, tuple[Any, str, tuple[Any, ...]]] = {}
        self.lost = 0

    def explained(self) -> AbstractContextManager[None]:
        return nullcontext()

    def nodes(self) -> list[Node]:
        return self.alive

    def start(self, post: Post, settings: Settings) -> Any:
        self.settings.append(settings)
        actor = {"read": Reader, "embed": Encoder}[post.kind](settings, self.factory)
        self.posts[id(actor)] = post
        return actor

    def call(self, actor: Any, method: str, *arguments: Any) -> int:
        self.calls[number := len(self.calls)] = (actor, method, arguments)
        return number

    def done(self, calls: Collection[int], timeout: float) -> list[int]:
        return [call for call in calls if not self.delays(self.calls[call][1])]

    def answer(self, call: int, host: str) -> tuple[Any, str]:
        actor, method, arguments = self.calls[call]
        if self.loses(self.posts[id(actor)], method):
            self.lost += 1
            return None, "it was killed"
        answer = getattr(actor, method)(*arguments)
        if method == "ready" and isinstance(actor, Reader) and not self.guarded:
            assert actor._pool is not None
            actor._pool = Unguarded(actor._pool.recipe, actor._pool.spool)  # type: ignore[assignment]
        return answer, ""

    def kill(self, actor: Any) -> None:
        getattr(actor, "close", lambda: None)()

    def close(self, readers: Sequence[Any], actors: Sequence[Any]) -> None:
        for actor in actors:
            self.kill(actor)


SAID = (("project", "Aurora"),)
"""What the user says about the documents."""


class Place:
    """A home with an index of its own."""

    def __init__(self, settings: Settings, home: Path, embedder: Any = None) -> None:
        self.settings = settings.model_copy(update={"home": home})
        self.embedder = embedder or WordCountEmbedder()
        self.store: Store = open_store(self.settings, self.embedder, create=True)
        self.catalog = Catalog.open(home / "catalog.sqlite")

    def alone(self, folder: Path, guarded: bool = False) -> list[FileResult]:
        recipe, spool = Recipe.of(self.settings, self.embedder), self.settings.home / "spool" / "x"
        readers = None if guarded else Unguarded(recipe, spool)
        return list(
            Ingestion(self.settings, self.embedder, self.store, self.catalog, readers=readers).run(
                [folder], metadata=SAID
            )
        )

    def helped(self, folder: Path, cluster: InProcess) -> list[FileResult]:
        return list(self.ingestion(cluster).run([folder], metadata=SAID))

    def ingestion(self, cluster: InProcess) -> Ingestion:
        about = About.of(self.embedder, Recipe.of(self.settings, self.embedder))
        crew = Crew(self.settings, about, cluster, self.settings.home / "spool" / "x")
        return Ingestion(self.settings, self.embedder, self.store, self.catalog, readers=crew)

    def content(self) -> dict[str, tuple[Any, ...]]:
        """What is stored beside the vectors, by id. A server in memory keeps more digits than the embedded index."""
        return {
            item.chunk.id: (
                asdict(item.chunk),
                item.sparse.indices,
                np.float32(item.sparse.values).tolist(),
                item.hidden,
            )
            for item in self.store.scan()
        }

    def vectors(self) -> Vectors:
        return np.array([item.dense for item in sorted(self.store.scan(), key=lambda item: item.chunk.id)])

    def rows(self) -> list[dict[str, Any]]:
        when = ("updated_at", "first_seen")
        return [
            {name: value for name, value in asdict(row).items() if name not in when}
            for row in self.catalog.rows("default")
        ]

    def close(self) -> None:
        self.store.close()
        self.catalog.close()


def assert_same(ours: Place, theirs: Place) -> None:
    assert ours.content() == theirs.content()
    assert np.allclose(ours.vectors(), theirs.vectors(), atol=1e-6)
    assert ours.rows() == theirs.rows()


OpenPlace = Callable[..., Place]


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Iterator[OpenPlace]:
    opened: list[Place] = []

    def open_(name: str, embedder: Any = None) -> Place:
        opened.append(Place(settings, tmp_path / name, embedder))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files with one passage and with many, one in an archive, one that cannot be read."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.md").write_text("# Rent\n\nThe rent is 900 euros a month.\n")
    (folder / "b.txt").write_text("".join(f"Sentence {number} of a long text. " for number in range(3000)))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing more")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.writestr("inside/d.txt", "The lease ends on 31 May 2027.")
        archive.writestr("inside/empty.txt", "")
    return folder


def of(results: Sequence[FileResult], name: str) -> FileResult:
    return next(result for result in results if Path(result.doc).name == name)


# --- who does what where


def test_without_a_gpu_every_machine_reads_and_embeds(settings: Settings) -> None:
    found = posts([Node("1", "one", 4, 0), Node("2", "two", 1, 0)], settings.model_copy(update={"parse_workers": 0}))
    kinds = [(post.host, post.kind) for post in found]
    assert [kinds.count(("one", "read")), kinds.count(("one", "embed"))] == [4, 1]
    assert [kinds.count(("two", "read")), kinds.count(("two", "embed"))] == [1, 1]
    for node, cpus in (("1", 4), ("2", 1)):
        assert sum(post.cpus for post in found if post.node == node) <= cpus
    assert len(set(found)) == len(found)


def test_with_gpus_they_alone_embed(settings: Settings) -> None:
    nodes = [Node("1", "one", 4, 2), Node("2", "two", 2, 0)]
    found = posts(nodes, settings.model_copy(update={"parse_workers": 0}))
    assert [(post.host, post.gpus) for post in found if post.kind == "embed"] == [("one", 1), ("one", 1)]
    assert sum(post.kind == "read" for post in found) == 6
    on_cpu = posts(nodes, settings.model_copy(update={"embed_backend": "openvino-int8"}))
    assert not any(post.gpus for post in on_cpu)
    assert [post.host for post in on_cpu if post.kind == "embed"] == ["one", "two"]


def test_a_machine_that_offers_nothing_gets_nothing(settings: Settings) -> None:
    assert {post.host for post in posts([Node("0", "head", 0, 0), ONE], settings)} == {"one"}


# --- a cluster inside the test


def test_the_result_is_that_of_one_machine_and_a_second_run_does_nothing(place: OpenPlace, folder: Path) -> None:
    alone, helped, cluster = place("alone"), place("helped"), InProcess(ONE, TWO, guarded=True)
    expected = alone.alone(folder, guarded=True)
    results = helped.helped(folder, cluster)
    assert sorted(results, key=lambda result: result.doc) == sorted(expected, key=lambda result: result.doc)
    assert_same(helped, alone)
    assert {result.status for result in results} == {"indexed", "failed"}
    assert {chunk["metadata"] for chunk, *_ in helped.content().values()} == {SAID}
    again = helped.helped(folder, InProcess(ONE))
    assert {result.status for result in again} == {"unchanged", "failed"}
    assert_same(helped, alone)
    assert not list((helped.settings.home / "spool").iterdir())


@pytest.mark.parametrize("method", ["read", "more", "take", "embed", "ready"])
def test_a_lost_actor_costs_nothing(place: OpenPlace, folder: Path, method: str) -> None:
    alone, helped, cluster = place("alone"), place("helped"), InProcess(ONE, TWO)
    cluster.loses = lambda post, called: called == method and cluster.lost < 2
    alone.alone(folder)
    helped.helped(folder, cluster)
    assert cluster.lost == 2
    assert_same(helped, alone)


def test_a_lost_machine_costs_nothing(place: OpenPlace, folder: Path) -> None:
    alone, helped, cluster = place("alone"), place("helped"), InProcess(ONE, TWO)

    def loses(post: Post, method: str) -> bool:
        if method == "more":
            cluster.alive = [ONE]
        return post.host not in [node.host for node in cluster.alive]

    cluster.loses = loses
    alone.alone(folder)
    helped.helped(folder, cluster)
    assert cluster.lost
    assert_same(helped, alone)


def test_a_document_over_which_actors_are_lost_again_and_again_costs_itself(place: OpenPlace, folder: Path) -> None:
    helped, cluster = place("helped"), InProcess(ONE)
    ingestion = helped.ingestion(cluster)
    cluster.loses = lambda post, method: (
        method == "read" and any(Path(item.doc).name == "b.txt" for item in ingestion.progress().in_hand)
    )
    results = list(ingestion.run([folder]))
    assert cluster.lost == crews.LOSSES
    assert (of(results, "b.txt").status, of(results, "b.txt").stage) == ("failed", "parse")
    assert "it was killed" in of(results, "b.txt").reason
    assert of(results, "a.md").status == of(results, "d.txt").status == "indexed"


def test_chunks_over_which_encoders_are_lost_again_and_again_cost_their_document(
    place: OpenPlace, folder: Path
) -> None:
    helped, cluster = place("helped"), InProcess(ONE)
    cluster.loses = lambda post, method: method == "embed"
    results = helped.helped(folder / "a.md", cluster)
    assert [(result.status, result.stage) for result in results] == [("failed", "embed")]
    assert helped.store.count() == 0


def test_a_text_that_cannot_be_embedded_costs_its_document(place: OpenPlace, folder: Path) -> None:
    (folder / "e.txt").write_text("Peel the garlic.")
    helped, cluster = place("helped", Squeamish()), InProcess(ONE, factory=lambda settings: Squeamish())
    results = helped.helped(folder, cluster)
    failed = of(results, "e.txt")
    assert (failed.status, failed.stage, failed.reason) == ("failed", "embed", "garlic; leave it out")
    assert of(results, "a.md").status == of(results, "b.txt").status == "indexed"


def test_a_node_that_cannot_read_a_file_leaves_it_to_another(
    place: OpenPlace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helped, cluster = place("helped"), InProcess(ONE, TWO)
    read, blind = Reader.read, {"one"}

    def blindly(self: Reader, task: Any) -> Any:
        if cluster.posts[id(self)].host in blind and task.path.name == "a.md":
            (folder / "a.md").rename(folder / "away")
            try:
                return read(self, task)
            finally:
                (folder / "away").rename(folder / "a.md")
        return read(self, task)

    monkeypatch.setattr(Reader, "read", blindly)
    assert of(helped.helped(folder, cluster), "a.md").status == "indexed"
    (folder / "a.md").write_text("The rent is 950 euros.")
    blind.add("two")
    failed = of(helped.helped(folder, cluster), "a.md")
    assert (failed.status, failed.stage) == ("failed", "read")
    assert "at the same path" in failed.reason


def test_a_file_that_is_another_one_on_the_node_is_not_read(settings: Settings, folder: Path) -> None:
    reader = Reader(settings, word_count)
    reader.ready()
    told = reader.read(Task(folder / "a.md", "a", "a.md", "id", "revision", 1))
    reader.close()
    assert told.last
    assert "expected 1" in told.unreadable


def test_reading_waits_for_embedding(place: OpenPlace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "GROUP", 64)
    (folder / "long.txt").write_text("".join(f"Sentence {number} of a longer text. " for number in range(60_000)))
    helped, cluster = place("helped"), InProcess(ONE)
    ingestion = helped.ingestion(cluster)
    polls, waiting = 0, []

    def delays(method: str) -> bool:
        nonlocal polls
        polls += method == "embed"
        crew = ingestion._pool
        assert isinstance(crew, Crew)
        waiting.append(sum(len(item.batch) for job in crew._jobs.values() for item in job.out))
        return method == "embed" and polls % 40 != 0

    cluster.delays = delays
    (result,) = ingestion.run([folder / "long.txt"])
    assert result.chunks > 1500
    assert 64 <= max(waiting) <= 64 * 5


def test_a_node_with_another_embedder_ends_the_run_and_is_named(place: OpenPlace, folder: Path) -> None:
    class Other(WordCountEmbedder):
        id = "other@1"

    with pytest.raises(IngestError, match=r"node one has .*other@1.*install the same"):
        place("helped").helped(folder, InProcess(ONE, factory=lambda settings: Other()))


def test_a_cluster_on_which_nobody_starts_ends_the_run(place: OpenPlace, folder: Path) -> None:
    cluster = InProcess(ONE)
    cluster.loses = lambda post, method: post.kind == "embed"
    with pytest.raises(IngestError, match=r"nobody .* can read and embed \(it was killed\)"):
        place("helped").helped(folder, cluster)


def test_a_cluster_without_machines_ends_the_run(
    place: OpenPlace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "UNMANNED", 0.0)
    monkeypatch.setattr(crews, "HIRE", 0.0)
    with pytest.raises(IngestError, match="no free CPU"):
        place("helped").helped(folder, InProcess())


def test_a_run_can_be_stopped(place: OpenPlace, folder: Path) -> None:
    helped = place("helped")
    ingestion = helped.ingestion(InProcess(ONE))
    for _ in ingestion.run([folder]):
        ingestion.stop()
    assert ingestion.summary.interrupted
    helped.helped(folder, InProcess(ONE))
    assert helped.store.count() == helped.catalog.chunks("default")


def test_ray_that_is_not_installed_is_named(
    settings: Settings, embedder: WordCountEmbedder, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    store = open_store(settings, embedder, create=True)
    with pytest.raises(IngestError, match=r"pip install 'footnote\[cluster\]'"):
        ClusterIngestion(settings, embedder, store, catalog, "local")
    store.close()


class FlakyRay(ModuleType):
    """As much of Ray as a connection takes; breaks so many off."""

    class RayError(Exception):
        pass

    def __init__(self, breaks: int) -> None:
        super().__init__("ray")
        self.breaks, self.exceptions = breaks, self
        self.nodes = list
        self.is_initialized = bool

    def init(self, address: str) -> None:
        self.breaks -= 1
        if self.breaks >= 0:
            raise ConnectionAbortedError("Initialization failure from server:\n")


@pytest.mark.parametrize("breaks", [0, 1, 2])
def test_a_connection_that_breaks_off_at_once_is_made_again_once(breaks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FlakyRay(breaks)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray)
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster = RayCluster(f"ray://127.0.0.1:{server.getsockname()[1]}", 1, lambda settings: word_count(settings))
        fails = pytest.raises(IngestError, match="Initialization failure") if breaks > 1 else nullcontext()
        with fails, cluster.explained():
            assert cluster.nodes() == []


# --- Ray itself


@pytest.fixture
def many(folder: Path) -> Path:
    """Some 40 small files of several formats."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        shutil.copy(page, folder / page.name)
    for number in range(20):
        text = f"Document {number} speaks of subject {number}. " * 40
        (folder / f"{number:02}.txt").write_text(text)
    (folder / "table.csv").write_text("city,people\n" + "".join(f"Town {n},{n * 1000}\n" for n in range(40)))
    (folder / "page.html").write_text("<html><body><h1>Ferries</h1><p>The Aurora sails at noon.</p></body></html>")
    (folder / "mail.eml").write_text("From: a@b.c\nTo: d@e.f\nSubject: Boats\n\nThe Aurora carries 240 people.\n")
    return folder


@pytest.fixture(scope="module")
def ray_token() -> Iterator[None]:
    """A token for every Ray of these tests; it would write one into the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield


@pytest.fixture
def ray_is_down(ray_token: None) -> Iterator[None]:
    """Whatever a test does, no Ray of it is left."""
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def over_ray(place: Place, address: str, factory: Any = None, **changes: Any) -> ClusterIngestion:
    def here(settings: Settings) -> WordCountEmbedder:  # travels as a whole, since no node knows this module
        return WordCountEmbedder()

    settings = place.settings.model_copy(update={"parse_workers": 2, **changes})
    return ClusterIngestion(settings, place.embedder, place.store, place.catalog, address, factory=factory or here)


def workers(name: str) -> list[psutil.Process]:
    """Ray's processes that an actor of this name runs in."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(f"ray::{name}" in part for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


def listening() -> set[str]:
    """The addresses on which this process and its children can be reached."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    connections = []
    for process in family:
        with suppress(psutil.NoSuchProcess):
            connections += process.net_connections("tcp")
    return {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}


def test_keys_stay_with_the_driver(place: OpenPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Settings] = []
    monkeypatch.setattr("ingest.cluster.Crew", lambda settings, *rest: given.append(settings))
    over_ray(place("helped"), "local", qdrant_api_key=SecretStr("secret"), llm_api_key=SecretStr("secret"))
    (each,) = given
    assert (each.qdrant_api_key.get_secret_value(), each.llm_api_key.get_secret_value()) == ("", "")


@pytest.mark.slow
@pytest.mark.own_process
def test_ray_ends_with_the_same_though_its_workers_are_killed(place: OpenPlace, many: Path, ray_is_down: None) -> None:
    alone, helped = place("alone"), place("helped")
    alone.alone(many, guarded=True)
    ingestion = over_ray(helped, "local")
    killed: list[int] = []
    for _ in ingestion.run([many], metadata=SAID):
        if not killed:
            assert listening() <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
            for victim in [*workers("_Reader")[:1], *workers("Encoder")[:1]]:
                victim.send_signal(signal.SIGKILL)
                killed.append(victim.pid)
    assert len(killed) == 2
    assert ingestion.summary.seen > 40
    assert ingestion.summary.peak_bytes > 0
    assert_same(helped, alone)
    _, left = psutil.wait_procs(workers("_Reader"), 60)
    assert not left
    assert not list((helped.settings.home / "spool").iterdir())


@pytest.mark.slow
@pytest.mark.own_process
def test_ray_fills_a_server_and_a_second_run_does_not_even_start_it(
    place: OpenPlace, many: Path, ray_is_down: None
) -> None:
    from qdrant_client import QdrantClient

    from rag.store.server import ServerStore

    (many / "broken.pdf").unlink()
    with zipfile.ZipFile(many / "c.zip", "w") as archive:
        archive.writestr("inside/d.txt", "The lease ends on 31 May 2027.")
    alone, helped = place("alone"), place("helped")
    alone.alone(many, guarded=True)
    helped.store.close()
    name, dim = helped.embedder.id, helped.embedder.dim
    helped.store = ServerStore.connect("memory", "", 5.0, "default", dim, name, True, QdrantClient(":memory:"))
    assert {result.status for result in over_ray(helped, "local").run([many], metadata=SAID)} == {"indexed"}
    assert_same(helped, alone)
    again = over_ray(helped, "auto")  # no such cluster: it would be an error to call on it
    assert {result.status for result in again.run([many])} == {"unchanged"}


@pytest.mark.slow
@pytest.mark.own_process
def test_ray_goes_on_where_a_node_is_lost(
    place: OpenPlace, many: Path, ray_is_down: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from ray.cluster_utils import Cluster

    alone, helped = place("alone"), place("helped")
    alone.alone(many, guarded=True)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        lost = False
        for _ in over_ray(helped, cluster.address).run([many], metadata=SAID):
            if not lost:
                cluster.remove_node(node, allow_graceful=False)
                lost = True
        assert lost
    finally:
        cluster.shutdown()
    assert_same(helped, alone)


@pytest.mark.slow
@pytest.mark.own_process
def test_ray_elsewhere_is_reached_by_its_address(place: OpenPlace, folder: Path, ray_is_down: None) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    short = Path(tempfile.mkdtemp(prefix="ray-"))  # a socket's path has 107 characters at most
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0", "--num-cpus=2"]
    start += [f"--temp-dir={short}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    alone, helped = place("alone"), place("helped")
    alone.alone(folder, guarded=True)
    head = subprocess.Popen(
        [*start, f"--ray-client-server-port={port}", "--include-dashboard=false", "--disable-usage-stats"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, head)
        list(over_ray(helped, f"ray://127.0.0.1:{port}").run([folder], metadata=SAID))
    finally:
        head.terminate()
        head.wait(60)
        shutil.rmtree(short, ignore_errors=True)
    assert_same(helped, alone)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.5)
    raise AssertionError(f"nobody listens on port {port}")


@pytest.mark.slow
@pytest.mark.own_process
@pytest.mark.allow_hosts(["127.0.0.1", "::1", "192.0.2.2"])  # Ray asks the system for the route there; nothing is sent
def test_ray_that_is_not_there_is_an_error_of_one_line(
    place: OpenPlace, folder: Path, ray_is_down: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(IngestError, match=r"the Ray cluster 'auto' cannot be used: .*refused.*ray start") as found:
        list(over_ray(place("helped"), "auto").run([folder]))
    assert "\n" not in str(found.value)


@pytest.mark.slow
@pytest.mark.own_process
def test_ray_embeds_with_the_real_weights(
    real_settings: Settings, folder: Path, tmp_path: Path, ray_is_down: None
) -> None:
    embedder = open_embedder(real_settings)
    alone, helped = (Place(real_settings, tmp_path / name, embedder) for name in ("alone", "helped"))
    for each in (alone, helped):
        each.settings = each.settings.model_copy(update={"cache": real_settings.cache})
    alone.alone(folder, guarded=True)
    list(over_ray(helped, "local", open_embedder).run([folder], metadata=SAID))
    ours = {item.chunk.id: item.dense for item in helped.store.scan()}
    for item in alone.store.scan():
        assert float(ours.pop(item.chunk.id) @ item.dense) > 0.999
    assert not ours
    alone.close()
    helped.close()
