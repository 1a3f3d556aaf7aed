"""The REST API, with the page mounted on it. Knows nothing about how answers are made."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.errors import FootnoteError, LLMUnreachable, QuestionError, StoreUnreachable
from ui import records

STATUS: dict[type[FootnoteError], int] = {QuestionError: 422, StoreUnreachable: 503, LLMUnreachable: 503}
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


class Question(BaseModel):
    """Body of a search or of a question."""

    question: str
    k: int = Field(10, ge=1, le=1000, description="How many passages a search returns.")


def create_app(rag: Rag, catalog: Catalog) -> FastAPI:
    """The application over one collection: `/healthz`, `/api/v1/...` and the page at `/`."""
    # No interactive documentation: its scripts would come from another host.
    app = FastAPI(title="Footnote", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    host = rag.settings.host
    if host in LOOPBACK:
        # A page of another site whose name was made to resolve to this machine must not read the documents.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK])

    @app.exception_handler(FootnoteError)
    def failed(_request: Request, error: FootnoteError) -> JSONResponse:
        """One line of what went wrong, with a status that fits."""
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        return JSONResponse({"error": " ".join(str(error).split()), "kind": type(error).__name__}, status)

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        """Whether the process is up and its index answers."""
        return {"status": "ok", "collection": rag.settings.collection, "passages": rag.store.count()}

    @app.get("/api/v1/documents")
    def documents() -> dict[str, Any]:
        """Every document of the collection with its status."""
        return {"documents": [records.document(d) for d in catalog.documents(rag.settings.collection)]}

    @app.post("/api/v1/search")
    def search(body: Question) -> dict[str, Any]:
        """The passages that fit a question best."""
        return {"hits": [records.hit(hit) for hit in rag.search(body.question, body.k)]}

    @app.post("/api/v1/ask")
    def ask(body: Question) -> dict[str, Any]:
        """An answer, every sentence checked and footnoted."""
        return records.answer(rag.answer(body.question))

    return app


def with_page(app: FastAPI, rag: Rag, catalog: Catalog) -> FastAPI:
    """The application with the Gradio page mounted at `/`."""
    from gradio import mount_gradio_app

    from ui import web

    blocks = web.page(rag, catalog)
    mounted: FastAPI = mount_gradio_app(
        app, blocks, path="/", theme=web.theme(), css=web.css(), ssr_mode=False, footer_links=[], show_error=True
    )
    return mounted
