"""Where a footnote comes from, over the REST API and as HTML: files as they were indexed, and no others."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.settings import Settings
from rag.store.opening import open_store
from rag.types import Chunk, Citation
from tests.conftest import ParrotLLM, WordChecker, WordCountEmbedder, make_chunk
from tests.ingest.inline import Bench
from tests.ingest.test_parse import lines, pdf
from tests.ui.test_render import ATTACKS, HOSTILE
from ui.panel import panel
from ui.server.problems import tell_problems
from ui.server.sources import REACH, Area, Source, SourceMissing, Sources, around, router

RENT = "The monthly rent of the flat is 900 euros."
LEASE = pdf(lines("This lease begins in May."), lines("The flat is let furnished.", RENT, "It is due on the first."))
NOTES = f"# Home\n\n## Rent\n\nThe flat is small.\n\n{RENT}\n\nIt is due soon.\n"


class House:
    """A few documents, indexed, and the routes over them."""

    def __init__(self, bench: Bench, rag: Rag) -> None:
        self.bench, self.sources = bench, Sources(rag, bench.catalog)
        app = FastAPI()
        tell_problems(app)
        app.include_router(router(self.sources))
        self.api = TestClient(app)

    def url(self, name: str, what: str) -> str:
        return f"/api/v1/documents/{self.bench.rows()[name].doc_id}/{what}"

    def place(self, name: str, quote: str) -> dict[str, int]:
        """A footnote's place."""
        chunk = next(c for c, _ in self.bench.chunks().values() if c.doc.endswith(name) and quote in c.text)
        start = chunk.start + chunk.text.index(quote)
        return {"start": start, "end": start + len(quote)}

    def source(self, name: str, quote: str) -> dict[str, Any]:
        answer = self.api.get(self.url(name, "source"), params=self.place(name, quote))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def house(settings: Settings, embedder: WordCountEmbedder, catalog: Catalog, tmp_path: Path) -> Iterator[House]:
    with Rag(settings, embedder, open_store(settings, embedder, create=True), ParrotLLM(), WordChecker()) as rag:
        bench = Bench(settings, embedder, rag.store, catalog, tmp_path / "in")
        bench.write("lease.pdf", LEASE)
        bench.write("notes.md", NOTES)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("inner.pdf", pdf(lines("Pets are welcome in the house.")))
        bench.write("all.zip", packed.getvalue())
        bench.run()
        yield House(bench, rag)


def test_a_page_of_a_pdf_file_is_shown_with_the_quote_marked(house: House) -> None:
    found = house.source("lease.pdf", RENT)
    assert (found["doc"], found["title"], found["page"]) == (str(house.bench.folder / "lease.pdf"), "lease", 2)
    assert found["before"].endswith("The flat is let furnished.\n")
    assert (found["quote"], found["after"], found["note"]) == (RENT, "\nIt is due on the first.", "")
    (box,) = found["boxes"]
    assert box["top"] < 1 - 682 / 792 < box["top"] + box["height"]
    shown = house.api.get(found["picture"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(shown.content)).size == (found["width"], found["height"])
    # The same picture is sent once.
    url = house.url("lease.pdf", "pages/1?width=300")
    first = house.api.get(url)
    assert first.headers["cache-control"].startswith("private")
    again = house.api.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    wider = house.api.get(house.url("lease.pdf", "pages/1?width=400"), headers={"If-None-Match": first.headers["etag"]})
    assert wider.status_code == 200


def test_what_has_no_picture_is_shown_as_text_below_its_headings(house: House) -> None:
    found = house.source("notes.md", RENT)
    assert (found["headings"], found["page"], found["picture"], found["boxes"]) == (["Home", "Rent"], None, None, [])
    assert found["before"].endswith("The flat is small.\n\n")
    assert found["after"] == "\n\nIt is due soon."
    # A page inside an archive has no picture, and the answer says so.
    found = house.source("all.zip/inner.pdf", "Pets are welcome")
    assert (found["page"], found["picture"], found["boxes"]) == (1, None, [])
    assert f"inside {house.bench.folder / 'all.zip'}" in found["note"]
    refused = house.api.get(house.url("all.zip/inner.pdf", "pages/1"))
    assert (refused.status_code, refused.json()["kind"]) == (404, "SourceMissing")


def test_a_file_that_is_not_what_was_indexed_is_not_shown(house: House) -> None:
    path, picture = house.bench.folder / "lease.pdf", house.url("lease.pdf", "pages/2")
    tag, status = house.api.get(picture).headers["etag"], path.stat()
    for change in (
        lambda: os.utime(path, ns=(1, 1)),
        lambda: path.write_bytes(pdf(lines("Something private."))),
        path.unlink,
        lambda: path.symlink_to("/dev/zero"),
    ):
        change()
        found = house.source("lease.pdf", RENT)
        assert (found["quote"], found["picture"], found["boxes"]) == (RENT, None, [])
        assert "since it was indexed" in found["note"]
        for headers in ({}, {"If-None-Match": tag}):
            refused = house.api.get(picture, headers=headers)
            assert (refused.status_code, refused.json()) == (409, {"error": found["note"], "kind": "SourceChanged"})
    # One with the size and the time that the index knows is drawn, if that is possible.
    path.unlink()
    path.write_bytes(b"%PDF-1.7 ".ljust(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    refused = house.api.get(picture)
    assert (refused.status_code, refused.json()["kind"]) == (422, "PictureError")
    assert refused.json()["error"] == house.source("lease.pdf", RENT)["note"]
    assert "damaged" in refused.json()["error"]


def test_places_that_there_are_not(house: House) -> None:
    paths = house.api.get("/openapi.json").json()["paths"]
    for what, codes in (("source", {"200"}), ("pages/{page}", {"200", "304"})):
        declared = paths[f"/api/v1/documents/{{doc_id}}/{what}"]["get"]["responses"]
        assert declared.keys() >= codes | {"404", "409", "422"}
    nobody = "/api/v1/documents/00000000-0000-0000-0000-000000000000"
    for url, status, says in (
        (f"{nobody}/pages/1", 404, "no document"),
        (f"{nobody}/source?start=0&end=5", 404, "no document"),
        (house.url("lease.pdf", "pages/3"), 404, "has 2 pages"),
        (house.url("notes.md", "pages/1"), 404, "PDF files only"),
        (house.url("lease.pdf", "source?start=99999&end=100000"), 404, "no text from 99999"),
        (house.url("lease.pdf", "source?start=5&end=5"), 422, "end must be behind it"),
        (house.url("lease.pdf", "source?start=0&end=9999999"), 422, "end must be behind it"),
        (house.url("lease.pdf", "source?start=-1&end=5"), 422, "start"),
        (house.url("lease.pdf", "source"), 422, "Field required"),
        (house.url("lease.pdf", "pages/0"), 422, "page"),
        (house.url("lease.pdf", "pages/1?width=100000"), 422, "width"),
        ("/api/v1/documents/..%2f..%2fetc%2fpasswd/pages/1", 404, ""),
        ("/api/v1/documents/passwd/pages/1", 422, "doc_id"),
    ):
        answer = house.api.get(url)
        assert (answer.status_code, answer.json().keys()) == (status, {"error", "kind"}), url
        assert says in answer.json()["error"]
        assert "\n" not in answer.json()["error"]


def test_a_footnote_is_found_by_its_document(house: House) -> None:
    place, row = house.place("lease.pdf", RENT), house.bench.rows()["lease.pdf"]
    note = Citation(1, row.doc, "lease", 2, (), place["start"], place["end"], RENT)
    assert (house.sources.cited(note).quote, len(house.sources.cited(note).boxes)) == (RENT, 1)
    with pytest.raises(SourceMissing, match="in the index no more"):
        house.sources.cited(replace(note, doc="/nowhere.pdf"))
    # The index may still hold passages of a document that failed later.
    house.bench.catalog.put(house.bench.settings.collection, replace(row, status="failed"))
    with pytest.raises(SourceMissing, match="no document"):
        house.sources.cited(note)


# --- the text around a quote


@given(
    st.lists(st.tuples(st.text("ab ", min_size=1, max_size=9), st.integers(0, 4)), min_size=1, max_size=9), st.data()
)
def test_the_text_around_a_quote_is_the_documents(parts: list[tuple[str, int]], data: st.DataObject) -> None:
    """Passages overlap, or have white space between them, and come in any order."""
    text = " ".join(f"x{part}y" for part, _ in parts)
    chunks: list[Chunk] = []
    start = 0
    for number, (part, overlap) in enumerate(parts):
        low, high = max(0, start - overlap), start + len(part) + 2
        chunks.append(make_chunk(text[low:high], number, start=low, end=high))
        start = high + 1
    begin = data.draw(st.integers(0, len(text) - 1).filter(lambda at: any(c.start <= at < c.end for c in chunks)))
    end = data.draw(st.integers(begin + 1, len(text)))
    found = around(data.draw(st.permutations(chunks)), begin, end)
    assert found is not None
    assert found.before + found.quote + found.after == text
    assert found.quote == text[begin:end]


def test_no_more_than_the_neighbours_are_shown() -> None:
    chunks = [make_chunk("word " * 20, number) for number in range(100)]
    found = around(chunks, 5000, 5004)
    assert found is not None
    assert found.quote == "word"
    for beside in (found.before, found.after):
        assert REACH - 10 < len(beside) <= REACH
        assert set(beside.split()) == {"word"}


def test_rows_of_a_table_are_below_its_column_names() -> None:
    names, more = (
        "Month | Rent",
        make_chunk("June | 910\nJuly | 920", start=113, end=134, kind="table", header="Month | Rent"),
    )
    found = around([make_chunk("April | 890", start=101, end=112, kind="table", header=names), more], 113, 123)
    assert found is not None
    assert (found.before, found.quote) == ("Month | Rent\nApril | 890\n", "June | 910")


def test_a_place_between_the_passages_is_none() -> None:
    assert around([make_chunk("abc", 0), make_chunk("abc", 1)], 50, 101) is None
    assert around([], 0, 5) is None


# --- as HTML

SHOWN = Source(
    id="6d0c1d5e-1f7b-5a55-9d35-0d7b7f5c2a11",
    doc="/documents/lease.pdf",
    title="Lease",
    page=3,
    headings=("Home", "Rent"),
    before="The flat is small.\n\n",
    quote=RENT,
    after=" It is due soon.",
    boxes=(Area(left=0.1, top=0.25, width=0.5, height=0.02), Area(left=0.1, top=0.28, width=0.2, height=0.02)),
    picture="/api/v1/documents/6d0c1d5e-1f7b-5a55-9d35-0d7b7f5c2a11/pages/3?width=1000",
    width=1000,
    height=1414,
)
AT = str(SHOWN.picture).removeprefix("/")
"""Below the address of the page, which is that of its collection."""
TAGS = {"figure", "div", "img", "span", "figcaption", "blockquote", "mark", "br"}
ATTRIBUTES = {"class", "src", "alt", "width", "height", "loading", "style", "aria-hidden"}


def parse(html: str) -> lxml.html.HtmlElement:
    """The panel's HTML, in which everything is our own."""
    root = lxml.html.fragment_fromstring(html)
    for element in root.iter():
        assert element.tag in TAGS
        assert set(element.attrib) <= ATTRIBUTES
        assert all(name.startswith("fn-") for name in element.get("class", "fn-").split())
        assert element.get("src", AT) == AT
    return root


def texts(root: lxml.html.HtmlElement, name: str) -> Sequence[str]:
    return [" ".join(element.text_content().split()) for element in root.find_class(name)]


def test_the_panel_shows_the_page_with_its_boxes() -> None:
    root = parse(panel(SHOWN, 2, 5))
    (image,) = root.iter("img")
    assert image.get("alt") == "Page 3 of lease.pdf, the quoted passage is marked"
    assert [box.get("style") for box in root.find_class("fn-box")] == [
        "left:10.000%;top:25.000%;width:50.000%;height:2.000%",
        "left:10.000%;top:28.000%;width:20.000%;height:2.000%",
    ]
    assert texts(root, "fn-place") == ["[2] of 5 lease.pdf › page 3 › Home › RentLease"]
    assert texts(root, "fn-around") == ["The flat is small." + RENT + " It is due soon."]
    assert [mark.text_content() for mark in root.iter("mark")] == [RENT]


def test_the_panel_without_a_picture_says_why() -> None:
    bare = SHOWN.model_copy(update={"picture": None, "boxes": (), "note": "lease.pdf has changed"})
    root = parse(panel(bare, 1, 1))
    assert (list(root.iter("img")), texts(root, "fn-origin-note")) == ([], ["lease.pdf has changed"])


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_documents_say_shows_as_text(attack: str) -> None:
    check_hostile(attack)


@given(HOSTILE)
@example("a\n\n<b>b</b>")
def test_whatever_documents_say_shows_as_text(text: str) -> None:
    check_hostile(text)


def check_hostile(text: str) -> None:
    fields = {name: text for name in ("doc", "title", "before", "quote", "after", "note")}
    html = panel(SHOWN.model_copy(update={**fields, "headings": (text, text)}), 1, 1)
    assert "\n" not in html
    (mark,) = parse(html).iter("mark")
    assert "".join(mark.text_content().split()) == "".join(text.split())
