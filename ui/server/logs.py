"""A line in the log for each request, with an id that the answer carries, too, and a span for those of the API.

Knows nothing about what is asked.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag.settings import Settings
from rag.tracing import OFF, Span, in_hand, request_span
from ui.server.metrics import Metrics

log = logging.getLogger("footnote.requests")
HEADER = "X-Request-ID"
GIVEN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
"""An id that a proxy gave; others could forge lines of the log."""
TRACED = ("/api/", "/v1/")
"""Requests below these have a span; the page's many small ones have none."""
NO_ID = "-"
request_id: ContextVar[str] = ContextVar("request_id", default=NO_ID)
"""That of the request in hand."""


class Logged:
    """ASGI middleware that names, times and counts requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(HEADER.lower().encode(), b"")
        name = given.decode() if GIVEN.fullmatch(given) else uuid4().hex
        began, status = time.perf_counter(), 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER.encode(), name.encode())]
            await send(message)

        with _span(scope, name) as span:
            token, above = request_id.set(name), in_hand.set(span)
            try:
                await self._app(scope, receive, named)
            finally:
                request_id.reset(token)
                in_hand.reset(above)
                self._done(scope, status, time.perf_counter() - began, name)
                _tell(span, scope, status)

    def _done(self, scope: Scope, status: int, seconds: float, name: str) -> None:
        """Where nothing was answered, the one who asked had gone, or the server failed: status 0."""
        route = _route(scope)
        self._metrics.requests.labels(scope["method"], route, status).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        who = scope.get("footnote")
        log.info(
            "%s %s %d",
            scope["method"],
            route,
            status,
            extra={"request": name, "ms": round(seconds * 1000, 1), "who": getattr(who, "name", "")},
        )


def _span(scope: Scope, name: str) -> Span:
    if not scope["path"].startswith(TRACED):
        return OFF
    method = scope["method"]
    return request_span(method, scope["headers"], request_id=name, **{"http.request.method": method})


def _tell(span: Span, scope: Scope, status: int) -> None:
    """What is known of a request at its end."""
    route = _route(scope)
    span.rename(f"{scope['method']} {route}")
    span.set(**{"http.route": route, "http.response.status_code": status or None})
    if status >= 500:
        span.fail(str(status))


def _route(scope: Scope) -> str:
    """The route's pattern, not the path: paths hold names of documents, and there is no end of them."""
    route = scope.get("route")
    return str(getattr(route, "path", "") or "other")


class Lines(logging.Formatter):
    """A record as one line: plain, or a JSON object."""

    def __init__(self, as_json: bool) -> None:
        super().__init__("%(message)s")
        self._json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        more = {key: getattr(record, key) for key in ("request", "who", "ms") if getattr(record, key, "") != ""}
        if not self._json:
            told = " ".join(f"{key}={value}" for key, value in more.items())
            return f"{super().format(record)} {told}".rstrip()
        row = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request": request_id.get(),
            **more,
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


def log_requests(settings: Settings) -> None:
    """Let the log be as the settings have it. Plain lines of single requests are left out unless asked for."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Lines(settings.log_format == "json"))
    log.setLevel(logging.INFO if settings.log_requests else logging.WARNING)
