"""Several collections, and measuring, at the real page in headless Chromium."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingest.catalog import Catalog
from rag.settings import Settings
from tests.conftest import OpenRag
from tests.ui.person import DONE, Person, Serve

pytestmark = pytest.mark.slow

RENT = "The monthly rent of the flat is 900 euros."


@pytest.fixture
def person(browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog) -> Person:
    return Person(browser, serve(open_rag({"lease.md": f"# Rent\n\n{RENT}\n"}), catalog))


def answered(person: Person, name: str | None = None) -> None:
    """Answer the next question of the page itself."""
    person.page.once("dialog", lambda dialog: dialog.dismiss() if name is None else dialog.accept(name))


def test_a_collection_is_made_filled_asked_left_and_deleted_again(person: Person, tmp_path: Path) -> None:
    page = person.page
    answered(person)
    page.select_option("#fn-collection", "+")
    assert page.locator("#fn-collection").evaluate("each => each.selectedOptions[0].text") == "default"
    answered(person, "contracts")
    page.select_option("#fn-collection", "+")
    page.wait_for_url("**/c/contracts/")
    page.wait_for_selector("text=There are no documents yet")
    (tmp_path / "pool.md").write_text("# Pool\n\nThe pool opens at nine.\n")
    person.tab("Documents")
    page.set_input_files("#fn-files", str(tmp_path / "pool.md"))
    page.wait_for_selector("#fn-documents-list >> text=ready", timeout=60_000)
    page.wait_for_selector(".fn-about >> text=1 document, 1 passage in")
    person.tab("Ask")
    person.ask("When does the pool open?", f"{DONE} .fn-notes")
    assert "pool.md" in person.text("#fn-sources")
    page.select_option("#fn-collection", label="default")
    page.wait_for_url(lambda url: "/c/" not in url)
    page.wait_for_selector("#fn-question textarea")
    person.ask("What is the monthly rent of the flat?", f"{DONE} .fn-notes")
    assert "lease.md" in person.text("#fn-sources")
    assert "Delete this collection" not in person.text("#fn-collection")
    page.select_option("#fn-collection", label="contracts")
    page.wait_for_url("**/c/contracts/")
    page.wait_for_selector("#fn-question textarea")
    answered(person)
    page.select_option("#fn-collection", "-")
    assert page.locator("#fn-collection").evaluate("each => each.selectedOptions[0].text") == "contracts"
    answered(person, "contracts")
    page.select_option("#fn-collection", "-")
    page.wait_for_url(lambda url: "/c/" not in url)
    page.wait_for_selector("#fn-question textarea")
    assert "contracts" not in person.text("#fn-collection")
    assert person.hosts == {"127.0.0.1"}


def test_answers_are_measured_and_the_report_is_opened(person: Person, settings: Settings, tmp_path: Path) -> None:
    page = person.page
    set_ = tmp_path / "leases.jsonl"
    asked = [
        {"id": "1", "question": "What is the monthly rent of the flat?", "answers": ["900 euros"]},
        {"id": "2", "question": "monthly rent of the flat", "answers": ["900 euros", "<img src=x onerror=alert(1)>"]},
    ]
    set_.write_text("".join(json.dumps(each) + "\n" for each in asked))
    person.tab("Quality")
    page.wait_for_selector("#fn-runs >> text=There is nothing to measure with yet")
    page.fill("#fn-set-path textarea, #fn-set-path input", str(set_))
    page.click("#fn-start-evaluation")
    page.wait_for_selector("#fn-runs a.fn-score", timeout=60_000)
    page.click("#fn-runs a.fn-score >> nth=0")
    page.wait_for_selector("#fn-agreement >> text=How far the checker agrees with people")
    with page.context.expect_page() as opened:
        page.click("#fn-runs td a >> nth=0")
    report = opened.value
    report.wait_for_selector("text=leases")
    assert report.evaluate("document.images.length") == 0  # what documents and sets hold shows as text
    assert person.fits
    assert person.hosts == {"127.0.0.1"}
