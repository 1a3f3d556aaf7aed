"""Who may do what, seen from outside: a plain application behind the guard, asked over HTTP and websockets."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from httpx import Response
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeTimedSerializer
from starlette.testclient import TestClient
from starlette.types import Message, Scope
from starlette.websockets import WebSocketDisconnect

from rag.settings import Settings
from ui import wire
from ui.server.access import IDENTITY, Access, Identity, allowed, identity_of
from ui.server.guard import guard
from ui.server.headers import HEADERS
from ui.server.sessions import MAX_AGE
from ui.server.signin import AT_ONCE, WAITING, local_path, sign_in_at
from ui.server.throttle import BY_NAME, Throttle
from ui.server.users import Users

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse"
HOST = "http://footnote.example:7860"
HERE = "http://127.0.0.1:7860"
TALK, TALK_SHARED = "ws://127.0.0.1:7860/talk", "ws://footnote.example:7860/talk"
Open = Callable[..., TestClient]


def application() -> FastAPI:
    """Says who asked and what for, on every path; streams on one, and talks over a websocket on another."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    @app.get("/readyz")
    @app.get("/manifest.json")
    def health() -> dict[str, Any]:
        return {"status": "ok"}

    @app.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(identity_of(socket).name)
        await socket.close()

    @app.get("/api/v1/pictures")
    def picture() -> PlainTextResponse:
        return PlainTextResponse("", headers={"Cache-Control": "private, no-cache"})

    @app.get("/open")
    def opened() -> PlainTextResponse:
        return PlainTextResponse("", headers={"Access-Control-Allow-Origin": "*", "X-Frame-Options": "SAMEORIGIN"})

    @app.get("/fails")
    def fails() -> None:
        raise RuntimeError("a fault")

    @app.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def anything(path: str, request: Request) -> JSONResponse:
        name, role = identity_of(request)
        return JSONResponse({"path": f"/{path}", "name": name, "role": role})

    return app


@pytest.fixture
def users(settings: Settings) -> Users:
    users = Users(settings.home, QUICK)
    users.add("ana", "editor", PASSWORD)
    users.add("rob", "reader", PASSWORD)
    return users


@pytest.fixture
def shared(users: Users) -> Open:
    """Served to a network, with a sign-in; a browser signed in as somebody."""

    def open_(name: str = "", url: str = HOST, **given: Any) -> TestClient:
        app = application()
        guard(app, "0.0.0.0", (), users)
        client = TestClient(app, url, follow_redirects=False, **given)
        if name:
            assert sign_in(client, name).status_code == 303
        return client

    return open_


@pytest.fixture
def alone() -> TestClient:
    """Served to this machine, without a sign-in."""
    app = application()
    guard(app, "127.0.0.1", (), None)
    return TestClient(app, HERE, follow_redirects=False)


def sign_in(client: TestClient, name: str, password: str = PASSWORD, **given: Any) -> Response:
    fields = {"name": name, "password": password, "next": given.pop("next", "/")}
    return client.post("/signin", data=fields, **given)  # type: ignore[return-value]


def cookie_of(response: Response) -> tuple[str, str]:
    name, _, rest = response.headers["set-cookie"].partition("=")
    return name, rest.partition(";")[0]


# --- without a sign-in


def test_on_this_machine_whoever_asks_is_an_editor(alone: TestClient) -> None:
    assert alone.get("/").json() == {"path": "/", "name": "local", "role": "editor"}
    assert alone.delete("/api/v1/documents/1").json()["role"] == "editor"
    assert alone.get("/metrics").json()["role"] == "editor"
    with alone.websocket_connect(TALK) as socket:
        assert socket.receive_text() == "local"


def test_there_is_nothing_to_sign_in_to(alone: TestClient) -> None:
    for path in ("/signin", "/signout", "/signin?next=//evil.example"):
        assert alone.get(path).headers["location"] == "/"


def test_a_key_of_another_program_does_no_harm(alone: TestClient) -> None:
    """OpenAI's clients always send one."""
    assert alone.post("/v1/chat/completions", headers={"authorization": "Bearer none"}).json()["name"] == "local"


FOREIGN: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "http://localhost:7860"},
    {"origin": "http://127.0.0.1:7860.evil.example"},
    {"origin": "http://evil.example/127.0.0.1:7860"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://[broken"},
    {"origin": "http://127.0.0.1:7860", "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "null", "sec-fetch-site": "none"},
    {"origin": "https://evil.example", "authorization": "Bearer fn_anything"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_another_sites_page_changes_nothing_on_this_machine(alone: TestClient, headers: dict[str, str]) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = alone.request(method, "/api/v1/ask", headers=headers)
        assert (answer.status_code, answer.json()["kind"]) == (403, "AccessError")
    assert alone.post(wire.REMOVE, headers={**headers, wire.TOKEN: "x"}).status_code == 403
    with pytest.raises(WebSocketDisconnect), alone.websocket_connect(TALK, headers=headers):
        pass


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"},
        {"origin": "HTTP://127.0.0.1:7860"},
        {"origin": "null", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
)
def test_the_own_page_and_programs_may_post(alone: TestClient, headers: dict[str, str]) -> None:
    assert alone.post("/api/v1/ask", headers=headers).status_code == 200


def test_the_usual_port_may_be_written_or_not(users: Users) -> None:
    app = application()
    guard(app, "127.0.0.1", ("docs.example.org",), None)
    client = TestClient(app, "https://docs.example.org")
    for host in ("docs.example.org", "docs.example.org:443"):
        headers = {"host": host, "origin": "https://docs.example.org"}
        assert client.post("/api/v1/ask", headers=headers).status_code == 200
    headers = {"host": "docs.example.org:8443", "origin": "https://docs.example.org"}
    assert client.post("/api/v1/ask", headers=headers).status_code == 403


def test_an_origin_without_a_host_is_not_that_of_a_request_without_one(users: Users) -> None:
    for origin in ("null", "", "file:///home/ana/page.html"):
        sent = asyncio.run(requested(Access(application()), "POST", "/api/v1/ask", {"host": "", "origin": origin}))
        assert sent[0]["status"] == 403


def test_other_sites_may_lead_here_but_not_read(alone: TestClient) -> None:
    answer = alone.get("/", headers={"origin": "https://evil.example", "sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_other_host_names_are_refused(alone: TestClient, users: Users) -> None:
    """A page whose name was made to resolve to this machine must not read the documents."""
    assert alone.get("/", headers={"host": "evil.example"}).status_code == 400
    for host in ("127.0.0.1:7860", "localhost:7860", "[::1]:7860"):
        assert alone.get("/", headers={"host": host}).status_code == 200
    app = application()
    guard(app, "0.0.0.0", ("*.example.org",), users)
    named = TestClient(app, "http://docs.example.org", follow_redirects=False)
    assert named.get("/healthz").status_code == 200
    assert named.get("/healthz", headers={"host": "127.0.0.1:7860"}).status_code == 200
    assert named.get("/healthz", headers={"host": "evil.example"}).status_code == 400


# --- signing in


def test_pages_lead_to_the_sign_in_and_back(shared: Open) -> None:
    client = shared()
    away = client.get("/reports/a%20b?page=2&name=%C3%A9")
    assert away.status_code == 303
    page = client.get(away.headers["location"])
    assert page.status_code == 200
    to = re.search(r'name="next" value="([^"]*)"', page.text)
    assert to
    back = sign_in(client, "ana", next=to[1].replace("&amp;", "&"))
    assert (back.status_code, back.headers["location"]) == (303, "/reports/a%20b?page=2&name=%C3%A9")
    assert client.get(back.headers["location"]).json() == {"path": "/reports/a b", "name": "ana", "role": "editor"}


def test_programs_are_told_401_in_one_line(shared: Open) -> None:
    client = shared()
    for method, path in (("GET", "/api/v1/documents"), ("GET", "/metrics"), ("GET", "/v1/models"), ("POST", "/")):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["kind"]) == (401, "SignInError")
        assert "\n" not in answer.json()["error"]
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/gradio_api/info", "/gradio_api/queue/data?session_hash=x", "/api/openapi.json"):
        assert client.get(path).status_code == 401
    assert client.options("/api/v1/ask", headers={"origin": "https://evil.example"}).status_code == 401
    assert client.head("/").status_code == 303


def test_public_paths_need_nobody(shared: Open) -> None:
    client = shared()
    for path in ("/healthz", "/readyz", "/manifest.json", "/signin", "/signin.css"):
        assert client.get(path).status_code == 200
    assert client.head("/signin").status_code == 200
    assert client.post("/healthz").status_code == 401
    assert client.options("/healthz").status_code == 401


TRICKS = [
    "//healthz",
    "/healthz/",
    "/healthz/../api/v1/documents",
    "/healthz%2f..%2fapi/v1/documents",
    "/%2e%2e/healthz",
    "/./healthz",
    "/HEALTHZ",
    "/healthz;x=1",
    "/healthz%00",
    "/healthz%0a",
    "/signin/",
    "/signin.css/",
    "//signin.css",
    "/signin/../api/v1/documents",
    "/api/v1/../../healthz",
    "/healthz%3f",
]


@pytest.mark.parametrize("path", TRICKS)
def test_a_path_written_in_another_way_is_not_public(shared: Open, path: str) -> None:
    answers = asyncio.run(requested(shared().app, "GET", path))
    assert answers[0]["status"] in (303, 401)


async def requested(app: Any, method: str, target: str, headers: dict[str, str] | None = None) -> list[Message]:
    """What is answered to a path as it stands on the wire; clients would mend it first."""
    raw, _, query = target.partition("?")
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "server": ("footnote.example", 7860),
        "client": ("192.0.2.1", 50000),
        "headers": [
            (name.lower().encode(), value.encode())
            for name, value in {"host": "footnote.example:7860", **(headers or {})}.items()
        ],
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_the_wrong_password_and_the_wrong_name_look_the_same(shared: Open) -> None:
    client = shared()
    wrong = [sign_in(client, "ana", "wrong password"), sign_in(client, "eve", PASSWORD)]
    assert [answer.status_code for answer in wrong] == [401, 401]
    assert len({answer.text.replace('value="eve"', 'value="ana"') for answer in wrong}) == 1
    assert 'role="alert"' in wrong[0].text
    assert not any("set-cookie" in answer.headers for answer in wrong)
    assert client.get("/").status_code == 303


def test_what_was_typed_is_shown_as_text(shared: Open) -> None:
    nasty = '"><script>alert(1)</script>'
    shown = sign_in(shared(), nasty, next=f"/{nasty}").text
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert PASSWORD not in shown


def test_the_form_has_labels_and_works_without_scripts(shared: Open) -> None:
    page = shared().get("/signin").text
    for field in ("name", "password"):
        assert f'<label for="{field}">' in page
        assert f'id="{field}" name="{field}"' in page
    assert '<form method="post" action="/signin">' in page
    assert "<script" not in page
    assert "style=" not in page, "the policy allows the style sheet only"
    assert "prefers-color-scheme: dark" in shared().get("/signin.css").text


def test_a_form_that_no_person_sends_is_refused(shared: Open) -> None:
    client = shared()
    assert client.post("/signin", content=b"name=" + b"a" * 10_000).status_code == 413
    for body in (b"", b"\xff\xfe%", b"&".join(b"a=1" for _ in range(500)), b"name=ana&name=%00"):
        assert client.post("/signin", content=body).status_code in (401, 429)
    assert client.put("/signin").status_code == 405


def test_the_cookie_is_kept_from_scripts_and_other_sites(shared: Open) -> None:
    plain = sign_in(shared(), "ana").headers["set-cookie"]
    flags = {part.strip().lower() for part in plain.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/", f"max-age={MAX_AGE}"} <= flags
    assert "secure" not in flags
    secure = sign_in(shared(url="https://footnote.example"), "ana").headers["set-cookie"]
    assert "; secure" in secure.lower()


def test_another_site_signs_nobody_in_or_out(shared: Open) -> None:
    client = shared("rob")
    foreign = {"origin": "https://evil.example"}
    assert sign_in(client, "ana", headers=foreign).status_code == 403
    assert client.post("/signout", headers=foreign).status_code == 403
    assert client.get("/").json()["name"] == "rob"


def test_signing_out(shared: Open) -> None:
    client = shared("ana")
    page = client.get("/signout")
    assert "<strong>ana</strong>" in page.text
    assert client.get("/").status_code == 200, "a link alone signs nobody out"
    assert client.post("/signout").headers["location"] == "/signin"
    assert client.get("/").status_code == 303
    assert client.get("/signout").headers["location"] == "/signin"


def test_whoever_is_signed_in_is_not_asked_again(shared: Open) -> None:
    client = shared("ana")
    assert client.get("/signin?next=/reports").headers["location"] == "/reports"
    assert client.get("/signin?next=//evil.example").headers["location"] == "/"


def test_forms_are_sent_with_their_origin(shared: Open) -> None:
    """Under `no-referrer`, browsers send `Origin: null`, which is refused."""
    assert shared().get("/signin").headers["referrer-policy"] == "same-origin"
    assert shared("ana").get("/signout").headers["referrer-policy"] == "same-origin"


ELSEWHERE = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "http:evil.example",
    "http://evil.example",
    "https:///evil.example",
    "javascript:alert(1)",
    "evil.example",
    "",
    "/signin",
    "/signin?next=/signin",
    "/signout",
    "/signin/",
    "/" + "a" * 5000,
]


@pytest.mark.parametrize("to", ELSEWHERE)
def test_a_sign_in_leads_to_this_server_only(shared: Open, to: str) -> None:
    assert sign_in(shared(), "ana", next=to).headers["location"] == "/"


@given(st.text(alphabet=st.sampled_from("/\\:@.?#%&=\t\r\n \x00aé[]"), max_size=12) | st.text(max_size=30))
def test_no_next_leads_elsewhere(to: str) -> None:
    found = local_path(to)
    as_browsers_read_it = re.sub(r"[\t\r\n]", "", found).strip("".join(map(chr, range(33)))).replace("\\", "/")
    assert urlsplit(urljoin("https://footnote.example/signin", as_browsers_read_it)).netloc == "footnote.example"


@given(st.text(max_size=30), st.text(alphabet=st.characters(max_codepoint=126, min_codepoint=33), max_size=30))
def test_every_page_can_be_led_back_to(path: str, query: str) -> None:
    """Or the sign-in leads to the first page; never to an address that is no address."""
    address = sign_in_at(path, query)
    assert address.startswith("/signin?next=")
    assert address.isascii()
    assert not set(address.partition("=")[2]) & set("&#?\\ ")


# --- sessions


def signed(users: Users, payload: object) -> str:
    """A cookie as `Sessions` makes it."""
    options = {"digest_method": sha256, "key_derivation": "hmac"}
    value = URLSafeTimedSerializer(users.known().secret, salt="footnote.session", signer_kwargs=options).dumps(payload)
    assert isinstance(value, str)
    return value


def who(client: TestClient, cookie: str, name: str) -> int:
    """The status of a request with that cookie."""
    return int(client.get("/", headers=[(b"cookie", f"{name}={cookie}".encode("latin-1"))]).status_code)


def test_a_cookie_that_was_tampered_with_is_none(shared: Open, users: Users) -> None:
    name, cookie = cookie_of(sign_in(shared(), "rob"))
    client = shared()
    assert who(client, cookie, name) == 200
    payload, stamp, signature = cookie.split(".")
    ana = signed(users, ["ana", users.known().users[0].fingerprint]).split(".")[0]
    for wrong in (
        f"{ana}.{stamp}.{signature}",
        f"{payload}.{stamp}.{signature[:-2]}",
        f"{payload}.ZZZZZZ.{signature}",
        f"{payload}..{signature}",
        payload,
        "",
        "é",
        "a" * 4000,
    ):
        assert who(client, wrong, name) == 303
    assert who(client, cookie, "footnote-00000000") == 303


@pytest.mark.parametrize(
    "payload", [None, 5, "ana", [], ["ana"], ["ana", ""], ["ana", "x", "y"], [["ana"], {}], {"a": 1, "b": 2}]
)
def test_a_signed_cookie_that_says_nothing_is_none(shared: Open, users: Users, payload: object) -> None:
    """What an older version of Footnote may have signed."""
    name, _ = cookie_of(sign_in(shared(), "ana"))
    assert who(shared(), signed(users, payload), name) == 303


def test_a_cookie_ends_after_seven_days(shared: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    name, cookie = cookie_of(sign_in(shared(), "ana"))
    client, began = shared(), time.time()
    for later, status in ((MAX_AGE - 60, 200), (MAX_AGE + 60, 303)):
        monkeypatch.setattr(time, "time", lambda later=later: began + later)
        assert who(client, cookie, name) == status


def test_a_user_who_changes_or_goes_is_out_at_once(shared: Open, users: Users, settings: Settings) -> None:
    beside = Users(settings.home, QUICK)  # as `footnote users` is
    ana, rob, again = shared("ana"), shared("rob"), shared("ana")
    beside.add("ana", "reader", "another password")
    assert ana.get("/").status_code == again.get("/").status_code == 303
    assert rob.get("/").status_code == 200
    beside.remove("rob")
    assert rob.get("/").status_code == 303
    beside.add("rob", "reader", PASSWORD)
    assert rob.get("/").status_code == 303, "someone else of that name"


def test_the_empty_secret_signs_nothing(shared: Open, users: Users, settings: Settings) -> None:
    client, file = shared(), settings.home / "users.json"
    file.write_text(users.known().model_copy(update={"secret": ""}).model_dump_json(), encoding="utf-8")
    ana = users.known().users[0]
    name = f"footnote-{sha256(b'').hexdigest()[:8]}"
    assert who(client, signed(users, [ana.name, ana.fingerprint]), name) == 303
    file.unlink()
    assert sign_in(client, "ana").status_code == 401


def test_two_homes_on_one_host_do_not_sign_each_other_out(shared: Open, tmp_path: Any) -> None:
    other = Users(tmp_path / "other", QUICK)
    other.add("ana", "reader", PASSWORD)
    app = application()
    guard(app, "0.0.0.0", (), other)
    first, second = (
        cookie_of(sign_in(client, "ana")) for client in (shared(), TestClient(app, HOST, follow_redirects=False))
    )
    assert first[0] != second[0]
    assert who(shared(), second[1], first[0]) == 303


# --- roles and keys

READER_MAY = [
    ("GET", "/api/v1/evaluations"),
    ("GET", "/c/contracts/"),
    ("POST", "/c/contracts/api/v1/ask"),
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/api/v1/documents"),
    ("GET", "/api/v1/conversations/abc"),
    ("GET", "/gradio_api/queue/data"),
    ("POST", "/api/v1/search"),
    ("POST", "/api/v1/ask"),
    ("POST", "/api/v1/feedback"),
    ("DELETE", "/api/v1/conversations"),
    ("PATCH", "/api/v1/conversations/abc"),
    ("DELETE", "/api/v1/conversations/abc"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/gradio_api/reset"),
    ("POST", "/gradio_api/run/predict"),
    ("POST", "/gradio_api/call/ask"),
    ("POST", "/gradio_api/call/v2/ask"),
]
EDITOR_ONLY = [
    ("POST", "/api/v1/collections"),
    ("POST", "/c/contracts/api/v1/documents"),
    ("POST", "/api/v1/evaluations"),
    ("POST", "/api/v1/evaluations/x/stop"),
    ("POST", "/api/v1/documents"),
    ("DELETE", "/api/v1/documents/abc"),
    ("PUT", "/api/v1/ask"),
    ("DELETE", "/api/v1/conversations/abc/turns"),
    ("POST", "/api/v1/conversations"),
    ("POST", "/api/v1/jobs"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/component_server"),
    ("POST", "/"),
    ("GET", "/metrics"),
    ("HEAD", "/metrics"),
    ("GET", "/metrics/"),
    ("GET", "/metrics/x"),
    ("GET", "/monitoring/summary"),
    ("POST", wire.INGEST),
    ("POST", wire.STOP),
    ("POST", wire.REMOVE),
    ("BREW", "/api/v1/ask"),
    ("post", "/api/v1/ask"),
    ("get", "/api/v1/documents"),
]
WRITTEN_OTHERWISE = [
    "//api/v1/ask",
    "/api/v1//ask",
    "/api/v1/ask/",
    "/api/v1/ask/../documents",
    "/api/v1/ask%2f..%2fdocuments",
    "/api/v1/%2e%2e/v1/ask",
    "/API/v1/ask",
    "/api/v1/ask%0a",
    "/api/v1/ask%00",
    "/api/v1/ask;a",
    "/x/api/v1/ask",
    "/gradio_api/run/a/b",
    "/gradio_api/run/",
    "/api/v1/conversations//",
]


@pytest.mark.parametrize(("method", "path"), READER_MAY)
def test_readers_read_and_ask(shared: Open, method: str, path: str) -> None:
    assert shared("rob").request(method, path).status_code == 200
    assert shared("ana").request(method, path).status_code == 200


@pytest.mark.parametrize(("method", "path"), EDITOR_ONLY)
def test_everything_else_needs_an_editor(shared: Open, users: Users, method: str, path: str) -> None:
    refused = {}
    for name in ("rob", "ana"):
        key = {"authorization": f"Bearer {users.make_key(f'{name}-key', users.known().user(name).role)}"}  # type: ignore[union-attr]
        answer = asyncio.run(requested(shared().app, method, path, key))
        refused[name] = answer[0]["status"] == 403
    assert refused == {"rob": True, "ana": False}


@pytest.mark.parametrize("path", WRITTEN_OTHERWISE)
def test_a_path_written_in_another_way_needs_an_editor(shared: Open, users: Users, path: str) -> None:
    key = {"authorization": f"Bearer {users.make_key('program', 'reader')}"}
    answer = asyncio.run(requested(shared().app, "POST", path, key))
    assert answer[0]["status"] == 403


@given(st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "x"]), st.text(max_size=20))
def test_readers_change_nothing_below_an_unknown_path(method: str, path: str) -> None:
    assert not allowed("reader", method, f"/{path}")


def test_a_refusal_says_why(shared: Open) -> None:
    answer = shared("rob").delete("/api/v1/documents/abc")
    assert answer.status_code == 403
    assert answer.json() == {"error": "rob is a reader, and this needs an editor", "kind": "AccessError"}


def test_keys_have_roles_and_end_when_removed(shared: Open, users: Users) -> None:
    client = shared()
    for role, status in (("reader", 403), ("editor", 200)):
        key = users.make_key(f"a-{role}", role)  # type: ignore[arg-type]
        headers = {"authorization": f"bearer {key}"}
        assert client.get("/", headers=headers).json() == {"path": "/", "name": f"a-{role}", "role": role}
        assert client.delete("/api/v1/documents/1", headers=headers).status_code == status
        users.remove(f"a-{role}")
        assert client.get("/", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "given_", ["Bearer", "Bearer ", "Bearer fn_wrong", "Bearer \xff", "Basic YW5hOmNvcnJlY3QgaG9yc2U=", "fn_"]
)
def test_a_wrong_key_is_no_key(shared: Open, given_: str) -> None:
    answer = shared().get("/api/v1/documents", headers=[(b"authorization", given_.encode("latin-1"))])
    assert (answer.status_code, answer.json()["kind"]) == (401, "SignInError")


def test_a_wrong_key_is_not_mended_by_a_cookie(shared: Open) -> None:
    assert shared("ana").get("/", headers={"authorization": "Bearer fn_wrong"}).status_code == 401
    basic = {"authorization": "Basic YW5hOng="}  # which a proxy in front may pass on
    assert shared("ana").get("/", headers=basic).json()["name"] == "ana"


def test_programs_with_a_key_may_say_any_origin_but_not_with_a_cookie(shared: Open, users: Users) -> None:
    key = {"authorization": f"Bearer {users.make_key('program', 'editor')}", "origin": "https://evil.example"}
    assert shared().post("/api/v1/ask", headers=key).status_code == 200
    assert shared("ana").post("/api/v1/ask", headers=key).status_code == 403
    assert shared("ana").post("/api/v1/ask", headers={"origin": "https://evil.example"}).status_code == 403
    assert shared("ana").post("/api/v1/ask", headers={"origin": HOST}).status_code == 200


@pytest.mark.parametrize("path", [wire.INGEST, wire.REMOVE, "/api/v1/ask", "/api/v1/search", "/c/more/api/v1/ask"])
def test_commands_of_the_user_who_serves_need_no_sign_in(users: Users, path: str) -> None:
    app = application()
    guard(app, "0.0.0.0", (), users, "secret")
    client = TestClient(app, HOST, follow_redirects=False)
    assert client.post(path, headers={wire.TOKEN: "secret"}).json()["role"] == "editor"
    for wrong in ("", "x", "secret2", "wr\xf6ng"):
        assert client.post(path, headers={wire.TOKEN: wrong.encode("latin-1")}).status_code == 401
    foreign = {wire.TOKEN: "secret", "origin": "https://evil.example"}
    assert client.post(path, headers=foreign).status_code == 403


def test_who_asks_too_much_is_told_to_wait_and_nobody_else_is(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_030.0)  # no minute ends meanwhile
    app = application()
    guard(app, "0.0.0.0", (), users, "secret", a_minute=3)
    client = TestClient(app, HOST, follow_redirects=False)
    one, other = ({"authorization": f"Bearer {users.make_key(name, 'reader')}"} for name in ("one", "other"))
    assert [client.get("/api/v1/documents", headers=one).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    refused = client.get("/c/more/api/v1/documents", headers=one)  # no other count behind another address
    assert (refused.status_code, refused.json()["kind"]) == (429, "Busy")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert client.get("/api/v1/documents", headers=other).status_code == 200
    assert client.get("/", headers=one).status_code == 200, "the page's own files are not counted"
    assert client.get("/healthz").status_code == 200
    for _ in range(5):
        assert client.get("/api/v1/documents", headers={wire.TOKEN: "secret"}).status_code == 200


def test_guessing_keys_is_limited_by_address(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_030.0)  # no minute ends meanwhile
    app = application()
    guard(app, "0.0.0.0", (), users, a_minute=3)
    client = TestClient(app, HOST, follow_redirects=False)
    guesses = [client.get("/api/v1/documents", headers={"authorization": f"Bearer fn_{n}"}) for n in range(5)]
    assert [each.status_code for each in guesses] == [401, 401, 401, 429, 429]


def test_an_empty_token_admits_nobody(shared: Open) -> None:
    for token in ("", "x"):
        assert shared().post(wire.INGEST, headers={wire.TOKEN: token}).status_code == 401


def test_nobody_says_who_they_are_by_a_header(shared: Open) -> None:
    headers = {IDENTITY: "ana", "x-forwarded-user": "ana", "remote-user": "ana"}
    assert shared().get("/", headers=headers).status_code == 303


# --- throttle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def browser_at(address: str, access: Access) -> TestClient:
    return TestClient(access, HOST, follow_redirects=False, client=(address, 1))


def test_guessing_has_to_wait_longer_each_time(users: Users) -> None:
    clock = Clock()
    access = Access(application(), users, Throttle(clock))
    client, other = browser_at("192.0.2.1", access), browser_at("192.0.2.2", access)
    for _ in range(BY_NAME.free):
        assert sign_in(client, "ana", "wrong password").status_code == 401
    for wait in (1, 2, 4):
        for address in (client, other):
            told = sign_in(address, "ana")
            assert (told.status_code, told.headers["retry-after"]) == (429, str(wait))
            assert 'role="alert"' in told.text
        assert sign_in(other, "rob").status_code == 303, "others are let in"
        clock.now += wait
        assert sign_in(client, "ana", "wrong password").status_code == 401
    clock.now += 8
    assert sign_in(client, "ana").status_code == 303
    assert sign_in(client, "ana", "wrong password").status_code == 401, "the right password starts anew"


def test_guessing_names_has_to_wait_too(users: Users) -> None:
    client = browser_at("192.0.2.1", Access(application(), users, Throttle(Clock())))
    statuses = [sign_in(client, f"name-{number}").status_code for number in range(30)]
    assert statuses[0] == 401
    assert statuses[-1] == 429


def test_many_guesses_at_once_gain_nothing(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """A try counts before it is judged. Two are judged side by side, whatever comes."""
    judged, side_by_side, most = 0, 0, 0

    def slow(_name: str, _password: str) -> None:
        nonlocal judged, side_by_side, most
        side_by_side += 1
        judged, most = judged + 1, max(most, side_by_side)
        time.sleep(0.01)
        side_by_side -= 1

    monkeypatch.setattr(users, "verified", slow)
    access = Access(application(), users, Throttle(Clock()))

    async def all_at_once() -> list[int]:
        sent = await asyncio.gather(*(requested(access, "POST", "/signin") for _ in range(40)))
        return [messages[0]["status"] for messages in sent]

    statuses = asyncio.run(all_at_once())
    assert judged == statuses.count(401) == BY_NAME.free
    assert statuses.count(429) == 40 - BY_NAME.free
    assert most <= 2


def test_a_crowd_is_told_to_come_again(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    """From many addresses under many names, so that no rule of the throttle holds."""
    monkeypatch.setattr(users, "verified", lambda _name, _password: time.sleep(0.01))
    access = Access(application(), users)
    monkeypatch.setattr(Throttle, "wait", lambda *_: 0)

    async def all_at_once() -> list[int]:
        sent = await asyncio.gather(*(requested(access, "POST", "/signin") for _ in range(60)))
        return [messages[0]["status"] for messages in sent]

    statuses = asyncio.run(all_at_once())
    assert (statuses.count(401), statuses.count(429)) == (AT_ONCE + WAITING, 60 - AT_ONCE - WAITING)


# --- what passes through


def test_a_websocket_needs_an_editor_and_the_own_page(shared: Open) -> None:
    for client, headers in ((shared(), {}), (shared("rob"), {}), (shared("ana"), {"origin": "https://evil.example"})):
        with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(TALK_SHARED, headers=headers):
            pass
        assert refused.value.code == 1008
    with shared("ana").websocket_connect(TALK_SHARED, headers={"origin": HOST}) as socket:
        assert socket.receive_text() == "ana"


@pytest.mark.parametrize("path", ["/healthz", "/signin", "/signin.css"])
def test_public_paths_are_not_public_for_websockets(shared: Open, path: str) -> None:
    with pytest.raises(WebSocketDisconnect), shared().websocket_connect(f"ws://footnote.example:7860{path}"):
        pass


def test_a_stream_comes_as_it_is_written(users: Users) -> None:
    """Each part arrives before the next is made."""
    happened: list[str] = []
    app = FastAPI()

    @app.get("/api/v1/stream")
    def stream(request: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for part in ("one", "two", "three"):
                happened.append(f"made {part}")
                yield part

        assert identity_of(request) == Identity("program", "reader")
        return StreamingResponse(parts(), media_type="text/event-stream")

    guard(app, "0.0.0.0", (), users)
    key = users.make_key("program", "reader")

    async def listen() -> None:
        async def receive() -> Message:
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message.get("body"):
                happened.append(f"heard {message['body'].decode()}")

        headers = [(b"host", b"footnote.example"), (b"authorization", f"Bearer {key}".encode())]
        path = "/api/v1/stream"
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
        await app({**scope, "root_path": "", "scheme": "http", "server": ("footnote.example", 80)}, receive, send)

    asyncio.run(listen())
    assert happened == ["made one", "heard one", "made two", "heard two", "made three", "heard three"]


def test_what_is_sent_reaches_the_application(users: Users) -> None:
    app = FastAPI()

    @app.post("/api/v1/ask")
    async def ask(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    guard(app, "127.0.0.1", (), None)
    assert TestClient(app, HERE).post("/api/v1/ask", content=b"x" * 1_000_000).json() == {"bytes": 1_000_000}


def test_the_application_starts_and_stops_behind_it(users: Users) -> None:
    happened: list[str] = []

    async def app(scope: Scope, _receive: Any, _send: Any) -> None:
        happened.append(scope["type"])

    asyncio.run(Access(app, users)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert happened == ["lifespan"]


# --- headers


def test_every_answer_tells_browsers_what_it_may_do(shared: Open, alone: TestClient) -> None:
    unsure = shared("ana", raise_server_exceptions=False)
    answers = {
        "page": alone.get("/"),
        "refused": alone.post("/", headers={"origin": "https://evil.example"}),
        "wrong host": alone.get("/", headers={"host": "evil.example"}),
        "led away": shared().get("/"),
        "not signed in": shared().get("/api/v1/documents"),
        "sign-in": shared().get("/signin"),
        "style": shared().get("/signin.css"),
        "a fault": unsure.get("/fails"),
        "opened": alone.get("/open"),
    }
    for what, answer in answers.items():
        missing = [name for name in HEADERS if name.lower() not in answer.headers]
        assert not missing, what
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control")], what
    assert answers["a fault"].json()["kind"] == "FootnoteError"
    assert answers["page"].headers["referrer-policy"] == "no-referrer"
    assert answers["page"].headers["x-frame-options"] == "DENY"


def test_answers_of_the_api_are_not_stored(alone: TestClient) -> None:
    for path in ("/api/v1/documents", "/v1/models"):
        assert alone.get(path).headers["cache-control"] == "no-store"
    assert alone.get("/api/v1/pictures").headers["cache-control"] == "private, no-cache", "the route knows better"
    assert "cache-control" not in alone.get("/assets/index.js").headers


def directives(answer: Any) -> dict[str, str]:
    parts = answer.headers["content-security-policy"].split("; ")
    return dict(part.split(" ", 1) for part in parts)


def test_the_page_loads_from_here_only(alone: TestClient, shared: Open) -> None:
    page, signing_in = directives(alone.get("/")), directives(shared().get("/signin"))
    assert (page["default-src"], page["connect-src"], page["object-src"]) == ("'self'", "'self'", "'none'")
    assert (page["form-action"], page["base-uri"]) == ("'self'", "'self'")
    assert not any("http" in value or "*" in value for value in (*page.values(), *signing_in.values()))
    assert signing_in["default-src"] == "'none'"
    assert "unsafe" not in str(signing_in)
    assert "script-src" not in signing_in


def test_the_policy_allows_what_gradios_page_does() -> None:
    """Where Gradio stops to need `Function` or inline scripts, the policy can be made stricter."""
    found = find_spec("gradio")  # not imported: that takes seconds
    assert found
    assert found.origin
    frontend = Path(found.origin).parent / "templates" / "frontend"
    page = (frontend / "index.html").read_text(encoding="utf-8")
    assert "<script>" in page
    assert "style=" in page
    templates = [path.read_text(encoding="utf-8") for path in (frontend / "assets").glob("HTML-*.js")]
    assert any(re.search(r"[=,(]Function\(", text) for text in templates)
