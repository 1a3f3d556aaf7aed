"""Who may sign in: the file, its commands, the throttle, and which addresses may be served."""

from __future__ import annotations

import io
import json
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import SettingsError
from rag.settings import Settings
from tests.ui.test_cli import footnote
from ui import accounts
from ui.cli import app
from ui.server import users as users_module
from ui.server.binding import check_binding, hosts_of
from ui.server.throttle import BY_ADDRESS, BY_NAME, FORGOTTEN, Throttle
from ui.server.users import FILE, LOCK, Users

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse"


class Counting(PasswordHasher):
    """Remembers what it compared with."""

    compared: list[str]

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]
        self.__dict__.setdefault("compared", []).append(str(hash))
        return super().verify(hash, password)


@pytest.fixture
def users(settings: Settings) -> Users:
    return Users(settings.home, QUICK)


def stored(settings: Settings) -> str:
    return (settings.home / FILE).read_text(encoding="utf-8")


def test_a_user_signs_in_with_the_right_password_only(users: Users) -> None:
    assert users.add("ana", "editor", PASSWORD)
    user = users.verified(" Ana ", PASSWORD)
    assert user is not None
    assert (user.name, user.role) == ("ana", "editor")
    assert users.verified("ana", PASSWORD.upper()) is None
    assert users.verified("ana", "") is None
    assert users.verified("bo", PASSWORD) is None
    assert users.verified("", "") is None


def test_an_accent_may_be_typed_in_two_ways(users: Users) -> None:
    users.add("ana", "reader", "caf\u00e9 cr\u00e8me")
    assert users.verified("ana", "cafe\u0301 cre\u0300me")
    assert users.verified("ana", "cafe creme") is None
    users.add("bo", "reader", "not \udc80 UTF-8")  # as Python reads such bytes from standard input


def test_the_file_is_for_its_owner_alone_and_holds_no_password_and_no_key(users: Users, settings: Settings) -> None:
    users.add("ana", "editor", PASSWORD)
    key = users.make_key("backup", "reader")
    assert stat.S_IMODE((settings.home / FILE).stat().st_mode) == 0o600
    assert key.startswith("fn_")
    assert PASSWORD not in stored(settings)
    assert key.removeprefix("fn_") not in stored(settings)
    assert "$argon2id$" in stored(settings)


def test_a_file_that_others_could_read_is_closed_with_the_next_change(users: Users, settings: Settings) -> None:
    users.add("ana", "editor", PASSWORD)
    (settings.home / FILE).chmod(0o644)
    users.make_key("backup", "reader")
    assert stat.S_IMODE((settings.home / FILE).stat().st_mode) == 0o600


def test_a_key_is_found_by_itself_only(users: Users) -> None:
    key = users.make_key("backup", "reader")
    found = users.known().key(key)
    assert found is not None
    assert (found.name, found.role) == ("backup", "reader")
    assert users.known().key(key[:-1]) is None
    assert users.known().key(found.sha256) is None
    assert users.known().key("") is None


def test_names_are_unique_among_users_and_keys(users: Users) -> None:
    """A name owns conversations: a key must not get at a person's by having the same one."""
    users.add("ana", "editor", PASSWORD)
    users.make_key("backup", "reader")
    for taken in ("ANA", "backup"):
        with pytest.raises(SettingsError, match="taken"):
            users.make_key(taken, "reader")
    with pytest.raises(SettingsError, match="name of an API key"):
        users.add("backup", "reader", PASSWORD)


@pytest.mark.parametrize("name", ["", " ", "local", "Local", "a b", "../x", ".x", "a\nb", "é", "x" * 65, "a/b", '"'])
def test_a_name_that_cannot_be_used_is_refused(users: Users, name: str) -> None:
    for wrong in (lambda: users.add(name, "reader", PASSWORD), lambda: users.make_key(name, "reader")):
        with pytest.raises(SettingsError, match="cannot be used"):
            wrong()
    assert not users.known().anyone


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025])
def test_a_password_that_is_too_short_or_too_long_is_refused(users: Users, password: str) -> None:
    with pytest.raises(SettingsError, match=f"has {len(password)} characters, 8 to 1024"):
        users.add("ana", "reader", password)


def test_adding_again_changes_role_and_password(users: Users) -> None:
    users.add("ana", "reader", PASSWORD)
    before = users.known().user("ana")
    assert not users.add("ana", "editor", "another one")
    after = users.known().user("ana")
    assert before is not None
    assert after is not None
    assert (len(users.known().users), after.role) == (1, "editor")
    assert before.fingerprint != after.fingerprint
    assert users.verified("ana", PASSWORD) is None


def test_the_same_password_again_still_ends_sessions(users: Users) -> None:
    users.add("ana", "reader", PASSWORD)
    before = users.known().users[0].fingerprint
    users.add("ana", "editor", PASSWORD)
    assert users.known().users[0].fingerprint != before


def test_the_secret_is_made_once(users: Users) -> None:
    users.make_key("backup", "reader")
    secret = users.known().secret
    assert len(secret) >= 32
    users.add("ana", "reader", PASSWORD)
    users.remove("backup")
    assert users.known().secret == secret


def test_removing_takes_users_and_keys(users: Users) -> None:
    users.add("ana", "reader", PASSWORD)
    key = users.make_key("backup", "reader")
    users.remove("Backup")
    assert users.known().key(key) is None
    with pytest.raises(SettingsError, match="there are: ana"):
        users.remove("backup")
    users.remove("ana")
    assert not users.known().anyone
    assert users.verified("ana", PASSWORD) is None


def test_what_another_process_changes_counts_at_once(users: Users, settings: Settings) -> None:
    """`footnote users` runs beside the server."""
    users.add("ana", "reader", PASSWORD)
    assert users.known().user("ana")
    Users(settings.home, QUICK).remove("ana")
    assert users.known().user("ana") is None
    (settings.home / FILE).unlink()
    assert users.known().secret == ""


def test_changes_of_many_at_once_are_all_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "WAIT", 60.0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: Users(settings.home, QUICK).make_key(f"key-{n}", "reader"), range(16)))
    assert {key.name for key in Users(settings.home).known().keys} == {f"key-{n}" for n in range(16)}


def test_a_change_waits_for_another_process_and_gives_up(
    users: Users, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users_module, "WAIT", 0.01)
    users.make_key("backup", "reader")
    with FileLock(settings.home / LOCK), pytest.raises(SettingsError, match="another process is changing"):
        users.make_key("other", "reader")


def test_a_hash_with_old_parameters_is_made_anew(users: Users, settings: Settings) -> None:
    users.add("ana", "reader", PASSWORD)
    users.add("bo", "reader", PASSWORD)
    stronger = Users(settings.home, PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    assert stronger.verified("ana", "wrong password") is None
    assert "t=2" not in stored(settings)
    signed_in = stronger.verified("ana", PASSWORD)
    known = stronger.known().user("ana")
    assert known is not None
    assert "t=2" in known.hash
    assert signed_in == known, "the session that begins now must be valid"
    assert "t=1" in stronger.known().users[1].hash
    assert stronger.verified("ana", PASSWORD) == known


def test_an_unknown_name_costs_as_much_as_a_wrong_password(settings: Settings) -> None:
    """The time must not tell which names there are: both compare with one hash of the same parameters."""
    counting = Counting(time_cost=1, memory_cost=8, parallelism=1)
    users = Users(settings.home, counting)
    users.add("ana", "reader", PASSWORD)
    users.verified("nobody", PASSWORD)
    users.verified("ana", "wrong password")
    unknown, known = (found.rsplit("$", 2)[0] for found in counting.compared)
    assert unknown == known


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"users": [{"name": "ana"}]}', '{"secret": "s3cr3t", "users": 5}', '{"rolle": "s3cr3t"}']
)
def test_a_damaged_file_is_told_in_a_line_without_what_it_holds(users: Users, settings: Settings, text: str) -> None:
    settings.home.mkdir()
    (settings.home / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="is damaged") as raised:
        users.known()
    assert "s3cr3t" not in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(SettingsError, match="is damaged"):
        users.make_key("backup", "reader")
    assert stored(settings) == text, "what is damaged may still be mended by hand"


def test_a_file_that_cannot_be_read_is_told(users: Users, settings: Settings) -> None:
    (settings.home / FILE).mkdir(parents=True)
    with pytest.raises(SettingsError, match="cannot be read"):
        users.known()


# --- addresses


def test_this_machine_alone_needs_no_sign_in(users: Users) -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        check_binding(host, False, users)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.example.org"])
def test_another_address_needs_a_sign_in_and_someone_who_can(users: Users, host: str) -> None:
    with pytest.raises(SettingsError, match=r"footnote users add NAME.*--auth"):
        check_binding(host, False, users)
    with pytest.raises(SettingsError, match=r"neither a user nor an API key.*footnote users add"):
        check_binding(host, True, users)
    users.make_key("backup", "reader")
    check_binding(host, True, users)
    with pytest.raises(SettingsError, match="--auth"):
        check_binding(host, False, users)


def test_a_sign_in_that_nobody_can_pass_is_refused_on_loopback_too(users: Users) -> None:
    with pytest.raises(SettingsError, match="footnote users add"):
        check_binding("127.0.0.1", True, users)


def test_host_names() -> None:
    assert "*" not in hosts_of("127.0.0.1", [])
    assert "docs.example.org" in hosts_of("127.0.0.1", ["docs.example.org"])
    assert hosts_of("0.0.0.0", []) == ["*"]
    assert {"127.0.0.1", "localhost", "*.example.org"} <= set(hosts_of("0.0.0.0", ["*.example.org"]))
    assert {"192.168.1.5", "127.0.0.1"} <= set(hosts_of("192.168.1.5", ["docs.example.org"]))
    assert {"[fd00::1]", "docs.example.org"} <= set(hosts_of("fd00::1", ["docs.example.org"]))


@pytest.mark.parametrize(
    "name", ["https://a.example", "a.example:80", "*", "a*.example", "", "a b", "*.", "a.example/"]
)
def test_what_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="allowed_hosts"):
        hosts_of("0.0.0.0", ["fine.example", name])


# --- throttle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tries(throttle: Throttle, name: str, address: str, number: int) -> None:
    for _ in range(number):
        throttle.tried(name, address)


def test_waits_double_up_to_the_longest() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    tries(throttle, "ana", "192.0.2.1", BY_NAME.free - 1)
    assert throttle.wait("ana", "192.0.2.1") == 0
    waits = []
    for _ in range(9):
        throttle.tried("ana", "192.0.2.1")
        waits.append(throttle.wait("ANA ", "198.51.100.7"))
        clock.now += waits[-1]
        assert throttle.wait("ana", "198.51.100.7") == 0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_an_address_that_tries_many_names_waits() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for number in range(BY_ADDRESS.free + 40):
        throttle.tried(f"name-{number}", "192.0.2.1")
    assert throttle.wait("another", "192.0.2.1") == BY_ADDRESS.longest
    assert throttle.wait("another", "192.0.2.2") == 0


def test_an_ipv6_network_is_one_address() -> None:
    throttle = Throttle(Clock())
    for number in range(BY_ADDRESS.free + 1):
        throttle.tried(f"name-{number}", f"2001:db8::{number:x}")
    assert throttle.wait("another", "2001:db8::ffff") > 0
    assert throttle.wait("another", "2001:db8:0:1::1") == 0


def test_old_tries_are_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    tries(throttle, "ana", "192.0.2.1", 12)
    clock.now += BY_NAME.longest + FORGOTTEN + 1
    throttle.tried("ana", "192.0.2.1")
    assert throttle.wait("ana", "192.0.2.1") == 0


def test_the_right_password_clears_the_name_but_buys_the_address_nothing() -> None:
    throttle = Throttle(Clock())
    tries(throttle, "ana", "192.0.2.1", BY_NAME.free)
    throttle.passed("ana", "192.0.2.1")
    assert throttle.wait("ana", "192.0.2.1") == 0
    for number in range(BY_ADDRESS.free + 1):
        throttle.tried(f"name-{number}", "192.0.2.9")
        throttle.tried("mine", "192.0.2.9")
        throttle.passed("mine", "192.0.2.9")
    assert throttle.wait("another", "192.0.2.9") > 0


@given(st.lists(st.tuples(st.text(max_size=200), st.text(max_size=200)), max_size=60))
def test_what_is_remembered_has_bounds(attempts: list[tuple[str, str]]) -> None:
    throttle = Throttle(Clock(), most=8)
    for name, address in attempts:
        throttle.tried(name, address)
        assert throttle.wait(name, address) >= 0
    for counted in (throttle._names, throttle._addresses):
        assert len(counted._tries) <= 8
        assert all(len(key) <= 64 for key in counted._tries)


# --- commands


@pytest.fixture(autouse=True)
def command(monkeypatch: pytest.MonkeyPatch) -> None:
    """`footnote users`, whether or not the command line has it already; with a hasher that is quick."""
    if not any(group.name == "users" for group in app.registered_groups):
        monkeypatch.setattr(app, "registered_groups", [*app.registered_groups])
        app.add_typer(accounts.accounts, name="users")
    monkeypatch.setattr(users_module, "PasswordHasher", lambda: QUICK)


def said(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_users_are_added_listed_and_removed(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ["--home", str(settings.home), "--json"]
    said(monkeypatch, PASSWORD + "\n")
    assert footnote("users", "add", "Ana", "--role", "editor", "--password-stdin", *home) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "ana", "role": "editor", "new": True}
    assert Users(settings.home, QUICK).verified("ana", PASSWORD)
    assert footnote("users", "key", "backup", *home) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["name"], made["role"]) == ("backup", "reader")
    assert Users(settings.home).known().key(made["key"])
    assert footnote("users", "list", *home) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [user["name"] for user in listed["users"]] == ["ana"]
    assert [key["name"] for key in listed["keys"]] == ["backup"]
    assert all(each.keys() == {"name", "role", "created"} for each in (*listed["users"], *listed["keys"]))
    assert footnote("users", "remove", "ANA", *home) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": "ana"}
    assert not Users(settings.home).known().users


def test_lists_without_json_show_names_roles_and_no_secrets(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(settings.home)]
    assert footnote("users", "list", *home) == 0
    assert "nobody can sign in" in capsys.readouterr().out
    Users(settings.home, QUICK).add("ana", "editor", PASSWORD)
    assert footnote("users", "key", "backup", "--role", "editor", *home) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("fn_")
    assert captured.out.count("\n") == 1, "scripts take all of stdout as the key"
    assert footnote("users", "list", *home) == 0
    shown = capsys.readouterr().out
    assert "ana" in shown
    assert "backup" in shown
    known = Users(settings.home).known()
    assert not any(secret in shown for secret in (known.secret, known.users[0].hash, known.keys[0].sha256))


def test_a_password_is_asked_twice_off_stdout(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter([PASSWORD, "a typing error", PASSWORD, PASSWORD])
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(typed))
    assert footnote("users", "add", "ana", "--home", str(settings.home), "--json") == 0
    assert json.loads(capsys.readouterr().out)["role"] == "reader"
    assert Users(settings.home, QUICK).verified("ana", PASSWORD)
    assert next(typed, None) is None


@pytest.mark.parametrize("given_", ["short\n", "", "\n"])
def test_a_short_password_is_one_line_and_exit_code_1(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given_: str
) -> None:
    said(monkeypatch, given_)
    assert footnote("users", "add", "ana", "--password-stdin", "--home", str(settings.home)) == 1
    assert "8 to 1024 are expected" in capsys.readouterr().err
    assert not (settings.home / FILE).exists()


def test_a_password_ends_with_its_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    said(monkeypatch, f" {PASSWORD} \r\n")
    assert footnote("users", "add", "ana", "--password-stdin", "--home", str(settings.home)) == 0
    assert Users(settings.home, QUICK).verified("ana", f" {PASSWORD} ")


def test_a_role_that_there_is_not_is_wrong_usage(settings: Settings) -> None:
    assert footnote("users", "key", "backup", "--role", "admin", "--home", str(settings.home)) == 2
    assert not Path(settings.home / FILE).exists()
