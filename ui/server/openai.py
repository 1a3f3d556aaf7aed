"""Routes for clients of OpenAI's API: chat completions, streaming too, with footnotes in the text and as data.

The last message of the user is the question, those before are the conversation; a system message is not used, because
what an answer may rest on is the documents alone. Knows nothing about how answers are made.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Literal
from uuid import uuid4

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from rag.errors import FootnoteError, QuestionError
from rag.settings import Strictness
from rag.types import Answer, Checked, Finished, Message, Piece, Sentence
from ui import records
from ui.server.answers import Again, Asked, Told
from ui.server.asking import MOST_PASSAGES, AnswerOut, Within, log_texts, within_of
from ui.server.problems import REFUSED, openai_error, status_of
from ui.server.served import Served, client_of
from ui.server.streams import in_threads

MODEL = "footnote"


class Part(BaseModel):
    """A part of a message; only text is read."""

    model_config = ConfigDict(extra="allow")

    type: str
    text: str = ""


class Said(BaseModel):
    """A message."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """What it says."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class Extension(BaseModel):
    """What Footnote understands beside OpenAI's fields: `extra_body={"footnote": {...}}` in their client."""

    model_config = ConfigDict(extra="forbid")

    filter: Within | None = None
    strictness: Strictness | None = None
    passages: int | None = Field(default=None, ge=1, le=MOST_PASSAGES)


class Completion(BaseModel):
    """Body of a chat completion. Fields that are not listed are ignored: answers are as the settings make them."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"model": MODEL, "messages": [{"role": "user", "content": "How long is the notice period?"}]},
            ]
        },
    )

    model: str = MODEL
    messages: list[Said] = Field(min_length=1, max_length=400)
    stream: bool = False
    footnote: Extension = Extension()


class Reply(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"]
    content: str


class Choice(BaseModel):
    """The one answer there is."""

    index: int
    message: Reply
    finish_reason: Literal["stop"]


class Completed(BaseModel):
    """A chat completion; `footnote` is the whole answer, as `/api/v1/ask` gives it."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    footnote: AnswerOut


class Model(BaseModel):
    """The model that answers."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    """There is one."""

    object: Literal["list"]
    data: list[Model]


class Refused(BaseModel):
    """An error, as OpenAI's clients read it."""

    error: dict[str, str | int | None]


_ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": Refused} for status in (400, 422, 500, 503)}
_CHUNK: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "description": "JSON; `[DONE]` at the end."}},
}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"itemSchema": _CHUNK}}},
    **_ERRORS,
}

Words = tuple[str, dict[str, Any]]
"""What is said next, and the whole answer at the end."""


def router(served: Served) -> APIRouter:
    """`/v1/models` and `/v1/chat/completions`."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI-compatible"], responses=REFUSED)

    @routes.get("/models", response_model=Models)
    def models() -> dict[str, Any]:
        """The one model there is: whatever answers now."""
        return {"object": "list", "data": [_model()]}

    @routes.get("/models/{name}", response_model=Model, responses={404: {"model": Refused}, 422: {"model": Refused}})
    def model(name: str) -> Any:
        """The model by its name."""
        if name == MODEL:
            return _model()
        raise HTTPException(404, f"there is no model {name!r}, only {MODEL!r}")

    @routes.post("/chat/completions", response_model=Completed, responses=STREAMED)
    async def complete(body: Completion, request: Request) -> Any:
        """An answer from the documents, footnoted in its text; the whole of it stands in `footnote`."""
        asked = _asked(body, served)
        said = _said(in_threads(served.answers.stream(asked, client_of(request))), served, asked.strictness)
        if not body.stream:
            return await _completed(said, request)
        return StreamingResponse(_chunks(said), media_type="text/event-stream")

    return routes


def _asked(body: Completion, served: Served) -> Asked:
    """The question. Raises QuestionError and FilterError."""
    *before, last = [said for said in body.messages if said.role in ("user", "assistant")] or [Said(role="system")]
    if last.role != "user":
        raise QuestionError("the last message is not the user's; there is nothing to answer")
    history = tuple(Message(said.role, said.text) for said in before if said.text)
    more = body.footnote
    return Asked(last.text, history, within_of(more.filter, served), more.strictness, more.passages)


def _model() -> dict[str, Any]:
    return {"id": MODEL, "object": "model", "created": 0, "owned_by": MODEL}


async def _completed(said: AsyncGenerator[Words], request: Request) -> dict[str, Any]:
    """The whole answer at once. Where whoever asked has gone, the work ends, and nobody reads what is returned."""
    text, answer = "", dict[str, Any]()
    async with aclosing(said):
        async for words, answer in said:
            text += words
            if not answer and await request.is_disconnected():
                break
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {**_about("chat.completion"), "choices": [choice], "footnote": answer}


async def _chunks(said: AsyncGenerator[Words]) -> AsyncIterator[bytes]:
    """The answer as it is written."""
    about = _about("chat.completion.chunk")

    def chunk(delta: dict[str, Any], end: str | None = None, **more: Any) -> bytes:
        return _line({**about, "choices": [{"index": 0, "delta": delta, "finish_reason": end}], **more})

    async with aclosing(said):
        yield chunk({"role": "assistant", "content": ""})
        try:
            async for words, answer in said:
                yield chunk({"content": words}) if words else b": working\n\n"
                if answer:
                    yield chunk({}, "stop", footnote=answer)
        except FootnoteError as error:
            yield _line(openai_error(str(error), type(error).__name__, status_of(error)))
        yield b"data: [DONE]\n\n"


async def _said(told: AsyncGenerator[Told], served: Served, strictness: Strictness | None) -> AsyncGenerator[Words]:
    """What is said next, sentence by sentence as each was checked; the last time with the answer.

    What was said cannot be taken back: where sentences may be left out, nothing is said before the end.
    """
    text, spoken, cached, mark = "", _Spoken(), False, (strictness or served.settings.strictness) == "mark"
    async with aclosing(told):
        async for each in told:
            words, answer = "", dict[str, Any]()
            cached = cached or isinstance(each, Again)
            if isinstance(each, Piece):
                text += each.text
            elif isinstance(each, Checked) and mark and each.index == spoken.count:
                words = spoken.sentence(each.sentence, text)
            elif isinstance(each, Finished):
                words = spoken.end(each.answer)
                log_texts(each, served)
                answer = {**records.answer(each.answer), "cached": cached}
            yield words, answer


class _Spoken:
    """What was said of an answer so far, with footnote marks."""

    def __init__(self) -> None:
        self.count, self._end = 0, 0

    def sentence(self, sentence: Sentence, text: str) -> str:
        """The next sentence as it stands in the text, behind what is between it and the last one, and its marks."""
        start = max(self._end, text.find(sentence.text, self._end))
        between = text[self._end : start] if self.count else ""
        self.count, self._end = self.count + 1, start + len(sentence.text)
        marks = "".join(f"[{citation.number}]" for citation in sentence.citations)
        return f"{between}{sentence.text}{marks or (f' ({records.UNSUPPORTED})' if sentence.unsupported else '')}"

    def end(self, answer: Answer) -> str:
        """The sentences that were not said yet, and the footnotes."""
        if answer.abstained:
            return answer.text if not self.count else f"\n\n{answer.text}"
        rest = "".join(self.sentence(each, answer.text) for each in answer.sentences[self.count :])
        notes = {each.number: each for sentence in answer.sentences for each in sentence.citations}
        lines = [f"[{number}] {records.place(notes[number])}" for number in sorted(notes)]
        return "\n\n".join(filter(None, (rest, "\n".join(lines)))) if rest or not lines else "\n\n" + "\n".join(lines)


def _about(kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": MODEL}


def _line(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
