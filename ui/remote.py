"""A typed client of Footnote's REST API, with the face of `Rag`: for programs, and for commands beside a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rag import errors
from rag.errors import FootnoteError, StoreUnreachable
from rag.filter import Filter
from rag.settings import Strictness
from rag.types import (
    Answer,
    Checked,
    Chunk,
    Citation,
    Event,
    Finished,
    Hit,
    Message,
    Piece,
    Retrieved,
    Sentence,
    Timings,
    Via,
)
from ui import wire

if TYPE_CHECKING:
    import httpx

SILENCE = 60.0
"""Seconds without a word after which the server is given up; it sends one several times a second while one waits."""


class Remote:
    """A server at `url`, such as `http://127.0.0.1:7860`, or a collection of it, such as `.../c/contracts`."""

    def __init__(self, url: str, key: str = "", token: str = "") -> None:
        """`key` is an API key, where people have to sign in; commands of the user who serves have a `token` instead."""
        self.url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {wire.TOKEN: token} if token else {}

    def search(self, question: str, k: int, within: Filter | None = None) -> list[Hit]:
        """See `Rag.search`."""
        with self._asked("/api/v1/search", {"question": question, "k": k, "filter": _body(within)}) as response:
            return [_hit(row) for row in json.loads(response.read())["hits"]]

    def answer(
        self,
        question: str,
        history: Sequence[Message] = (),
        within: Filter | None = None,
        strictness: Strictness | None = None,
    ) -> Answer:
        """See `Rag.answer`."""
        *_, last = self.stream(question, history, within, strictness)
        assert isinstance(last, Finished)
        return last.answer

    def stream(
        self,
        question: str,
        history: Sequence[Message] = (),
        within: Filter | None = None,
        strictness: Strictness | None = None,
    ) -> Iterator[Event]:
        """See `Rag.stream`. Closing the iterator stops the answer."""
        said = [{"role": message.role, "content": message.content} for message in history]
        body = {"question": question, "history": said, "filter": _body(within), "strictness": strictness}
        with self._asked("/api/v1/ask", {**body, "stream": True}) as response:
            kind = ""
            for line in response.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: ") and (event := _event(kind, json.loads(line.removeprefix("data: ")))):
                    yield event

    @contextmanager
    def _asked(self, path: str, body: Mapping[str, Any]) -> Iterator[httpx.Response]:
        import httpx

        try:
            with (
                httpx.Client(base_url=self.url, timeout=SILENCE, trust_env=False, headers=self._headers) as client,
                client.stream("POST", path, json=body) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise _error(json.loads(response.read()))
                yield response
        except (httpx.TransportError, ValueError, KeyError) as error:
            raise StoreUnreachable(f"{self.url} gave no answer that is understood ({error}); is it running?") from error


def _event(kind: str, data: dict[str, Any]) -> Event | None:
    if kind == "error":
        raise _error(data)
    if kind == "retrieved":
        return Retrieved(tuple(map(_hit, data["hits"])), data["searched"])
    if kind == "piece":
        return Piece(data["text"])
    if kind == "checked":
        return Checked(data["index"], _sentence(data["sentence"]))
    return Finished(_answer(data)) if kind == "answer" else None


def _error(told: Mapping[str, Any]) -> FootnoteError:
    found = getattr(errors, str(told["kind"]), FootnoteError)
    return (found if issubclass(found, FootnoteError) else FootnoteError)(str(told["error"]))


def _body(within: Filter | None) -> dict[str, Any] | None:
    """A filter as the API takes it."""
    if within is None or within.empty:
        return None
    metadata: dict[str, list[str]] = {}
    for key, value in within.metadata:
        metadata.setdefault(key, []).append(value)
    names = {"documents": within.documents, "folders": within.folders, "types": within.types}
    days = {"since": within.since and str(within.since), "until": within.until and str(within.until)}
    return {**{name: list(values) for name, values in names.items()}, **days, "metadata": metadata}


def _hit(row: Mapping[str, Any]) -> Hit:
    place = (row["doc"], row["title"], row["page"], tuple(row["headings"]), row["start"], row["end"])
    via = tuple(Via(system, 0, score) for system, score in row["via"].items())
    return Hit(Chunk("", "", *place, row["text"]), row["score"], via)


def _sentence(row: Mapping[str, Any]) -> Sentence:
    notes = tuple(Citation(**{**note, "headings": tuple(note["headings"])}) for note in row["citations"])
    return Sentence(row["text"], row["support"], notes, tuple(row["reasons"]), row["checkable"])


def _answer(row: Mapping[str, Any]) -> Answer:
    return Answer(
        row["question"],
        row["answer"],
        row["abstained"],
        tuple(map(_sentence, row["sentences"])),
        tuple(map(_hit, row["hits"])),
        Timings(**row["timings_ms"]),
        row["model"],
        row["searched"],
        tuple(map(_sentence, row["dropped"])),
    )
