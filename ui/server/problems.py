"""Errors -> what a client is told: a status and one line. Knows nothing about routes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from rag.errors import Busy, FilterError, FootnoteError, LLMUnreachable, QuestionError, StoreLocked, StoreUnreachable
from ui.wire import HTTP_ERROR

STATUS: dict[type[FootnoteError], int] = {
    QuestionError: 422,
    FilterError: 422,
    Busy: 503,
    StoreUnreachable: 503,
    StoreLocked: 503,
    LLMUnreachable: 503,
}
OPENAI = "/v1/"
"""What the paths of OpenAI's API begin with."""
RETRY_AFTER = 30
"""Seconds after which a client that was told 503 may try again."""


class Problem(BaseModel):
    """What went wrong, in one line, and the kind of error it is."""

    error: str
    kind: str


REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "Nobody is signed in, or the API key is not known."},
    403: {"model": Problem, "description": "Not for this person or key, or sent by a page of another site."},
    429: {"model": Problem, "description": "Too many requests within a minute; `Retry-After` says how long to wait."},
}
"""What a request may be told before any route hears of it."""
PROBLEMS: dict[int | str, dict[str, Any]] = {
    **REFUSED,
    400: {"model": Problem, "description": "The body cannot be read: it is no text."},
    422: {"model": Problem, "description": "What was sent cannot be used; the message says why."},
    500: {"model": Problem, "description": "Something is wrong with this machine; the message says how to mend it."},
    503: {"model": Problem, "description": "Busy, or a server that is needed does not answer; try again later."},
}


def status_of(error: FootnoteError) -> int:
    """The HTTP status that fits: an error of the server's own parts brings its `status`."""
    own: int = getattr(error, "status", 0)
    return own or next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)


def openai_error(message: str, kind: str, status: int) -> dict[str, Any]:
    """A problem as OpenAI's API tells it."""
    line = " ".join(message.split())
    return {"error": {"message": line, "type": kind, "param": None, "code": status}}


def told(request: Request, error: str, kind: str, status: int) -> JSONResponse:
    """A problem as a response; OpenAI's clients are told in their own form."""
    headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else None
    line = " ".join(error.split())
    if request.url.path.startswith(OPENAI):
        return JSONResponse(openai_error(line, kind, status), status, headers)
    return JSONResponse({"error": line, "kind": kind}, status, headers)


def tell_problems(app: FastAPI) -> None:
    """Let the application tell every error in one line."""

    @app.exception_handler(FootnoteError)
    def failed(request: Request, error: FootnoteError) -> JSONResponse:
        return told(request, str(error), type(error).__name__, status_of(error))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        response = told(request, str(error.detail), HTTP_ERROR, error.status_code)
        response.headers.update(error.headers or {})
        return response

    app.exception_handler(RequestValidationError)(_misunderstood)


def _misunderstood(request: Request, error: RequestValidationError) -> JSONResponse:
    """What is wrong with a body, in one line."""
    faults = [f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors()]
    kind = FilterError if any("filter" in fault["loc"] for fault in error.errors()) else QuestionError
    return told(request, "; ".join(faults), kind.__name__, 422)
