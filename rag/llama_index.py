"""The ecosystem face: our retriever, answers and conversations as LlamaIndex objects, and a LlamaIndex LLM as ours.

Nothing of ours imports this module, because it imports LlamaIndex, which takes 2 s. Knows nothing about stores,
embedders or how answers are checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, closing
from contextvars import copy_context
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import PurePath
from threading import Lock
from typing import Any, TypeVar

import httpx
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.callbacks import CallbackManager
from llama_index.core.chat_engine.types import AgentChatResponse, BaseChatEngine, StreamingAgentChatResponse
from llama_index.core.schema import (
    NodeRelationship,
    NodeWithScore,
    ObjectType,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)

from rag.answer import Rag
from rag.errors import LLMError, LLMUnreachable, SettingsError
from rag.prompt import ABSTENTION
from rag.retrieve import Retriever
from rag.types import Answer, Citation, Finished, Hit, Message, Piece, Retrieved, Sentence

T = TypeVar("T")
PLACE = ("doc", "file_name", "page", "page_label", "start", "end")
"""Metadata that neither an embedder nor a language model is shown: where a passage is, paths included."""
ROLES = {
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
}
"""Who speaks in a conversation; what LlamaIndex writes under other roles is left out."""


class FootnoteRetriever(BaseRetriever):  # type: ignore[misc]
    """Footnote's hybrid search as a LlamaIndex retriever.

    A node has the passage's id, text and character offsets; its source is the document. Titles, headings and a
    table's column names are metadata that embedders and language models see, file and page are not. Scores rank
    the passages of one question; they are no cosines. Only `query_str` of a `QueryBundle` is searched with.

    Retrieving raises QuestionError where the question is empty or too long.
    """

    def __init__(self, source: Rag | Retriever, k: int = 10, callback_manager: CallbackManager | None = None) -> None:
        if k < 1:
            raise SettingsError(f"k is {k}, at least 1 is expected; say how many passages a search should return")
        super().__init__(callback_manager)
        self._source, self.k = source, k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(hit) for hit in self._source.search(query_bundle.query_str, self.k)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


class FootnoteQueryEngine(BaseQueryEngine):  # type: ignore[misc]
    """Footnote's checked answers as a LlamaIndex query engine.

    The response's nodes are the passages that the answer was written from, or the closest ones where it abstained.
    Its metadata holds `answer`, `abstained`, `sentences` with support and citations, `dropped` sentences, `timings_ms`
    and `model`, all of plain values; a citation names its node by `node_id`.

    With `streaming`, the response's text comes as it is written and the metadata is filled when it has ended: `answer`
    may be less than what was streamed, since sentences without support may be left out. Closing its `response_gen`
    stops the generation.

    Querying raises QuestionError where the question is empty or too long, and LLMError where the model failed.
    """

    def __init__(self, rag: Rag, streaming: bool = False, callback_manager: CallbackManager | None = None) -> None:
        super().__init__(callback_manager)
        self._rag, self._streaming = rag, streaming

    def _get_prompt_modules(self) -> dict[str, Any]:
        return {}

    def _query(self, query_bundle: QueryBundle) -> Response | StreamingResponse:
        if not self._streaming:
            answer = self._rag.answer(query_bundle.query_str)
            return Response(answer.text, _nodes(answer.hits), _record(answer))
        metadata: dict[str, Any] = {}
        nodes, pieces = _begin(self._rag, query_bundle.query_str, (), lambda answer: metadata.update(_record(answer)))
        return StreamingResponse(pieces, nodes, metadata)

    async def _aquery(self, query_bundle: QueryBundle) -> Response | AsyncStreamingResponse:
        response = await asyncio.to_thread(self._query, query_bundle)
        if not self._streaming:
            return response
        return AsyncStreamingResponse(_in_threads(response.response_gen), response.source_nodes, response.metadata)


@dataclass
class StreamedAnswer(StreamingAgentChatResponse):  # type: ignore[misc]
    """LlamaIndex's streamed chat response, with the metadata of a checked answer.

    The text is written while `response_gen` or `async_response_gen()` is read; closing the one that is read stops the
    generation.
    """

    is_writing_to_memory: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    """As `FootnoteQueryEngine` has it; empty until the answer is finished."""

    @property
    def response_gen(self) -> Generator[str]:
        """Pieces of the answer as they are written."""
        with closing(self.chat_stream):
            yield from super().response_gen

    async def async_response_gen(self) -> AsyncGenerator[str]:
        """Pieces of the answer as they are written."""
        async with aclosing(_in_threads(self.response_gen)) as pieces:
            async for piece in pieces:
                yield piece


class FootnoteChatEngine(BaseChatEngine):  # type: ignore[misc]
    """One conversation with Footnote as a LlamaIndex chat engine.

    Question and answer join the history together, when the answer is finished: one that failed or was stopped leaves
    nothing behind. Declined questions are in `chat_history`, but Footnote is not told of them. Nodes and metadata are
    those of `FootnoteQueryEngine`, and so is what is raised.
    """

    def __init__(self, rag: Rag, chat_history: Sequence[ChatMessage] = ()) -> None:
        self._rag, self._messages = rag, list(chat_history)

    @property
    def chat_history(self) -> list[ChatMessage]:
        """What was said so far."""
        return list(self._messages)

    def reset(self) -> None:
        """Begin a new conversation."""
        self._messages = []

    def chat(self, message: str, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        """The finished answer. `chat_history` takes the place of what was said so far."""
        answer = self._rag.answer(message, self._history(chat_history))
        self._keep(answer, message)
        return AgentChatResponse(answer.text, source_nodes=_nodes(answer.hits), metadata=_record(answer))

    def stream_chat(self, message: str, chat_history: list[ChatMessage] | None = None) -> StreamedAnswer:
        """The answer while it is written. `chat_history` takes the place of what was said so far."""
        response = StreamedAnswer()

        def finish(answer: Answer) -> None:
            self._keep(answer, message)
            response.metadata.update(_record(answer))

        response.source_nodes, pieces = _begin(self._rag, message, self._history(chat_history), finish)
        response.chat_stream = _replies(pieces)
        return response

    async def achat(self, message: str, chat_history: list[ChatMessage] | None = None) -> AgentChatResponse:
        """See `chat`."""
        return await asyncio.to_thread(self.chat, message, chat_history)

    async def astream_chat(self, message: str, chat_history: list[ChatMessage] | None = None) -> StreamedAnswer:
        """See `stream_chat`; read it with `async_response_gen()`."""
        return await asyncio.to_thread(self.stream_chat, message, chat_history)

    def _history(self, replaced: list[ChatMessage] | None) -> list[Message]:
        if replaced is not None:
            self._messages = list(replaced)
        return _turns(self._messages)

    def _keep(self, answer: Answer, message: str) -> None:
        said = ((MessageRole.USER, message), (MessageRole.ASSISTANT, answer.text))
        self._messages += [ChatMessage(role=role, content=text) for role, text in said]


class LlamaIndexLLM:
    """Any LlamaIndex `LLM` as Footnote's `rag.llm.LLM`. As safe for several threads as that one is.

    Length and temperature of replies are what it was made with. Without `count_tokens`, the number of tokens is
    estimated: three characters each, on the high side for English.
    """

    def __init__(self, llm: BaseLLM, count_tokens: Callable[[str], int] | None = None) -> None:
        self._llm, self._count = llm, count_tokens
        self.tuned = True
        name = llm.metadata.model_name
        self.name = llm.class_name() if name == "unknown" else name

    def count_tokens(self, text: str) -> int:
        """See `LLM.count_tokens`."""
        return self._count(text) if self._count else len(text) // 3 + 1

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        """See `LLM.stream`. A model that cannot stream replies in one piece."""
        system = self._llm.metadata.system_role
        turns = [ChatMessage(role=system if m.role == "system" else m.role, content=m.content) for m in messages]
        try:
            try:
                yield from self._deltas(turns)
            except NotImplementedError:
                yield self._llm.chat(turns).message.content or ""
        except Exception as error:  # each integration raises its own
            raise _failure(self.name, error) from error

    def _deltas(self, turns: list[ChatMessage]) -> Generator[str]:
        text = ""
        with closing(self._llm.stream_chat(turns)) as replies:
            for reply in replies:
                # Some integrations give only the whole text so far.
                piece = (reply.message.content or "")[len(text) :] if reply.delta is None else reply.delta
                text += piece
                if piece:
                    yield piece


def with_llm(rag: Rag, llm: BaseLLM, count_tokens: Callable[[str], int] | None = None) -> Rag:
    """The same collection, answered by a LlamaIndex language model. Closing either `Rag` closes both.

    Args:
        rag: the collection; its own language model is not loaded.
        llm: what writes the answers.
        count_tokens: how many tokens a text takes; see `LlamaIndexLLM`.
    """
    ours = LlamaIndexLLM(llm, count_tokens)
    # The name says that this is not the bundled model, which is prompted in a way of its own.
    return Rag(rag.settings.model_copy(update={"llm_model": ours.name}), rag.embedder, rag.store, ours, rag.checker)


def _failure(name: str, error: Exception) -> LLMError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionError | TimeoutError | httpx.TransportError):
            return LLMUnreachable(f"no answer from the server of the LlamaIndex model {name}: {said}; start it")
        cause = cause.__cause__ or cause.__context__
    return LLMError(f"the LlamaIndex model {name} failed: {said}; check what it was made with")


def _nodes(hits: Sequence[Hit]) -> list[NodeWithScore]:
    return [_node(hit) for hit in hits]


def _node(hit: Hit) -> NodeWithScore:
    chunk = hit.chunk
    about = {"title": chunk.title, "headings": " > ".join(chunk.headings), "columns": chunk.header}
    place = {
        "doc": chunk.doc,
        "file_name": PurePath(chunk.doc).name,
        "page": chunk.page,
        "page_label": None if chunk.page is None else str(chunk.page),
        "start": chunk.start,
        "end": chunk.end,
    }
    source = RelatedNodeInfo(node_id=chunk.doc_id, node_type=ObjectType.DOCUMENT, hash=chunk.revision or None)
    node = TextNode(
        id_=chunk.id,
        text=chunk.text,
        start_char_idx=chunk.start,
        end_char_idx=chunk.end,
        metadata={key: value for key, value in about.items() if value} | place,
        excluded_embed_metadata_keys=list(PLACE),
        excluded_llm_metadata_keys=list(PLACE),
        relationships={NodeRelationship.SOURCE: source},
    )
    return NodeWithScore(node=node, score=hit.score)


def _record(answer: Answer) -> dict[str, Any]:
    """An answer in plain values; its passages are nodes already."""
    return {
        "answer": answer.text,
        "abstained": answer.abstained,
        "sentences": [_sentence(sentence, answer.hits) for sentence in answer.sentences],
        "dropped": [_sentence(sentence, answer.hits) for sentence in answer.dropped],
        "timings_ms": asdict(answer.timings),
        "model": answer.model,
    }


def _sentence(sentence: Sentence, hits: Sequence[Hit]) -> dict[str, Any]:
    return {
        "text": sentence.text,
        "support": sentence.support,
        "supported": sentence.supported,
        "checkable": sentence.checkable,
        "reasons": list(sentence.reasons),
        "citations": [_citation(citation, hits) for citation in sentence.citations],
    }


def _citation(citation: Citation, hits: Sequence[Hit]) -> dict[str, Any]:
    doc, start, end = citation.doc, citation.start, citation.end
    chunks = (hit.chunk for hit in hits)
    holding = (chunk.id for chunk in chunks if chunk.doc == doc and chunk.start <= start and end <= chunk.end)
    return {**asdict(citation), "headings": list(citation.headings), "node_id": next(holding, None)}


def _begin(
    rag: Rag, question: str, history: Sequence[Message], finish: Callable[[Answer], None]
) -> tuple[list[NodeWithScore], Generator[str]]:
    """The passages, and the answer as it is written; `finish` is given the finished one."""
    events = rag.stream(question, history)
    retrieved = next(event for event in events if isinstance(event, Retrieved))

    def pieces() -> Generator[str]:
        with closing(events):
            for event in events:
                if isinstance(event, Piece):
                    yield event.text
                elif isinstance(event, Finished):
                    finish(event.answer)

    return _nodes(retrieved.hits), pieces()


def _replies(pieces: Generator[str]) -> Generator[ChatResponse]:
    text = ""
    with closing(pieces):
        for piece in pieces:
            text += piece
            yield ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text), delta=piece)


def _turns(messages: Sequence[ChatMessage]) -> list[Message]:
    """The whole pairs of question and answer. An abstention says nothing that the model should be told."""
    said = [Message(ROLES[message.role], message.content) for message in messages if message.role in ROLES]
    pairs = [pair for pair in pairwise(m for m in said if m.content) if [m.role for m in pair] == ["user", "assistant"]]
    return [message for pair in pairs for message in pair if pair[1].content != ABSTENTION]


async def _in_threads(items: Generator[T]) -> AsyncGenerator[T]:
    """A generator's items; each step runs in a thread, so that the event loop does not wait, and all in one context.

    Where the reader goes away or is cancelled, the generator is closed when the step under way is done.
    """
    context, turn = copy_context(), Lock()

    def run(step: Callable[..., Any], *args: object) -> Any:
        with turn:
            return context.run(step, *args)

    try:
        while (item := await asyncio.to_thread(run, next, items, None)) is not None:
            yield item
    finally:
        await asyncio.to_thread(run, items.close)
