"""The exception tree. Every message says what was found, what was expected and how to mend it, in one line.

    FootnoteError
    ├── SettingsError         a setting that cannot be used
    ├── WeightsError          model weights that are missing or unreadable
    ├── EmbedError
    │   └── TextTooLong       a text that does not fit the embedder's window
    ├── StoreError
    │   ├── StoreUnreachable  no answer from the Qdrant server
    │   ├── StoreLocked       another process owns the index
    │   ├── StoreMismatch     the index was built with another embedder
    │   └── CollectionMissing no such collection
    ├── LLMError
    │   ├── LLMUnreachable    no answer from the language model's server
    │   └── Busy              too many questions are waiting, or one took too long
    ├── SignInError           nobody is signed in, or the API key is not known
    ├── AccessError           whoever asks may not do this
    ├── QuestionError         a question that is empty or too long
    ├── FilterError           a filter that names what there is not
    ├── IngestError
    │   └── ParseError        a file that cannot be read
    ├── BenchError            a benchmark that cannot run
    ├── FinetuneError         a training that cannot run, or a model that cannot be used for it
    └── EvalError             an evaluation whose data cannot be used

`ui/cli.py` prints them on one line and exits with 1; nothing else catches `FootnoteError` to go on silently.
"""

from __future__ import annotations

from typing import Any


class FootnoteError(Exception):
    """Base of everything that Footnote raises on purpose."""


class SettingsError(FootnoteError):
    """A setting that cannot be used."""


class WeightsError(FootnoteError):
    """Model weights that are missing or unreadable."""


class EmbedError(FootnoteError):
    """The embedder could not do its work."""


class TextTooLong(EmbedError):
    """A text that does not fit the embedder's window; embedding never cuts silently."""


class StoreError(FootnoteError):
    """The index could not be read or written."""


class StoreUnreachable(StoreError):
    """No answer from the Qdrant server."""


class StoreLocked(StoreError):
    """Another process owns the index; `owner` is its `rag.store.lock.Owner`, None where it left no word."""

    def __init__(self, message: str, owner: Any = None) -> None:
        super().__init__(message)
        self.owner = owner


class StoreMismatch(StoreError):
    """The index was built with another embedder."""


class CollectionMissing(StoreError):
    """No such collection."""


class LLMError(FootnoteError):
    """The language model could not do its work."""


class LLMUnreachable(LLMError):
    """No answer from the language model's server."""


class Busy(LLMError):
    """Too many questions are waiting for the language model, or one waited or took too long."""


class SignInError(FootnoteError):
    """Nobody is signed in, or the API key is not known."""


class AccessError(FootnoteError):
    """Whoever asks may not do this, or the request comes from another site's page."""


class QuestionError(FootnoteError):
    """A question that is empty or too long."""


class FilterError(FootnoteError):
    """A filter that names a document, folder, type or key that there is not, or days in the wrong order."""


class IngestError(FootnoteError):
    """Ingestion as a whole could not go on."""


class ParseError(IngestError):
    """One file that cannot be read; the batch goes on without it."""


class BenchError(FootnoteError):
    """A benchmark that cannot run."""


class EvalError(FootnoteError):
    """An evaluation whose data cannot be used."""


class FinetuneError(FootnoteError):
    """A training that cannot run: its data, its run or its model cannot be used."""
