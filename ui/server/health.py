"""Routes for those who run the server: is it up, is it ready, and what it has counted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from ui.server.metrics import Metrics
from ui.server.problems import PROBLEMS, REFUSED
from ui.server.served import Served


class Health(BaseModel):
    """The process is up, and its index answers."""

    status: str
    collection: str
    passages: int


class Readiness(BaseModel):
    """What is loaded."""

    ready: bool
    waiting_for: list[str]


_BROKEN: dict[int | str, dict[str, Any]] = {status: PROBLEMS[status] for status in (500, 503)}


def router(served: Served) -> APIRouter:
    """`/healthz`, `/readyz`, `/metrics`."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/healthz", response_model=Health, responses=_BROKEN)
    def healthz() -> dict[str, Any]:
        """Whether the process is up and its index answers."""
        return {"status": "ok", "collection": served.collection, "passages": served.rag.store.count()}

    @routes.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    def readyz(response: Response) -> dict[str, Any]:
        """Whether the models are loaded, so that a question is answered at once."""
        missing = served.rag.missing
        response.status_code = 503 if missing else 200
        return {"ready": not missing, "waiting_for": list(missing)}

    @routes.get(
        "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **REFUSED, **_BROKEN}
    )
    def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(served.metrics.text(), media_type=Metrics.content_type)

    return routes
