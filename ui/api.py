"""The REST API, with the page mounted on it. Knows nothing about how answers are made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.errors import FilterError, FootnoteError, LLMUnreachable, QuestionError, StoreUnreachable
from rag.filter import Filter
from rag.settings import Strictness
from rag.types import Message
from ui import records, wire
from ui.desk import BUSY, Desk
from ui.narrow import checked

STATUS: dict[type[FootnoteError], int] = {
    QuestionError: 422,
    FilterError: 422,
    StoreUnreachable: 503,
    LLMUnreachable: 503,
}
T = TypeVar("T")
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


class Within(BaseModel):
    """A filter: values of one field are alternatives, all fields given must match."""

    model_config = ConfigDict(extra="forbid")

    documents: list[str] = Field([], description="Paths, with what was found inside, or file names.")
    folders: list[str] = Field([], description="Paths; what lies below is included.")
    types: list[str] = Field([], description="Suffixes, such as pdf.")
    since: date | None = Field(None, description="First day.")
    until: date | None = Field(None, description="Last day, included.")
    metadata: dict[str, str | list[str]] = Field({}, description="Key to value, or to several that are alternatives.")

    def filter(self) -> Filter:
        """What is asked for."""
        values = {key: [value] if isinstance(value, str) else value for key, value in self.metadata.items()}
        metadata = tuple((key, value) for key in values for value in values[key])
        names = (tuple(self.documents), tuple(self.folders), tuple(self.types))
        return Filter(*names, self.since, self.until, metadata)


class Said(BaseModel):
    """A message of the conversation so far."""

    role: Literal["user", "assistant"]
    content: str = Field(max_length=20_000)


class Question(BaseModel):
    """Body of a search or of a question."""

    question: str
    history: list[Said] = Field([], max_length=200, description="The conversation so far, oldest message first.")
    k: int = Field(10, ge=1, le=1000, description="How many passages a search returns.")
    filter: Within | None = Field(None, description="Which documents to use; all of them without it.")
    strictness: Strictness | None = Field(None, description="What becomes of sentences without support in an answer.")


class Order(BaseModel):
    """Body of a request to ingest: absolute paths on this machine."""

    paths: list[str]
    prune: bool = False
    metadata: list[tuple[str, str]] = []


class Names(BaseModel):
    """Body of a request to remove: documents by their exact names."""

    docs: list[str]


def create_app(rag: Rag, catalog: Catalog, desk: Desk | None = None) -> FastAPI:
    """The application over one collection: `/healthz`, `/api/v1/...`, and what the desk takes in."""
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

    app.exception_handler(RequestValidationError)(_misunderstood)

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
        """The passages that fit a question best; none where the filter matches no document."""
        hits = rag.search(body.question, body.k, within=_within(body, rag, catalog))
        return {"hits": [records.hit(hit) for hit in hits]}

    @app.post("/api/v1/ask")
    def ask(body: Question) -> dict[str, Any]:
        """An answer, every sentence checked and footnoted; with a history, to a question that may depend on it."""
        history = [Message(said.role, said.content) for said in body.history]
        within = _within(body, rag, catalog)
        return records.answer(rag.answer(body.question, history, within, body.strictness))

    app.include_router(_for_other_processes(desk or Desk(rag, catalog)))
    return app


def _within(body: Question, rag: Rag, catalog: Catalog) -> Filter:
    """The filter that a body asks for. Raises FilterError where it names what there is not."""
    return checked(body.filter.filter() if body.filter else Filter(), catalog, rag.settings.collection)


def _misunderstood(_request: Request, error: RequestValidationError) -> JSONResponse:
    """What is wrong with a body, in one line."""
    faults = [f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors()]
    kind = FilterError if any("filter" in fault["loc"] for fault in error.errors()) else QuestionError
    return JSONResponse({"error": " ".join("; ".join(faults).split()), "kind": kind.__name__}, 422)


def _for_other_processes(desk: Desk) -> APIRouter:
    """What another process of the same user hands in. Nobody on the network can make this one read files.

    Left out of the API's description: it is how two processes of one version of Footnote talk.
    """

    def admitted(token: Annotated[str, Header(alias=wire.TOKEN)] = "") -> None:
        if not desk.admits(token):
            raise HTTPException(403, "this is for `footnote` commands of the user who runs the server")

    router = APIRouter(dependencies=[Depends(admitted)], include_in_schema=False)

    @router.post(wire.INGEST, response_model=None)
    def ingest(body: Order) -> StreamingResponse:
        """Ingest, told line by line; stops where the listener goes."""
        job = _taken_in(desk.ingest(_absolute(body.paths), body.prune, tuple(body.metadata)))
        return StreamingResponse(job.lines(), media_type="application/x-ndjson")

    @router.post(wire.STOP)
    def stop() -> dict[str, Any]:
        """Stop what was handed in at the next border between documents."""
        desk.stop()
        return {}

    @router.post(wire.REMOVE)
    def remove(body: Names) -> dict[str, Any]:
        """Take documents out of the index."""
        return {"removed": _taken_in(desk.remove(body.docs))}

    return router


def _absolute(names: Sequence[str]) -> list[Path]:
    """The paths, if they mean the same in every process."""
    paths = [Path(name) for name in names]
    if relative := [str(path) for path in paths if not path.is_absolute()]:
        raise HTTPException(422, f"paths must be absolute, found {', '.join(relative)}")
    return paths


def _taken_in(work: T | None) -> T:
    """What the desk took in, if it did."""
    if work is None:
        raise HTTPException(409, BUSY)
    return work


def with_page(app: FastAPI, rag: Rag, catalog: Catalog) -> FastAPI:
    """The application with the Gradio page mounted at `/`."""
    from gradio import mount_gradio_app

    from ui import web

    blocks = web.page(rag, catalog)
    mounted: FastAPI = mount_gradio_app(
        app, blocks, path="/", theme=web.theme(), css=web.css(), ssr_mode=False, footer_links=[], show_error=True
    )
    return mounted
