"""An index that is built beside the live one and takes its place: embedded, killed on the way, and on a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from rag.errors import StoreError, StoreLocked, StoreMismatch
from rag.settings import Settings
from rag.store import swap
from rag.store.edge import EdgeStore
from rag.store.opening import (
    beside_label,
    discard_beside,
    discard_index,
    index_directory,
    index_identity,
    open_store,
    put_in_place,
)
from rag.store.server import ServerStore, collections
from rag.types import IndexedChunk, SparseVector
from tests.conftest import WordCountEmbedder, make_chunk

ROOT = Path(__file__).parents[2]
DIM = 64

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


class OtherEmbedder(WordCountEmbedder):
    id = "other@1"
    dim = 32


def item(number: int, doc_id: str = "d", dim: int = DIM) -> IndexedChunk:
    dense = np.random.default_rng(number).normal(size=dim).astype(np.float32)
    chunk = make_chunk(f"words {number}", number, id=str(uuid.UUID(int=number)), doc_id=doc_id)
    return IndexedChunk(chunk, dense / np.linalg.norm(dense), SparseVector((number % 5,), (1.0,)))


def ids(*numbers: int) -> set[str]:
    return {str(uuid.UUID(int=number)) for number in numbers}


# Embedded.


@pytest.mark.parametrize("live_is_open", [True, False])
def test_an_index_is_built_beside_the_live_one_and_takes_its_place(
    settings: Settings, embedder: WordCountEmbedder, live_is_open: bool
) -> None:
    other = OtherEmbedder()
    live = open_store(settings, embedder, create=True, url="http://here", token="secret")
    live.upsert([item(1), item(2)])
    assert index_identity(settings) == (64, "word-counts@1")
    beside = open_store(settings, other, beside="chunks of 99")
    assert beside_label(settings) == "chunks of 99"
    beside.upsert([item(7, dim=32)])
    assert live.ids() == ids(1, 2)
    assert index_identity(settings) == (64, "word-counts@1")
    if not live_is_open:
        live.close()
    owner = EdgeStore.owner(index_directory(settings))
    with closing(put_in_place(settings, other, beside, live if live_is_open else None)) as store:
        assert store.ids() == ids(7)
        assert index_identity(settings) == (32, "other@1")
        assert beside_label(settings) == ""
        if live_is_open:
            assert EdgeStore.owner(index_directory(settings)) == owner
        for closed in (live, beside):
            with pytest.raises(StoreError, match="was closed"):
                closed.count()
    left = {path.name for path in index_directory(settings).iterdir()}
    assert left - {"lock"} == {"index", "beside"}
    with pytest.raises(StoreMismatch, match="run `footnote ingest`"):
        open_store(settings, embedder)


def test_the_first_index_can_be_put_in_place_too(settings: Settings, embedder: WordCountEmbedder) -> None:
    assert (index_identity(settings), beside_label(settings)) == (None, "")
    beside = open_store(settings, embedder, beside="a")
    beside.upsert([item(1)])
    assert index_identity(settings) is None
    with closing(put_in_place(settings, embedder, beside, None)) as store:
        assert store.ids() == ids(1)


def test_building_goes_on_under_the_same_label_and_begins_anew_under_another(
    settings: Settings, embedder: WordCountEmbedder
) -> None:
    def count_after(chosen: WordCountEmbedder, label: str) -> int:
        with closing(open_store(settings, chosen, beside=label)) as store:
            before = store.count()
            store.upsert([item(before, dim=chosen.dim)])
            return before

    assert [count_after(embedder, "a"), count_after(embedder, "a")] == [0, 1]
    assert count_after(embedder, "b") == 0
    assert count_after(OtherEmbedder(), "b") == 0
    assert count_after(OtherEmbedder(), "b") == 1
    record = swap.index(swap.beside(index_directory(settings))) / "meta.json"
    record.write_text("{half")
    assert count_after(OtherEmbedder(), "b") == 0
    discard_beside(settings)
    assert beside_label(settings) == ""
    assert count_after(OtherEmbedder(), "b") == 0


def test_discarding_what_is_not_there_is_fine_and_touches_nothing(settings: Settings) -> None:
    discard_beside(settings)
    assert not settings.home.exists()


def test_an_index_is_discarded_with_what_is_built_beside_it(settings: Settings, embedder: WordCountEmbedder) -> None:
    discard_index(settings)
    assert not settings.home.exists()
    with closing(open_store(settings, embedder, create=True)) as store:
        store.upsert([item(1)])
        with pytest.raises(StoreLocked):
            discard_index(settings)
        assert store.count() == 1
    open_store(settings, embedder, beside="a").close()
    discard_index(settings)
    assert (index_identity(settings), beside_label(settings)) == (None, "")
    with closing(open_store(settings, embedder, create=True)) as store:
        assert store.count() == 0


def test_what_another_process_builds_is_not_discarded(settings: Settings, embedder: WordCountEmbedder) -> None:
    with closing(open_store(settings, embedder, beside="a")) as beside:
        beside.upsert([item(1)])
        with pytest.raises(StoreLocked):
            discard_beside(settings)
        with pytest.raises(StoreLocked):
            open_store(settings, embedder, beside="b")
        assert beside.count() == 1


def test_a_live_index_that_is_in_use_elsewhere_is_not_replaced(settings: Settings, embedder: WordCountEmbedder) -> None:
    # Locked is locked, whether by another process or by this one.
    with closing(open_store(settings, embedder, create=True, token="secret")) as live:
        live.upsert([item(1)])
        with closing(open_store(settings, embedder, beside="a")) as beside:
            beside.upsert([item(2)])
            with pytest.raises(StoreLocked) as caught:
                put_in_place(settings, embedder, beside, None)
            assert beside.ids() == ids(2)
        assert live.ids() == ids(1)
    assert caught.value.owner.pid == os.getpid()
    assert caught.value.owner.token == "secret"
    assert "secret" not in f"{caught.value} {caught.value!r} {caught.value.owner}"


def test_an_index_of_an_older_format_is_no_embedders(settings: Settings, embedder: WordCountEmbedder) -> None:
    open_store(settings, embedder, create=True).close()
    record = index_directory(settings) / "index" / "meta.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 1}))
    found = index_identity(settings)
    assert found is not None
    assert found != (embedder.dim, embedder.id)
    with pytest.raises(StoreMismatch):
        open_store(settings, embedder)
    with closing(put_in_place(settings, embedder, open_store(settings, embedder, beside="a"), None)):
        assert index_identity(settings) == (embedder.dim, embedder.id)


# Killed on the way.

KILLED = """
import os, signal, sys
from pathlib import Path
from rag.settings import Settings
from rag.store.opening import open_store, put_in_place
from tests.conftest import WordCountEmbedder
from tests.rag.test_store_beside import OtherEmbedder, item

settings = Settings.load(home=Path(sys.argv[1]))
live = open_store(settings, WordCountEmbedder(), create=True)
live.upsert([item(n) for n in range(20)])
beside = open_store(settings, OtherEmbedder(), beside="a")
beside.upsert([item(n, dim=32) for n in range(100, 130)])
left = int(sys.argv[2])

def kill(event, arguments):
    global left
    if event in ("os.rename", "shutil.rmtree"):
        left -= 1
        if left == 0:
            print(event, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
put_in_place(settings, OtherEmbedder(), beside, live)
"""


def test_killed_at_any_step_the_old_index_opens_or_the_new_one(tmp_path: Path) -> None:
    outcomes = []
    for step in range(1, 100):
        home = tmp_path / str(step)
        command = [sys.executable, "-c", KILLED, str(home), str(step)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        settings = Settings.load(home=home)
        found = index_identity(settings)
        embedder = OtherEmbedder() if found == (32, "other@1") else WordCountEmbedder()
        with closing(open_store(settings, embedder)) as store:
            assert store.ids() == ids(*(range(100, 130) if embedder.dim == 32 else range(20)))
        left = {path.name for path in index_directory(settings).iterdir()}
        assert left - {"lock"} == {"index", "beside"}
        # What was not put in place is still there, to go on with.
        assert beside_label(settings) == ("" if embedder.dim == 32 else "a")
        outcomes.append(embedder.dim)
        if run.returncode == 0:
            break
        assert run.returncode < 0, run.stderr
    assert sorted(outcomes, reverse=True) == outcomes
    assert len(set(outcomes)) == 2
    assert len(outcomes) > 4


# On a server.


@contextmanager
def on_server(create: bool = True) -> Iterator[tuple[object, object]]:
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")

    def open_(dim: int = DIM, embedder: str = "e", create: bool = True, label: str = "") -> ServerStore:
        return ServerStore.connect(":memory:", "", 5, "papers", dim, embedder, create, client, label)

    yield client, open_


def names(client: object) -> list[str]:
    return sorted(each.name for each in client.get_collections().collections)


def test_on_a_server_the_alias_is_moved_and_the_old_collection_removed() -> None:
    with on_server() as (client, open_):
        live = open_()
        live.upsert([item(1), item(2)])
        beside = open_(label="a")
        beside.upsert([item(7)])
        assert live.ids() == ids(1, 2)
        assert len(names(client)) == 2
        with collections(":memory:", "", 5, "papers", client) as found:
            assert found.beside_label() == "a"
        beside.put_in_place()
        assert open_(create=False).ids() == ids(7)
        assert len(names(client)) == 1
        with collections(":memory:", "", 5, "papers", client) as found:
            assert found.beside_label() == ""
            assert found.record(found.live())["embedder"] == "e"
        # Who has the old one open goes on with the new one, which has the same embedder.
        assert live.ids() == ids(7)
        assert live.candidates(item(7).dense, item(7).sparse, 3).bm25[0][0] in ids(7)


def test_on_a_server_the_same_can_be_built_twice() -> None:
    with on_server() as (client, open_):
        for n in range(3):
            beside = open_(label="same")
            assert beside.count() == 0
            beside.upsert([item(n)])
            beside.put_in_place()
            assert open_().ids() == ids(n)
            assert len(names(client)) == 1


def test_on_a_server_who_holds_the_old_one_is_refused_another_embedders() -> None:
    with on_server() as (_, open_):
        live = open_()
        open_(dim=32, embedder="other", label="a").put_in_place()
        with pytest.raises(StoreMismatch, match="'other', not 'e'"):
            live.count()
        with pytest.raises(StoreMismatch):
            open_()
        assert open_(dim=32, embedder="other").count() == 0


def test_on_a_server_building_goes_on_or_begins_anew_and_can_be_discarded() -> None:
    with on_server() as (client, open_):
        open_().upsert([item(1)])
        open_(label="a").upsert([item(2)])
        assert open_(label="a").ids() == ids(2)
        assert open_(label="b").count() == 0
        assert len(names(client)) == 2
        with collections(":memory:", "", 5, "papers", client) as found:
            found.discard_beside()
            assert found.beside_label() == ""
        assert len(names(client)) == 1
        assert open_().ids() == ids(1)


def test_on_a_server_an_index_is_discarded_and_no_other() -> None:
    with on_server() as (client, open_):
        open_().upsert([item(1)])
        open_(label="a").upsert([item(2)])
        ServerStore.connect(":memory:", "", 5, "papers-2", DIM, "e", True, client)
        with collections(":memory:", "", 5, "papers", client) as found:
            found.discard()
            assert found.names() == ["papers-2"]
            found.discard()
        assert len(names(client)) == 1
        client.create_collection("footnote-papers", vectors_config={})
        with pytest.raises(StoreMismatch, match="another program"), collections("", "", 5, "papers", client) as found:
            found.discard()
        assert len(names(client)) == 2


def test_on_a_server_what_a_killed_process_left_is_not_taken_for_what_is_built() -> None:
    from qdrant_client import models

    with on_server() as (client, open_):
        open_().upsert([item(1)])
        [first] = names(client)
        beside = open_(label="a")
        beside.upsert([item(2)])
        [second] = set(names(client)) - {first}
        # Killed after the alias was moved and before the old collection was removed.
        moved = models.CreateAlias(collection_name=second, alias_name="footnote-papers")
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=moved)])
        assert open_().ids() == ids(2)
        with collections(":memory:", "", 5, "papers", client) as found:
            assert found.beside_label() == ""
        assert open_(label="a").count() == 0
        assert first not in names(client)


def test_on_a_server_a_foreign_collection_is_not_replaced() -> None:
    from qdrant_client import models

    with on_server() as (client, open_):
        client.create_collection("footnote-papers", models.VectorParams(size=DIM, distance=models.Distance.DOT))
        with pytest.raises(StoreMismatch, match="another program"):
            open_(label="a")
        assert names(client) == ["footnote-papers"]


def test_on_a_server_collections_with_longer_names_are_let_alone() -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    for name in ("papers", "papers.old", "papers-2"):
        ServerStore.connect(":memory:", "", 5, name, DIM, "e", True, client)
    before = names(client)
    with collections(":memory:", "", 5, "papers", client) as found:
        found.discard_beside()
        assert found.beside() is None
        assert found.names() == ["papers", "papers-2", "papers.old"]
    assert names(client) == before
