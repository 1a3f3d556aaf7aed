"""What the server store says over HTTP, held against Qdrant's OpenAPI description, and what it makes of refusals."""

from __future__ import annotations

import json
import re
import socket
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from rag.errors import CollectionMissing, StoreError, StoreMismatch, StoreUnreachable
from rag.filter import Filter
from rag.store.points import FORMAT, INDEXED
from rag.store.server import ServerStore
from rag.types import Chunk, IndexedChunk, SparseVector

OPENAPI = Path(__file__).parents[2].parent / "shared" / "qdrant-openapi.json"
URL = "http://qdrant.test:6333"
LIVE = "footnote-papers.0ac16047"
PATH = f"/collections/{LIVE}"
ALIASES, LIST, CHANGE = "GET /aliases", "GET /collections", "POST /collections/aliases"
DIM = 4
A, B, C = (str(uuid.UUID(int=n)) for n in (1, 2, 3))


def item(id_: str, text: str = "words") -> IndexedChunk:
    chunk = Chunk(id_, "doc", "a.pdf", "A", None, ("One",), 0, 5, text)
    return IndexedChunk(chunk, np.array([1, 0, 0, 0], dtype=np.float32), SparseVector((3, 2**32 - 1), (0.5, 1.5)))


def aliased(collection: str) -> dict[str, Any]:
    return {ALIASES: {"aliases": [{"alias_name": "footnote-papers", "collection_name": collection}]}}


def collection_info(metadata: dict[str, Any] | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "params": {
            "vectors": {"dense": {"size": DIM, "distance": "Cosine"}},
            "sparse_vectors": {"bm25": {"modifier": "idf"}},
        },
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1000,
            "default_segment_number": 0,
            "flush_interval_sec": 5,
        },
    }
    return {
        "status": "green",
        "optimizer_status": "ok",
        "segments_count": 1,
        "config": config | ({"metadata": metadata} if metadata else {}),
        "payload_schema": {},
    }


class FakeQdrant(httpx.BaseTransport):
    """Remembers requests; answers from a table of `METHOD path` -> result, else as a fresh server would."""

    def __init__(self, **results: Any) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: list[tuple[httpx.Request, dict[str, Any]]] = []
        done = {"operation_id": 1, "status": "completed"}
        scored = [{"id": id_, "version": 1, "score": 0.5} for id_ in (B, A)]
        self.results = {
            ALIASES: {"aliases": []},
            LIST: {"collections": []},
            CHANGE: True,
            f"PUT {PATH}": True,
            f"GET {PATH}": collection_info({"footnote": {"format": FORMAT, "dim": DIM, "embedder": "e"}}),
            f"PUT {PATH}/index": done,
            f"PUT {PATH}/points": done,
            f"POST {PATH}/points/delete": done,
            f"POST {PATH}/points/batch": [done, done],
            f"POST {PATH}/points/query/batch": [{"points": scored}, {"points": scored[:1]}],
            f"POST {PATH}/points": [{"id": B, "payload": payload("second")}, {"id": A, "payload": payload("first")}],
            f"POST {PATH}/points/scroll": {"points": [{"id": A}, {"id": B}], "next_page_offset": None},
            f"POST {PATH}/points/count": {"count": 2},
        } | results

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        operation = f"{request.method} {request.url.path}"
        answer = {"result": self.results[operation], "status": "ok", "time": 0.001}
        if operation == CHANGE:
            self.results[ALIASES] = {
                "aliases": [a["create_alias"] for a in json.loads(request.content)["actions"][-1:]]
            }
        self.answers.append((request, answer))
        return httpx.Response(200, json=answer)

    def sent(self, method: str, path: str) -> list[Any]:
        """The bodies that were sent to one operation."""
        return [
            json.loads(request.content)
            for request in self.requests
            if (request.method, request.url.path) == (method, path)
        ]


def payload(text: str) -> dict[str, Any]:
    fields = {"doc_id": "doc", "doc": "a.pdf", "title": "A", "page": None, "headings": ["One"], "start": 0, "end": 5}
    return fields | {"text": text, "kind": "text"}


def connect(fake: httpx.BaseTransport, create: bool = True, dim: int = DIM) -> ServerStore:
    from qdrant_client import QdrantClient

    client = QdrantClient(url=URL, check_compatibility=False, transport=fake)
    return ServerStore.connect(URL, "", 5, "papers", dim, "e", create, client)


# The OpenAPI description.


def as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0's `nullable` as JSON Schema; objects with named properties take no others, so typing errors show."""
    if isinstance(node, list):
        return [as_json_schema(part) for part in node]
    if not isinstance(node, dict):
        return node
    schema = {key: as_json_schema(part) for key, part in node.items() if key != "nullable"}
    if isinstance(node.get("properties"), dict) and "type" in node and node["type"] == "object":
        schema.setdefault("additionalProperties", False)
    if node.get("nullable") is not True:
        return schema
    return {"anyOf": [schema, {"type": "null"}]} if schema else {"type": "null"}


@cache
def description() -> dict[str, Any]:
    if not OPENAPI.is_file():
        pytest.skip("shared/qdrant-openapi.json is not there")
    return as_json_schema(json.loads(OPENAPI.read_text(encoding="utf-8")))


def validate(value: Any, schema: Any) -> None:
    import jsonschema

    jsonschema.Draft7Validator({"allOf": [schema], "components": description()["components"]}).validate(value)


def operation_of(request: httpx.Request) -> dict[str, Any]:
    for template, operations in description()["paths"].items():
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
        if re.fullmatch(pattern, request.url.path) and request.method.lower() in operations:
            return operations[request.method.lower()]
    raise AssertionError(f"no operation {request.method} {request.url.path}")


def check_request(request: httpx.Request) -> None:
    operation = operation_of(request)
    declared = {parameter["name"]: parameter for parameter in operation.get("parameters", [])}
    for name, value in request.url.params.items():
        assert declared[name]["in"] == "query"
        validate(
            json.loads(value) if value in ("true", "false") or value.isdigit() else value, declared[name]["schema"]
        )
    if request.content:
        assert request.headers["content-type"] == "application/json"
        validate(json.loads(request.content), operation["requestBody"]["content"]["application/json"]["schema"])
    else:
        assert not operation.get("requestBody", {}).get("required", False)


def check_answer(request: httpx.Request, answer: dict[str, Any]) -> None:
    """The fake's own answers are checked too, so that it cannot drift from the real server."""
    validate(answer, operation_of(request)["responses"]["200"]["content"]["application/json"]["schema"])


def test_every_request_fits_qdrants_openapi_description() -> None:
    description()
    fake = FakeQdrant()
    store = connect(fake)
    store.upsert([item(A), item(B, "two")])
    store.upsert([IndexedChunk(item(C).chunk, [0.0, 1.0, 0.0, 0.0], SparseVector((), ()))])
    store.delete("doc")
    store.publish("doc", "r1")
    question = np.array([0, 1, 0, 0], dtype=np.float32)
    store.candidates(question, SparseVector((3,), (1.0,)), 2)
    fake.results[f"POST {PATH}/points/query/batch"] = [{"points": []}]
    store.candidates(question, SparseVector((), ()), 2)
    everything = Filter(("a.pdf",), ("/a",), ("pdf",), date(2020, 1, 1), date(2021, 1, 1), (("author", "Ana"),))
    store.candidates(question, SparseVector((), ()), 2, everything)
    store.candidates(question, SparseVector((), ()), 2, Filter(until=date(2021, 1, 1)))
    store.fetch([A, B])
    store.ids()
    store.ids("doc")
    store.count()
    store.close()
    for request, answer in fake.answers:
        check_request(request)
        check_answer(request, answer)
    assert {f"{request.method} {request.url.path}" for request in fake.requests} == set(fake.results)


def test_the_description_catches_a_request_that_does_not_fit() -> None:
    import jsonschema

    for body in ({"limit": 3, "qurey": [1.0]}, {"limit": "three"}):
        request = httpx.Request("POST", f"{URL}{PATH}/points/query", json=body)
        with pytest.raises(jsonschema.ValidationError):
            check_request(request)


# What the requests mean.


def test_a_new_collection_has_both_vectors_idf_a_payload_index_and_its_embedder_on_record() -> None:
    fake = FakeQdrant()
    connect(fake)
    [made] = fake.sent("PUT", PATH)
    assert made["vectors"]["dense"] == {"size": DIM, "distance": "Cosine"}
    assert made["sparse_vectors"]["bm25"] == {"modifier": "idf"}
    assert made["metadata"]["footnote"] == {"format": FORMAT, "dim": DIM, "embedder": "e"}
    assert fake.sent("PUT", f"{PATH}/index") == [
        {"field_name": "doc_id", "field_schema": "keyword"},
        {"field_name": "hidden", "field_schema": "integer"},
        {"field_name": "names", "field_schema": "keyword"},
        {"field_name": "folders", "field_schema": "keyword"},
        {"field_name": "type", "field_schema": "keyword"},
        {"field_name": "facts", "field_schema": "keyword"},
        {"field_name": "day", "field_schema": "integer"},
    ]


def test_the_alias_is_made_last_so_that_half_a_collection_is_never_behind_it() -> None:
    fake = FakeQdrant()
    connect(fake)
    writes = [f"{request.method} {request.url.path}" for request in fake.requests if request.method != "GET"]
    assert writes == [f"PUT {PATH}", *[f"PUT {PATH}/index"] * len(INDEXED), CHANGE]
    made = {"alias_name": "footnote-papers", "collection_name": LIVE}
    assert fake.sent("POST", "/collections/aliases") == [{"actions": [{"create_alias": made}]}]


def test_a_creation_that_was_cut_short_is_finished() -> None:
    fake = FakeQdrant(**{LIST: {"collections": [{"name": LIVE}]}})
    connect(fake)
    writes = [f"{request.method} {request.url.path}" for request in fake.requests if request.method != "GET"]
    assert writes == [*[f"PUT {PATH}/index"] * len(INDEXED), CHANGE]


def test_opening_a_complete_collection_writes_nothing() -> None:
    info = collection_info({"footnote": {"format": FORMAT, "dim": DIM, "embedder": "e"}})
    fake = FakeQdrant(**aliased(LIVE), **{f"GET {PATH}": info})
    connect(fake)
    connect(fake, create=False)
    assert {request.method for request in fake.requests} == {"GET"}


def test_candidates_are_one_request_without_payload() -> None:
    fake = FakeQdrant()
    store = connect(fake)
    before = len(fake.requests)
    found = store.candidates(np.array([0, 1, 0, 0], dtype=np.float32), SparseVector((3,), (1.0,)), 2)
    assert len(fake.requests) == before + 1
    [body] = fake.sent("POST", f"{PATH}/points/query/batch")
    assert [search["using"] for search in body["searches"]] == ["dense", "bm25"]
    assert all(search["with_payload"] is False for search in body["searches"])
    assert found.dense == [(A, 0.5), (B, 0.5)]
    assert found.bm25 == [(B, 0.5)]


def test_publishing_is_one_request_that_shows_the_new_before_it_removes_the_old() -> None:
    fake = FakeQdrant()
    connect(fake).publish("doc", "r2")
    [body] = fake.sent("POST", f"{PATH}/points/batch")
    of_doc, of_r2 = ({"key": key, "match": {"value": value}} for key, value in (("doc_id", "doc"), ("revision", "r2")))
    assert body["operations"] == [
        {"delete_payload": {"keys": ["hidden"], "filter": {"must": [of_doc, of_r2]}}},
        {"delete": {"filter": {"must": [of_doc], "must_not": [of_r2]}}},
    ]


def test_hidden_points_are_left_out_of_the_search_and_of_the_idf() -> None:
    fake = FakeQdrant()
    store = connect(fake)
    store.upsert([item(A), IndexedChunk(item(B).chunk, item(B).dense, item(B).sparse, hidden=True)])
    [written] = fake.sent("PUT", f"{PATH}/points")
    assert [point["payload"].get("hidden") for point in written["points"]] == [None, 1]
    store.candidates(np.array([0, 1, 0, 0], dtype=np.float32), SparseVector((3,), (1.0,)), 2)
    [body] = fake.sent("POST", f"{PATH}/points/query/batch")
    visible = {"must_not": [{"key": "hidden", "match": {"value": 1}}]}
    assert [search["filter"] for search in body["searches"]] == [visible, visible]
    assert body["searches"][1]["params"]["idf"] == {"corpus": visible}


def test_a_filter_is_part_of_the_search_and_not_of_the_idf() -> None:
    fake = FakeQdrant()
    question = (np.array([0, 1, 0, 0], dtype=np.float32), SparseVector((3,), (1.0,)), 2)
    connect(fake).candidates(*question, Filter(types=("pdf",), since=date(2024, 1, 1)))
    [body] = fake.sent("POST", f"{PATH}/points/query/batch")
    visible = {"must_not": [{"key": "hidden", "match": {"value": 1}}]}
    wanted = [
        {"should": [{"key": "type", "match": {"any": ["pdf"]}}]},
        {"should": [{"key": "day", "range": {"gte": 738886}}]},
    ]
    assert [search["filter"] for search in body["searches"]] == [visible | {"must": wanted}] * 2
    assert body["searches"][1]["params"]["idf"] == {"corpus": visible}


def test_writes_wait_and_come_in_bounded_requests() -> None:
    fake = FakeQdrant()
    store = connect(fake)
    items = [item(str(uuid.UUID(int=n))) for n in range(600)]
    store.upsert(items)
    store.delete("doc")
    store.publish("doc", "r1")
    sent = fake.sent("PUT", f"{PATH}/points")
    assert [len(body["points"]) for body in sent] == [256, 256, 88]
    assert [point["id"] for body in sent for point in body["points"]] == [one.chunk.id for one in items]
    writes = [request for request in fake.requests if request.url.path.startswith(f"{PATH}/points")]
    assert all(request.url.params["wait"] == "true" for request in writes)


def test_long_vectors_make_smaller_requests() -> None:
    info = collection_info({"footnote": {"format": FORMAT, "dim": 4096, "embedder": "e"}})
    fake = FakeQdrant(**aliased(LIVE), **{f"GET {PATH}": info})
    store = connect(fake, dim=4096)
    long = np.ones(4096, dtype=np.float32) / 64
    store.upsert([IndexedChunk(item(str(uuid.UUID(int=n))).chunk, long, SparseVector((), ())) for n in range(120)])
    writes = [request for request in fake.requests if request.url.path == f"{PATH}/points"]
    assert len(writes) == 2
    assert max(len(request.content) for request in writes) < 32_000_000


def test_ids_are_read_page_by_page() -> None:
    class Paged(FakeQdrant):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == f"{PATH}/points/scroll":
                first = "offset" not in json.loads(request.content)
                page = {"points": [{"id": A if first else B}], "next_page_offset": B if first else None}
                self.results[f"POST {PATH}/points/scroll"] = page
            return super().handle_request(request)

    assert connect(Paged()).ids() == {A, B}


def test_fetch_puts_the_servers_order_right() -> None:
    assert [(chunk.id, chunk.text) for chunk in connect(FakeQdrant()).fetch([A, C, B])] == [
        (A, "first"),
        (B, "second"),
    ]


def not_there(collection: str) -> httpx.Response:
    error = f"Not found: Collection `{collection}` doesn't exist!"
    return httpx.Response(404, json={"status": {"error": error}, "time": 0.0})


NEWER = "footnote-papers.0badcafe"


class Replaced(FakeQdrant):
    """A server on which another collection took the first one's place after it was opened."""

    embedder = "e"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith(f"{PATH}/points"):
            self.requests.append(request)
            record = {"format": FORMAT, "dim": DIM, "embedder": self.embedder, "label": "x", "replaces": LIVE}
            self.results |= aliased(NEWER)
            self.results[f"GET /collections/{NEWER}"] = collection_info({"footnote": record})
            self.results[f"POST /collections/{NEWER}/points/count"] = {"count": 7}
            return not_there(LIVE)
        return super().handle_request(request)


def test_a_store_goes_on_with_the_collection_that_took_its_place() -> None:
    fake = Replaced()
    store = connect(fake)
    assert store.count() == 7
    before = len(fake.requests)
    assert store.count() == 7
    assert len(fake.requests) == before + 1


def test_a_store_does_not_go_on_with_another_embedders_collection() -> None:
    fake = Replaced()
    fake.embedder = "other"
    store = connect(fake)
    with pytest.raises(StoreMismatch, match="'other', not 'e'"):
        store.count()


def test_a_collection_that_is_gone_is_missing() -> None:
    class Gone(FakeQdrant):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.startswith(f"{PATH}/points"):
                self.results[ALIASES] = {"aliases": []}
                return not_there(LIVE)
            return super().handle_request(request)

    store = connect(Gone())
    with pytest.raises(CollectionMissing, match="no collection 'papers'"):
        store.count()


# Refusals.


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_a_missing_collection_is_not_created_by_reading() -> None:
    fake = FakeQdrant()
    with pytest.raises(CollectionMissing, match="footnote ingest PATH --collection papers") as caught:
        connect(fake, create=False)
    one_line(caught.value)
    assert {request.method for request in fake.requests} == {"GET"}


def test_another_embedders_collection_is_refused() -> None:
    info = collection_info({"footnote": {"format": FORMAT, "dim": DIM, "embedder": "other"}})
    with pytest.raises(StoreMismatch, match=r"'other', not 'e'; run `footnote ingest`") as caught:
        connect(FakeQdrant(**aliased(LIVE), **{f"GET {PATH}": info}))
    one_line(caught.value)


def test_a_point_that_another_program_wrote_is_named() -> None:
    store = connect(FakeQdrant(**{f"POST {PATH}/points": [{"id": A, "payload": {"body": "?"}}]}))
    with pytest.raises(StoreError, match=f"point {A} has other fields") as caught:
        store.fetch([A])
    one_line(caught.value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_unreachable_server_is_one_line_with_the_remedy() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StoreUnreachable) as caught:
        ServerStore.connect(url, "", 2, "papers", DIM, "e", True)
    message = one_line(caught.value)
    assert message.startswith(f"no answer from Qdrant at {url} within 2 s: ")
    assert message.endswith("start it with `docker compose up -d qdrant` or unset FOOTNOTE_QDRANT_URL")


@pytest.mark.parametrize("url", ["http://[broken", "ftp://localhost:6333", "http://local host:6333"])
def test_a_url_that_is_none_is_one_line(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        ServerStore.connect(url, "", 2, "papers", DIM, "e", True)
    assert url in one_line(caught.value)
    assert "FOOTNOTE_QDRANT_URL" in str(caught.value)


class Loopback(HTTPServer):
    """Answers every request the same way and remembers the keys that came with them."""

    status = 200
    body = b""
    keys: list[str | None]


class Answer(BaseHTTPRequestHandler):
    server: Loopback

    def do_GET(self) -> None:
        self.server.keys.append(self.headers.get("api-key"))
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[Callable[[int, bytes], tuple[str, list[str | None]]]]:
    """A server on loopback: status and body -> its URL and the list of keys that it was sent."""

    @contextmanager
    def started() -> Iterator[Loopback]:
        with Loopback(("127.0.0.1", 0), Answer) as server:
            server.keys = []
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            yield server
            server.shutdown()
            thread.join()

    with started() as server:

        def answer(status: int, body: bytes) -> tuple[str, list[str | None]]:
            server.status, server.body = status, body
            return f"http://127.0.0.1:{server.server_port}", server.keys

        yield answer


Answering = Callable[[int, bytes], tuple[str, list[str | None]]]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_the_setting_and_nothing_else_is_printed(
    answering: Answering, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    url, keys = answering(status, b"Must provide an API key or an Authorization bearer token")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(StoreError, match="FOOTNOTE_QDRANT_API_KEY") as caught:
            ServerStore.connect(url, "wrong-key", 2, "papers", DIM, "e", True)
    assert "wrong-key" not in one_line(caught.value)
    assert keys == ["wrong-key"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("status", "body", "kind", "named"),
    [
        (200, b"<html>\nit works\n</html>", StoreError, "FOOTNOTE_QDRANT_URL"),
        (200, b'{"result": {"other": 1}}', StoreError, "cannot be understood"),
        (500, b'{"status": {"error": "disk\nfull"}}', StoreError, "answered 500"),
        (503, b"", StoreUnreachable, "no answer"),
        (301, b"", StoreError, "answered 301"),
    ],
)
def test_odd_answers_are_one_line(
    answering: Answering, status: int, body: bytes, kind: type[StoreError], named: str
) -> None:
    url, _ = answering(status, body)
    with pytest.raises(kind, match=named) as caught:
        ServerStore.connect(url, "", 2, "papers", DIM, "e", True)
    assert url in one_line(caught.value)


def test_a_server_that_stops_answering_is_unreachable() -> None:
    class Dies(FakeQdrant):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.startswith(f"{PATH}/points"):
                raise httpx.ReadTimeout("timed out")
            return super().handle_request(request)

    store = connect(Dies())
    calls: list[Callable[[], object]] = [
        lambda: store.upsert([item(A)]),
        lambda: store.delete("doc"),
        lambda: store.candidates(np.ones(DIM, dtype=np.float32), SparseVector((), ()), 2),
        lambda: store.fetch([A]),
        store.ids,
        store.count,
    ]
    for call in calls:
        with pytest.raises(StoreUnreachable, match="timed out") as caught:
            call()
        one_line(caught.value)
