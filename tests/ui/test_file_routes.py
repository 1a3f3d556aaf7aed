"""No route of the page or of Gradio hands out a file that the page did not make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount

from ingest.catalog import Catalog
from tests.conftest import OpenRag
from ui.api import create_app

pytestmark = pytest.mark.slow  # loads Gradio

SECRET = "qdrant_api_key"


def patterns(app: Any, before: str = "") -> Iterator[str]:
    """Every path with a parameter, of the application and of what is mounted in it."""
    for route in app.routes:
        path = before + str(getattr(route, "path", ""))
        if isinstance(route, Mount):
            yield from patterns(route, path)
        elif "{" in path and "GET" in (getattr(route, "methods", None) or ()):
            yield path


def filled(pattern: str, value: str) -> str:
    head, _, rest = pattern.partition("{")
    return filled(head + value + rest.partition("}")[2], value) if rest else head


@pytest.fixture
def home(open_rag: OpenRag, catalog: Catalog) -> tuple[Any, Path]:
    rag = open_rag({"a.md": "# A\n\nText."})
    (rag.settings.home / "footnote.toml").write_text(f'{SECRET} = "hush"\n')
    return create_app(rag, catalog, page=True), rag.settings.home


def written(path: Path) -> Iterator[str]:
    """A path as somebody may smuggle it in."""
    plain = str(path)
    up = "../" * 12 + plain.lstrip("/")
    for name in (plain, plain.lstrip("/"), up, f"./{plain}", f"file://{plain}", plain.replace("/", "\\")):
        yield name
        yield quote(name, safe="")
        yield quote(quote(name, safe=""), safe="")


def test_no_route_serves_the_settings_the_catalog_or_system_files(home: tuple[Any, Path]) -> None:
    app, folder = home
    client = TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=True, raise_server_exceptions=False)
    files = {
        folder / "footnote.toml": SECRET.encode(),
        folder / "catalog.sqlite": b"SQLite format 3",
        folder / "conversations.db": b"SQLite format 3",
        folder.parent / "documents" / "a.md": b"# A",
        Path("/etc/passwd"): b"root:",
        Path(create_app.__code__.co_filename): b"def create_app",
    }
    routes = {*patterns(app), "/file={path}", "/gradio_api/file={path}", "/static/{path}", "/assets/{path}", "/{path}"}
    assert any("file" in route for route in routes), "Gradio's file routes are among them"
    tried = 0
    for file, inside in files.items():
        assert file.is_file()
        for name in written(file):
            for route in sorted(routes):
                answer = client.get(filled(route, name))
                tried += 1
                assert inside not in answer.content, f"GET {filled(route, name)}"
    assert tried > 500


def test_nothing_is_uploaded_past_the_api(home: tuple[Any, Path]) -> None:
    """What Gradio's own upload route takes lies in its temporary folder, and never becomes a document."""
    app, folder = home
    client = TestClient(app, base_url="http://127.0.0.1:7860")
    before = {path for path in folder.rglob("*") if path.is_file()}
    client.post("/gradio_api/upload", files={"files": ("../../evil.md", b"# Evil")})
    assert {path for path in folder.rglob("*") if path.is_file()} <= before
