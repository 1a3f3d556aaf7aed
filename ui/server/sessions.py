"""The cookie of someone who has signed in: signed, and void when the user changes. Knows nothing about passwords."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import HTTPConnection
from starlette.responses import Response

from ui.server.users import Known, User, Users

MAX_AGE = 7 * 24 * 3600
"""Seconds that a sign-in lasts."""
SECURE = ("https", "wss")


class Sessions:
    """Who is signed in is in the cookies alone; the server remembers nothing."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def begin(self, response: Response, user: User, scheme: str) -> None:
        """Let the response sign a browser in; over HTTPS the cookie goes over HTTPS only."""
        known = self._users.known()
        value = _signer(known.secret).dumps([user.name, user.fingerprint])
        assert isinstance(value, str)
        response.set_cookie(
            _name(known), value, MAX_AGE, secure=scheme in SECURE, httponly=True, samesite="lax", path="/"
        )

    def end(self, response: Response, scheme: str) -> None:
        """Let the response sign a browser out."""
        response.delete_cookie(
            _name(self._users.known()), secure=scheme in SECURE, httponly=True, samesite="lax", path="/"
        )

    def user(self, connection: HTTPConnection) -> User | None:
        """Who is signed in; None where the cookie is missing, too old, not ours, or the user is not what they were."""
        known = self._users.known()
        cookie = connection.cookies.get(_name(known))
        if not cookie or not known.secret:
            return None
        try:
            name, fingerprint = _signer(known.secret).loads(cookie, max_age=MAX_AGE)
        except (BadData, ValueError, TypeError):
            return None
        user = known.user(name)
        return user if user and user.fingerprint == fingerprint else None


def _name(known: Known) -> str:
    """One of its own for each home: cookies are shared by all ports of a host."""
    return f"footnote-{sha256(known.secret.encode()).hexdigest()[:8]}"


@lru_cache(maxsize=4)
def _signer(secret: str) -> URLSafeTimedSerializer:
    options = {"digest_method": sha256, "key_derivation": "hmac"}
    return URLSafeTimedSerializer(secret, salt="footnote.session", signer_kwargs=options)
