"""Conversations and feedback by the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ingest.catalog import Catalog
from rag.finetune.feedback import read_feedback
from rag.settings import Settings
from tests.conftest import OpenRag, ParrotLLM
from ui.api import create_app

RENT = "The monthly rent of the flat is 900 euros."
QUESTION = "What is the monthly rent of the flat?"
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def api(open_rag: OpenRag, catalog: Catalog) -> TestClient:
    rag = open_rag({"lease.md": f"# Rent\n\n{RENT}\n"}, ParrotLLM(RENT))
    return TestClient(create_app(rag, catalog), base_url="http://127.0.0.1:7860")


@pytest.fixture
def ask(api: TestClient) -> Ask:
    def ask_(question: str = QUESTION, conversation: str = "new", **more: object) -> dict[str, Any]:
        body = {"question": question, "conversation": conversation, **more}
        answer: dict[str, Any] = api.post("/api/v1/ask", json=body).json()
        return answer

    return ask_


def listed(api: TestClient, **query: str) -> list[str]:
    return [row["name"] for row in api.get("/api/v1/conversations", params=query).json()["conversations"]]


def test_a_conversation_goes_on_where_it_was(api: TestClient, ask: Ask) -> None:
    first = ask()
    second = ask("And when is it due?", first["conversation"])
    assert "rent" in second["searched"], "what was said before is read"
    assert second["conversation"] == first["conversation"]
    whole = api.get(f"/api/v1/conversations/{first['conversation']}").json()
    assert [turn["id"] for turn in whole["turns"]] == [first["turn"], second["turn"]]
    assert whole["turns"][0]["sentences"] == first["sentences"]


def test_what_is_not_to_be_kept_is_not(api: TestClient) -> None:
    assert api.post("/api/v1/ask", json={"question": QUESTION}).json()["conversation"] == ""
    assert listed(api) == []


def test_a_streamed_answer_is_kept_too(api: TestClient) -> None:
    body = {"question": QUESTION, "conversation": "new", "stream": True}
    last = api.post("/api/v1/ask", json=body).text.strip().split("\n\n")[-1]
    answer = json.loads(last.split("data: ")[1])
    assert api.get(f"/api/v1/conversations/{answer['conversation']}").json()["turns"][0]["id"] == answer["turn"]


def test_conversations_are_found_renamed_exported_and_deleted(api: TestClient, ask: Ask) -> None:
    one, other = ask()["conversation"], ask("zebras juggling quartz")["conversation"]
    assert listed(api) == ["zebras juggling quartz", QUESTION]
    assert listed(api, search="900 euros") == [QUESTION]
    assert api.patch(f"/api/v1/conversations/{one}", json={"name": "The flat"}).json()["name"] == "The flat"
    text = api.get(f"/api/v1/conversations/{one}/markdown")
    assert text.headers["content-type"].startswith("text/markdown")
    assert "[^1]" in text.text
    assert "900 euros" in text.text
    assert api.delete(f"/api/v1/conversations/{other}").json() == {"deleted": 1}
    assert listed(api) == ["The flat"]
    assert api.delete("/api/v1/conversations").json() == {"deleted": 1}
    assert api.get(f"/api/v1/conversations/{one}").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("GET", "/markdown"), ("PATCH", "")],
)
def test_what_there_is_not_is_404_with_one_line(api: TestClient, method: str, path: str) -> None:
    answer = api.request(method, f"/api/v1/conversations/none{path}", json={"name": "x"})
    assert (answer.status_code, answer.json()["kind"]) == (404, "NoConversation")


def test_a_conversation_that_there_is_not_answers_nothing(ask: Ask) -> None:
    assert ask(conversation="0" * 32)["kind"] == "NoConversation"


def test_what_people_say_of_answers_becomes_data_to_learn_from(api: TestClient, ask: Ask, settings: Settings) -> None:
    answer = ask()
    about = {"conversation": answer["conversation"], "turn": answer["turn"]}
    for verdict, correction in (("up", ""), ("down", "1,000 euros")):
        body = {**about, "verdict": verdict, "reason": "wrong", "correction": correction}
        assert api.post("/api/v1/feedback", json=body).status_code == 201
    (sheet,) = read_feedback(settings.home / "feedback.jsonl")
    assert (sheet.asked[0].answer, sheet.asked[0].rejected) == ("1,000 euros", RENT)
    wrong = api.post("/api/v1/feedback", json={**about, "turn": "0" * 32, "verdict": "up"})
    assert (wrong.status_code, "has no turn" in wrong.json()["error"]) == (404, True)
    assert api.post("/api/v1/feedback", json={**about, "verdict": "so so"}).status_code == 422
