"""Routes: conversations that were kept, and what people say of answers."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ui import transcript
from ui.server.asking import AnswerOut
from ui.server.feedback import Reason, Verdict, given
from ui.server.keeping import NoConversation
from ui.server.kept import Conversation, record
from ui.server.problems import PROBLEMS, Problem
from ui.server.served import Served, owner_of

MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such conversation, or it is somebody else's."}
}


class Listed(BaseModel):
    """A conversation in a list."""

    id: str
    name: str
    created: str
    updated: str
    turns: int


class Listing(BaseModel):
    """Conversations, the one that was added to last first."""

    conversations: list[Listed]


class TurnOut(AnswerOut):
    """A question with its answer."""

    id: str
    time: str
    strictness: str
    filter: dict[str, Any]


class ConversationOut(BaseModel):
    """A whole conversation."""

    id: str
    collection: str
    name: str
    created: str
    updated: str
    turns: list[TurnOut]


class Name(BaseModel):
    """Body of a request to rename."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Lease of the flat"}]})

    name: str = Field(max_length=500, description="The first question again where it is blank.")


class Opinion(BaseModel):
    """Body of what a person says of an answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "conversation": "5f0c0b0f5c3c4f0e8f2f1a2b3c4d5e6f",
                    "turn": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
                    "verdict": "down",
                    "reason": "wrong",
                    "correction": "three months",
                }
            ]
        }
    )

    conversation: str
    turn: str
    verdict: Verdict
    reason: Reason = ""
    comment: str = Field("", max_length=10_000)
    correction: str = Field("", max_length=20_000, description="What would have been right.")


class Deleted(BaseModel):
    """How many there were."""

    deleted: int


def router(served: Served) -> APIRouter:
    """`/api/v1/conversations` and `/api/v1/feedback`."""
    routes = APIRouter(prefix="/api/v1", tags=["conversations"], responses=PROBLEMS)
    _all(routes, served)
    _one(routes, served)
    _opinions(routes, served)
    return routes


def _found(served: Served, request: Request, conversation: str) -> Conversation:
    whole = served.conversations.read(owner_of(request), conversation)
    if whole is None:
        raise NoConversation(f"there is no conversation {conversation!r}; see /api/v1/conversations")
    return whole


def _all(routes: APIRouter, served: Served) -> None:
    store, collection = served.conversations, served.collection

    @routes.get("/conversations", response_model=Listing)
    def list_conversations(
        request: Request,
        search: str = Query("", max_length=500, description="Words of a question, an answer or a name."),
        offset: int = Query(0, ge=0, le=1_000_000),
        limit: int = Query(50, ge=1, le=500),
    ) -> dict[str, Any]:
        """The conversations of whoever asks."""
        owner = owner_of(request)
        rows = (
            store.search(owner, collection, search, offset, limit)
            if search.strip()
            else store.recent(owner, collection, offset, limit)
        )
        return {"conversations": rows}

    @routes.delete("/conversations", response_model=Deleted)
    def delete_conversations(request: Request) -> dict[str, Any]:
        """Delete all of them."""
        return {"deleted": store.delete_all(owner_of(request), collection)}


def _one(routes: APIRouter, served: Served) -> None:
    store = served.conversations

    @routes.get("/conversations/{conversation}", response_model=ConversationOut, responses=MISSING)
    def read_conversation(conversation: str, request: Request) -> dict[str, Any]:
        """A conversation with all of its answers."""
        return record(_found(served, request, conversation))

    @routes.get(
        "/conversations/{conversation}/markdown",
        response_class=Response,
        responses={**MISSING, 200: {"content": {"text/markdown": {}}}},
    )
    def export_conversation(conversation: str, request: Request) -> Response:
        """A conversation as Markdown, with footnotes."""
        whole = _found(served, request, conversation)
        # Letters that every browser takes; the name itself may be in any script.
        name = re.sub(r"[^A-Za-z0-9 -]+", "", whole.name).strip() or "conversation"
        headers = {"Content-Disposition": f'attachment; filename="{name}.md"'}
        return Response(transcript.markdown(whole), media_type="text/markdown; charset=utf-8", headers=headers)

    @routes.patch("/conversations/{conversation}", response_model=ConversationOut, responses=MISSING)
    def rename_conversation(conversation: str, body: Name, request: Request) -> dict[str, Any]:
        """Give it another name."""
        store.rename(owner_of(request), conversation, body.name)
        return record(_found(served, request, conversation))

    @routes.delete("/conversations/{conversation}", response_model=Deleted, responses=MISSING)
    def delete_conversation(conversation: str, request: Request) -> dict[str, Any]:
        """Delete it; what was said of its answers stays."""
        _found(served, request, conversation)
        return {"deleted": int(store.delete(owner_of(request), conversation))}


def _opinions(routes: APIRouter, served: Served) -> None:
    @routes.post("/feedback", status_code=201, response_model=Opinion, responses=MISSING)
    def give_feedback(body: Opinion, request: Request) -> Opinion:
        """Say whether an answer was good, and what would have been right; what was said before is replaced."""
        whole = _found(served, request, body.conversation)
        line = given(whole, body.turn, owner_of(request), body.verdict, body.correction, body.reason, body.comment)
        if line is None:
            raise NoConversation(f"conversation {body.conversation!r} has no turn {body.turn!r}, or not any more")
        served.feedback.add(line)
        return body
