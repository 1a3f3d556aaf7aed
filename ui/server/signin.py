"""The pages to sign in and out: small, without JavaScript. Knows nothing about who may do what once signed in."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files
from urllib.parse import parse_qsl, quote, urlsplit

import anyio
from jinja2 import Environment, StrictUndefined, Template
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from ui.server.headers import STRICT_POLICY
from ui.server.sessions import Sessions
from ui.server.throttle import Throttle
from ui.server.users import User, Users

log = logging.getLogger("footnote.signin")

SIGN_IN, SIGN_OUT, STYLE = "/signin", "/signout", "/signin.css"
PATHS = (SIGN_IN, SIGN_OUT, STYLE)
AT_ONCE = 2
"""Passwords that are checked side by side: each takes 64 MB and all of a core."""
WAITING = 16
"""Sign-ins that may wait for that; more are told to come again."""
LONGEST_BODY = 8192
LONGEST_NEXT = 2000
UNSAFE_IN_PATH = re.compile(r"[\x00-\x20\x7f\\]")
"""Browsers leave some of these out and take a backslash for a slash: `/\\evil.example` is another host."""
PAGE = {
    "Content-Security-Policy": STRICT_POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # under no-referrer, browsers send forms with `Origin: null`
}


class SignIn:
    """An ASGI application for `PATHS`."""

    def __init__(self, users: Users, sessions: Sessions, throttle: Throttle | None = None) -> None:
        self._users, self._sessions = users, sessions
        self._throttle = throttle or Throttle()
        self._turn = anyio.CapacityLimiter(AT_ONCE)
        self._under_way = 0
        self._handlers: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
            ("GET", SIGN_IN): self._ask,
            ("POST", SIGN_IN): self._sign_in,
            ("GET", SIGN_OUT): self._ask_to_leave,
            ("POST", SIGN_OUT): self._sign_out,
            ("GET", STYLE): _style,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        handler = self._handlers.get((method, scope["path"]), _not_allowed)
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)

    async def _ask(self, request: Request) -> Response:
        to = local_path(request.query_params.get("next", ""))
        return _to(to) if self._sessions.user(request) else _form(to)

    async def _sign_in(self, request: Request) -> Response:
        fields = await _fields(request)
        if fields is None:
            return PlainTextResponse("the form is too long", 413)
        name, to = fields.get("name", "").strip(), local_path(fields.get("next", ""))
        address = request.client.host if request.client else ""
        if wait := self._wait(name, address):
            error = f"Too many attempts. Wait {wait} {'second' if wait == 1 else 'seconds'}, and try again."
            return _form(to, name, error, 429, {"Retry-After": str(wait)})
        user = await self._verified(name, fields.get("password", ""), address)
        if user is None:
            log.warning("a sign-in from %s failed", address or "an unknown address")
            return _form(to, name, "The name or the password is wrong.", 401)
        response = _to(to)
        self._sessions.begin(response, user, request.url.scheme)
        return response

    def _wait(self, name: str, address: str) -> int:
        """Seconds until this one may try."""
        crowded = self._under_way >= AT_ONCE + WAITING
        return max(self._throttle.wait(name, address), int(crowded))

    async def _verified(self, name: str, password: str, address: str) -> User | None:
        self._throttle.tried(name, address)
        self._under_way += 1
        try:
            user = await anyio.to_thread.run_sync(self._users.verified, name, password, limiter=self._turn)
        finally:
            self._under_way -= 1
        if user is not None:
            self._throttle.passed(name, address)
        return user

    async def _ask_to_leave(self, request: Request) -> Response:
        user = self._sessions.user(request)
        return _page(title="Sign out", leaving=True, name=user.name) if user else _to(SIGN_IN)

    async def _sign_out(self, request: Request) -> Response:
        response = _to(SIGN_IN)
        self._sessions.end(response, request.url.scheme)
        return response


def local_path(to: str) -> str:
    """Where to go after a sign-in: a path of this server and no other's, `/` where it is none."""
    if not to.startswith("/") or to.startswith("//") or len(to) > LONGEST_NEXT or UNSAFE_IN_PATH.search(to):
        return "/"
    return "/" if urlsplit(to).path.rstrip("/") in PATHS else to


def sign_in_at(path: str, query: str) -> str:
    """The sign-in page that leads back."""
    return f"{SIGN_IN}?next={quote(f'{path}?{query}' if query else path)}"


async def _fields(request: Request) -> dict[str, str] | None:
    """The fields of a form; None where it is longer than any that a person fills in."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_BODY:
            return None
    try:
        return dict(parse_qsl(body.decode("ascii", errors="replace"), keep_blank_values=True, max_num_fields=10))
    except ValueError:
        return {}


def _form(
    to: str, name: str = "", error: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    return _page(status, headers, title="Sign in", error=error, name=name, next=to)


def _page(status: int = 200, headers: dict[str, str] | None = None, **shown: object) -> Response:
    fields = {"error": "", "name": "", "next": "/", "leaving": False, **shown}
    return HTMLResponse(_template().render(fields), status, {**PAGE, **(headers or {})})


def _to(path: str) -> Response:
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})


async def _style(_request: Request) -> Response:
    return Response(_text("signin.css"), media_type="text/css", headers={"Cache-Control": "max-age=3600"})


async def _not_allowed(_request: Request) -> Response:
    return PlainTextResponse("method not allowed", 405, {"Allow": "GET, HEAD, POST"})


@cache
def _template() -> Template:
    options = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(**options).from_string(_text("signin.html"))  # type: ignore[arg-type]  # noqa: S701


@cache
def _text(name: str) -> str:
    return files("ui.server").joinpath(name).read_text(encoding="utf-8")
