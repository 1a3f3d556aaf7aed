"""Every real file of every kind and temper: what must become of it. A person looked at each of them.

`Indexed` names the pages and words that must be among the passages; `Failed` the stage and a part of the reason.
Documents inside others (attachments, members of archives) have lines of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ingest.audit import Audit
from ingest.catalog import Catalog, Row
from ingest.pipeline import Ingestion, own_peak
from ingest.results import FileResult
from rag.settings import Settings
from rag.store.opening import open_store
from rag.store.protocol import Store
from tests.conftest import SHARED, WordCountEmbedder

FILES = SHARED / "files"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FILES.is_dir(), reason="the shared files are not there")]


class Indexed(NamedTuple):
    pages: int
    words: str
    note: str = ""


class Failed(NamedTuple):
    stage: str
    reason: str


OUTCOMES: dict[str, Indexed | Failed] = {
    "CantinaBand3.wav": Failed("parse", "it is an audio or a video file"),
    "README-w-include.org": Indexed(1, "You can parse this document using the HTML parser."),
    "README-w-include.rst": Indexed(1, "You can parse this document using the HTML parser."),
    "README.org": Indexed(1, "You can parse this document using the HTML parser."),
    "README.rst": Indexed(1, "You can parse this document using the HTML parser."),
    "arbitrary-records.json": Indexed(1, "name: Pruning Shears"),
    "arbitrary-records.ndjson": Indexed(1, "name: Watering Can"),
    "book-war-and-peace-1p.txt": Indexed(1, 'his boats, and I believe that we are ready to burn ours."'),
    "category-level.docx": Indexed(1, "Call me Ishmael."),
    "csv-with-escaped-commas.csv": Indexed(1, "A | A | A | A,A | A"),
    "csv-with-line-delimiter.csv": Indexed(1, "g | h | i"),
    "docx-hdrftr.docx": Indexed(1, "First header para"),
    "docx-tables.docx": Indexed(1, "a | >b< | c"),
    "duplicate-paragraphs.doc": Indexed(1, "This document contains duplicates"),
    "eml/email-inline-content-disposition.eml": Indexed(1, "Attachments: t.txt"),
    "eml/email-inline-content-disposition.eml/t.txt": Indexed(1, "test"),
    "eml/email-no-html-content-1.eml": Indexed(1, "X-GM-THRID: 1751394755051884550"),
    "eml/email-no-utf8-2008-07-16.062410.eml": Indexed(1, "סלבה היקר"),
    "eml/email-no-utf8-2014-03-17.111517.eml": Indexed(1, "1600 Amphitheatre Parkway, Mountain View, CA 94043, USA"),
    "eml/email-replace-mime-encodings-error-2.eml": Indexed(1, "Someone Real - (Events & Tradeshow Specialist)"),
    "eml/email-replace-mime-encodings-error-3.eml": Indexed(1, "AWS Online Conference"),
    "eml/fake-email-attachment.eml": Indexed(1, "Attachments: fake-attachment.txt"),
    "eml/fake-email-attachment.eml/fake-attachment.txt": Indexed(1, "Hey this is a fake attachment!"),
    "eml/fake-email-header.eml": Indexed(1, "- Violets are blue"),
    "eml/fake-email.eml": Indexed(1, "- Violets are blue"),
    "eml/fake-encrypted.eml": Failed("parse", "it is encrypted (PGP)"),
    "eml/mime-different-plain-html.eml": Indexed(1, "marking the beginning of what we now know as email spam."),
    "eml/mime-multi-to-cc-bcc.eml": Indexed(1, "This is a plain-text message."),
    "eml/mime-no-body.eml": Indexed(1, "Attachments: image.jpg"),
    "eml/mime-no-subject.eml": Indexed(1, "This is a simple email message without a subject."),
    "eml/mime-simple.eml": Indexed(1, "This is a simple email message."),
    "eml/signed-doc.p7s": Indexed(1, "This is a test"),
    "eml/simple-rfc-822.eml": Indexed(1, "set by the Internet Engineering Task Force (IETF)."),
    "eml/test-invalid-date.eml": Indexed(1, "This is a test-email with an invalid date format."),
    "eml/test-iso-8601-date.eml": Indexed(1, "This is a test-email."),
    "eml/test-rfc2822-date.eml": Indexed(1, "This is a test-email."),
    "emoji.xlsx": Indexed(1, "🤠😅"),
    "empty.xlsx": Failed("parse", "it holds no text"),
    "example-10k.html": Indexed(1, "23,718,968 common shares as of March 28, 2022"),
    "example-steelJIS-datasheet-utf-16.html": Indexed(1, "risk as to use of these content is assumed by you the user"),
    "example-with-scripts.html": Indexed(1, "293-5550 ©2007 – 2023 THE INSTITUTE FOR THE STUDY OF WAR"),
    "factbook.xml": Indexed(1, "country.sport: Track & Field"),
    "fake-doc-emphasized-text.docx": Indexed(1, "I am a normal text."),
    "fake-doc.rtf": Indexed(1, "Row 2, Cell 1 | Row 2, Cell 2"),
    "fake-email-attachment.msg": Indexed(1, "Attachments: fake-attachment.txt"),
    "fake-email-attachment.msg/fake-attachment.txt": Indexed(1, "Hey this is a fake attachment!"),
    "fake-email.txt": Indexed(1, "Subject: Test Email"),
    "fake-encrypted.msg": Failed("parse", "it is encrypted (PGP)"),
    "fake-html-pre.htm": Indexed(1, "TITLE X--MISCELLANEOUS"),
    "fake-html-with-base64-image.html": Indexed(1, "Unstructured Logo"),
    "fake-html-with-footer-and-header.html": Indexed(1, "Footer"),
    "fake-incomplete-json.txt": Indexed(1, '"hobbies": ["reading", "running", "cooking"]'),
    "fake-power-point-malformed.pptx": Indexed(1, "Problem Date Placeholder"),
    "fake-power-point.ppt": Indexed(1, "Here is some text in a text box!"),
    "fake-power-point.pptx": Indexed(1, "Here is some text in a text box!"),
    "fake-text-utf-16-be.txt": Indexed(1, "- I love fuzzy blankets"),
    "fake-text-utf-16.txt": Indexed(1, "- I love fuzzy blankets"),
    "fake.doc": Indexed(1, "Lorem ipsum dolor sit amet."),
    "fake.docx": Indexed(1, "Lorem ipsum dolor sit amet."),
    "fake.go": Indexed(1, 'fmt.Println("Hello Go!")'),
    "fake_table.docx": Indexed(1, "Dolor sit amet"),
    "file_we_dont_want_imported": Indexed(1, "wombat"),
    "grid_offset_error.docx": Indexed(1, "A Merged B1-B3 C"),
    "ideas-page.html": Indexed(1, "case, exploring such gaps yields whole new fractal buds."),
    "language-docs/eng_afr_spa.txt": Indexed(1, "should act towards one another in a spirit of brotherhood."),
    "language-docs/eng_spa.txt": Indexed(1, "should act towards one another in a spirit of brotherhood."),
    "language-docs/eng_spa.xlsx": Indexed(2, "deben comportarse fraternalmente los unos con los otros."),
    "language-docs/eng_spa_mult.doc": Indexed(1, 'deben comportarse fraternalmente los unos con los otros."'),
    "language-docs/eng_spa_mult.docx": Indexed(1, 'deben comportarse fraternalmente los unos con los otros."'),
    "language-docs/eng_spa_mult.eml": Indexed(1, 'comportarse fraternalmente los unos con los otros."'),
    "language-docs/eng_spa_mult.epub": Indexed(1, 'deben comportarse fraternalmente los unos con los otros."'),
    "language-docs/eng_spa_mult.html": Indexed(1, 'deben comportarse fraternalmente los unos con los otros."'),
    "language-docs/eng_spa_mult.md": Indexed(1, 'deben comportarse fraternalmente los unos con los otros."'),
    "language-docs/eng_spa_mult.odt": Indexed(1, 'deben comportarse fraternalmente los unos con los otros."'),
    "language-docs/eng_spa_mult.pptx": Indexed(6, 'deben comportarse fraternalmente los unos con los otros."'),
    "language-docs/eng_spa_mult.txt": Indexed(1, 'deben comportarse fraternalmente los unos con los otros."'),
    "language-docs/eng_spa_mult.xml": Indexed(1, 'deben comportarse fraternalmente los unos con los otros."'),
    "language-docs/fr_olap.pdf": Indexed(12, "Résumés et interrogations de logs de requêtes OLAP"),
    "more-than-1k-cells.xlsx": Indexed(1, "x | x | x | x | x"),
    "norwich-city.txt": Indexed(1, "Place of birth Bangor, Wales"),
    "not-unstructured-payload.json": Indexed(1, "description: This is sample data #1"),
    "picture.pptx": Failed("parse", "its slides hold pictures only, no text"),
    "rotated-page-90.pdf": Indexed(1, "Hello World Test Text"),
    "science-exploration-1p.pptx": Indexed(1, "Virtual Machine Environment Scorecard"),
    "semicolon-delimited.csv": Indexed(1, "Ut enim | ad minim | veniam, quis"),
    "simple-table.md": Indexed(1, "Bananas | 1.89 | 6"),
    "simple.docx": Indexed(1, "DOYLESTOWN, PA 18901"),
    "simple.ndjson": Indexed(1, "DOYLESTOWN, PA 18901"),
    "simple.odt": Indexed(1, "DOYLESTOWN, PA 18901"),
    "simple.pptx": Indexed(2, "What were you thinking?"),
    "simple.yaml": Indexed(1, "turtle-doves: two"),
    "simple.zip": Indexed(1, "stanley-cups.csv"),
    "simple.zip/ideas-page.html": Indexed(1, "case, exploring such gaps yields whole new fractal buds."),
    "simple.zip/stanley-cups.csv": Indexed(1, "Maple Leafs | TOR | 13"),
    "single-line-object.json": Indexed(1, "sku: GRD-8842"),
    "stanley-cups-with-emoji.csv": Indexed(1, "👨\\U+1F3FB🔧 | TOR | 15"),
    "stanley-cups-with-emoji.tsv": Indexed(1, "👨\\U+1F3FB🔧 | TOR | 15"),
    "table-semicolon-delimiter.csv": Indexed(1, "2024 | 3 | 215,32 | -11,08"),
    "teams_chat.docx": Indexed(1, "James Bond"),
    "tests-example.xls": Indexed(3, "What is 2+2? | 4 | correct | 3 | incorrect"),
    "umlauts-non-utf8.md": Indexed(1, "äöüß"),
    "unsupported/factbook.xsl": Indexed(1, "</xsl:stylesheet>"),
    "vodafone.xlsx": Indexed(1, "Group financial performance | FY 22 | FY 23 | 2"),
    "eml/mime-no-body.eml/image.jpg": Failed("parse", "broken data stream when reading image file"),
    "img/DA-1p.heic": Indexed(1, "We had been tracking"),
    "img/DA-1p.jpg": Indexed(1, "now she was a mere puppet for some demon"),
    "img/bmp_24.bmp": Failed("parse", "no text was recognised in this picture"),
    "img/chi_sim_image.jpeg": Failed("parse", "its language may not be among ocr_languages (eng)"),
    "img/double-column-B.jpg": Indexed(1, "Excepted position shall have the same meaning"),
    "img/english-and-korean.png": Indexed(1, "RULES AND INSTRUCTIONS", "some text could not be recognised"),
    "img/example.jpg": Failed("parse", "no text was recognised in this picture"),
    "img/layout-parser-paper-fast.tiff": Indexed(1, "A Unified Toolkit for Deep"),
    "img/layout-parser-paper-with-table.jpg": Indexed(1, "Current layout detection"),
    "img/table-multi-row-column-cells.png": Indexed(1, "95.4%"),
    "pdf/DA-619p.pdf": Indexed(619, "If found, please return to Lady Yvette Montilyet"),
    "pdf/all-number-table.pdf": Indexed(1, "1600.01"),
    "pdf/copy-protected.pdf": Indexed(2, "easy reuse of important innovations"),
    "pdf/embedded-images.pdf": Indexed(1, "Carte en mode mains libres"),
    "pdf/embedded-link.pdf": Indexed(1, "This is the link."),
    "pdf/fake-memo-with-duplicate-page.pdf": Indexed(2, "20,000 bottles of water"),
    "pdf/figure-overlay-text.pdf": Indexed(1, "Printed Name: Jane Doe"),
    "pdf/invalid-pdf-structure-pdfminer-one-page.pdf": Indexed(2, "National Cybersecurity Strategy"),
    "pdf/korean-text-with-tables.pdf": Indexed(1, "적립 제외 대상"),
    "pdf/layout-parser-paper-fast.pdf": Indexed(2, "easy reuse of important innovations"),
    "pdf/layout-parser-paper-with-empty-pages.pdf": Indexed(4, "This page is intentionally left blank"),
    "pdf/layout-parser-paper-with-table.pdf": Indexed(1, "Current layout detection models"),
    "pdf/list-item-example.pdf": Indexed(2, "Technology and tools selection"),
    "pdf/multi-column-2p.pdf": Indexed(2, "Dense Passage Retrieval for Open-Domain Question Answering"),
    "pdf/negative-coords.pdf": Indexed(1, "2022 Environmental Progress Report 104"),
    "pdf/password.pdf": Failed("parse", "remove the password first"),
    "pdf/pdf2image-memory-error-test-400p.pdf": Indexed(400, "Any line marked with a # is for Official Use Only"),
}


class Whole(NamedTuple):
    """All files, ingested in one run."""

    results: dict[str, FileResult]
    texts: dict[str, str]
    rows: dict[str, Row]
    points: int
    chunks: int
    faults: list[object]
    added_mb: int
    """What the run needed at most above what this process, with the tests before it, had needed already."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    settings = Settings.load(home=tmp_path_factory.mktemp("home"), parse_workers=2)
    embedder = WordCountEmbedder()
    before = own_peak()
    catalog = Catalog.open(settings.home / "catalog.sqlite")
    store = open_store(settings, embedder, create=True)
    run = Ingestion(settings, embedder, store, catalog)
    results = {named(result.doc): result for result in run.run([FILES])}
    rows = {named(row.doc): row for row in catalog.rows("default")}
    audit = Audit(settings, embedder, store, catalog).run(sample=10)
    yield Whole(
        results,
        {name: text_of(store, row) for name, row in rows.items()},
        rows,
        store.count(),
        run.summary.chunks,
        list(audit.faults),
        (run.summary.peak_bytes - before) >> 20,
    )
    store.close()


def named(doc: str) -> str:
    return str(Path(doc).relative_to(FILES))


def text_of(store: Store, row: Row) -> str:
    chunks = sorted((item.chunk for item in store.scan(row.doc_id)), key=lambda chunk: chunk.start)
    return "\n".join(chunk.with_header for chunk in chunks)


def test_every_file_is_in_the_table_and_the_other_way_round(whole: Whole) -> None:
    assert sorted(whole.results) == sorted(OUTCOMES)
    assert {named(str(path)) for path in FILES.rglob("*") if path.is_file()} <= OUTCOMES.keys()


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcome(whole: Whole, name: str) -> None:
    expected, result, row = OUTCOMES[name], whole.results[name], whole.rows[name]
    if isinstance(expected, Failed):
        assert (result.status, result.stage) == ("failed", expected.stage), result
        assert expected.reason in result.reason
        assert "\n" not in result.reason
        assert not whole.texts[name]
    else:
        assert (result.status, result.pages) == ("indexed", expected.pages), result
        assert result.chunks > 0
        assert " ".join(expected.words.split()) in " ".join(whole.texts[name].split())
        assert expected.note in result.reason
    assert (row.status, row.reason) == (result.status, result.reason)


def test_the_index_holds_what_was_reported(whole: Whole) -> None:
    assert whole.points == whole.chunks == sum(row.chunks for row in whole.rows.values())
    assert whole.faults == []


def test_memory_is_bounded(whole: Whole) -> None:
    assert whole.added_mb < 1500
