"""A real server for the tests that look at the page."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ingest.catalog import Catalog
from rag.answer import Rag
from tests.ui.person import Serve


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a `Rag` as `footnote chat` does; gives the URL."""
    import uvicorn

    from ui.api import create_app

    running: list[tuple[Any, Any, threading.Thread]] = []

    def serve_(rag: Rag, catalog: Catalog) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        app = create_app(rag, catalog, page=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        running.append((app, server, thread))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield serve_
    for app, server, thread in running:
        for each in app.state.collections.served:
            each.stop()
        server.should_exit = True
        thread.join(timeout=10)
        app.state.collections.close()
