"""Evaluations over HTTP: started, listed, watched, stopped, and told as pages. Knows nothing about how they are made.

Access is decided before: reading is for everybody who signed in, starting and stopping for editors. Reports that hold
what other people asked are for editors, too.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from enum import Enum
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from eval import report as reports
from rag.errors import AccessError, EvalError
from ui.server import evaluation_models as models
from ui.server.access import IDENTITY, who
from ui.server.evaluations import Evaluations, Event, as_record
from ui.server.problems import PROBLEMS, Problem
from ui.server.runlist import from_feedback
from ui.server.streams import LIVE, event, in_threads
from ui.trust import as_record as trusted
from ui.trust import trust

_SAYS = {
    403: "Not for readers, or only for programs of the server's own machine.",
    404: "There is none by this name.",
    409: "It does not go with what is the case; the message says why.",
    422: "The request cannot be used.",
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `progress` and, as the last one, `end`, with JSON as data; see Evaluation.",
        "content": {
            "text/event-stream": {
                "itemSchema": {
                    "type": "object",
                    "required": ["event", "data"],
                    "properties": {
                        "event": {"enum": ["progress", "end"]},
                        "data": {"type": "string", "contentMediaType": "application/json"},
                    },
                },
                "example": f"event: progress\ndata: {json.dumps(models.RUNNING)}\n\n",
            }
        },
    }
}
_PAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page that needs nothing but itself.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    }
}


class NotComparable(EvalError):
    """Runs that cannot stand on one page."""

    status = 422


class ForEditors(AccessError):
    """A report that holds what other people asked."""

    status = 403


def router(evaluations: Evaluations) -> APIRouter:
    """The routes below `/api/v1/evaluations`; what they start is closed elsewhere."""
    routes = APIRouter(prefix="/api/v1/evaluations", responses=PROBLEMS)
    _Routes(evaluations).join(routes)
    return routes


class _Routes:
    def __init__(self, evaluations: Evaluations) -> None:
        self._evaluations = evaluations

    def join(self, routes: APIRouter) -> None:
        """Add the routes."""
        tags, one = list[str | Enum](["evaluations"]), "/{evaluation}"
        routes.add_api_route("", self.list_evaluations, methods=["GET"], tags=tags)
        routes.add_api_route(
            "", self.start_evaluation, methods=["POST"], tags=tags, status_code=202,
            responses=_problems(403, 404, 409, 422),
        )  # fmt: skip
        routes.add_api_route("/sets", self.list_sets, methods=["GET"], tags=tags)
        routes.add_api_route("/agreement", self.checker_agreement, methods=["GET"], tags=tags)
        routes.add_api_route(one, self.get_evaluation, methods=["GET"], tags=tags, responses=_problems(404))
        routes.add_api_route(
            f"{one}/stop", self.stop_evaluation, methods=["POST"], tags=tags, status_code=202,
            responses=_problems(404, 409),
        )  # fmt: skip
        routes.add_api_route(
            f"{one}/events", self.watch_evaluation, methods=["GET"], tags=tags, response_model=None,
            response_class=StreamingResponse, responses={**_STREAM, **_problems(404)},
        )  # fmt: skip
        routes.add_api_route(
            f"{one}/report", self.evaluation_report, methods=["GET"], tags=tags, response_model=None,
            response_class=Response, responses={**_PAGE, **_problems(403, 404, 409, 422)},
        )  # fmt: skip

    def list_evaluations(self) -> models.Evaluations:
        """Every run that is kept, whoever made it: this server, or `footnote eval`."""
        listed = [models.Evaluation(**as_record(each)) for each in self._evaluations.listed()]
        return models.Evaluations(evaluations=listed)

    def start_evaluation(self, order: models.Order, request: Request) -> models.Evaluation:
        """Ask the questions of a set, one at a time beside those of people, and measure the answers.

        Where the same was cut short, with the same settings and models, it goes on.
        """
        host = request.client.host if request.client else ""
        set_ = self._evaluations.sets.place(order.path, host) if order.path else order.set
        return models.Evaluation(**as_record(self._evaluations.start(set_, order.limit, who(request))))

    def list_sets(self) -> models.KnownSets:
        """What can be asked by its name: sets in the folder `sets` of the home directory, and stored feedback."""
        found = [models.KnownSet(**each._asdict()) for each in self._evaluations.sets.listed()]
        return models.KnownSets(sets=found)

    def checker_agreement(self) -> models.Agreement:
        """How far the checker that faithfulness rests on agrees with people."""
        return models.Agreement(**trusted(trust(self._evaluations)))

    def get_evaluation(self, evaluation: str) -> models.Evaluation:
        """One evaluation: how far it is, and its main figures once it is finished."""
        return models.Evaluation(**as_record(self._evaluations.get(evaluation)))

    def stop_evaluation(self, evaluation: str) -> models.Evaluation:
        """End one that goes on. What was measured is kept; starting the same again goes on."""
        return models.Evaluation(**as_record(self._evaluations.stop(evaluation)))

    def watch_evaluation(self, evaluation: str) -> Response:
        """What happens to an evaluation, until it does not go on any more. Who stops listening stops nothing else."""
        self._evaluations.get(evaluation)
        told = sent(self._evaluations.watch(evaluation))
        return StreamingResponse(told, media_type="text/event-stream", headers=LIVE)

    def evaluation_report(
        self,
        evaluation: str,
        request: Request,
        against: Annotated[str, Query(description="Another one, which this one is compared with.")] = "",
    ) -> Response:
        """A page with the figures, plots and every question of one evaluation, or of two side by side."""
        runs = [self._evaluations.read(id_) for id_ in ([against] if against else []) + [evaluation]]
        if not _editor(request) and any(map(from_feedback, runs)):
            raise ForEditors("this report holds what other people asked and said, and is for editors")
        try:
            record = reports.report(runs)
        except EvalError as error:
            raise NotComparable(str(error)) from error
        headers = {"Content-Security-Policy": policy(), "Cache-Control": "no-store"}
        return HTMLResponse(reports.page(runs, record), headers=headers)


async def sent(told: Generator[Event]) -> AsyncGenerator[bytes]:
    """Events as a stream of server-sent events."""
    async with aclosing(in_threads(told)) as events:
        async for each in events:
            yield b": still here\n\n" if each.kind == "beat" else event(each.kind, as_record(each.evaluation))


def policy() -> str:
    """What a report may do in a browser: run its one script, as a page of no site, and ask nothing of the network."""
    script = files("eval").joinpath("report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts"
    )


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """How a route may fail, for the API's description."""
    return {code: {"model": Problem, "description": _SAYS[code]} for code in codes}


def _editor(request: Request) -> bool:
    """Whether whoever asks may change things; nobody is let in without an identity."""
    return getattr(request.scope.get(IDENTITY), "role", "reader") == "editor"
