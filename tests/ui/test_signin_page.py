"""Signing in at the real page in headless Chromium, and what a reader is offered there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.catalog import Catalog
from rag.settings import Settings
from tests.conftest import OpenRag
from tests.ui.person import DONE, Person, Serve
from ui.server.users import Role, Users

pytestmark = pytest.mark.slow

PASSWORD = "correct horse"


@pytest.fixture
def url(serve: Serve, open_rag: OpenRag, catalog: Catalog, settings: Settings) -> str:
    """A server with a document, an editor called ana and a reader called rob."""
    roles: dict[str, Role] = {"ana": "editor", "rob": "reader"}
    for name, role in roles.items():
        Users(settings.home).add(name, role, PASSWORD)
    return serve(open_rag({"a.md": "# Rent\n\nThe rent is due monthly.\n"}, auth=True), catalog)


def signed_in(browser: Any, url: str, name: str, width: int = 1280) -> Person:
    person = Person(browser, url, wait_for="#password", width=width)
    sign_in(person, name, PASSWORD)
    person.page.wait_for_selector("#fn-question textarea")
    return person


def sign_in(person: Person, name: str, password: str) -> None:
    person.page.fill("#name", name)
    person.page.fill("#password", password)
    person.page.click("button")


@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_is_there_for_those_who_sign_in_until_they_sign_out(browser: Any, url: str, width: int) -> None:
    person = Person(browser, url, wait_for="#password", width=width)
    assert "/signin" in person.page.url
    assert person.fits
    sign_in(person, "ana", "wrong horse")
    person.page.wait_for_selector("#error")
    assert person.text("#error") == "The name or the password is wrong."
    assert person.page.input_value("#name") == "ana"
    sign_in(person, "ana", PASSWORD)
    person.page.wait_for_selector(".fn-who >> text=ana")
    assert person.page.url.rstrip("/") == url
    assert person.fits
    person.ask("the rent is due monthly", f"{DONE} .fn-notes")
    person.page.click(".fn-who a")
    person.page.click("button >> text=Sign out")
    person.page.wait_for_selector("#password")
    person.page.goto(url)
    person.page.wait_for_selector("#password")
    assert person.hosts == {"127.0.0.1"}


def test_a_reader_asks_and_is_offered_nothing_that_would_be_refused(browser: Any, url: str) -> None:
    person = signed_in(browser, url, "rob")
    refused: list[str] = []
    person.page.on("response", lambda response: refused.append(response.url) if response.status == 403 else None)
    person.ask("the rent is due monthly", f"{DONE} .fn-mark")
    person.page.click(".fn-mark")
    person.page.wait_for_selector("#fn-sources [aria-current]")
    person.tab("Documents")
    person.page.wait_for_selector("#fn-documents-list >> text=a.md")
    assert "editors bring documents in and take them out" in person.text("#fn-totals")
    for offered in ("#fn-drop", "#fn-retry", "#fn-stop", ".fn-remove"):
        assert not person.page.is_visible(offered), offered
    person.tab("Status")
    person.page.wait_for_selector("#fn-state >> text=Version")
    assert not person.page.is_visible("#fn-doctor")
    assert not refused


def test_an_editor_brings_documents_in(browser: Any, url: str, tmp_path: Path) -> None:
    person = signed_in(browser, url, "ana")
    person.tab("Documents")
    for offered in ("#fn-drop", "#fn-retry", "#fn-stop", ".fn-remove"):
        person.page.wait_for_selector(offered)
    (tmp_path / "pool.md").write_text("# Pool\n\nThe pool opens at nine.\n")
    person.page.set_input_files("#fn-files", [str(tmp_path / "pool.md")])
    person.page.wait_for_selector("#fn-totals >> text=2 documents")
