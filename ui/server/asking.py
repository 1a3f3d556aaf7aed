"""Routes: search, and questions with their answers, as one JSON object or as they are written.

Knows nothing about how answers are made, or who may ask.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing
from datetime import date
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from rag.errors import FootnoteError
from rag.filter import Filter
from rag.settings import Strictness
from rag.types import Checked, Finished, Message, Piece, Retrieved
from ui import records
from ui.narrow import checked
from ui.server.answers import Again, Asked, Told, Waiting
from ui.server.keeping import Kept, converse
from ui.server.problems import PROBLEMS, Problem, status_of
from ui.server.served import Served, client_of, owner_of
from ui.server.streams import event, in_threads

log = logging.getLogger("footnote.questions")
MOST_PASSAGES = 50


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


class Query(BaseModel):
    """Body of a search."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"question": "notice period", "k": 3}]})

    question: str = Field(description="What is searched for.")
    k: int = Field(10, ge=1, le=1000, description="How many passages are returned.")
    filter: Within | None = Field(None, description="Which documents to use; all of them without it.")


class Question(BaseModel):
    """Body of a question."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"question": "How long is the notice period?"}]})

    question: str = Field(description="What is asked.")
    history: list[Said] = Field([], max_length=200, description="The conversation so far, oldest message first.")
    filter: Within | None = Field(None, description="Which documents to use; all of them without it.")
    strictness: Strictness | None = Field(None, description="What becomes of sentences without support in an answer.")
    passages: int | None = Field(
        None, ge=1, le=MOST_PASSAGES, description="How many passages are found for the answer."
    )
    conversation: str | None = Field(
        None,
        max_length=64,
        description="Keep the answer in this conversation, whose turns then are the history; `new` begins one.",
    )
    stream: bool = Field(False, description="Tell what happens as server-sent events, the answer last.")


class Via(BaseModel):
    """Raw scores by retriever: cosine for `dense`, BM25 for `bm25`."""

    model_config = ConfigDict(extra="allow")


class Passage(BaseModel):
    """A passage that was found."""

    doc: str
    title: str
    page: int | None
    headings: list[str]
    start: int
    end: int
    score: float
    text: str
    via: dict[str, float]


class Found(BaseModel):
    """What a search found, best first."""

    hits: list[Passage]


class Footnote(BaseModel):
    """A place in a document that supports a sentence."""

    number: int
    doc: str
    title: str
    page: int | None
    headings: list[str]
    start: int
    end: int
    quote: str


class SentenceOut(BaseModel):
    """A sentence of an answer."""

    text: str
    support: float = Field(description="0 to 1.")
    supported: bool
    checkable: bool = Field(description="False where it claims nothing that documents could support.")
    reasons: list[str]
    citations: list[Footnote]


class AnswerOut(BaseModel):
    """A whole answer."""

    question: str
    answer: str
    abstained: bool
    sentences: list[SentenceOut]
    dropped: list[SentenceOut]
    hits: list[Passage]
    timings_ms: dict[str, float | None]
    model: str
    searched: str
    cached: bool = Field(False, description="It was given before.")
    conversation: str = Field("", description="Where it is kept; empty where it is not.")
    turn: str = ""


_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["waiting", "retrieved", "piece", "checked", "answer", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
"""One event of a stream."""
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/event-stream": {"itemSchema": _EVENT}},
        "description": "The answer; with `stream`: `waiting`, `retrieved`, `piece`, `checked`, `answer` or `error`.",
    },
    404: {"model": Problem, "description": "There is no such conversation, or it is somebody else's."},
}


def router(served: Served) -> APIRouter:
    """`/search` and `/ask`."""
    routes = APIRouter(prefix="/api/v1", tags=["questions"], responses=PROBLEMS)

    @routes.post("/search", response_model=Found)
    def search(body: Query) -> dict[str, Any]:
        """The passages that fit a question best; none where the filter matches no document."""
        hits = served.rag.search(body.question, body.k, within=within_of(body.filter, served))
        return {"hits": [records.hit(hit) for hit in hits]}

    @routes.post("/ask", response_model=AnswerOut, responses=STREAMED)
    async def ask(body: Question, request: Request) -> Any:
        """An answer, every sentence checked and footnoted; with a history, to a question that may depend on it."""
        told = in_threads(await run_in_threadpool(_told, body, request, served))
        if body.stream:
            return StreamingResponse(_events(told, served), media_type="text/event-stream")
        return await _whole(told, request, served)

    return routes


def _told(body: Question, request: Request, served: Served) -> Generator[Told | Kept]:
    """What happens to the question of a body. Raises FilterError where it names what there is not."""
    history = tuple(Message(said.role, said.content) for said in body.history)
    asked = Asked(body.question, history, within_of(body.filter, served), body.strictness, body.passages)
    client, conversation = client_of(request), body.conversation
    if conversation is None:
        return served.answers.stream(asked, client)
    store, owner = served.conversations, owner_of(request)
    return converse(served.answers, store, served.collection, asked, client, owner, conversation)


class _Answering:
    """Puts the answer together from what is told."""

    def __init__(self, served: Served) -> None:
        self._served, self._more = served, dict[str, Any]()

    def take(self, told: Told | Kept) -> dict[str, Any]:
        """The whole answer, once it is there; empty until then."""
        if isinstance(told, Again):
            self._more["cached"] = True
        elif isinstance(told, Kept):
            self._more |= {"conversation": told.conversation, "turn": told.turn}
        elif isinstance(told, Finished):
            log_texts(told, self._served)
            return {"cached": False, "conversation": "", "turn": "", **records.answer(told.answer), **self._more}
        return {}


async def _whole(told: AsyncGenerator[Told | Kept], request: Request, served: Served) -> dict[str, Any]:
    """The answer alone. Where whoever asked has gone, the work ends, and nobody reads what is returned."""
    answering, answer = _Answering(served), dict[str, Any]()
    async with aclosing(told):
        async for each in told:
            answer = answering.take(each)
            if not answer and await request.is_disconnected():
                break
    return answer


async def _events(told: AsyncGenerator[Told | Kept], served: Served) -> AsyncIterator[bytes]:
    """What happens, as server-sent events; one that fails ends with its error."""
    answering, ahead = _Answering(served), 0
    async with aclosing(told):
        try:
            async for each in told:
                if isinstance(each, Waiting):
                    yield event("waiting", {"ahead": each.ahead}) if each.ahead != ahead else b": waiting\n\n"
                    ahead = each.ahead
                elif answer := answering.take(each):
                    yield event("answer", answer)
                elif line := _event(each):
                    yield line
        except FootnoteError as error:
            problem = {"error": " ".join(str(error).split()), "kind": type(error).__name__, "status": status_of(error)}
            yield event("error", problem)


def _event(told: Told | Kept) -> bytes:
    if isinstance(told, Retrieved):
        return event("retrieved", {"hits": [records.hit(hit) for hit in told.hits], "searched": told.searched})
    if isinstance(told, Piece):
        return event("piece", {"text": told.text})
    if isinstance(told, Checked):
        return event("checked", {"index": told.index, "sentence": records.sentence(told.sentence)})
    return b""


def log_texts(finished: Finished, served: Served) -> None:
    """Questions and answers tell what documents hold: they are logged where the settings say so."""
    if served.settings.log_texts:
        log.info("asked %r, answered %r", finished.answer.question, finished.answer.text)


def within_of(body: Within | None, served: Served) -> Filter:
    """The filter that a body asks for. Raises FilterError where it names what there is not."""
    return checked(body.filter() if body else Filter(), served.catalog, served.collection)
