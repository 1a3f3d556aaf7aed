"""The OpenAI-compatible routes, asked by the real client of OpenAI."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient

from ingest.catalog import Catalog
from tests.conftest import OpenRag, ParrotLLM
from ui.api import create_app

RENT = "The monthly rent of the flat is 900 euros."
INVENTED = "Zebras juggle quartz vigorously."
ASKED: Any = [{"role": "user", "content": "monthly rent of the flat"}]
Open = Callable[..., openai.OpenAI]


@pytest.fixture
def client(open_rag: OpenRag, catalog: Catalog) -> Open:
    def open_(llm: ParrotLLM | None = None, **changes: object) -> openai.OpenAI:
        rag = open_rag({"lease.md": f"# Rent\n\n{RENT}\n"}, llm or ParrotLLM(RENT), **changes)
        http = TestClient(create_app(rag, catalog), base_url="http://127.0.0.1:7860")
        return openai.OpenAI(base_url="http://127.0.0.1:7860/v1", api_key="none", http_client=http, max_retries=0)

    return open_


def test_models(client: Open) -> None:
    api = client()
    assert [model.id for model in api.models.list()] == ["footnote"]
    assert api.models.retrieve("footnote").id == "footnote"
    with pytest.raises(openai.NotFoundError, match="only 'footnote'"):
        api.models.retrieve("gpt-9")


def test_an_answer_has_its_footnotes_in_the_text_and_as_data(client: Open) -> None:
    done = client().chat.completions.create(model="footnote", messages=ASKED)
    (choice,) = done.choices
    assert choice.message.content == f"{RENT}[1]\n\n[1] lease.md › Rent"
    assert choice.finish_reason == "stop"
    (sentence,) = done.footnote["sentences"]  # type: ignore[attr-defined]
    assert sentence["citations"][0]["quote"] == RENT


def test_what_is_not_supported_is_marked_in_the_text(client: Open) -> None:
    done = client(ParrotLLM(f"{RENT} {INVENTED}")).chat.completions.create(model="footnote", messages=ASKED)
    assert done.choices[0].message.content.startswith(  # type: ignore[union-attr]
        f"{RENT}[1] {INVENTED} (not found in your documents)"
    )


@pytest.mark.parametrize("strictness", ["mark", "drop", "refuse"])
def test_what_is_streamed_is_what_comes_at_once(client: Open, strictness: str) -> None:
    api = client(ParrotLLM(f"{RENT}\n\n{INVENTED} {RENT}"))
    more = {"footnote": {"strictness": strictness}}
    whole = api.chat.completions.create(model="footnote", messages=ASKED, extra_body=more)
    chunks = list(api.chat.completions.create(model="footnote", messages=ASKED, extra_body=more, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert streamed == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert chunks[-1].footnote["answer"] == whole.footnote["answer"]  # type: ignore[attr-defined]
    assert (INVENTED in streamed) is (strictness == "mark")


def test_sentences_come_one_by_one(client: Open) -> None:
    api = client(ParrotLLM(f"{RENT} The flat has a monthly rent of 900 euros."))
    chunks = [
        chunk.choices[0].delta.content
        for chunk in api.chat.completions.create(model="footnote", messages=ASKED, stream=True)
        if chunk.choices[0].delta.content
    ]
    assert chunks[0] == f"{RENT}[1]"
    assert len(chunks) == 3  # two sentences and the footnotes


def test_a_question_that_the_documents_cannot_answer_is_declined(client: Open) -> None:
    messages: Any = [{"role": "user", "content": "zebras juggling quartz"}]
    done = client().chat.completions.create(model="footnote", messages=messages)
    assert done.footnote["abstained"]  # type: ignore[attr-defined]
    assert done.choices[0].message.content == done.footnote["answer"]  # type: ignore[attr-defined]


def test_a_conversation_makes_a_follow_up_stand_alone_and_a_system_message_is_not_obeyed(client: Open) -> None:
    llm = ParrotLLM()
    messages: Any = [
        {"role": "system", "content": "Answer in French."},
        {"role": "user", "content": [{"type": "text", "text": "What is the monthly rent of the flat?"}]},
        {"role": "assistant", "content": RENT},
        {"role": "user", "content": "And when is it due?"},
    ]
    done = client(llm).chat.completions.create(model="footnote", messages=messages)
    assert "rent" in done.footnote["searched"]  # type: ignore[attr-defined]
    assert not any("French" in message.content for message in llm.asked[0])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"messages": [{"role": "user", "content": " "}]}, "empty"),
        ({"messages": [{"role": "system", "content": "Be nice."}]}, "the last message is not the user's"),
        ({"messages": ASKED, "extra_body": {"footnote": {"filter": {"types": ["pdf"]}}}}, "the type 'pdf'"),
        ({"messages": ASKED, "extra_body": {"footnote": {"strict": True}}}, "footnote.strict: Extra"),
    ],
)
def test_what_cannot_be_answered_is_a_422_with_one_line(client: Open, body: dict[str, Any], says: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=re.escape(says)):
        client().chat.completions.create(model="footnote", **body)


def test_a_failure_while_streaming_reaches_the_client(client: Open) -> None:
    api = client(ParrotLLM(fails="out of memory"))
    with pytest.raises(openai.InternalServerError, match="out of memory"):
        api.chat.completions.create(model="footnote", messages=ASKED)
    with pytest.raises(openai.APIError, match="out of memory"):
        list(api.chat.completions.create(model="footnote", messages=ASKED, stream=True))
