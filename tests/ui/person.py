"""Someone at the page, in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ingest.catalog import Catalog
from rag.answer import Rag

DONE = ".fn-answer:not(.fn-writing)"
"""An answer that is whole."""
PATIENCE = 120_000
"""Milliseconds after which what was to come on the page will not come any more."""
Serve = Callable[[Rag, Catalog], str]
"""Serves a `Rag` as `footnote chat` does; gives the URL."""


class Person:
    """Notes every host that the page talks to."""

    def __init__(self, browser: Any, url: str, wait_for: str = "#fn-question textarea", **view: int) -> None:
        # A context of its own: what one person has signed in to is not open to the next one.
        self.page = browser.new_context(viewport={"width": view.get("width", 1280), "height": 850}).new_page()
        self.page.set_default_timeout(PATIENCE)
        self.hosts: set[str | None] = set()
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))
        self.page.goto(url)
        self.page.wait_for_selector(wait_for)

    def ask(self, question: str, wait_for: str) -> None:
        before = self.page.locator(".fn-question").count()
        self.page.fill("#fn-question textarea", question)
        self.page.keyboard.press("Enter")
        self.page.locator(".fn-question").nth(before).wait_for()
        self.page.wait_for_selector(wait_for)

    def choose(self, dropdown: str, label: str) -> None:
        self.page.click(f"{dropdown} input")
        self.page.click(f"text={label}")

    def tab(self, name: str) -> None:
        self.page.click(f'button[role=tab]:has-text("{name}")')

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    @property
    def focused(self) -> str:
        """The id of what has the focus, or of what is around it."""
        return str(self.page.evaluate("document.activeElement.closest('[id]').id"))

    @property
    def fits(self) -> bool:
        """Whether nothing is wider than the screen."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))
