"""Runs the page and the API on one port. Knows nothing about what they show."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import closing

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.errors import FootnoteError, SettingsError
from rag.priority import give_way
from rag.settings import Settings
from rag.tracing import start_tracing, stop_tracing
from rag.windows import Passage
from ui.desk import Desk
from ui.server.logs import log_requests

log = logging.getLogger("footnote.serving")


def serve(settings: Settings, catalog: Catalog, ready: Callable[[str], None]) -> None:
    """Serve until interrupted; `ready` is called with the URL once requests are answered.

    The language model is loaded beside the page, so that the page is there first; a question that comes sooner waits.

    Raises:
        SettingsError: the port or address cannot be used, others could reach it without a sign-in, or traces are to
            be sent and what sends them is not installed.
        FootnoteError: the index or the weights cannot be used.
    """
    from ui.server.binding import check_binding
    from ui.server.users import Users

    check_binding(settings.host, settings.auth, Users(settings.home))
    start_tracing(settings)
    listening = _listen(settings.host, settings.port)
    url = url_of(settings.host, settings.port)
    try:
        token = secrets.token_urlsafe()
        with Rag.open(settings, create=True, url=url, token=token) as rag, closing(Desk(rag, catalog, token)) as desk:
            threading.Thread(target=_warm, args=(rag,), name="load-llm", daemon=True).start()
            _run(rag, catalog, desk, listening, url, ready)
    finally:
        listening.close()


def url_of(host: str, port: int) -> str:
    """Where a browser on this machine finds what listens on `host`; an address for all interfaces has a local name."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket, bound before anything is loaded, so that a port in use is said at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; "
            f"choose another port with `--port {port % 65535 + 1}`, or stop what uses this one"
        ) from None
    return listening


def _warm(rag: Rag) -> None:
    """Load what answers and what checks; a failure is shown to whoever asks, and logged here."""
    give_way()  # first of all: what a question that comes sooner would load itself would not give way
    try:
        rag.llm.count_tokens("")
        rag.checker.check(["Ready."], [Passage("Ready.")])
    except FootnoteError as error:
        log.warning("not everything is ready: %s", error)


def _run(
    rag: Rag, catalog: Catalog, desk: Desk, listening: socket.socket, url: str, ready: Callable[[str], None]
) -> None:
    import uvicorn

    from ui.api import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(url)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await asyncio.gather(*(asyncio.to_thread(each.stop) for each in app.state.collections.served))
            await super().shutdown(sockets)
            await asyncio.to_thread(stop_tracing)  # here, since a signal may end the process right after

    log_requests(rag.settings)
    app = create_app(rag, catalog, desk, url, page=True)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)
    try:
        Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        log.info("stopped")
    finally:
        app.state.collections.close()
