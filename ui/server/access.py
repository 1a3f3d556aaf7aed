"""Who may do what: an ASGI middleware in front of the page and the API. Knows nothing about what they do.

What it found out stands in the request's scope: `scope["footnote"]` is an `Identity`, read with `identity_of`. It is
set wherever a request was let in, except on the public paths. Paths are compared as the router compares them, decoded
once and not mended: what no rule names needs an editor, so a path that is written in another way opens nothing.
"""

from __future__ import annotations

import re
from hmac import compare_digest
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rag.settings import COLLECTION_NAME
from ui import wire
from ui.server import signin
from ui.server.rate import Rate
from ui.server.sessions import Sessions
from ui.server.signin import SignIn
from ui.server.throttle import Throttle
from ui.server.users import LOCAL, Role, Users

IDENTITY = "footnote"
SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""
WEBSOCKET = "WEBSOCKET"
"""Stands for a method: a websocket may change things, and none is listed, so it needs an editor."""
PUBLIC = ("/healthz", "/readyz", "/manifest.json")
"""Browsers ask for the page's manifest without cookies; it holds no more than the name."""
COLLECTIONS = "/c"
"""Below this, each collection has the paths that the first one has at `/`, with the same roles."""
OF_ONE = re.compile(rf"{COLLECTIONS}/{COLLECTION_NAME.strip('^$')}(?=/)")
FOR_PROGRAMS = ("/api/", "/v1/", "/gradio_api/", "/metrics")
"""Told with status 401 that there is no sign-in; people are led to the page instead."""
EDITOR_READS = re.compile(r"/(metrics|monitoring)(/.*)?")
READER_CHANGES: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (("POST",), re.compile(r"/api/v1/(search|ask|feedback)")),
    (("POST",), re.compile(r"/v1/chat/completions")),
    (("PATCH", "DELETE"), re.compile(r"/api/v1/conversations(/[^/]+)?")),
    (("POST",), re.compile(r"/gradio_api/(queue/join|cancel|reset/?|(run|api|call|call/v2)/[^/]+/?)")),
)
"""All that a reader may do beside reading."""
FORM_OF_OURS = ("null", "same-origin")
"""Origin and site as a browser tells them that sends a form from a page with the policy `no-referrer`."""
REFUSED = 1008
"""The websocket's code for a policy that was broken."""


class Identity(NamedTuple):
    """Who asks."""

    name: str
    """Of a user or an API key; `local` where nobody has to sign in, and for commands of the user who serves."""
    role: Role


class Refusal(NamedTuple):
    """Why a request goes no further."""

    status: int
    error: str
    kind: str
    wait: int = 0
    """Seconds after which it may be sent again."""


EVERYBODY = Identity(LOCAL, "editor")
NOT_SIGNED_IN = Refusal(
    401, "nobody is signed in; sign in at /signin, or send an API key as `Authorization: Bearer fn_...`", "SignInError"
)
UNKNOWN_KEY = Refusal(401, "the API key is not known; make one with `footnote users key NAME`", "SignInError")
OTHER_SITE = Refusal(
    403,
    "the request comes from a page of another site, or a proxy in front changes the Host header; "
    "use this server's own page, or let the proxy pass Host on",
    "AccessError",
)


def identity_of(connection: HTTPConnection) -> Identity:
    """Who asks; for an event of the page, give Gradio's `request.request`. Raises KeyError on a public path."""
    identity: Identity = connection.scope[IDENTITY]
    return identity


def who(connection: HTTPConnection) -> str:
    """Who asks, by name; empty where nobody looked."""
    return str(getattr(connection.scope.get(IDENTITY), "name", ""))


class Access:
    """Asks for a sign-in, keeps other sites' pages out, checks roles, and that nobody asks too much."""

    def __init__(
        self,
        app: ASGIApp,
        users: Users | None = None,
        throttle: Throttle | None = None,
        token: str = "",
        rate: Rate | None = None,
    ) -> None:
        """Who comes in.

        Args:
            app: what is behind it.
            users: those who can sign in; None where nobody has to.
            throttle: of failed sign-ins.
            token: what processes of the user who runs the server know.
            rate: of the requests of each user and key, and of each address that shows neither.
        """
        self._rate = rate
        self._app, self._users, self._token = app, users, token.encode()
        self._sessions = Sessions(users) if users else None
        self._pages: ASGIApp = SignIn(users, self._sessions, throttle) if users and self._sessions else _no_sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        method, path = scope.get("method", WEBSOCKET), scope["path"]
        connection = HTTPConnection(scope)
        if self._forged(method, connection.headers):
            await _refuse(OTHER_SITE, scope, receive, send)
        elif path in signin.PATHS and method != WEBSOCKET:
            await self._pages(scope, receive, send)
        elif path in PUBLIC and method == "GET":
            await self._app(scope, receive, send)
        else:
            found = self._not_too_many(self._let_in(method, path, connection), connection)
            if isinstance(found, Refusal):
                await _refuse(found, scope, receive, send)
            else:
                scope[IDENTITY] = found
                await self._app(scope, receive, send)

    def _forged(self, method: str, headers: Headers) -> bool:
        """Whether a page of another site may have sent it, with the cookies of whoever looks at that page."""
        if method in SAFE or (self._users and _bearer(headers) and "cookie" not in headers):
            return False
        site, host = headers.get("sec-fetch-site"), headers.get("host", "")
        origins = [origin for origin in headers.getlist("origin") if (origin, site) != FORM_OF_OURS]
        return site in ("cross-site", "same-site") or not all(_same_host(origin, host) for origin in origins)

    def _let_in(self, method: str, path: str, connection: HTTPConnection) -> Identity | Refusal:
        found = self._identity(connection)
        if isinstance(found, Refusal) or allowed(found.role, method, _in_collection(path)):
            return found
        return _not_for(found)

    def _not_too_many(self, found: Identity | Refusal, connection: HTTPConnection) -> Identity | Refusal:
        """The same, unless too much was asked for already. The files of the page itself are not counted."""
        if (
            self._rate is None
            or found is EVERYBODY
            or not _in_collection(connection.scope["path"]).startswith(FOR_PROGRAMS)
        ):
            return found
        address = connection.client.host if connection.client else ""
        wait = self._rate.wait(f"user {found.name}" if isinstance(found, Identity) else f"address {address}")
        return _too_many(wait) if wait else found

    def _identity(self, connection: HTTPConnection) -> Identity | Refusal:
        if self._users is None or self._sessions is None:
            return EVERYBODY
        given = connection.headers.get(wire.TOKEN, "").encode()
        if self._token and compare_digest(given, self._token):
            return EVERYBODY
        if token := _bearer(connection.headers):
            key = self._users.known().key(token)
            return Identity(key.name, key.role) if key else UNKNOWN_KEY
        user = self._sessions.user(connection)
        return Identity(user.name, user.role) if user else NOT_SIGNED_IN


def allowed(role: Role, method: str, path: str) -> bool:
    """Whether the role is enough."""
    if role == "editor":
        return True
    if method in SAFE:
        return not EDITOR_READS.fullmatch(path)
    return any(method in methods and pattern.fullmatch(path) for methods, pattern in READER_CHANGES)


def _too_many(wait: int) -> Refusal:
    told = f"too many requests within a minute; wait {wait} s, or ask the server's owner to raise requests_per_minute"
    return Refusal(429, told, "Busy", wait)


def _in_collection(path: str) -> str:
    """The path without the address of the collection before it, if there is one."""
    of_one = OF_ONE.match(path)
    return path[of_one.end() :] if of_one else path


def _not_for(identity: Identity) -> Refusal:
    return Refusal(403, f"{identity.name} is a {identity.role}, and this needs an editor", "AccessError")


def _bearer(headers: Headers) -> str:
    """The API key, if one is given."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _same_host(origin: str, host: str) -> bool:
    """`null` and what is no URL has no host, and is another one."""
    try:
        found = urlsplit(origin).netloc.lower()
    except ValueError:
        return False
    return found != "" and _without_usual_port(found) == _without_usual_port(host.lower())


def _without_usual_port(host: str) -> str:
    """Browsers leave it out, some proxies write it."""
    return host.removesuffix(":80").removesuffix(":443")


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()  # the wish to connect, which has to be heard before it is refused
        await send({"type": "websocket.close", "code": REFUSED, "reason": refusal.kind})
        return
    await _response(refusal, scope)(scope, receive, send)


def _response(refusal: Refusal, scope: Scope) -> Response:
    page = scope["method"] in ("GET", "HEAD") and not _in_collection(scope["path"]).startswith(FOR_PROGRAMS)
    headers = {"Cache-Control": "no-store"}
    if refusal is NOT_SIGNED_IN and page:
        query = scope["query_string"].decode("latin-1")
        return RedirectResponse(signin.sign_in_at(quote(scope["path"]), query), 303, headers)
    if refusal.wait:
        headers["Retry-After"] = str(refusal.wait)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": refusal.error, "kind": refusal.kind}, refusal.status, headers)


async def _no_sign_in(scope: Scope, receive: Receive, send: Send) -> None:
    """What stands in place of the pages to sign in where nobody has to."""
    await RedirectResponse("/", 303)(scope, receive, send)
