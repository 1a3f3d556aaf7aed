"""The commands `footnote users ...`: who may sign in. Knows nothing about how they are kept."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ui.command import AsJson, Home, say, settings_of, show

if TYPE_CHECKING:
    from pathlib import Path

    from ui.server.users import Known, Users

accounts = typer.Typer(help="Say who may sign in.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a user or an API key.", show_default=False)]
RoleOption = Annotated[
    Literal["reader", "editor"],
    typer.Option("--role", help="A reader searches and asks; an editor also changes what there is."),
]


@accounts.command("add")
def add(
    name: Name,
    role: RoleOption = "reader",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Let someone sign in, or give them another password and role; that ends their sessions."""
    users = _users(home)
    users.known()  # a file that cannot be read is told before anything is asked
    new = users.add(name, role, _from_stdin() if password_stdin else _asked())
    told = f"{name} can sign in as {role}" if new else f"{name} is now {role}, with the new password"
    show({"name": name.strip().lower(), "role": role, "new": new}, told, as_json)


@accounts.command("list")
def list_(as_json: AsJson = False, home: Home = None) -> None:
    """Show who may sign in, and which API keys there are."""
    known = _users(home).known()
    rows = [*(_row("user", each) for each in known.users), *(_row("key", each) for each in known.keys)]
    show(_record(known), "\n".join(rows) or "nobody can sign in; add someone with `footnote users add NAME`", as_json)


@accounts.command("remove")
def remove(name: Name, as_json: AsJson = False, home: Home = None) -> None:
    """Let a user or an API key in no more; sessions end at once."""
    _users(home).remove(name)
    show({"removed": name.strip().lower()}, f"removed {name}", as_json)


@accounts.command("key")
def key(name: Name, role: RoleOption = "reader", as_json: AsJson = False, home: Home = None) -> None:
    """Make an API key for a program, and print it: it is not shown again."""
    made = _users(home).make_key(name, role)
    say("keep it: only its hash is stored, and it is not shown again")
    show({"name": name.strip().lower(), "role": role, "key": made}, made, as_json)


def _users(home: Path | None) -> Users:
    from ui.server.users import Users

    return Users(settings_of(home, None).home)


def _asked() -> str:
    """The password, typed twice and not shown; what is asked goes to the terminal, not to stdout."""
    given: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return given


def _from_stdin() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def _row(kind: str, each: Any) -> str:
    return f"{kind:<5} {each.role:<7} {each.created}  {each.name}"


def _record(known: Known) -> dict[str, Any]:
    shown = {"name", "role", "created"}
    return {
        "users": [each.model_dump(include=shown) for each in known.users],
        "keys": [each.model_dump(include=shown) for each in known.keys],
    }
