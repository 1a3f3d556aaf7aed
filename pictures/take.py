"""Takes the pictures of the chat page for the docs, from the real product over docs/: `make pictures`.

Knows nothing about how the page is made, beside the names that its parts have in the browser. Needs Chromium.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
FOOTNOTE = Path(sys.executable).with_name("footnote")
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 360, "height": 780}
QUESTION = "How long does a sign-in last?"
LARGEST = 150_000
"""Bytes of a picture."""
PATIENCE = 600
"""Seconds that models may take to load, and an answer to be written, on a slow machine."""


def main() -> None:
    """Index the docs in a home of their own, serve the page, and take the pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("pictures: Chromium is not installed; apt-get install chromium")
    with TemporaryDirectory() as home, served(Path(home)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        take_wide(browser, url)
        take_narrow(browser, url)
        browser.close()


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The address of the product over docs/, until it is left."""
    environment: Any = os.environ | {"FOOTNOTE_HOME": str(home)}
    environment["FOOTNOTE_CACHE"] = environment.get("FOOTNOTE_CACHE") or str(Path.home() / ".footnote" / "cache")
    pages = sorted(map(str, HERE.parent.joinpath("docs").glob("*.md")))
    subprocess.run([FOOTNOTE, "ingest", *pages], env=environment, check=True)  # noqa: S603 - our own command
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    server = subprocess.Popen([FOOTNOTE, "chat", "--port", port], env=environment)  # noqa: S603
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, server)
        yield url
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until questions are answered."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and server.poll() is None:
        try:
            with urlopen(f"{url}/readyz") as answer:  # noqa: S310 - our own server
                if answer.status == 200:
                    return
        except URLError:  # not there yet, or still loading
            time.sleep(1)
    sys.exit("pictures: the server does not become ready; start `footnote chat` to see why")


def take_wide(browser: Browser, url: str) -> None:
    """An answer beside its source, and the documents."""
    page = opened(browser, url, WIDE)
    ask(page)
    page.click(".fn-mark")
    page.mouse.move(0, 0)
    save(page, "page-chat")
    page.click('button[role=tab]:has-text("Documents")')
    page.wait_for_selector("#fn-documents-list tr")
    save(page, "page-documents")


def take_narrow(browser: Browser, url: str) -> None:
    """An answer on a telephone."""
    page = opened(browser, url, NARROW)
    ask(page)
    save(page, "page-narrow")


def opened(browser: Browser, url: str, size: Any) -> Page:
    """The page, with its header filled in."""
    page = browser.new_page(viewport=size, color_scheme="light", reduced_motion="reduce")
    page.goto(url)
    page.wait_for_selector(".fn-bar")
    return page


def ask(page: Page) -> None:
    """Ask, and wait for the answer with its footnotes."""
    page.fill("#fn-question textarea", QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector(".fn-answer:not(.fn-writing) .fn-mark", timeout=1000 * PATIENCE)
    page.wait_for_selector("#fn-sources [aria-current]")


def save(page: Page, name: str) -> None:
    """The picture, with as many colours as it may have."""
    page.wait_for_timeout(1000)  # what moves comes to rest
    shot = Image.open(BytesIO(page.screenshot())).convert("RGB")
    for colours in (256, 128, 64, 32):
        packed = BytesIO()
        shot.quantize(colours, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
        if len(packed.getvalue()) <= LARGEST:
            break
    else:
        sys.exit(f"pictures: {name} takes {len(packed.getvalue()):,} bytes, at most {LARGEST:,} were expected")
    (HERE / f"{name}.png").write_bytes(packed.getvalue())


if __name__ == "__main__":
    main()
