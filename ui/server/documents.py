"""Documents and jobs over HTTP: lists, uploads, removals, and what goes on, told as it happens.

Knows nothing about who may do what, or how documents are read.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from enum import Enum
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from ingest.catalog import Catalog, Row
from rag.errors import IngestError
from rag.filter import Pairs, plain
from ui import records
from ui.server import document_models as models
from ui.server.access import who
from ui.server.binding import NotHere, is_loopback
from ui.server.joblist import JobConflict, State, record
from ui.server.jobs import Jobs
from ui.server.jobwatch import END, Event, progress
from ui.server.problems import PROBLEMS, Problem
from ui.server.streams import LIVE, event
from ui.server.uploads import FILES, METADATA, Uploads

AT_ONCE = 3.0
"""Seconds that a removal is waited for, before it is said to be under way."""
FAILURES = 1000
"""Failures, and names, that one job is told with; in a list there are fewer."""
RESULTS = 100
RETRY_MS = 2000
"""Milliseconds after which a browser connects again, where the stream broke off."""


class NoSuchDocument(IngestError):
    """The catalog has no document by an id."""

    status = 404


class NotUnderstood(IngestError):
    """A request whose values cannot be used."""

    status = 422


_SAYS = {
    403: "Only for programs of the server's own machine.",
    404: "There is none by this id.",
    409: "It does not go with what is the case; the message says why.",
    413: "Larger than the settings allow.",
    422: "The request cannot be used.",
    507: "The disk has no room.",
}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FILES],
                    "additionalProperties": False,
                    "properties": {
                        FILES: {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "A file name may have folders: `flat/lease.pdf`. The same name replaces.",
                        },
                        METADATA: {
                            "type": "array",
                            "items": {"type": "string", "examples": ["project=Aurora"]},
                            "description": "`key=value`, said about every file of the upload.",
                        },
                    },
                },
            }
        },
    }
}
_STREAM = {
    "description": "Events `progress`, `result` and `end`, with JSON as data; see Progress, Result and Job.",
    "content": {
        "text/event-stream": {
            "itemSchema": {
                "type": "object",
                "required": ["event", "data"],
                "properties": {
                    "event": {"enum": ["progress", "result", "end"]},
                    "data": {"type": "string", "contentMediaType": "application/json"},
                    "id": {"type": "string"},
                },
            },
            "example": f"event: result\nid: 5f0c7a52-1\ndata: {json.dumps(models.RESULT)}\n\n",
        }
    },
}

Sort = Literal["name", "pages", "chunks", "size", "updated"]
_KEYS: dict[Sort, Callable[[Row], Any]] = {
    "name": lambda row: row.doc.casefold(),
    "pages": lambda row: row.pages,
    "chunks": lambda row: row.chunks,
    "size": lambda row: row.size,
    "updated": lambda row: row.updated_at,
}


def router(jobs: Jobs, uploads: Uploads, catalog: Catalog, local: bool) -> APIRouter:
    """The routes below `/api/v1` about documents and jobs.

    Args:
        jobs: carries out what is asked for; started and closed elsewhere.
        uploads: keeps the files that are sent.
        catalog: where the documents of the jobs' collection are kept.
        local: whether programs of this machine may have paths of it ingested.
    """
    routes = APIRouter(prefix="/api/v1", responses=PROBLEMS)
    _Documents(jobs, uploads, catalog).join(routes)
    _Jobs(jobs).join(routes, local)
    return routes


class _Documents:
    """What there is, and what comes and goes."""

    def __init__(self, jobs: Jobs, uploads: Uploads, catalog: Catalog) -> None:
        self._jobs, self._uploads, self._catalog = jobs, uploads, catalog

    def join(self, routes: APIRouter) -> None:
        """Add the routes."""
        at, tags = "/documents", list[str | Enum](["documents"])
        routes.add_api_route(at, self.list_documents, methods=["GET"], tags=tags, responses=_problems(422))
        routes.add_api_route(
            at, self.add_documents, methods=["POST"], tags=tags, status_code=202, openapi_extra=_FORM,
            responses=_problems(413, 422, 507),
        )  # fmt: skip
        at = "/documents/{doc_id}"
        routes.add_api_route(at, self.get_document, methods=["GET"], tags=tags, responses=_problems(404))
        responses = _problems(404, 409)
        responses[202] = {"model": models.Removed, "description": "Other work comes first; see the job."}
        routes.add_api_route(at, self.remove_document, methods=["DELETE"], tags=tags, responses=responses)

    def list_documents(
        self,
        status: Literal["indexed", "failed"] | None = None,
        search: Annotated[str, Query(max_length=500, description="Part of a path or a title.")] = "",
        sort: Sort = "name",
        descending: bool = False,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    ) -> models.Documents:
        """The documents of the collection with what became of them, and totals of all of them."""
        rows, wanted = self._catalog.rows(self._jobs.collection), plain(search)
        found = [row for row in rows if status in (None, row.status) and wanted in plain(f"{row.doc}\n{row.title}")]
        found.sort(key=_KEYS[sort], reverse=descending)
        listed = [self._document(row) for row in found[offset : offset + limit]]
        return models.Documents(documents=listed, found=len(found), totals=_totals(rows))

    def get_document(self, doc_id: str) -> models.DocumentWithMembers:
        """One document, with those that were found in it."""
        row = self._row(doc_id)
        inside = [self._document(member) for member in self._catalog.members(self._jobs.collection, row.doc)]
        return models.DocumentWithMembers(**self._document(row).model_dump(), inside=inside)

    async def add_documents(self, request: Request) -> models.Job:
        """Upload one or more files, and ingest them; what became of them stands in the job."""
        length = request.headers.get("content-length", "")
        told_length = int(length) if length.isascii() and length.isdigit() else None
        try:
            upload = await self._uploads.store(request.stream(), request.headers.get("content-type", ""), told_length)
        except ClientDisconnect as error:
            raise NotUnderstood("the upload broke off") from error
        job = await asyncio.to_thread(self._jobs.ingest, upload.paths, False, upload.metadata, who(request))
        return models.Job(**record(job))

    async def remove_document(self, doc_id: str, request: Request, response: Response) -> models.Removed:
        """Take a document out, with what was found in it; an uploaded file is deleted, any other one stays."""
        row = await asyncio.to_thread(self._row, doc_id)
        if row.parent:
            raise JobConflict(f"{row.doc} was found in {row.parent}; remove that document")
        job = await asyncio.to_thread(self._jobs.remove, [row.doc], who(request))
        job = await self._jobs.settled(job.id, AT_ONCE)
        if job.state == "failed":
            raise IngestError(job.error)
        response.status_code = 200 if job.over else 202
        removed = [result.doc for result in self._jobs.results(job.id)]
        return models.Removed(removed=removed, job=models.Job(**record(job)))

    def _row(self, doc_id: str) -> Row:
        row = next((row for row in self._catalog.rows(self._jobs.collection) if row.doc_id == doc_id), None)
        if row is None:
            raise NoSuchDocument(f"there is no document {doc_id[:80]!r}; GET /api/v1/documents lists those there are")
        return row

    def _document(self, row: Row) -> models.Document:
        name = self._uploads.name_of(row.doc)
        return models.Document(
            **records.document(row.document),
            name=name or PurePath(row.doc).name,
            uploaded=name is not None,
            parent=row.parent,
            members=row.members,
            added=row.first_seen,
            updated=row.updated_at,
        )


class _Jobs:
    """What was asked for, and what goes on."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def join(self, routes: APIRouter, local: bool) -> None:
        """Add the routes; `local` for paths of this machine."""
        at, tags = "/jobs", list[str | Enum](["jobs"])
        routes.add_api_route(at, self.list_jobs, methods=["GET"], tags=tags, responses=_problems(422))
        if local:
            routes.add_api_route(
                at, self.add_job, methods=["POST"], tags=tags, status_code=202, responses=_problems(403, 422)
            )
        at = "/jobs/{job_id}"
        routes.add_api_route(at, self.get_job, methods=["GET"], tags=tags, responses=_problems(404))
        problems = _problems(404, 409)
        routes.add_api_route(
            f"{at}/stop", self.stop_job, methods=["POST"], tags=tags, status_code=202, responses=problems
        )
        routes.add_api_route(
            f"{at}/retry", self.retry_job, methods=["POST"], tags=tags, status_code=202, responses=problems
        )
        streams: dict[int | str, dict[str, Any]] = {200: _STREAM, 204: {"description": "Its end was told before."}}
        routes.add_api_route(
            f"{at}/events", self.watch_job, methods=["GET"], tags=tags, response_model=None,
            response_class=StreamingResponse, responses={**streams, **_problems(404)},
        )  # fmt: skip

    def list_jobs(
        self, state: State | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 50
    ) -> models.JobsList:
        """The last jobs, newest first."""
        found = [models.Job(**record(job)) for job in self._jobs.newest(state, limit)]
        return models.JobsList(jobs=found, waiting=self._jobs.count("waiting"), running=self._jobs.count("running"))

    def add_job(self, order: models.PathOrder, request: Request) -> models.Job:
        """Ingest files and folders of the server's machine."""
        if request.client is None or not is_loopback(request.client.host):
            raise NotHere("paths are taken from programs of the server's own machine alone; upload the files")
        job = self._jobs.ingest(_there(order.paths), order.prune, _said(order.metadata), who(request))
        return models.Job(**record(job))

    def get_job(self, job_id: str) -> models.JobWithResults:
        """One job, with how far it is, and what became of its documents."""
        job = self._jobs.get(job_id)
        how_far = models.Progress(**progress(job.state, self._jobs.progress(job_id)))
        results = [models.Result(**asdict(result)) for result in self._jobs.results(job_id)[-RESULTS:]]
        return models.JobWithResults(**record(job, FAILURES), progress=how_far, results=results)

    def stop_job(self, job_id: str) -> models.Job:
        """A waiting job will not run; a running one ends at the next border between documents."""
        return models.Job(**record(self._jobs.stop(job_id)))

    def retry_job(
        self,
        job_id: str,
        request: Request,
        failed_only: Annotated[bool, Query(description="Only the documents that are failed now.")] = False,
    ) -> models.Job:
        """A new job that does once more what one did that is over."""
        return models.Job(**record(self._jobs.retry(job_id, failed_only, who(request))))

    def watch_job(
        self, job_id: str, last_event_id: Annotated[str, Header(description="To go on from there.")] = ""
    ) -> Response:
        """What happens to a job, until it is over. Whoever stops listening stops nothing else."""
        job = self._jobs.get(job_id)
        if job.over and last_event_id == END:
            return Response(status_code=204)  # which tells a browser not to connect once more
        told_of = sent(self._jobs.watch(job_id, last_event_id))
        return StreamingResponse(told_of, media_type="text/event-stream", headers=LIVE)


async def sent(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Events as a stream of server-sent events."""
    async with aclosing(events):
        yield f"retry: {RETRY_MS}\n\n".encode()
        async for each in events:
            yield b": still here\n\n" if each.kind == "beat" else event(each.kind, each.data, each.id)


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """How a route may fail, for the API's description."""
    return {code: {"model": Problem, "description": _SAYS[code]} for code in codes}


def _totals(rows: Sequence[Row]) -> models.Totals:
    return models.Totals(
        documents=len(rows),
        chunks=sum(row.chunks for row in rows),
        bytes=sum(row.size for row in rows if not row.parent),
        failed=sum(row.status == "failed" for row in rows),
    )


def _there(names: Sequence[str]) -> list[Path]:
    """The paths, if they mean something on this machine."""
    for name in names:
        if not Path(name).is_absolute() or "\x00" in name:
            raise NotUnderstood(f"paths must be absolute, found {name[:200]!r}")
        if not os.path.lexists(name):
            raise NotUnderstood(f"no such file or folder: {name[:200]}; check the spelling")
    return [Path(name) for name in names]


def _said(metadata: dict[str, str | list[str]]) -> Pairs:
    each = [(key, [value] if isinstance(value, str) else value) for key, value in metadata.items()]
    return tuple((key.strip(), value.strip()) for key, values in each for value in values if key.strip())
