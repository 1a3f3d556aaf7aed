"""Which address may be served to whom, and under which host names. Knows nothing about requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from rag.errors import AccessError, SettingsError

if TYPE_CHECKING:
    from ui.server.users import Users

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
ADD = "`footnote users add NAME --role editor`"


class NotHere(AccessError):
    """Something that only programs of the server's own machine may ask for."""

    status = 403


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine."""
    try:
        found = ip_address(host)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def check_binding(host: str, auth: bool, users: Users) -> None:
    """Refuse what would let others in without a sign-in, or nobody at all.

    Args:
        host: the address to listen on.
        auth: whether people have to sign in.
        users: those who can.

    Raises:
        SettingsError: with what to do.
    """
    if host not in LOOPBACK and not auth:
        raise SettingsError(
            f"host is {host}, which other machines can reach, and auth is off; add a user with {ADD} "
            "and start again with `--auth`, or stay on 127.0.0.1"
        )
    if auth and not users.known().anyone:
        raise SettingsError(f"auth is on, but there is neither a user nor an API key; add one with {ADD}")


def hosts_of(host: str, allowed: Sequence[str]) -> list[str]:
    """The host names that requests may be for, as starlette's TrustedHostMiddleware takes them.

    On loopback that keeps out a page of another site whose name was made to resolve to this machine. Elsewhere the
    sign-in does. This machine's own names always work: health checks and `footnote` commands use them.

    Args:
        host: the address to listen on.
        allowed: further names; none means any where it is not loopback.

    Raises:
        SettingsError: one of them is no host name.
    """
    if wrong := [name for name in allowed if not HOST_NAME.fullmatch(name)]:
        raise SettingsError(
            f"allowed_hosts has {wrong[0]!r}; a host name without scheme and port is expected, "
            "such as docs.example.org or *.example.org"
        )
    if host not in LOOPBACK and not allowed:
        return ["*"]
    own = [] if host in LOOPBACK else [host, f"[{host}]"] if ":" in host else [host]
    return [*LOOPBACK, *own, *allowed]
