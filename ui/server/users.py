"""Who may sign in: users with passwords, API keys, and the secret that signs cookies, in `<home>/users.json`.

Passwords are kept as argon2 hashes, keys as SHA-256. Knows nothing about HTTP.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal
from unicodedata import normalize

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from rag.errors import SettingsError
from rag.store.lock import write_json

Role = Literal["reader", "editor"]

FILE, LOCK = "users.json", "users.lock"
NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
LOCAL = "local"
"""The name of whoever asks where nobody signs in; nobody else may have it."""
SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 1024
KEY_PREFIX = "fn_"
WAIT = 10.0
"""Seconds to wait for another process that changes the file."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Named(_Record):
    name: str
    role: Role
    created: str


class User(_Named):
    """Someone who signs in with a password."""

    hash: str
    """By argon2, with its parameters."""

    @property
    def fingerprint(self) -> str:
        """Another one for another password or role: `Users.add` hashes anew, with new salt."""
        return sha256(self.hash.encode()).hexdigest()[:16]


class Key(_Named):
    """A program's key. The key itself is told once and not kept."""

    sha256: str


class Known(_Record):
    """All of the file; names are unique among users and keys together."""

    secret: str = ""
    """Signs cookies; empty only where there is no file."""
    users: tuple[User, ...] = ()
    keys: tuple[Key, ...] = ()

    def user(self, name: str) -> User | None:
        """The user by that name."""
        return next((user for user in self.users if user.name == name), None)

    def key(self, token: str) -> Key | None:
        """The key that reads so. What is compared are hashes, so that times tell nothing of the key."""
        found = sha256(token.encode()).hexdigest()
        return next((key for key in self.keys if key.sha256 == found), None)

    @property
    def anyone(self) -> bool:
        """Whether anyone can sign in."""
        return bool(self.users or self.keys)


class Users:
    """The file under a home directory, read anew when it changes."""

    def __init__(self, home: Path, hasher: PasswordHasher | None = None) -> None:
        """`hasher` is argon2's own choice of parameters where none is given."""
        self._path = home / FILE
        self._hasher = hasher or PasswordHasher()
        self._read: tuple[tuple[int, int, int], Known] | None = None

    def known(self) -> Known:
        """What the file says now; nobody where there is none.

        Raises:
            SettingsError: it cannot be read.
        """
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._read is None or self._read[0] != seen:
                self._read = seen, Known.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Known()
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be read ({error.strerror}); check its owner and mode") from None
        except ValidationError as error:
            # Only what is wrong, not what was found: the file holds secrets.
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise SettingsError(
                f"{self._path} is damaged ({f'{where}: ' if where else ''}{error.errors()[0]['msg']}); "
                "put a copy back, or remove it and add the users anew"
            ) from None
        return self._read[1]

    def add(self, name: str, role: Role, password: str) -> bool:
        """Let someone sign in, or change the password and role of someone who may. False where it is a change.

        Raises:
            SettingsError: the name cannot be used or is a key's, or the password is too short.
        """
        name = _checked(name)
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise SettingsError(
                f"the password has {len(password)} characters, {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} are expected; "
                "choose another one"
            )
        user = User(name=name, role=role, hash=self._hasher.hash(_bytes(password)), created=_now())
        with self._changing() as known:
            if any(key.name == name for key in known.keys):
                raise SettingsError(f"{name!r} is the name of an API key; choose another name, or remove the key first")
            others = tuple(other for other in known.users if other.name != name)
            self._write(known.model_copy(update={"users": (*others, user)}))
        return len(others) == len(known.users)

    def make_key(self, name: str, role: Role) -> str:
        """A new key, which nobody can read again later.

        Raises:
            SettingsError: the name cannot be used, or is taken.
        """
        name, token = _checked(name), KEY_PREFIX + secrets.token_urlsafe(32)
        key = Key(name=name, role=role, sha256=sha256(token.encode()).hexdigest(), created=_now())
        with self._changing() as known:
            if any(other.name == name for other in (*known.users, *known.keys)):
                raise SettingsError(
                    f"the name {name!r} is taken; choose another one, or remove it first with `footnote users remove`"
                )
            self._write(known.model_copy(update={"keys": (*known.keys, key)}))
        return token

    def remove(self, name: str) -> None:
        """Let a user or a key in no more; sessions end with it.

        Raises:
            SettingsError: there is no such name.
        """
        name = name.strip().lower()
        with self._changing() as known:
            users = tuple(user for user in known.users if user.name != name)
            keys = tuple(key for key in known.keys if key.name != name)
            if (users, keys) == (known.users, known.keys):
                there = ", ".join(sorted(each.name for each in (*users, *keys))) or "none yet"
                raise SettingsError(f"no user or API key {name!r}; there are: {there}")
            self._write(known.model_copy(update={"users": users, "keys": keys}))

    def verified(self, name: str, password: str) -> User | None:
        """The user whose name and password these are. Takes as long for a name that there is not."""
        nobody = self._nobody  # made before the name is looked up, or the first unknown one would take longer
        user = self.known().user(name.strip().lower())
        try:
            self._hasher.verify(user.hash if user else nobody, _bytes(password))
        except (VerificationError, InvalidHashError):
            return None
        return user and self._rehashed(user, password)

    def _rehashed(self, user: User, password: str) -> User:
        """The user, hashed with the parameters of today; that ends sessions from before."""
        if not self._hasher.check_needs_rehash(user.hash):
            return user
        fresh = user.model_copy(update={"hash": self._hasher.hash(_bytes(password))})
        with self._changing() as known:
            if user in known.users:  # and not changed meanwhile
                users = tuple(fresh if other == user else other for other in known.users)
                self._write(known.model_copy(update={"users": users}))
        return fresh

    @cached_property
    def _nobody(self) -> str:
        """A hash that no password has."""
        return self._hasher.hash(secrets.token_bytes(32))

    @contextmanager
    def _changing(self) -> Iterator[Known]:
        """What is known, while no other process changes it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path.with_name(LOCK), timeout=WAIT):
                yield self.known()
        except Timeout:
            raise SettingsError(f"another process is changing {self._path}; try again when it is done") from None
        except OSError as error:
            why = error.strerror or error
            raise SettingsError(f"{self._path} cannot be written ({why}); check who owns the directory") from None

    def _write(self, known: Known) -> None:
        made = known if known.secret else known.model_copy(update={"secret": secrets.token_urlsafe(32)})
        write_json(self._path, made.model_dump(), mode=0o600)


def _checked(name: str) -> str:
    """The name in lower case. Raises SettingsError."""
    lower = name.strip().lower()
    if not NAME.fullmatch(lower) or lower == LOCAL:
        raise SettingsError(
            f"the name {name!r} cannot be used; up to 64 letters, digits and . _ @ - are expected, "
            f"a letter or digit first, and not {LOCAL!r}, which is whoever asks without a sign-in"
        )
    return lower


def _bytes(password: str) -> bytes:
    """The same for an é that one keyboard types as one character and another one as two."""
    return normalize("NFC", password).encode("utf-8", "surrogatepass")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
