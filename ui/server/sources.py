"""Where a footnote comes from: the text around its quote, and for a PDF file a picture of its page with boxes.

The files read are those that the catalog names, as they were when they were indexed. Knows nothing about answers, or
how pages are drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field

from ingest.catalog import Catalog, Row
from ingest.writer import path_of
from rag.answer import Rag
from rag.errors import FootnoteError
from rag.types import Chunk, Citation
from ui.server import pictures
from ui.server.pictures import PictureError
from ui.server.problems import PROBLEMS, Problem

REACH = 600
"""Characters of text that are shown before and after a quote."""
LONGEST = 20_000
"""Characters of a quote."""
LOOK = 1
"""Part of the pictures' tags: goes up where pages come to be drawn differently."""
_HEAD = 1024
"""Bytes within which the mark of a PDF file is."""
_INGEST = "run `footnote ingest` on it"


class SourceMissing(FootnoteError):
    """A document, page or place that there is not, or one of which there is no picture."""

    status = 404


class SourceChanged(FootnoteError):
    """A file that is no longer what was indexed."""

    status = 409


class SourceUnclear(FootnoteError):
    """A place that cannot be meant."""

    status = 422


_SAYS: dict[int | str, dict[str, Any]] = {
    **PROBLEMS,
    404: {"model": Problem, "description": "There is no such document, page or place, or no picture of it."},
    409: {"model": Problem, "description": "The file has changed since it was indexed, or has gone."},
    422: {"model": Problem, "description": "The place cannot be meant, or the page cannot be drawn."},
    503: {"model": Problem, "description": "Other pages are being drawn; try again in a moment."},
}


class Around(NamedTuple):
    """A quote in its surroundings."""

    before: str
    """With the white space between it and the quote; so has `after`."""
    quote: str
    after: str
    headings: tuple[str, ...]
    """Those above the quote, outermost first."""
    page: int | None
    """Counted from 1; None where the format has no pages."""


class Area(BaseModel):
    """A part of a line that belongs to the quote, in shares of the page's width and height, from its upper left."""

    model_config = ConfigDict(frozen=True)

    left: float = Field(ge=0, le=1)
    top: float = Field(ge=0, le=1)
    width: float = Field(ge=0, le=1)
    height: float = Field(ge=0, le=1)


class Source(BaseModel):
    """A quote where it stands: the text around it and, for a page of a PDF file, its picture."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "6d0c1d5e-1f7b-5a55-9d35-0d7b7f5c2a11",
                    "doc": "/documents/lease.pdf",
                    "title": "Lease",
                    "page": 3,
                    "headings": ["Rent"],
                    "before": "The flat is let furnished. ",
                    "quote": "The monthly rent of the flat is 900 euros.",
                    "after": " It is due on the first of the month.",
                    "boxes": [{"left": 0.118, "top": 0.241, "width": 0.534, "height": 0.016}],
                    "picture": "/api/v1/documents/6d0c1d5e-1f7b-5a55-9d35-0d7b7f5c2a11/pages/3?width=1000",
                    "width": 1000,
                    "height": 1414,
                    "note": "",
                }
            ]
        },
    )

    id: UUID = Field(description="The document's id.")
    doc: str = Field(description="The document's name: its path, with what it was found inside.")
    title: str
    page: int | None = Field(description="Counted from 1; null where the format has no pages.")
    headings: tuple[str, ...] = Field(description="The headings above the quote, outermost first.")
    before: str = Field(description="Text before the quote, with the white space between.")
    quote: str
    after: str = Field(description="Text after the quote, with the white space between.")
    boxes: tuple[Area, ...] = Field((), description="The quote on the picture, line by line.")
    picture: str | None = Field(None, description="Where the picture of the page is; null where there is none.")
    width: int | None = Field(None, description="The picture's, in pixels.")
    height: int | None = Field(None, description="The picture's, in pixels.")
    note: str = Field("", description="Why there is no picture, or no box on it; empty where there is nothing to say.")


class Sources:
    """The places of one collection. Safe to use from several threads."""

    def __init__(self, rag: Rag, catalog: Catalog) -> None:
        self._rag, self._catalog = rag, catalog

    def cited(self, citation: Citation) -> Source:
        """The source of a footnote. Raises SourceMissing: the document is in the index no more."""
        row = self._catalog.get(self._rag.settings.collection, citation.doc)
        if row is None:
            raise SourceMissing(f"{citation.doc} is in the index no more; {_INGEST}, and ask again")
        return self.source(row.doc_id, citation.start, citation.end)

    def source(self, doc_id: str, start: int, end: int, width: int = pictures.WIDTH) -> Source:
        """The source of a quote, from `start` to `end` in a document's text. `width` is the picture's, in pixels.

        Raises:
            SourceMissing: there is no such document or place.
            SourceUnclear: it is empty, or too long.
        """
        if not start < end <= start + LONGEST:
            raise SourceUnclear(f"start is {start} and end is {end}; end must be behind it, by {LONGEST:,} at most")
        row, passages = self._indexed(doc_id)
        place = around(passages, start, end)
        if place is None:
            raise SourceMissing(
                f"{row.doc} has no text from {start} to {end}; ask again, it may have been indexed anew"
            )
        known = Source(id=UUID(row.doc_id), doc=row.doc, title=row.title, **place._asdict())
        if place.page is None:
            return known
        return known.model_copy(update=_picture_of(row, place, place.page, width))

    def file(self, doc_id: str, page: int) -> tuple[Path, Row]:
        """The PDF file that a page is in, and what the catalog says about it.

        Raises:
            SourceMissing: there is no such document or page, or no picture of it.
            SourceChanged: the file is no longer what was indexed.
        """
        row, _ = self._indexed(doc_id)
        if not 1 <= page <= row.pages:
            raise SourceMissing(f"{row.doc} has {row.pages} pages, page {page} was asked for")
        return _file(row), row

    def _indexed(self, doc_id: str) -> tuple[Row, Iterator[Chunk]]:
        """An indexed document, and its passages in any order."""
        found = (item for item in self._rag.store.scan(doc_id) if not item.hidden)
        first = next(found, None)
        collection = self._rag.settings.collection
        row = self._catalog.get(collection, first.chunk.doc) if first else None
        if first is None or row is None or row.status != "indexed" or row.doc_id != doc_id:
            raise SourceMissing(
                f"no document {doc_id} in collection {collection!r}; see /api/v1/documents for those it has"
            )
        return row, (item.chunk for item in chain([first], found) if item.chunk.revision == row.revision)


def around(chunks: Iterable[Chunk], start: int, end: int) -> Around | None:
    """A quote in its surroundings; None where no passage holds its beginning.

    Args:
        chunks: a document's passages in any order; only those near the quote are kept.
        start: where the quote begins in the document's text.
        end: where it ends, exclusive.
    """
    near = sorted(
        (chunk for chunk in chunks if chunk.start < end + REACH and chunk.end > start - REACH),
        key=lambda chunk: (chunk.start, chunk.end),
    )
    holding = [chunk for chunk in near if chunk.start <= start < chunk.end]
    if not holding:
        return None
    own = next((chunk for chunk in holding if chunk.end >= end), holding[-1])
    low, text = near[0].start, _stitched(near)
    before, quote, after = text[: start - low], text[start - low : end - low], text[end - low :]
    before = _last(before, REACH)
    if own.header and own.header not in before + quote:
        before = f"{own.header}\n{before.lstrip()}"
    return Around(before.lstrip(), quote, _first(after, REACH).rstrip(), own.headings, own.page)


def _stitched(chunks: list[Chunk]) -> str:
    """The text that passages hold together, every character in its place; between them is white space only."""
    text, low = "", chunks[0].start
    for chunk in chunks:
        gap = chunk.start - low - len(text)
        text += " " if gap == 1 and chunk.kind != "table" else "\n" * max(0, gap)
        text += chunk.text[max(0, -gap) :]
    return text


def _first(text: str, most: int) -> str:
    """The first words."""
    return text if len(text) <= most else text[:most].rpartition(" ")[0] or text[:most]


def _last(text: str, most: int) -> str:
    """The last words."""
    return text if len(text) <= most else text[-most:].partition(" ")[2] or text[-most:]


def _picture_of(row: Row, place: Around, page: int, width: int) -> dict[str, Any]:
    """What a `Source` says about the picture of its page; a note where there is none."""
    try:
        drawn = pictures.page(_file(row), page, place.quote, width, place.before)
    except (SourceMissing, SourceChanged, PictureError) as error:
        return {"note": str(error)}
    return {
        "boxes": tuple(Area(**box._asdict()) for box in drawn.boxes),
        "picture": f"/api/v1/documents/{row.doc_id}/pages/{page}?width={width}",
        "width": drawn.width,
        "height": drawn.height,
        "note": "" if drawn.boxes else "the quote is not in the text of the page; it may have been read from a scan",
    }


def _file(row: Row) -> Path:
    """A document's PDF file, if it is what was indexed. Raises SourceMissing, SourceChanged."""
    if row.parent:
        raise SourceMissing(f"there is no picture of a page inside {row.parent}; unpack that, and ingest what is in it")
    path = path_of(row.doc)
    try:
        found = path.stat() if path else None
        if path is None or found is None:
            raise SourceChanged(f"{row.doc} has gone since it was indexed; restore it, or remove it from the index")
        if (found.st_size, found.st_mtime_ns) != (row.size, row.mtime_ns):
            raise SourceChanged(f"{row.doc} has changed since it was indexed; {_INGEST}")
        is_pdf = _is_pdf(path)
    except OSError as error:
        raise SourceChanged(f"{row.doc} cannot be read: {error.strerror or error}; check its rights") from None
    if not is_pdf:
        raise SourceMissing("pictures of pages are made of PDF files only")
    return path


def _is_pdf(path: Path) -> bool:
    """By its first bytes, as it was told when it was indexed. Nothing else of a file is looked at in this process."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return b"%PDF" in head and not head.startswith(b"PK")


Width = Annotated[int, Query(ge=pictures.NARROWEST, le=pictures.WIDEST, description="The picture's, in pixels.")]


def router(sources: Sources) -> APIRouter:
    """`/api/v1/documents/{id}/source` and `/api/v1/documents/{id}/pages/{page}`."""
    routes = APIRouter(prefix="/api/v1/documents/{doc_id}", tags=["documents"])

    @routes.get("/source", response_model=Source, responses=_SAYS)
    def source(
        response: Response,
        doc_id: UUID,
        start: Annotated[int, Query(ge=0, description="Where the quote begins in the document's text.")],
        end: Annotated[int, Query(ge=1, description="Where it ends, exclusive.")],
        width: Width = pictures.WIDTH,
    ) -> Source:
        """Where a footnote comes from; `start` and `end` are the footnote's."""
        response.headers["Cache-Control"] = "private, no-cache"
        return sources.source(str(doc_id), start, end, width)

    @routes.get(
        "/pages/{page}",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, 304: {"description": "As it was."}, **_SAYS},
    )
    def picture(
        doc_id: UUID,
        page: Annotated[int, InPath(ge=1)],
        width: Width = pictures.WIDTH,
        if_none_match: Annotated[str, Header()] = "",
    ) -> Response:
        """A picture of a page of a PDF file."""
        path, row = sources.file(str(doc_id), page)
        tag = f'"{row.sha256[:32]}-{page}-{width}-{LOOK}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
        if tag in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(pictures.page(path, page, width=width).png, media_type="image/png", headers=headers)

    return routes
