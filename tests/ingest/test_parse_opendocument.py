"""OpenDocument spreadsheets, written here as XML, and what LibreOffice writes: presentations, templates and shows."""

import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pptx
import pytest

from ingest.parse.document import Context, ParsedDocument
from ingest.parse.table import parse
from rag.errors import ParseError

needs_office = pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
NAMES = {
    "office": "office:1.0",
    "table": "table:1.0",
    "text": "text:1.0",
    "draw": "drawing:1.0",
    "chart": "chart:1.0",
    "meta": "meta:1.0",
    "manifest": "manifest:1.0",
}
SPACES = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{uri}"' for name, uri in NAMES.items())
SPACES += ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xlink="http://www.w3.org/1999/xlink"'
SPREADSHEET = "application/vnd.oasis.opendocument.spreadsheet"


def xml(name: str, content: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><office:{name} {SPACES}>{content}</office:{name}>'


def cell(text: str = "", more: str = "", **attributes: str) -> str:
    given = " ".join(f'{name.replace("_", ":", 1).replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f"<table:table-cell {given}>{f'<text:p>{text}</text:p>' if text else ''}{more}</table:table-cell>"


def row(*cells: str, repeated: int = 1) -> str:
    shown = "".join(one if one.startswith("<") or not one else cell(one) for one in cells)
    return f'<table:table-row table:number-rows-repeated="{repeated}">{shown}</table:table-row>'


def sheet(name: str, *rows: str, shapes: str = "") -> str:
    drawn = f"<table:shapes>{shapes}</table:shapes>" if shapes else ""
    return f'<table:table table:name="{name}">{drawn}<table:table-column/>{"".join(rows)}</table:table>'


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., ParsedDocument]:
    """Write a spreadsheet of these sheets, and other parts of the file by name, and parse it."""

    def read_(*sheets: str, name: str = "book.ods", mimetype: str = SPREADSHEET, **parts: str) -> ParsedDocument:
        content = f"<office:body><office:spreadsheet>{''.join(sheets)}</office:spreadsheet></office:body>"
        files = {"mimetype": mimetype, "content.xml": xml("document-content", content)}
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for part, text in (files | parts).items():
                archive.writestr(part, text)
        return parse(tmp_path / name, Context(tmp_path))

    return read_


def blocks(parsed: ParsedDocument, kind: str = "") -> list[str]:
    return [parsed.text[block.start : block.end] for block in parsed.blocks if block.kind == kind or not kind]


def words(parsed: ParsedDocument) -> set[str]:
    return set(re.findall(r"\w+", parsed.text))


def test_sheets_are_pages_and_tables_have_their_column_names(read) -> None:
    parsed = read(
        sheet("Costs", row("Item", "Price"), row("Tea", "3"), row("Milk<text:s/>and<text:line-break/>sugar", "1")),
        sheet("Empty", row("", repeated=1_048_576)),
        sheet("Notes", row("Paid in <text:span>cash</text:span>")),
        **{"meta.xml": xml("document-meta", "<office:meta><dc:title>The budget</dc:title></office:meta>")},
    )
    assert (parsed.title, parsed.pages) == ("The budget", 3)
    assert blocks(parsed) == ["Costs", "Item | Price\nTea | 3\nMilk and sugar | 1", "Notes", "Paid in cash"]
    assert [(block.kind, block.page, block.headings) for block in parsed.blocks] == [
        ("heading", 1, ("Costs",)),
        ("table", 1, ("Costs",)),
        ("heading", 3, ("Notes",)),
        ("text", 3, ("Notes",)),
    ]
    assert parsed.blocks[1].header == "Item | Price"


def test_what_repeats_is_said_as_often_and_what_was_merged_in_every_row(read) -> None:
    filler = cell(table_number_columns_repeated="3")
    parsed = read(
        sheet(
            "S",
            row("Name", "A", "B", filler, "Far"),
            row("same", cell("7", table_number_columns_repeated="2"), repeated=3),
            row(cell("both", table_number_rows_spanned="2"), "1"),
            row("<table:covered-table-cell><text:p>hidden</text:p></table:covered-table-cell>", "2"),
            row(cell(table_number_columns_repeated="16384"), repeated=1_048_000),
        )
    )
    assert blocks(parsed, "table") == ["Name | A | B | Far" + "\nsame | 7 | 7" * 3 + "\nboth | 1\nboth | 2"]


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ({"office_value-type": "float", "office_value": "2.50"}, "2.5"),
        ({"office_value-type": "percentage", "office_value": "0.07"}, "7%"),
        ({"office_value-type": "currency", "office_value": "12", "office_currency": "EUR"}, "12 EUR"),
        ({"office_value-type": "date", "office_date-value": "2026-03-01T00:00:00"}, "2026-03-01"),
        ({"office_value-type": "boolean", "office_boolean-value": "true"}, "TRUE"),
        ({"office_value-type": "string", "office_string-value": "words"}, "words"),
    ],
)
def test_values_that_were_saved_without_how_they_are_shown(read, attributes: dict[str, str], shown: str) -> None:
    assert blocks(read(sheet("S", row(cell(**attributes)))), "text") == [shown]


def test_values_are_shown_as_they_were_and_missing_ones_are_noted(read) -> None:
    parsed = read(
        sheet("S", row(cell("1,234.50 €", office_value="1234.5"), cell(table_formula="of:=[.A1]*2"), cell("x")))
    )
    assert blocks(parsed, "table") == ["1,234.50 € | x"]
    assert parsed.notes == ("sheet S: 1 formulas without a saved value; open the file, recalculate and save it",)


def test_comments_boxes_and_titles_of_charts(read) -> None:
    comment = "<office:annotation><dc:creator>Ann</dc:creator><text:p>Ask</text:p></office:annotation>"
    box = "<draw:custom-shape><text:p>Over a cell</text:p></draw:custom-shape>"
    chart = '<draw:frame><draw:object xlink:href="./Object 1"/></draw:frame>'
    group = f"<draw:g><draw:frame><draw:text-box><text:p>Boxed</text:p></draw:text-box></draw:frame>{chart}</draw:g>"
    drawn = "<chart:chart><chart:title><text:p>Sales by year</text:p></chart:title></chart:chart>"
    wide = cell("a", table_number_columns_repeated="27")
    parsed = read(
        sheet("S", row(wide, cell("z", f"{comment}{box}")), shapes=group),
        **{"Object 1/content.xml": xml("document-content", f"<office:body>{drawn}</office:body>")},
    )
    assert blocks(parsed, "table") == [" | ".join("a" * 27 + "z")]
    assert blocks(parsed, "text") == ["Boxed", "Sales by year", "Over a cell", "AB1: Ask"]
    assert parsed.blocks[-1].headings == ("S", "Comments")


def test_a_file_that_ends_too_early_gives_what_is_there(read) -> None:
    whole = xml("document-content", sheet("S", row("Item", "Price"), row("Tea", "3"), row("Milk", "1")))
    parsed = read(**{"content.xml": whole[: whole.index("Milk")]})
    assert "Item | Price\nTea | 3" in parsed.text
    assert blocks(parsed, "heading") == ["S"]
    assert parsed.notes == ("it is damaged, and not all of it could be read",)


def test_passwords_and_missing_sheets_are_named(read) -> None:
    locked = "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>"
    for mimetype in (SPREADSHEET, SPREADSHEET.replace("spreadsheet", "presentation")):
        with pytest.raises(ParseError, match="it needs a password"):
            read(mimetype=mimetype, **{"META-INF/manifest.xml": xml("manifest", locked)})
    with pytest.raises(ParseError, match="no sheets"):
        read()


@pytest.mark.parametrize(("name", "notes"), [("a.ods", 0), ("a.ots", 0), ("a", 0), ("a.xlsx", 1)])
def test_a_template_is_read_and_a_wrong_name_is_noted(read, name: str, notes: int) -> None:
    parsed = read(sheet("S", row("words")), name=name, mimetype=f"{SPREADSHEET}-template")
    assert blocks(parsed, "text") == ["words"]
    assert len(parsed.notes) == notes


@pytest.mark.slow
@needs_office
def test_presentations_keep_slides_tables_and_notes(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    for title in ("The plan", "The price"):
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.shapes.title.text = title
    table = slide.shapes.add_table(2, 2, 1_000_000, 2_000_000, 4_000_000, 1_000_000).table
    for at, text in enumerate(("Item", "Price", "Tea", "3")):
        table.cell(at // 2, at % 2).text = text
    slide.notes_slide.notes_text_frame.text = "Mention the discount."
    presentation.save(tmp_path / "talk.pptx")
    profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
    for suffix in ("odp", "otp"):
        command = ["soffice", profile, "--headless", "--convert-to", suffix, "talk.pptx"]
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
        spool = tmp_path / f"spool-{suffix}"
        spool.mkdir()
        parsed = parse(tmp_path / f"talk.{suffix}", Context(spool))
        assert (parsed.title, parsed.pages, parsed.notes) == ("The plan", 2, ())
        assert blocks(parsed, "table") == ["Item | Price\nTea | 3"]
        assert "Mention the discount." in parsed.text
        assert {block.page for block in parsed.blocks} == {1, 2}


@pytest.mark.parametrize("name", ["talk.odp", "talk.otp"])
def test_what_reads_a_presentation_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("mimetype", SPREADSHEET.replace("spreadsheet", "presentation"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ParseError, match="apt-get install libreoffice-impress-nogui"):
        parse(tmp_path / name, Context(tmp_path))


@pytest.mark.slow
@needs_office
@pytest.mark.parametrize(
    ("source", "suffixes"), [("simple.odt", ("ott", "dotx", "dot")), ("fake-power-point.pptx", ("potx", "ppsx", "pps"))]
)
def test_templates_and_slide_shows_are_read_as_what_they_are_of(
    tmp_path: Path, shared: Path, source: str, suffixes: tuple[str, ...]
) -> None:
    original = words(parse(shared / "files" / source, Context(tmp_path)))
    profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
    for suffix in suffixes:
        filter_ = {"pps": "ppt", "ppsx": "pptx", "dot": "doc"}.get(suffix, suffix)
        command = ["soffice", profile, "--headless", "--convert-to", filter_, "--outdir", str(tmp_path)]
        subprocess.run([*command, str(shared / "files" / source)], check=True, capture_output=True)
        made = (tmp_path / source).with_suffix(f".{filter_}").rename(tmp_path / f"made.{suffix}")
        spool = tmp_path / f"spool-{suffix}"
        spool.mkdir()
        parsed = parse(made, Context(spool))
        assert parsed.notes == (), suffix
        assert not original - words(parsed), suffix
