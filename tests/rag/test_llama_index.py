"""Footnote among LlamaIndex's own parts: its retrievers, engines, tools and models, on the fakes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import get_response_synthesizer
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata, MessageRole
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.chat_engine import CondensePlusContextChatEngine
from llama_index.core.llms import CustomLLM, MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.tools import QueryEngineTool
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
from pydantic import Field

from ingest.catalog import Catalog
from ingest.pipeline import Ingestion
from rag.answer import Rag
from rag.errors import LLMError, LLMUnreachable, QuestionError, SettingsError
from rag.llama_index import FootnoteChatEngine, FootnoteQueryEngine, FootnoteRetriever, LlamaIndexLLM, with_llm
from rag.prompt import ABSTENTION
from rag.settings import Settings
from rag.store.opening import open_store
from rag.types import Hit, Message
from tests.conftest import ParrotLLM, WordChecker, WordCountEmbedder, make_hit
from tests.test_docs import DOCS, FENCE

DOCUMENTS = {
    "whales.md": "# Whales\n\n## Breath\n\nWhales are mammals that breathe air. A blue whale eats 4 tonnes of krill.",
    "ships.md": "# Ships\n\nIron ships float because they push water aside. The Titanic sank in April 1912.",
    "apples.md": "# Apples\n\nGravity pulls every apple toward the ground.",
}
QUESTION = "What do whales breathe?"
UNRELATED = "zyzzyva quokka"
NEW_SUBJECT = "zyzzyva quokka numbat gnu jabiru"
"""Too many words to be taken for a follow-up question."""
MAMMALS, TITANIC = "Whales are mammals that breathe air.", "The Titanic sank in April 1912."
INVENTED = "Penguins juggle flaming torches nightly."
ASKED = [Message("system", "Be short."), Message("user", "Who are you?")]


class WrittenLLM(CustomLLM):
    """Writes the words it is given. Remembers its prompts, and whether it was stopped or came to its end."""

    says: str = MAMMALS
    prompts: list[str] = Field(default_factory=list)
    written: list[str] = Field(default_factory=list)
    ended: bool = False

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="written-1")

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        self.prompts.append(prompt)
        return CompletionResponse(text=self.says)

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Generator[CompletionResponse]:
        self.prompts.append(prompt)
        return self._words()

    def _words(self) -> Generator[CompletionResponse]:
        try:
            for word in self.says.split():
                self.written.append(word)
                yield CompletionResponse(text=" ".join(self.written), delta=f"{word} ")
        finally:
            self.ended = True


class WholeLLM(WrittenLLM):
    """Gives the whole text so far, and no deltas."""

    def stream_chat(self, messages: Sequence[ChatMessage], **_: Any) -> Generator[ChatResponse]:
        for end in range(1, len(self.says) + 1, 7):
            yield ChatResponse(message=ChatMessage(role="assistant", content=self.says[:end]))
        yield ChatResponse(message=ChatMessage(role="assistant", content=self.says))


class UnstreamedLLM(WrittenLLM):
    """Cannot stream, and says so where it is asked to."""

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Generator[CompletionResponse]:
        raise NotImplementedError


class BrokenLLM(WrittenLLM):
    """Fails after the first word."""

    error: Any

    def _words(self) -> Generator[CompletionResponse]:
        yield CompletionResponse(text="Whales", delta="Whales ")
        raise self.error


class PatientLLM(ParrotLLM):
    """Writes nothing before it is told to go on."""

    def __init__(self) -> None:
        super().__init__(MAMMALS)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        self.begun.set()
        assert self.go_on.wait(30), "nobody could say so: the event loop was blocked"
        yield from super().stream(messages)


class PatientSearch:
    """Finds nothing before it is told to go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def search(self, question: str, k: int) -> list[Hit]:
        assert self.go_on.wait(30), "nobody could say so: the event loop was blocked"
        return [make_hit(question)]


class FoundSearch:
    """Finds what it was given."""

    def __init__(self, *hits: Hit) -> None:
        self.hits = list(hits)

    def search(self, question: str, k: int) -> list[Hit]:
        return self.hits[:k]


Answering = Callable[..., Rag]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rag]:
    """The documents, ingested once for all tests."""
    folder = tmp_path_factory.mktemp("llama")
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    settings, embedder = Settings.load(home=folder / "home", parse_workers=1), WordCountEmbedder()
    with Rag(settings, embedder, open_store(settings, embedder, create=True), None, WordChecker()) as rag:
        catalog = Catalog.open(settings.home / "catalog.sqlite")
        list(Ingestion(settings, embedder, rag.store, catalog).run([folder / name for name in DOCUMENTS]))
        yield rag


@pytest.fixture
def answering(collection: Rag) -> Answering:
    """Opens the collection with a language model, a parrot by default."""
    return lambda llm=None: Rag(
        collection.settings, collection.embedder, collection.store, llm or ParrotLLM(), collection.checker
    )


def ids(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [node.node_id for node in nodes]


def told(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """What a language model was told of the conversation so far."""
    return [(message.role, message.content) for message in messages[1:-1]]


# --- retriever


def test_nodes_are_the_passages(answering: Answering) -> None:
    rag = answering()
    hits = rag.search(QUESTION, 2)
    nodes = FootnoteRetriever(rag, k=2).retrieve(QUESTION)
    assert ids(nodes) == [hit.chunk.id for hit in hits]
    assert [node.score for node in nodes] == [hit.score for hit in hits]
    chunk, node = hits[0].chunk, nodes[0].node
    assert MAMMALS in node.text
    assert node.text == chunk.text
    assert (
        (node.start_char_idx, node.end_char_idx)
        == (chunk.start, chunk.end)
        == (chunk.start, chunk.start + len(node.text))
    )
    assert node.ref_doc_id == chunk.doc_id
    assert node.metadata == {
        "title": "Whales",
        "headings": "Whales > Breath",
        "doc": chunk.doc,
        "file_name": "whales.md",
        "page": None,
        "page_label": None,
        "start": chunk.start,
        "end": chunk.end,
    }


def test_models_see_what_a_passage_is_about_and_not_where_it_is() -> None:
    hit = make_hit("Aurora\t240", page=7, headings=("Ferries", "Capacity"), header="Ship\tPassengers")
    (node,) = FootnoteRetriever(FoundSearch(hit)).retrieve("How many?")
    assert node.metadata["page_label"] == "7"
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        shown = node.get_content(mode)
        assert all(part in shown for part in ("Doc", "Ferries > Capacity", "Ship\tPassengers", "Aurora\t240"))
        assert "/documents" not in shown
        assert "page" not in shown


def test_nodes_survive_a_vector_store() -> None:
    (found,) = FootnoteRetriever(FoundSearch(make_hit("Text.", page=2, headings=("A", "B")))).retrieve("q")
    stored = json.loads(json.dumps(node_to_metadata_dict(found.node, flat_metadata=True)))
    again = metadata_dict_to_node(stored)
    assert (again.node_id, again.metadata, again.ref_doc_id) == (found.node_id, found.metadata, found.node.ref_doc_id)


def test_k_passages_for_text_or_bundle_now_or_awaited(answering: Answering) -> None:
    retriever = FootnoteRetriever(answering(), k=3)
    three = ids(retriever.retrieve(QUESTION))
    assert len(three) == 3
    assert ids(retriever.retrieve(QueryBundle(QUESTION))) == three
    assert ids(asyncio.run(retriever.aretrieve(QUESTION))) == three
    retriever.k = 1
    assert ids(retriever.retrieve(QUESTION)) == three[:1]
    with pytest.raises(QuestionError):
        retriever.retrieve(" ")


def test_no_passages_are_no_search() -> None:
    with pytest.raises(SettingsError, match="k is 0, at least 1"):
        FootnoteRetriever(FoundSearch(), k=0)


def run_beside(waiting: Coroutine[Any, Any, Any], go_on: threading.Event) -> Any:
    """What a coroutine returns that waits for an event, which the event loop sets meanwhile."""

    async def both() -> Any:
        task = asyncio.create_task(waiting)
        await asyncio.sleep(0.01)
        go_on.set()
        return await task

    return asyncio.run(both())


def test_the_event_loop_goes_on_while_passages_are_searched() -> None:
    search = PatientSearch()
    assert run_beside(FootnoteRetriever(search).aretrieve("Text."), search.go_on)[0].text == "Text."


def test_llama_index_answers_from_our_retriever(answering: Answering) -> None:
    llm, retriever = WrittenLLM(), FootnoteRetriever(answering(), k=2)
    engine = RetrieverQueryEngine.from_args(
        retriever, llm=llm, node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=-100)]
    )
    response = engine.query(QUESTION)
    assert str(response) == MAMMALS
    assert ids(response.source_nodes) == ids(retriever.retrieve(QUESTION))
    assert MAMMALS in llm.prompts[0]
    assert str(asyncio.run(engine.aquery(QUESTION))) == MAMMALS
    synthesizer = get_response_synthesizer(llm=llm, streaming=True)
    streamed = RetrieverQueryEngine(retriever, response_synthesizer=synthesizer).query(QUESTION)
    assert "".join(streamed.response_gen).strip() == MAMMALS


def test_llama_index_chats_with_our_retriever(answering: Answering) -> None:
    llm = WrittenLLM()
    # LlamaIndex's default memory leaves a database's thread behind.
    memory = ChatMemoryBuffer.from_defaults(tokenizer_fn=str.split)
    retriever = FootnoteRetriever(answering(), k=1)
    engine = CondensePlusContextChatEngine.from_defaults(retriever, llm=llm, memory=memory)
    response = engine.chat(QUESTION)
    assert response.source_nodes[0].metadata["title"] == "Whales"
    assert MAMMALS in llm.prompts[-1]
    engine.chat("And the Titanic?")  # the model's condensed question is about whales again
    assert len(engine.chat_history) == 4


# --- query engine


def test_a_response_has_the_checked_sentences(answering: Answering) -> None:
    rag = answering(ParrotLLM(f"{MAMMALS} {INVENTED}"))
    response = FootnoteQueryEngine(rag).query(QUESTION)
    answer = rag.answer(QUESTION)
    assert str(response) == answer.text
    assert ids(response.source_nodes) == [hit.chunk.id for hit in answer.hits]
    found = json.loads(json.dumps(response.metadata))
    assert (found["answer"], found["abstained"], found["model"]) == (answer.text, False, "parrot")
    good, bad = found["sentences"]
    assert (good["text"], good["supported"], bad["supported"], bad["citations"]) == (MAMMALS, True, False, [])
    assert good["support"] == answer.sentences[0].support
    citation = good["citations"][0]
    assert (citation["number"], citation["quote"], citation["headings"]) == (1, MAMMALS, ["Whales", "Breath"])
    (node,) = (node for node in response.source_nodes if node.node_id == citation["node_id"])
    start = citation["start"] - node.metadata["start"]
    assert node.text[start : start + len(MAMMALS)] == MAMMALS


def test_a_question_that_is_declined_has_the_closest_passages(answering: Answering) -> None:
    response = FootnoteQueryEngine(answering()).query(UNRELATED)
    assert str(response) == ABSTENTION
    assert response.metadata["abstained"]
    assert response.source_nodes


def test_an_agent_can_use_it_as_a_tool(answering: Answering) -> None:
    engine = FootnoteQueryEngine(answering(ParrotLLM(MAMMALS)))
    tool = QueryEngineTool.from_defaults(engine, name="documents", description="Answers from the documents.")
    output = tool.call(QUESTION)
    assert output.content == MAMMALS
    assert output.raw_output.metadata["sentences"][0]["supported"]


def test_the_event_loop_goes_on_while_an_answer_is_written(answering: Answering) -> None:
    llm = PatientLLM()
    engine = FootnoteQueryEngine(answering(llm))
    assert str(run_beside(engine.aquery(QUESTION), llm.go_on)) == MAMMALS


def test_a_streamed_response_has_its_passages_first_and_its_check_last(answering: Answering) -> None:
    llm = ParrotLLM(MAMMALS)
    response = FootnoteQueryEngine(answering(llm), streaming=True).query(QUESTION)
    assert isinstance(response, StreamingResponse)
    assert response.source_nodes
    assert not response.metadata
    assert not llm.asked
    assert [piece.strip() for piece in response.response_gen] == MAMMALS.split()
    assert response.metadata["sentences"][0]["supported"]


def test_a_streamed_response_can_be_stopped(answering: Answering) -> None:
    llm = ParrotLLM(MAMMALS)
    response = FootnoteQueryEngine(answering(llm), streaming=True).query(QUESTION)
    next(response.response_gen)
    assert not llm.stopped
    response.response_gen.close()
    assert llm.stopped
    assert not response.metadata


def test_a_streamed_response_can_be_awaited_and_stopped(answering: Answering) -> None:
    llm = ParrotLLM(MAMMALS)
    engine = FootnoteQueryEngine(answering(llm), streaming=True)

    async def read() -> None:
        response = await engine.aquery(QUESTION)
        assert isinstance(response, AsyncStreamingResponse)
        assert [piece.strip() async for piece in response.async_response_gen()] == MAMMALS.split()
        assert response.metadata["answer"] == MAMMALS
        response, llm.stopped = await engine.aquery(QUESTION), False
        await anext(response.response_gen)
        assert not llm.stopped
        await response.response_gen.aclose()
        assert llm.stopped

    asyncio.run(read())


def test_a_reader_that_is_cancelled_stops_the_generation(answering: Answering) -> None:
    llm = PatientLLM()
    engine = FootnoteQueryEngine(answering(llm), streaming=True)

    async def cancelled() -> None:
        response = await engine.aquery(QUESTION)
        reader = asyncio.create_task(anext(response.response_gen))
        while not llm.begun.is_set():
            await asyncio.sleep(0.01)
        reader.cancel()
        await asyncio.sleep(0.01)
        llm.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await reader

    asyncio.run(cancelled())
    assert llm.stopped


# --- chat engine


def test_a_conversation_is_told_to_the_model_without_what_was_declined(answering: Answering) -> None:
    llm = ParrotLLM(MAMMALS)
    engine = FootnoteChatEngine(answering(llm))
    response = engine.chat(QUESTION)
    assert (response.response, response.metadata["sentences"][0]["supported"]) == (MAMMALS, True)
    assert response.source_nodes
    assert str(engine.chat(NEW_SUBJECT)) == ABSTENTION
    assert engine.chat("Do whales breathe air?").response == MAMMALS
    assert told(llm.asked[-1]) == [("user", QUESTION), ("assistant", MAMMALS)]
    assert [message.content for message in engine.chat_history][:4] == [QUESTION, MAMMALS, NEW_SUBJECT, ABSTENTION]
    engine.reset()
    assert engine.chat_history == []
    engine.chat(QUESTION)
    assert told(llm.asked[-1]) == []


def test_a_given_history_takes_the_place_of_what_was_said(answering: Answering) -> None:
    llm = ParrotLLM(MAMMALS)
    said = [
        ("system", "You are a pirate."),
        ("assistant", "Hello, I am here to help."),
        ("user", "Never answered."),
        ("user", "What sank?"),
        ("assistant", None),
        ("tool", "lookup"),
        ("chatbot", TITANIC),
    ]
    history = [ChatMessage(role=MessageRole(role), content=content) for role, content in said]
    engine = FootnoteChatEngine(answering(llm), [ChatMessage(role="user", content="Forget me.")])
    engine.chat(QUESTION, history)
    assert told(llm.asked[-1]) == [("user", "What sank?"), ("assistant", TITANIC)]
    assert engine.chat_history[:-2] == history
    assert len(history) == 7


def test_a_streamed_chat_joins_the_history_when_it_is_finished(answering: Answering) -> None:
    engine = FootnoteChatEngine(answering(ParrotLLM(MAMMALS)))
    response = engine.stream_chat(QUESTION)
    assert response.source_nodes
    assert engine.chat_history == []
    assert [piece.strip() for piece in response.response_gen] == MAMMALS.split()
    assert str(response) == MAMMALS
    assert response.metadata["sentences"][0]["supported"]
    assert [message.content for message in engine.chat_history] == [QUESTION, MAMMALS]


def test_a_chat_that_is_stopped_or_fails_leaves_nothing_behind(answering: Answering) -> None:
    llm = ParrotLLM(MAMMALS)
    engine = FootnoteChatEngine(answering(llm))
    for _ in engine.stream_chat(QUESTION).response_gen:
        break
    assert llm.stopped
    llm.fails = "out of memory"
    with pytest.raises(LLMError, match="out of memory"):
        list(engine.stream_chat(QUESTION).response_gen)
    with pytest.raises(LLMError, match="out of memory"):
        engine.chat(QUESTION)
    assert engine.chat_history == []


def test_chats_can_be_awaited(answering: Answering) -> None:
    llm = PatientLLM()
    engine = FootnoteChatEngine(answering(llm))
    assert run_beside(engine.achat(QUESTION), llm.go_on).response == MAMMALS

    async def streamed() -> list[str]:
        response = await engine.astream_chat("Do whales breathe air?")
        return [piece async for piece in response.async_response_gen()]

    llm.go_on.clear()
    assert "".join(run_beside(streamed(), llm.go_on)).strip() == MAMMALS
    assert len(engine.chat_history) == 4


# --- language model


@pytest.mark.parametrize("kind", [WrittenLLM, WholeLLM, UnstreamedLLM])
def test_every_kind_of_llm_can_write_answers(answering: Answering, kind: type[WrittenLLM]) -> None:
    rag = with_llm(answering(), kind())
    answer = rag.answer(QUESTION)
    assert (answer.text, answer.model, answer.abstained) == (MAMMALS, "written-1", False)
    assert answer.sentences[0].supported


def test_another_model_is_asked_to_decline(answering: Answering) -> None:
    llm, bundled = WrittenLLM(), ParrotLLM()
    rag = answering(bundled)
    with_llm(rag, llm).answer(QUESTION)
    rag.answer(QUESTION)
    assert ABSTENTION in llm.prompts[0]
    assert ABSTENTION not in bundled.asked[0][0].content


def test_messages_keep_their_roles_and_the_system_has_the_models_own() -> None:
    class Cohere(WrittenLLM):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(system_role=MessageRole.CHATBOT)

    llm = Cohere()
    assert "".join(LlamaIndexLLM(llm).stream(ASKED)).strip() == MAMMALS
    assert llm.prompts[0].splitlines()[:2] == ["chatbot: Be short.", "user: Who are you?"]
    assert LlamaIndexLLM(llm).name == "custom_llm"


def test_closing_stops_the_llm() -> None:
    llm = WrittenLLM()
    pieces = LlamaIndexLLM(llm).stream(ASKED)
    assert next(pieces) == "Whales "
    assert not llm.ended
    pieces.close()
    assert llm.ended
    assert llm.written == ["Whales"]


def timed_out() -> Exception:
    """As the clients of servers raise it: with the cause below."""
    try:
        try:
            raise TimeoutError
        except TimeoutError as cause:
            raise RuntimeError("Request\ntimed out.") from cause
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (ValueError("bad\nargument"), LLMError, "written-1 failed: bad argument; "),
        (KeyError(), LLMError, "written-1 failed: KeyError; "),
        (ConnectionRefusedError("refused"), LLMUnreachable, "no answer from .* written-1: refused; "),
        (timed_out(), LLMUnreachable, "no answer from .* written-1: Request timed out.; "),
    ],
)
def test_failures_are_ours_in_one_line(answering: Answering, error: Exception, kind: type[LLMError], says: str) -> None:
    with pytest.raises(LLMError, match=says) as caught:
        with_llm(answering(), BrokenLLM(error=error)).answer(QUESTION)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_tokens_are_estimated_or_counted() -> None:
    text = "The whale dived under the ship."
    assert LlamaIndexLLM(MockLLM()).count_tokens(text) >= 7
    assert LlamaIndexLLM(MockLLM(), lambda text: len(text.split())).count_tokens(text) == 6


# --- the guide


def snippets() -> list[str]:
    """The Python of docs/llama-index.md, block by block; the first one opens a collection."""
    page = (DOCS / "llama-index.md").read_text(encoding="utf-8")
    return [body for language, body in FENCE.findall(page) if language == "python"]


def test_the_guides_snippets_run(answering: Answering, capsys: pytest.CaptureFixture[str]) -> None:
    opening, *blocks = snippets()
    assert "rag = Rag.open(Settings.load())" in opening
    assert len(blocks) > 3
    names: dict[str, Any] = {"rag": answering()}
    for block in blocks:
        exec(compile(block, "docs/llama-index.md", "exec"), names)
        assert capsys.readouterr().out.strip(), block


@pytest.mark.slow
def test_the_guides_snippets_run_with_real_weights(
    real_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ferries.md").write_text(
        "# Ferries\n\nThe ferry Aurora carries 240 passengers and 38 cars. It has 260 life jackets.\n", "utf-8"
    )
    with Rag.open(real_settings, create=True) as rag:
        catalog = Catalog.open(real_settings.home / "catalog.sqlite")
        list(Ingestion(rag.settings, rag.embedder, rag.store, catalog).run([tmp_path / "ferries.md"]))
    names: dict[str, Any] = {}
    try:
        for block in snippets():
            exec(compile(block, "docs/llama-index.md", "exec"), names)
        assert "The ferry Aurora carries 240 passengers" in capsys.readouterr().out
    finally:
        names["rag"].close()
