"""Hands work to the process that serves the index, over its REST API. Knows nothing about how work is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from ingest.progress import Progress
from ingest.results import FileResult, Summary
from rag import errors
from rag.errors import FootnoteError, StoreError, StoreLocked
from rag.filter import Pairs
from ui import wire
from ui.workplace import Run

if TYPE_CHECKING:
    import httpx

SILENCE = 60.0
"""Seconds without a line after which the other process is given up; it sends one every half second."""


class There:
    """The process that owns the index, and serves `url`."""

    def __init__(self, url: str, token: str, locked: StoreLocked) -> None:
        """`locked` is what to say where that process does not answer."""
        self._url, self._token, self._locked = url, token, locked

    @property
    def note(self) -> str:
        """Whose settings count."""
        return f"handed over to {self._url}, whose settings count"

    def begin(self) -> Run:
        """See `Workplace.begin`."""
        return HandedOver(self)

    def remove(self, docs: Sequence[str]) -> list[str]:
        """See `Workplace.remove`."""
        with self.asked(wire.REMOVE, wire.packed({"docs": list(docs)})) as response, _understood():
            removed: list[str] = json.loads(response.read())["removed"]
        return removed

    def stop(self) -> None:
        """Stop what was handed over at the next border between documents; that process tells when it has."""
        with suppress(FootnoteError), self.asked(wire.STOP, b"{}"):
            pass  # where it cannot be told, closing the connection stops it too

    @contextmanager
    def asked(self, path: str, body: bytes) -> Iterator[httpx.Response]:
        """The answer to a request, not read yet.

        Raises:
            StoreLocked: there is no answer.
            FootnoteError: it is a refusal, or breaks off.
        """
        import httpx

        headers = {wire.TOKEN: self._token, "Content-Type": "application/json"}
        try:
            with (
                httpx.Client(base_url=self._url, timeout=SILENCE, trust_env=False) as client,
                client.stream("POST", path, content=body, headers=headers) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise _refusal(self._url, response.status_code, response.read())
                yield response
        except httpx.ConnectError as error:
            raise self._locked from error
        except httpx.TransportError as error:
            raise StoreError(f"{self._url} broke off ({error}); run the same command again to go on") from error


class HandedOver:
    """A run in the process that owns the index, with the face of an `Ingestion`."""

    def __init__(self, there: There) -> None:
        self._there = there
        self._progress = Progress(0, 0, 0, 0, 0.0, None, (), "handing over to the process that serves the index")
        self._begun = self._ended = self._stopped = False
        self.summary = Summary()

    def run(self, paths: Sequence[Path], prune: bool = False, metadata: Pairs = ()) -> Iterator[FileResult]:
        """See `Ingestion.run`. Closing the iterator stops the run there."""
        with self._there.asked(wire.INGEST, wire.order(paths, prune, metadata)) as response:
            for line in response.iter_lines():
                if self._stopped and not self._begun:
                    self.stop()  # it was told too early, when nothing had begun there
                self._begun = True
                with _understood():
                    result = self._taken(json.loads(line))
                if result is not None:
                    yield result
            if not self._ended:
                raise StoreError("the process that serves the index broke off; run the same command again to go on")

    def stop(self) -> None:
        """See `Ingestion.stop`."""
        self._stopped = True
        Thread(target=self._there.stop, name="footnote-stop", daemon=True).start()

    def progress(self) -> Progress:
        """See `Ingestion.progress`; as it was half a second ago."""
        return self._progress

    def _taken(self, line: dict[str, Any]) -> FileResult | None:
        if "error" in line:
            raise _error(line["kind"], line["error"])
        if "progress" in line:
            self._progress = wire.progress_of(line["progress"])
        elif "summary" in line:
            self.summary, self._ended = wire.summary_of(line["summary"], self.summary.failures), True
        else:
            result = wire.result_of(line["result"])
            self.summary.add(result)
            return result
        return None


@contextmanager
def _understood() -> Iterator[None]:
    """Another version of Footnote may tell things in another way."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"the process that serves the index gave an answer that is not understood ({error!r}); is it the same "
            "version of Footnote? Stop it and start it anew"
        ) from error


def _refusal(url: str, status: int, body: bytes) -> FootnoteError:
    try:
        told = json.loads(body)
        kind = told.get("kind", wire.HTTP_ERROR)
        return _error(
            "IngestError" if kind == wire.HTTP_ERROR else kind, f"{url}: {told.get('error') or told['detail']}"
        )
    except (ValueError, KeyError, AttributeError):
        return StoreError(f"{url} takes no work (HTTP status {status}); is it the same version of Footnote?")


def _error(kind: str, message: str) -> FootnoteError:
    """The error by that name in `rag.errors`."""
    found = getattr(errors, kind, FootnoteError)
    if isinstance(found, type) and issubclass(found, FootnoteError):
        return found(message)
    return FootnoteError(message)
