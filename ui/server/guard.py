"""Puts in front of an application what keeps it safe, in the right order. Knows nothing about the application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from ui.server.access import Access
from ui.server.binding import hosts_of
from ui.server.headers import HEADERS, SecurityHeaders
from ui.server.rate import Rate
from ui.server.users import Users


def guard(
    app: Starlette, host: str, allowed_hosts: Sequence[str], users: Users | None, token: str = "", a_minute: int = 0
) -> None:
    """Check host names, then sign-ins and roles, and complete every response's headers.

    Args:
        app: the application; what is added to it later stands outside of this.
        host: the address to listen on.
        allowed_hosts: further names of this server.
        users: those who can sign in; None where nobody has to.
        token: what commands of the user who runs the server show instead; nobody is admitted by an empty one.
        a_minute: requests of each user, API key and stranger's address, where people sign in; 0 for any number.

    Raises:
        SettingsError: one of `allowed_hosts` is no host name.
    """
    rate = Rate(a_minute) if users and a_minute else None
    app.add_middleware(Access, users=users, token=token, rate=rate)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts_of(host, allowed_hosts), www_redirect=False)
    app.add_middleware(SecurityHeaders)
    app.add_exception_handler(Exception, _failed)


def _failed(_request: Request, _error: Exception) -> JSONResponse:
    """A fault of ours, which the server logs; it is answered outside of every middleware."""
    told = {"error": "something went wrong inside Footnote; its log says what", "kind": "FootnoteError"}
    return JSONResponse(told, 500, {**HEADERS, "Cache-Control": "no-store"})
