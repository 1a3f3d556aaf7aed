"""The records that cross module borders: frozen, slotted, made of plain values.

Knows nothing about files, models, Qdrant or the network. Offsets are character offsets into the text of
one document as it was parsed, end exclusive. Pages count from 1; a format without pages has page `None`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""Dense vectors, shape (n, dim), float32, each row of length 1."""


class SparseVector(NamedTuple):
    """Term weights: `indices` are 32-bit term ids, strictly ascending; `values` the weights beside them."""

    indices: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document: the unit that is embedded, retrieved and cited."""

    id: str
    """UUID made of the document's id and the span: the same passage always gets the same one."""
    doc_id: str
    doc: str
    """The document's name as the user knows it: its path."""
    title: str
    page: int | None
    headings: tuple[str, ...]
    """The headings above the passage, outermost first."""
    start: int
    end: int
    text: str
    kind: str = "text"
    """`text` or `table`."""
    header: str = ""
    """A table's column names, where the passage holds only later rows; no part of `text`."""
    context: str = ""
    """Title and headings as they are searched with the passage, a line each; no part of `text`."""
    revision: str = ""
    """Names the document's content and how it was cut: a document's passages in the index all have the same."""
    date: str = ""
    """ISO day of the document: its own where the format has one, else its file's; empty where there is neither."""
    metadata: tuple[tuple[str, str], ...] = ()
    """What the format and the user say about the document; a key may have several values."""

    @property
    def with_header(self) -> str:
        """What is read: the passage below its table's column names."""
        return f"{self.header}\n{self.text}" if self.header else self.text

    @property
    def searchable(self) -> str:
        """What is embedded and whose words are counted: what is read, below what it is about."""
        return f"{self.context}\n{self.with_header}" if self.context else self.with_header


@dataclass(frozen=True, slots=True)
class Document:
    """One row of the catalog: a file that was seen, and what became of it."""

    id: str
    doc: str
    title: str
    status: str
    """`indexed` or `failed`."""
    pages: int
    chunks: int
    sha256: str
    size: int
    """Bytes."""
    stage: str = ""
    """Where a failed document failed: `read`, `parse`, `chunk`, `embed` or `store`."""
    reason: str = ""
    """Why it failed, or what was left out of an indexed one; for a person to act on."""
    date: str = ""
    """See `Chunk.date`."""
    metadata: tuple[tuple[str, str], ...] = ()
    """See `Chunk.metadata`."""


class Via(NamedTuple):
    """How one retriever saw a passage."""

    system: str
    """`dense` (score: cosine) or `bm25` (score: BM25 with Lucene's IDF)."""
    rank: int
    """Counted from 1."""
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved passage with its fused score, higher is better."""

    chunk: Chunk
    score: float
    via: tuple[Via, ...] = ()

    def score_of(self, system: str) -> float | None:
        """The raw score that one retriever gave, or None where it did not return the passage."""
        return next((via.score for via in self.via if via.system == system), None)


@dataclass(frozen=True, slots=True)
class Citation:
    """A place in a document that supports a sentence: `text[start:end] == quote`."""

    number: int
    """The footnote's number, counted from 1 in the order of first use in the answer."""
    doc: str
    title: str
    page: int | None
    headings: tuple[str, ...]
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of an answer with how well the passages support it, 0 to 1."""

    text: str
    support: float
    citations: tuple[Citation, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why the support is low, or cannot be told; for a person."""
    checkable: bool = True
    """False where it claims nothing that documents could support, such as a question or a greeting."""

    @property
    def supported(self) -> bool:
        """True where at least one place in the documents supports the sentence."""
        return bool(self.citations)

    @property
    def unsupported(self) -> bool:
        """True where it claims something that no place supports."""
        return self.checkable and not self.supported


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds spent in each stage of an answer; None where the stage did not run."""

    retrieve: float
    first_token: float | None = None
    generate: float | None = None
    verify: float | None = None
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What Footnote says to a question, sentence by sentence."""

    question: str
    text: str
    abstained: bool
    sentences: tuple[Sentence, ...]
    hits: tuple[Hit, ...]
    timings: Timings
    model: str = ""
    """The language model that wrote it, empty where none was called."""
    searched: str = ""
    """The question as it was made to stand alone for the search; empty where it was searched for as it is."""
    dropped: tuple[Sentence, ...] = ()
    """What the model wrote and `text` leaves out: unsupported sentences, or all of them in a declined answer."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Event: the passages that the answer will be written from and checked against."""

    hits: tuple[Hit, ...]
    searched: str = ""
    """See `Answer.searched`."""
    close: bool = True
    """False where no passage is close enough to the question, so that it is declined without a model."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Event: the next piece of the answer's text, as the model writes it, without footnote marks of its own."""

    text: str


@dataclass(frozen=True, slots=True)
class Checked:
    """Event: a sentence of the text so far, checked.

    They come in order. One that comes again replaces the earlier ones from there on, because a loop was cut off.
    """

    index: int
    """Which sentence, counted from 0."""
    sentence: Sentence


@dataclass(frozen=True, slots=True)
class Finished:
    """Event: the answer, checked. Always the last one."""

    answer: Answer


Event = Retrieved | Piece | Checked | Finished


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """A chunk with its vectors, on its way into the store; goes no further than that."""

    chunk: Chunk
    dense: Sequence[float] | npt.NDArray[np.float32] = field(repr=False)
    sparse: SparseVector = field(repr=False)
    hidden: bool = False
    """True for one that no search may find before its whole document is there; see `Store.publish`."""
