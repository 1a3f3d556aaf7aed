"""The REST API, with the page mounted on it. Knows nothing about how answers are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from ingest.catalog import Catalog
from rag.answer import Rag
from ui import wire
from ui.desk import BUSY, Desk
from ui.server import asking, documents, evaluation_routes, health, kept_routes, openai, sources
from ui.server.access import COLLECTIONS, identity_of
from ui.server.binding import LOOPBACK
from ui.server.collections import Collections
from ui.server.collections import router as of_collections
from ui.server.guard import guard
from ui.server.logs import Logged
from ui.server.problems import tell_problems
from ui.server.served import Served
from ui.server.users import Users

T = TypeVar("T")


class Order(BaseModel):
    """Body of a request to ingest: absolute paths on this machine."""

    paths: list[str]
    prune: bool = False
    metadata: list[tuple[str, str]] = []


class Names(BaseModel):
    """Body of a request to remove: documents by their exact names."""

    docs: list[str]


def create_app(rag: Rag, catalog: Catalog, desk: Desk | None = None, url: str = "", page: bool = False) -> FastAPI:
    """The application: routes over one collection, and over each other one below an address of its own.

    Args:
        rag: the first collection.
        catalog: where documents of all collections are kept.
        desk: takes in what other processes hand in for the first collection.
        url: where people find this server, for processes that want to write one of the other collections.
        page: with the Gradio page of each collection.
    """
    served = Served.of(rag, catalog, desk)

    def one(each: Served) -> FastAPI:
        return _join(FastAPI(openapi_url=None), each, collections, page)

    collections = Collections(served, one, url, served.desk.token)

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        await collections.start()
        yield
        await collections.leave()

    # No interactive documentation: its scripts would come from another host.
    app = FastAPI(title="Footnote", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json", lifespan=running)
    settings = rag.settings
    users = Users(settings.home) if settings.auth else None
    guard(app, settings.host, settings.allowed_hosts, users, served.desk.token, settings.requests_per_minute)
    app.add_middleware(Logged, metrics=served.metrics)
    app.mount(COLLECTIONS, collections)
    app.state.collections = collections
    return _join(app, served, collections, page)


def _join(app: FastAPI, served: Served, collections: Collections, page: bool) -> FastAPI:
    """The application with the routes of one collection, and its page."""
    app.state.served = served
    tell_problems(app)
    for part in (health, asking, openai, kept_routes):
        app.include_router(part.router(served))
    app.include_router(sources.router(sources.Sources(served.rag, served.catalog)))
    local = served.settings.host in LOOPBACK and not served.settings.auth
    app.include_router(documents.router(served.jobs, served.uploads, served.catalog, local))
    app.include_router(evaluation_routes.router(served.evaluations))
    app.include_router(of_collections(collections))
    app.include_router(_for_other_processes(served.desk))
    return _with_page(app, served, collections) if page else app


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


def _with_page(app: FastAPI, served: Served, collections: Collections) -> FastAPI:
    """The application with the Gradio page mounted at `/`."""
    from gradio import mount_gradio_app

    from ui import web

    mounted: FastAPI = mount_gradio_app(
        app,
        web.page(served, collections),
        path="/",
        theme=web.theme(),
        css=web.css(),
        head=web.head(),
        ssr_mode=False,
        footer_links=[],
        show_error=True,
        auth_dependency=lambda request: identity_of(request).name,
    )
    return mounted
