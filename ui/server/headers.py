"""Headers that tell a browser what a page of Footnote may do. Knows nothing about what is served.

Gradio's page decides what the policy has to allow: inline scripts and styles, `Function` (the templates of `gr.HTML`
and events with JavaScript), and pictures and fonts as `data:` and `blob:`.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
STRICT_POLICY = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"  # no scripts
)
NOT_USED = ("camera", "microphone", "geolocation", "payment", "usb", "serial", "display-capture")
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": ", ".join(f"{name}=()" for name in NOT_USED),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOT_STORED = ("/api/", "/v1/")
CORS = "access-control-"


class SecurityHeaders:
    """ASGI middleware that adds them, and takes away what would let other origins read answers.

    Gradio lets every origin in, with cookies, where the host is not localhost.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                secure(MutableHeaders(scope=message), scope["path"])
            await send(message)

        await self._app(scope, receive, secured)


def secure(headers: MutableHeaders, path: str) -> None:
    """Complete a response's headers. What it says itself counts, except where it opens it to other origins."""
    for name in {name for name in headers if name.startswith(CORS)}:
        del headers[name]
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if path.startswith(NOT_STORED):
        headers.setdefault("Cache-Control", "no-store")
