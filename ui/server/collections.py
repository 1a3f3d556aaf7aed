"""The other collections of this home, each below an address of its own: `/c/NAME/` is to it what `/` is to the first.

One is opened when it is first asked for, or where its jobs were cut short. Models, turns and sign-ins are shared.
Knows nothing about what is served below an address.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest import quarantine
from rag.errors import FootnoteError
from rag.settings import COLLECTION_NAME
from rag.store.opening import discard_index, index_identity, indexes
from ui.desk import Desk
from ui.server.access import COLLECTIONS
from ui.server.problems import PROBLEMS, Problem, status_of, told
from ui.server.served import Served
from ui.server.uploads import Uploads


class NoSuchCollection(FootnoteError):
    """There is no collection by a name."""

    status = 404


class CollectionExists(FootnoteError):
    """There is a collection by a name that a new one was to have."""

    status = 409


class FirstCollection(FootnoteError):
    """The one that the server was started with is to be deleted."""

    status = 409


class New(BaseModel):
    """Body of a request to make a collection."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "contracts"}]})

    name: str = Field(pattern=COLLECTION_NAME, description="Letters, digits, `.`, `_` and `-`.")


class CollectionOut(BaseModel):
    """A collection, and what is in it."""

    name: str
    documents: int
    passages: int
    address: str = Field(description="What goes before the paths of this API, and of the page, for this collection.")


class CollectionsOut(BaseModel):
    """All collections of this server."""

    collections: list[CollectionOut]


class Collections:
    """The collections of one server: an ASGI application for what is below `COLLECTIONS`."""

    def __init__(self, first: Served, build: Callable[[Served], FastAPI], url: str = "", token: str = "") -> None:
        """Where the first one is served.

        Args:
            first: the collection at `/`.
            build: makes the application of one collection.
            url: where people find this server, for processes that want to write one of its collections.
            token: with which such a process hands its work in.
        """
        self.first, self._build, self._url, self._token = first, build, url, token
        self._apps: dict[str, FastAPI] = {}
        self._opening, self._running = asyncio.Lock(), AsyncExitStack()

    @property
    def served(self) -> list[Served]:
        """Those that are open."""
        return [self.first, *(app.state.served for app in self._apps.values())]

    def names(self) -> list[str]:
        """All there are, sorted; made by this process or by others."""
        found = {*self.first.catalog.collections(), *indexes(self.first.settings)}
        return sorted(found | {each.collection for each in self.served})

    async def start(self) -> None:
        """Begin with what was cut short in any collection."""
        known = await run_in_threadpool(self.names)
        self.first.jobs.start()
        for name in await run_in_threadpool(self.first.jobs.elsewhere):
            if name in known:
                with suppress(FootnoteError):  # told to whoever asks for that collection
                    await self._app(name)

    async def make(self, name: str) -> None:
        """Make an empty one, and open it. Raises CollectionExists."""
        if name in await run_in_threadpool(self.names):
            raise CollectionExists(f"there is a collection {name!r} already; choose another name")
        await self._app(name, create=True)

    async def delete(self, name: str) -> None:
        """Remove one with its documents, uploads, jobs and conversations. What goes on in it is stopped.

        Killed on the way, one with documents is listed still, without some of that, and can be deleted again.

        Raises:
            FirstCollection: this server was started with it.
            NoSuchCollection: there is none by this name.
            StoreLocked: another process has it open; nothing happened.
            FootnoteError: something of it cannot be removed.
        """
        if name == self.first.collection:
            raise FirstCollection(
                f"the server was started with {name!r}; start it with another --collection to delete this one"
            )
        async with self._opening:
            await run_in_threadpool(self._check_there, name)
            app = self._apps.pop(name, None)
            await run_in_threadpool(self._deleted, name, app.state.served if app else None)

    def _deleted(self, name: str, served: Served | None) -> None:
        first = self.first
        settings = first.settings.model_copy(update={"collection": name})
        if served is not None:
            served.stop()
            served.close()
            served.rag.close()
        discard_index(settings)  # first, since it may be in use elsewhere
        Uploads(settings.home, name).clear()
        first.jobs.forget(name)
        first.conversations.forget(name)
        first.catalog.forget(name)  # last, since its documents are what it is listed by
        quarantine.write(settings, first.catalog)

    def _check_there(self, name: str) -> None:
        names = self.names()
        if name not in names or not re.fullmatch(COLLECTION_NAME, name):
            raise NoSuchCollection(f"no collection {name!r}; there are: {', '.join(names)}")

    def close(self) -> None:
        """Let go of all of them, once nothing is asked any more."""
        for each in self.served:
            each.close()
        for each in self.served[1:]:
            each.rag.close()

    async def leave(self) -> None:
        """End what runs beside the applications."""
        await self._running.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        root = scope.get("root_path", "")
        name, slash, rest = scope["path"].removeprefix(f"{root}/").partition("/")
        if scope["type"] == "http" and name == self.first.collection:
            answer: ASGIApp = _moved(scope, f"{root.removesuffix(COLLECTIONS)}/{rest}")
        elif scope["type"] == "http" and not slash:
            answer = _moved(scope, f"{root}/{name}/")
        else:
            answer = await self._below(scope, name)
        below: Scope = {**scope, "root_path": f"{root}/{name}"}
        await answer(below, receive, send)
        scope["route"] = below.get("route")  # for the log and the counters

    async def _below(self, scope: Scope, name: str) -> ASGIApp:
        try:
            return await self._app(name)
        except FootnoteError as error:
            return told(Request(scope), str(error), type(error).__name__, status_of(error))

    async def _app(self, name: str, create: bool = False) -> FastAPI:
        """The application of a collection, opened where it is not yet.

        Raises:
            NoSuchCollection: there is none by this name.
            StoreError: its index cannot be used, or another process has it open.
        """
        if found := self._apps.get(name):
            return found
        async with self._opening:
            if name not in self._apps:
                served = await run_in_threadpool(self._opened, name, create)
                app = self._build(served)
                await self._running.enter_async_context(app.router.lifespan_context(app))
                served.jobs.start()
                self._apps[name] = app
            return self._apps[name]

    def _opened(self, name: str, create: bool) -> Served:
        first = self.first
        if not create:
            self._check_there(name)
        settings = first.settings.model_copy(update={"collection": name})
        # One with documents and no index is made anew like any other; its documents are ingested again.
        missing = create or index_identity(settings) is None
        rag = first.rag.beside(settings, missing, f"{self._url}/{below(name)}" if self._url else "", self._token)
        try:
            desk = Desk(rag, first.catalog, self._token)
            return Served.of(rag, first.catalog, desk, first.answers.turns, first.evaluations.floor)
        except BaseException:
            rag.close()
            raise


def router(collections: Collections) -> APIRouter:
    """What there is, and new ones."""
    routes = APIRouter(prefix="/api/v1", tags=["collections"], responses=PROBLEMS)

    @routes.get("/collections", response_model=CollectionsOut)
    def list_collections() -> dict[str, Any]:
        """The collections of this server. Every path of this API exists for each of them, behind its address."""
        return {"collections": list(_rows(collections))}

    @routes.post(
        "/collections",
        response_model=CollectionOut,
        status_code=201,
        responses={code: {"model": Problem} for code in (409, 422)},
    )
    async def make_collection(body: New) -> dict[str, Any]:
        """A new collection, without documents."""
        await collections.make(body.name)
        return _row(collections, body.name)

    @routes.delete(
        "/collections/{name}", status_code=204, responses={code: {"model": Problem} for code in (404, 409, 422)}
    )
    async def delete_collection(name: str) -> None:
        """Delete a collection with its documents, uploads, jobs and conversations; feedback and evaluations stay.

        What goes on in it is stopped. The one that the server was started with cannot be deleted.
        """
        await collections.delete(name)

    return routes


def below(name: str) -> str:
    """The address of a collection that is not the first, from the root of the server, without a slash before it."""
    return f"{COLLECTIONS.strip('/')}/{name}"


def _rows(collections: Collections) -> Iterator[dict[str, Any]]:
    return (_row(collections, name) for name in collections.names())


def _row(collections: Collections, name: str) -> dict[str, Any]:
    catalog = collections.first.catalog
    indexed = [document for document in catalog.documents(name) if document.status == "indexed"]
    passages = sum(document.chunks for document in indexed)
    at = "" if name == collections.first.collection else f"/{below(name)}"
    return {"name": name, "documents": len(indexed), "passages": passages, "address": at}


def _moved(scope: Scope, path: str) -> Response:
    query = scope["query_string"].decode("latin-1")
    return RedirectResponse(f"{path}?{query}" if query else path, 307)
