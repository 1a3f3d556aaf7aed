"""Slides, sheets and their old forms. Decks and workbooks are written here with python-pptx and openpyxl, which the
parsers do not use.
"""

import csv
import datetime
import re
import shutil
import struct
import subprocess
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import openpyxl
import pptx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.comments import Comment
from pptx.chart.data import CategoryChartData, XyChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from ingest.parse.delimited import parse_delimited
from ingest.parse.document import Context, ParsedDocument, assemble
from ingest.parse.legacy import parse_doc
from ingest.parse.numbers import shown
from ingest.parse.rows import Sheet, looks_named, pack, pieces
from ingest.parse.sheets import parse_xlsx
from ingest.parse.slides import parse_pptx
from ingest.parse.table import parse
from ingest.parse.xls import _boxes, parse_xls
from rag.errors import ParseError

needs_office = pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
PICTURE = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d\x00\x00\x00\x00IEND\xaeB`\x82"
)
DRAWING = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'


def blocks(parsed: ParsedDocument, kind: str = "") -> list[str]:
    return [parsed.text[block.start : block.end] for block in parsed.blocks if block.kind == kind or not kind]


def tables(parsed: ParsedDocument) -> list[tuple[str, str]]:
    """Each table's header and text."""
    return [(block.header, parsed.text[block.start : block.end]) for block in parsed.blocks if block.kind == "table"]


def rewrite(path: Path, changes: dict[str, Callable[[str], str] | str | None]) -> None:
    """Change parts of an Office file by name; None takes a part out, a new name adds one."""
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    for name, change in changes.items():
        if change is None:
            del parts[name]
        else:
            text = change if isinstance(change, str) else change(parts[name].decode())
            parts[name] = text.encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, data in parts.items():
            new.writestr(name, data)


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (1234.0, "General", "1234"),
        (0.1 + 0.2, "", "0.3"),
        (1234567890123.0, "", "1234567890123"),
        (1234.5, "#,##0.00", "1,234.50"),
        (-1234.5, "$#,##0.00_);[Red]($#,##0.00)", "($1,234.50)"),
        (1234.567, '_-[$€-2]* #,##0.00_-;-* "x"', "€1,234.57"),
        (0, '_-* #,##0.00_-;-* #,##0.00_-;_-* "-"??_-;_-@_-', "-"),
        (2.675, "0.00", "2.68"),
        (-0.001, "0.00", "0.00"),
        (-5, "0", "-5"),
        (0.256, "0.0%", "25.6%"),
        (7, "00000", "00007"),
        (12, "0.##", "12"),
        (123456789, "000-00-0000", "123-45-6789"),
        (1e6, '0.0,,"M"', "1.0M"),
        (123456, "0.00E+00", "1.23E+05"),
        (0.5, "# ?/?", "0.5"),
        (5, 'General" kg"', "5 kg"),
        (0, '"Yes";"Yes";"No"', "No"),
        (3, "[>5]0.0;0.00", "3"),
        (45356, "m/d/yyyy", "2024-03-05"),
        (45356.604, "m/d/yy h:mm AM/PM", "2024-03-05 14:29"),
        (45356, "mmm-yy", "2024-03"),
        (45356, "mmmm", "March"),
        (45356, "yyyy", "2024"),
        (0.5, "h:mm", "12:00"),
        (0.999999, "hh:mm:ss", "00:00:00"),
        (1.5, "[h]:mm:ss", "36:00:00"),
        (59, "yyyy-mm-dd", "1900-02-28"),
        (61, "yyyy-mm-dd", "1900-03-01"),
        (-3, "yyyy-mm-dd", "-3"),
        (1e12, "yyyy-mm-dd", "1000000000000"),
        (2958465.9999999, "yyyy-mm-dd", "9999-12-31"),
        (float("inf"), "0", "inf"),
    ],
)
def test_numbers_are_shown_as_their_format_says(value: float, code: str, text: str) -> None:
    assert shown(value, code) == text


def test_the_other_calendar_begins_in_1904() -> None:
    assert shown(43894, "yyyy-mm-dd", from_1904=True) == "2024-03-05"


@given(st.floats(), st.text('0#?.,;%E+-_*\\"[]$hmsydG@ -/ab', max_size=12))
def test_no_format_breaks_a_number(value: float, code: str) -> None:
    assert isinstance(shown(value, code), str)


@given(st.floats(-1e9, 1e9), st.sampled_from(["0.00", "#,##0.00", "0.00_)"]))
def test_two_decimals_are_those_of_the_number(value: float, code: str) -> None:
    assert abs(float(shown(value, code).replace(",", "")) - value) <= 0.00500001


class TestColumnNames:
    @pytest.mark.parametrize(
        "rows",
        [
            [["Team", "Cups"], ["Blues", "1"]],
            [["", "2022", "2023"], ["Revenue", "10", "12"]],
            [["Abbreviation", "Meaning"], ["MC", "Multiple Choice"]],
            [["Date", "Amount"], ["2024-03-05", "$12.50"]],
        ],
    )
    def test_are_known(self, rows: list[list[str]]) -> None:
        assert looks_named(rows)

    @pytest.mark.parametrize(
        "rows",
        [
            [["Team", "Cups"]],
            [["Blues", "1"], ["Flyers", "2"]],
            [["x", "x"], ["x", "x"]],
            [["Name"], ["Blues"]],
            [["Lorem, ipsum", "dolor"], ["sit", "amet"]],
            [["2021", "2022"], ["2023", "2024"]],
            [["Ada", "pays"], ["Ben", "pays"]],
            [["a", "", "", "", "", "b"], ["1", "2", "3", "4", "5", "6"]],
        ],
    )
    def test_are_not_seen_where_there_are_none(self, rows: list[list[str]]) -> None:
        assert not looks_named(rows)


class TestRows:
    def test_lines_above_a_table_and_tables_between_empty_rows(self) -> None:
        grid = [
            *(["Report of the year"], ["It was a good one."], []),
            *(["", "Money"], ["", "Item", "", "Price"], ["", "Tea", "", "3"], [], ["", "Milk", "", "4"], []),
            *(["Staff"], [], ["Name", "Age"], ["Ada", "36"], [], ["All figures are estimates."]),
        ]
        parsed = assemble("t", pieces([pack(row) for row in grid], 1, ("Sheet",)))
        assert [(b.kind, b.headings, parsed.text[b.start : b.end]) for b in parsed.blocks] == [
            ("text", ("Sheet",), "Report of the year\nIt was a good one."),
            ("heading", ("Sheet", "Money"), "Money"),
            ("table", ("Sheet", "Money"), "Item | Price\nTea | 3\nMilk | 4"),
            ("heading", ("Sheet", "Staff"), "Staff"),
            ("table", ("Sheet", "Staff"), "Name | Age\nAda | 36"),
            ("text", ("Sheet", "Staff"), "All figures are estimates."),
        ]
        assert [header for header, _ in tables(parsed)] == ["Item | Price", "Name | Age"]

    @given(st.lists(st.lists(st.text("ab1 ", max_size=3).map(str.strip), max_size=4), max_size=12))
    def test_no_cell_is_lost_and_none_invented(self, grid: list[list[str]]) -> None:
        parsed = assemble("t", pieces([pack(row) for row in grid], None, ()))
        assert re.findall(r"[^\s|]+", parsed.text) == [part for row in grid for cell in row for part in cell.split()]

    def test_a_merged_cell_is_said_in_each_of_its_rows(self) -> None:
        sheet = Sheet()
        rows = [["Region", "City"], ["North", "Oslo"], ["", "Bergen"], [], ["South", "Rome"]]
        for number, row in enumerate(rows, start=1):
            sheet.put(number, row)
        sheet.merge((2, 1), (4, 1))
        sheet.merge((9, 9), (12, 9))
        text = assemble("t", sheet.pieces(1, ())).text
        assert text == "Region | City\nNorth | Oslo\nNorth | Bergen\nSouth | Rome"


class TestDelimited:
    @pytest.fixture
    def read(self, tmp_path: Path) -> Callable[..., ParsedDocument]:
        def read_(text: str | bytes) -> ParsedDocument:
            path = tmp_path / "prices.csv"
            path.write_bytes(text.encode() if isinstance(text, str) else text)
            return parse_delimited(path)

        return read_

    @pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
    def test_any_delimiter(self, read, mark: str) -> None:
        parsed = read(f'Item{mark}Price\r\nTea{mark}3\r\n"Mi{mark}lk"{mark}4\r\n')
        assert tables(parsed) == [("Item | Price", f"Item | Price\nTea | 3\nMi{mark}lk | 4".replace("\t", " "))]
        assert parsed.title == "prices"

    def test_decimal_commas_and_commas_in_text_are_no_delimiters(self, read) -> None:
        assert read("1,5;2,5;3,5\n1,6;2,6;3,6\n").text == "1,5 | 2,5 | 3,5\n1,6 | 2,6 | 3,6"
        assert read("Dear all, this is\nprose, in\nlines\nof one\ncolumn\nx\ny").text.startswith("Dear all, this is\n")

    def test_quoted_line_breaks_and_doubled_quotes(self, read) -> None:
        assert read('a,b\n"x\n\ny","say ""hi"""\n').text == 'a | b\nx y | say "hi"'

    def test_backslashes_before_marks_go_and_others_stay(self, read) -> None:
        parsed = read('name,note\nx,"say \\"hi, you\\", ok"\ny,C:\\dir\nz,one\\, two\n')
        assert parsed.text == 'name | note\nx | say "hi, you", ok\ny | C:\\dir\nz | one, two'

    def test_a_quotation_mark_that_is_never_closed_swallows_nothing(self, read) -> None:
        assert read('a,b\n"x",2\n3,"open\n4,5\n').text == 'a | b\n"x" | 2\n3 | "open\n4 | 5'

    def test_delimiter_that_the_first_line_names(self, read) -> None:
        assert read("sep=|\nName|Age\nA,B|3\n").text == "Name | Age\nA,B | 3"

    def test_other_encodings(self, read) -> None:
        assert (
            read("Ort;Größe\nKöln;405\nMünchen;310\nDüsseldorf;217\n".encode("cp1252")).blocks[0].header
            == "Ort | Größe"
        )
        assert read("Ort\tGröße\nKöln\t405\n".encode("utf-16")).text == "Ort | Größe\nKöln | 405"

    def test_delimiters_alone_are_no_text(self, read) -> None:
        assert not read(",,,\n,,\n").blocks

    def test_a_cell_may_be_very_long(self, read) -> None:
        assert len(read(f'a,b\n"{"x" * 200_000}",2\n').text) > 200_000

    @given(
        grid=st.lists(st.lists(st.text("aé1,;|\t\n\"'\\ ", max_size=6), min_size=3, max_size=3), min_size=2, max_size=6)
    )
    def test_what_the_standard_library_writes_is_read_again(self, tmp_path_factory, grid) -> None:
        path = tmp_path_factory.mktemp("csv") / "a.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(grid)
        text = parse_delimited(path).text
        assert re.findall(r"\w+", text) == [word for row in grid for cell in row for word in re.findall(r"\w+", cell)]


@pytest.fixture
def workbook(tmp_path: Path) -> Callable[..., Path]:
    """Writes a workbook from sheets given as name -> rows."""

    def write(sheets: dict[str, list[list[object]]], change: Callable[[openpyxl.Workbook], None] | None = None) -> Path:
        book = openpyxl.Workbook()
        book.remove(book.active)
        for name, rows in sheets.items():
            sheet = book.create_sheet(name)
            for row in rows:
                sheet.append(row)
        if change:
            change(book)
        path = tmp_path / "book.xlsx"
        book.save(path)
        return path

    return write


class TestWorkbooks:
    def test_sheets_are_pages_with_their_names_as_headings(self, workbook) -> None:
        parsed = parse_xlsx(workbook({"Prices": [["Item", "Price"], ["Tea", 3]], "Empty": [], "Staff": [["Ada"]]}))
        assert [(b.kind, b.page, b.headings, b.header, parsed.text[b.start : b.end]) for b in parsed.blocks] == [
            ("heading", 1, ("Prices",), "", "Prices"),
            ("table", 1, ("Prices",), "Item | Price", "Item | Price\nTea | 3"),
            ("heading", 3, ("Staff",), "", "Staff"),
            ("text", 3, ("Staff",), "", "Ada"),
        ]
        assert (parsed.title, parsed.pages, parsed.notes) == ("book", 3, ())

    def test_values_are_shown_as_a_person_sees_them(self, workbook) -> None:
        rows = [["Day", "Price", "Share", "Paid", "Note"], [datetime.date(2024, 3, 5), 1234.5, 0.256, True, "a\nb"]]

        def change(book: openpyxl.Workbook) -> None:
            book["S"]["B2"].number_format = "#,##0.00 €"
            book["S"]["C2"].number_format = "0.0%"

        assert tables(parse_xlsx(workbook({"S": rows}, change)))[0][1].split("\n")[1] == (
            "2024-03-05 | 1,234.50 € | 25.6% | TRUE | a b"
        )

    def test_merged_cells_comments_and_properties(self, workbook) -> None:
        def change(book: openpyxl.Workbook) -> None:
            book["S"].merge_cells("A2:A3")
            book["S"]["B2"].comment = Comment("Check this", "Ada")
            book.properties.title = "Cities of the North"

        parsed = parse_xlsx(workbook({"S": [["Land", "City"], ["Norway", "Oslo"], [None, "Bergen"]]}, change))
        assert parsed.title == "Cities of the North"
        assert blocks(parsed) == ["S", "Land | City\nNorway | Oslo\nNorway | Bergen", "B2: Check this"]
        assert parsed.blocks[-1].headings == ("S", "Comments")

    def test_formulas_that_were_never_calculated_are_noted(self, workbook) -> None:
        parsed = parse_xlsx(workbook({"S": [["a", "b"], [1, "=A2*2"], [2, "=A3*2"]]}))
        assert parsed.notes == ("sheet S: 2 formulas without a saved value; open the file, recalculate and save it",)

    def test_calculated_formulas_and_strange_cells(self, workbook) -> None:
        path = workbook({"S": [["a", "b"], [1, "=A2*2"]]})
        cells = (
            '<row><c t="inlineStr"><is><r><t>in</t></r><r><t>line</t></r><rPh><t>no</t></rPh></is></c>'
            '<c t="str"><f>x</f><v>te_x0041_xt</v></c><c t="e"><v>#DIV/0!</v></c><c t="d">'
            '<v>2024-03-05T00:00:00</v></c><c s="999"><v>1.5</v></c><c><v>oops</v></c><c/></row>'
        )
        rewrite(
            path,
            {
                "xl/worksheets/sheet1.xml": lambda xml: re.sub(r"<v ?/>|<v></v>", "<v>2</v>", xml).replace(
                    "</sheetData>", f"{cells}</sheetData>"
                )
            },
        )
        parsed = parse_xlsx(path)
        assert blocks(parsed, "table") == ["a | b\n1 | 2\ninline | teAxt | #DIV/0! | 2024-03-05 | 1.5 | oops"]
        assert parsed.notes == ()

    def test_text_boxes_and_charts_over_a_sheet(self, workbook) -> None:
        path = workbook({"S": [["a", "b"], [1, 2]]})
        box = "<x:sp><x:txBody><a:p><a:r><a:t>In a box</a:t></a:r></a:p></x:txBody></x:sp>"
        relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/drawing"
        rewrite(
            path,
            {
                "xl/drawings/drawing1.xml": f'<x:wsDr xmlns:x="urn:x" {DRAWING}><x:anchor>{box}</x:anchor></x:wsDr>',
                "xl/worksheets/_rels/sheet1.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/'
                f'2006/relationships"><Relationship Id="d" Type="{relation}" Target="../drawings/drawing1.xml"/>'
                "</Relationships>",
            },
        )
        assert blocks(parse_xlsx(path))[-1] == "In a box"

    def test_broken_styles_cost_formats_and_a_broken_sheet_its_end(self, workbook) -> None:
        path = workbook({"S": [["a", "b"], [1, 2], [3, 4]], "T": [["kept", "too"]]})
        rewrite(
            path,
            {
                "xl/styles.xml": "<styleSheet><fills><fill/></oops>",
                "xl/worksheets/sheet1.xml": lambda xml: xml[: xml.index('<row r="3"') + 20],
            },
        )
        parsed = parse_xlsx(path)
        assert "1 | 2" in parsed.text
        assert "kept | too" in parsed.text
        assert parsed.notes == ("sheet S: damaged, and not all of it could be read",)

    def test_a_missing_sheet_costs_only_itself(self, workbook) -> None:
        path = workbook({"S": [["a", "b"]], "T": [["kept", "too"]]})
        rewrite(path, {"xl/worksheets/sheet1.xml": None})
        parsed = parse_xlsx(path)
        assert blocks(parsed) == ["T", "kept | too"]
        assert parsed.notes == ("sheet S: damaged, and not all of it could be read",)

    def test_binary_workbooks_and_empty_ones_say_what_to_do(self, workbook, tmp_path: Path) -> None:
        path = workbook({"S": []})
        with pytest.raises(ParseError, match="holds no text"):
            parse(path, Context(tmp_path))
        rewrite(path, {"_rels/.rels": lambda xml: xml.replace("xl/workbook.xml", "xl/workbook.bin")})
        with pytest.raises(ParseError, match=r"binary workbook \(\.xlsb\); save it as \.xlsx"):
            parse(path, Context(tmp_path))

    @settings(max_examples=30)
    @given(
        grid=st.lists(
            st.lists(st.none() | st.integers(-(10**9), 10**9) | st.text("abcäß漢 ", max_size=5), max_size=5), max_size=8
        )
    )
    def test_what_openpyxl_writes_is_read_again(self, grid, tmp_path_factory) -> None:
        book = openpyxl.Workbook()
        for row in grid:
            book.active.append(row)
        path = tmp_path_factory.mktemp("xlsx") / "a.xlsx"
        book.save(path)
        words = [word for row in grid for cell in row if cell is not None for word in str(cell).split()]
        found = re.findall(r"[^\s|]+", parse_xlsx(path).text)
        assert found == (["Sheet", *words] if words else [])


@pytest.fixture
def deck(tmp_path: Path) -> Callable[..., Path]:
    """Saves what a function does to a new presentation."""

    def write(draw: Callable[[pptx.presentation.Presentation], None]) -> Path:
        presentation = pptx.Presentation()
        draw(presentation)
        path = tmp_path / "deck.pptx"
        presentation.save(path)
        return path

    return write


def slide_with(presentation: pptx.presentation.Presentation, title: str = "", layout: int = 5) -> pptx.slide.Slide:
    slide = presentation.slides.add_slide(presentation.slide_layouts[layout])
    if title:
        slide.shapes.title.text = title
    return slide


BOX = (0, 0, Inches(3), Inches(1))


class TestSlides:
    def test_titles_text_and_notes(self, deck) -> None:
        def draw(presentation) -> None:
            slide = slide_with(presentation, "The\nplan", layout=1)
            frame = slide.placeholders[1].text_frame
            frame.text = "First step"
            frame.add_paragraph().text = "a detail"
            frame.paragraphs[1].level = 1
            slide.shapes.add_textbox(*BOX).text_frame.text = "In a box"
            slide.notes_slide.notes_text_frame.text = "Say hello"
            slide_with(presentation, "The end")

        parsed = parse_pptx(deck(draw))
        assert [(b.kind, b.page, b.headings, parsed.text[b.start : b.end]) for b in parsed.blocks] == [
            ("heading", 1, ("The plan",), "The plan"),
            ("text", 1, ("The plan",), "First step\n- a detail"),
            ("text", 1, ("The plan",), "In a box"),
            ("text", 1, ("The plan", "Speaker notes"), "Say hello"),
            ("heading", 2, ("The end",), "The end"),
        ]
        assert (parsed.title, parsed.pages, parsed.notes) == ("The plan", 2, ())

    def test_tables_groups_and_merged_cells(self, deck) -> None:
        def draw(presentation) -> None:
            slide = slide_with(presentation, "Figures")
            cells = slide.shapes.add_table(3, 2, *BOX).table
            for place, text in enumerate(["Item", "Price", "Tea\nleaves", "3", "Milk", "4"]):
                cells.cell(*divmod(place, 2)).text = text
            outer = slide.shapes.add_group_shape()
            outer.shapes.add_group_shape().shapes.add_textbox(*BOX).text_frame.text = "Deep inside"

        parsed = parse_pptx(deck(draw))
        assert tables(parsed) == [("Item | Price", "Item | Price\nTea leaves | 3\nMilk | 4")]
        assert blocks(parsed)[-1] == "Deep inside"

    def test_charts_give_their_numbers(self, deck) -> None:
        def draw(presentation) -> None:
            slide = slide_with(presentation, "Sales")
            data = CategoryChartData(number_format="#,##0.0")
            data.categories = ["East", "West"]
            data.add_series("2022", (1000.25, 20))
            data.add_series("2023", (None, 40))
            chart = slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *BOX, data).chart
            chart.has_title = True
            chart.chart_title.text_frame.text = "Sales by region"
            points = XyChartData()
            points.add_series("Trial").add_data_point(0.5, 7)
            slide.shapes.add_chart(XL_CHART_TYPE.XY_SCATTER, *BOX, points)

        parsed = parse_pptx(deck(draw))
        assert "Sales by region" in blocks(parsed, "text")
        assert tables(parsed) == [
            ("| 2022 | 2023", "| 2022 | 2023\nEast | 1,000.3\nWest | 20.0 | 40.0"),
            ("| Trial", "| Trial\n0.5 | 7"),
        ]

    def test_diagrams_give_their_outline(self, deck) -> None:
        path = deck(lambda presentation: slide_with(presentation, "Team"))
        points = "".join(
            f'<dgm:pt modelId="{name}" {extra}><dgm:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t></dgm:pt>'
            for name, extra, text in [("0", 'type="doc"', ""), ("3", "", "Ben"), ("1", "", "Boss"), ("2", "", "Ada")]
        )
        links = "".join(
            f'<dgm:cxn srcId="{above}" destId="{below}" srcOrd="{order}"/>'
            for above, below, order in [("1", "3", 1), ("0", "1", 0), ("1", "2", 0)]
        )
        frame = (
            '<p:graphicFrame><a:graphic><a:graphicData><dgm:relIds xmlns:dgm="urn:d" r:dm="rId9"/></a:graphicData>'
            "</a:graphic></p:graphicFrame>"
        )
        kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/diagramData"
        relation = f'<Relationship Id="rId9" Type="{kind}" Target="../diagrams/data1.xml"/>'
        rewrite(
            path,
            {
                "ppt/slides/slide1.xml": lambda xml: xml.replace("</p:spTree>", f"{frame}</p:spTree>"),
                "ppt/slides/_rels/slide1.xml.rels": lambda xml: xml.replace("</Rel", f"{relation}</Rel", 1),
                "ppt/diagrams/data1.xml": f'<dgm:dataModel xmlns:dgm="urn:d" {DRAWING}>{points}{links}</dgm:dataModel>',
            },
        )
        assert blocks(parse_pptx(path)) == ["Team", "- Boss\n  - Ada\n  - Ben"]

    def test_alternatives_equations_and_numbers(self, deck) -> None:
        path = deck(lambda presentation: slide_with(presentation, "T"))
        shape = "<p:sp><p:txBody>{}</p:txBody></p:sp>"
        run = "<a:r><a:t>{}</a:t></a:r>"
        first, second = (f"<a:p><a:pPr><a:buAutoNum/></a:pPr>{run.format(text)}</a:p>" for text in ("one", "two"))
        new = shape.format(f"<a:p>{run.format('since 2010: ')}<m><t>E=mc²</t></m><a:br/>{run.format('below')}</a:p>")
        old = shape.format(f"<a:p>{run.format('before 2010')}</a:p>")
        number = shape.format('<a:p><a:fld type="slidenum"><a:t>7</a:t></a:fld></a:p>')
        choice = f"<mc:Choice>{new}</mc:Choice><mc:Fallback>{old}</mc:Fallback>"
        choice = f'<mc:AlternateContent xmlns:mc="urn:m">{choice}</mc:AlternateContent>'
        added = f"{choice}{shape.format(first + second)}{number}<p:sp/><!-- a comment -->"
        rewrite(path, {"ppt/slides/slide1.xml": lambda xml: xml.replace("</p:spTree>", f"{added}</p:spTree>")})
        assert blocks(parse_pptx(path)) == ["T", "since 2010: E=mc²\nbelow", "1. one\n2. two"]

    def test_footers_and_what_the_layout_says_are_said_once(self, deck) -> None:
        path = deck(lambda presentation: [slide_with(presentation, title) for title in ("One", "Two")])
        body = "<p:txBody><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:txBody>"
        place = f"<p:sp><p:nvSpPr><p:nvPr>{{}}</p:nvPr></p:nvSpPr>{body}</p:sp>"
        footer = place.format('<p:ph type="ftr"/>', "Confidential") + place.format('<p:ph type="sldNum"/>', "12")
        claim = place.format("", "ACME Inc.")
        relations = zipfile.ZipFile(path).read("ppt/slides/_rels/slide1.xml.rels").decode()
        (name,) = re.findall(r"slideLayout\d+\.xml", relations)
        rewrite(
            path,
            {
                **{
                    f"ppt/slides/slide{n}.xml": lambda xml: xml.replace("</p:spTree>", f"{footer}</p:spTree>")
                    for n in (1, 2)
                },
                f"ppt/slideLayouts/{name}": lambda xml: xml.replace("</p:spTree>", f"{claim}</p:spTree>"),
            },
        )
        assert blocks(parse_pptx(path)) == ["One", "Confidential", "ACME Inc.", "Two"]

    def test_comments_of_either_kind(self, deck) -> None:
        path = deck(lambda presentation: slide_with(presentation, "T"))
        base = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
        relations = "".join(
            f'<Relationship Id="c{kind}" Type="{base}/{kind}" Target="../comments/{kind}.xml"/>'
            for kind in ("comment", "comments")
        )
        rewrite(
            path,
            {
                "ppt/slides/_rels/slide1.xml.rels": lambda xml: xml.replace("</Rel", f"{relations}</Rel", 1),
                "ppt/comments/comments.xml": '<p:cmLst xmlns:p="urn:p"><p:cm><p:text>Why?</p:text></p:cm></p:cmLst>',
                "ppt/comments/comment.xml": f'<p:cmLst xmlns:p="urn:q" {DRAWING}><p:cm><p:txBody><a:p><a:r>'
                "<a:t>Because</a:t></a:r></a:p></p:txBody></p:cm></p:cmLst>",
            },
        )
        parsed = parse_pptx(path)
        assert blocks(parsed) == ["T", "Why?", "Because"]
        assert parsed.blocks[-1].headings == ("T", "Comments")

    def test_damaged_and_missing_slides_cost_only_themselves(self, deck) -> None:
        path = deck(lambda presentation: [slide_with(presentation, f"Slide about {n}") for n in "abc"])
        rewrite(
            path,
            {
                "ppt/slides/slide1.xml": lambda xml: xml.replace("</p:cSld>", "</p:oops>"),
                "ppt/slides/slide2.xml": None,
            },
        )
        parsed = parse_pptx(path)
        assert blocks(parsed) == ["Slide about a", "Slide about c"]
        assert parsed.blocks[-1].page == 3
        assert parsed.notes == ("slide 1, 2: damaged, and not all of it could be read",)

    def test_pictures_alone_are_said_not_to_be_read(self, deck, tmp_path: Path) -> None:
        def draw(presentation) -> None:
            slide_with(presentation, "Words")
            slide_with(presentation, layout=6).shapes.add_picture(BytesIO(PICTURE), 0, 0)

        assert parse_pptx(deck(draw)).notes == ("slide 2: a picture and no text; the picture was not read",)
        alone = deck(lambda presentation: slide_with(presentation, layout=6).shapes.add_picture(BytesIO(PICTURE), 0, 0))
        with pytest.raises(ParseError, match="pictures only, no text; save it as PDF"):
            parse(alone, Context(tmp_path))

    def test_a_deck_without_slides_says_so(self, deck) -> None:
        with pytest.raises(ParseError, match="it has no slides"):
            parse_pptx(deck(lambda presentation: None))

    def test_real_slides_lose_no_text(self, shared: Path) -> None:
        for path in (shared / "files").rglob("*.pptx"):
            if path.name == "picture.pptx":
                continue
            with zipfile.ZipFile(path) as package:
                parts = [name for name in package.namelist() if re.match(r"ppt/(slides|notesSlides)/[^/]+\.xml", name)]
                raw = " ".join(" ".join(re.findall(r"<a:t>([^<]+)", package.read(name).decode())) for name in parts)
            assert set(re.findall(r"\w+", raw)) - {"quot"} == set(re.findall(r"\w+", parse_pptx(path).text)), path.name


class TestOldFormats:
    def test_an_old_workbook(self, shared: Path) -> None:
        parsed = parse_xls(shared / "files" / "tests-example.xls")
        assert parsed.pages == 3
        assert "MC | What is 2+2? | 4 | correct | 3 | incorrect" in parsed.text
        assert ("Abbreviation | Question Type", ("Format Abbr.", "Question Format Abbreviations")) in [
            (block.header, block.headings) for block in parsed.blocks
        ]

    def test_text_boxes_in_an_old_workbook(self) -> None:
        def record(kind: int, data: bytes) -> bytes:
            return struct.pack("<HH", kind, len(data)) + data

        text = "In a box — wide"
        stream = record(0x809, b"\x00" * 16) + b"".join(
            [
                record(0x1B6, b"\x00" * 10 + struct.pack("<H", len(text)) + b"\x00" * 6),
                record(0x3C, b"\x00In a box "),
                record(0x3C, b"\x01" + text[9:].encode("utf-16-le")),
                record(0x3C, b"\x00" * 16),
                record(0x1B6, b"\x00" * 18),
            ]
        )
        book = SimpleNamespace(
            mem=stream, base=0, stream_len=len(stream), nsheets=2, _sh_abs_posn=[0, 9999], biff_version=80
        )
        assert _boxes(book) == [[text, ""], []]

    @pytest.mark.slow
    @needs_office
    def test_old_documents_and_slides(self, shared: Path, tmp_path: Path) -> None:
        spools = [tmp_path / name for name in "abc"]
        for spool in spools:
            spool.mkdir()
        files = shared / "files"
        parsed = parse(files / "duplicate-paragraphs.doc", Context(spools[0]))
        assert (parsed.title, parsed.text.count("some text")) == ("This document contains duplicates", 6)
        assert parse(files / "fake.doc", Context(spools[1])).title == "fake"
        slides = parse(files / "fake-power-point.ppt", Context(spools[2]))
        assert (slides.title, slides.blocks[0].page) == ("Adding a Bullet Slide", 1)
        assert "- Find the bullet slide layout" in slides.text

    def test_what_is_missing_is_named(self, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ParseError, match="apt-get install libreoffice-writer-nogui"):
            parse(shared / "files" / "fake.doc", Context(tmp_path))
        with pytest.raises(ParseError, match="apt-get install libreoffice-impress-nogui"):
            parse(shared / "files" / "fake-power-point.ppt", Context(tmp_path))

    def test_why_a_conversion_failed_is_said(
        self, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "bin" / "soffice"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\necho 'Warning: no java' >&2\necho 'Error: source could not be loaded' >&2\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
        with pytest.raises(
            ParseError, match=r"cannot convert it \(source could not be loaded\); save it anew as \.docx"
        ):
            parse_doc(shared / "files" / "fake.doc", Context(tmp_path))

    def test_a_password_is_seen(self, shared: Path, tmp_path: Path) -> None:
        import olefile

        path = tmp_path / "locked.doc"
        shutil.copy(shared / "files" / "fake.doc", path)
        with olefile.OleFileIO(path, write_mode=True) as container:
            data = bytearray(container.openstream("WordDocument").read())
            data[11] |= 1
            container.write_stream("WordDocument", bytes(data))
        with pytest.raises(ParseError, match="it needs a password"):
            parse(path, Context(tmp_path))

    @pytest.mark.slow
    @needs_office
    def test_linked_pictures_are_not_fetched(self, tmp_path: Path) -> None:
        """LibreOffice as it is fetches them: the same file, turned into .doc with its own settings, shows that."""
        asked: list[str] = []

        class Server(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            do_HEAD = do_OPTIONS = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = ("office:1.0", "text:1.0", "drawing:1.0", "svg-compatible:1.0")
        office, text, draw, svg = (f"urn:oasis:names:tc:opendocument:xmlns:{name}" for name in names)
        source = tmp_path / "linked.fodt"
        source.write_text(
            '<?xml version="1.0"?>'
            f'<office:document xmlns:office="{office}" xmlns:text="{text}" xmlns:draw="{draw}" xmlns:svg="{svg}" '
            'xmlns:xlink="http://www.w3.org/1999/xlink" office:version="1.2" '
            'office:mimetype="application/vnd.oasis.opendocument.text"><office:body><office:text><text:p>Hello '
            '<draw:frame svg:width="3cm" svg:height="3cm" text:anchor-type="as-char"><draw:image xlink:type="simple" '
            f'xlink:href="http://127.0.0.1:{server.server_port}/x.png"/></draw:frame></text:p></office:text>'
            "</office:body></office:document>"
        )
        profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
        command = ["soffice", profile, "--headless", "--convert-to", "doc", "--outdir", str(tmp_path), str(source)]
        subprocess.run(command, check=True, capture_output=True)
        assert asked, "the file does not link to anything"
        asked.clear()
        spool = tmp_path / "spool"
        spool.mkdir()
        assert parse_doc(tmp_path / "linked.doc", Context(spool)).text == "Hello"
        server.shutdown()
        assert not asked


class TestTablesOfOtherFormats:
    @pytest.mark.parametrize(
        ("rows", "header"),
        [
            ("<thead><tr><td>7<td>8</thead><tr><td>1<td>2", "7 | 8"),
            ("<tr><th></th></tr><tr><th>7<th>8</tr><tr><td>1<td>2", "7 | 8"),
            ("<tr><td>Item<td>Price</tr><tr><td>Tea<td>3", "Item | Price"),
            ("<tr><th>Tea<td>3</tr><tr><th>Milk<td>4", ""),
            ("<tr><td>1<td>2</tr><tr><td>3<td>4", ""),
        ],
    )
    def test_column_names_of_html(self, tmp_path: Path, rows: str, header: str) -> None:
        path = tmp_path / "page.html"
        path.write_text(f"<table>{rows}</table>")
        parsed = parse(path, Context(tmp_path))
        assert parsed.blocks[0].header == header
        assert parsed.text.startswith(header)

    def test_column_names_and_merged_cells_of_word(self, tmp_path: Path) -> None:
        import docx

        document = docx.Document()
        table = document.add_table(4, 3)
        texts = ["Land", "City", "People", "Norway", "Oslo", "5", "", "Bergen", "6", "All", "", "11"]
        for cell, text in zip(table._cells, texts, strict=True):
            cell.text = text
        table.cell(1, 0).merge(table.cell(2, 0))
        table.cell(3, 0).merge(table.cell(3, 1))
        path = tmp_path / "a.docx"
        document.save(path)
        assert tables(parse(path, Context(tmp_path))) == [
            ("Land | City | People", "Land | City | People\nNorway | Oslo | 5\nNorway | Bergen | 6\nAll |  | 11")
        ]


@pytest.mark.parametrize(
    "kind",
    [
        "vnd.ms-word.document.macroEnabled.main+xml",
        "vnd.ms-word.template.macroEnabledTemplate.main+xml",
        "vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
    ],
)
def test_word_files_with_macros_and_templates_are_read(tmp_path: Path, kind: str) -> None:
    import docx

    document = docx.Document()
    document.add_paragraph("The rent is 900 euros.")
    document.save(tmp_path / "a.docx")
    main = b"vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    with zipfile.ZipFile(tmp_path / "a.docx") as archive, zipfile.ZipFile(tmp_path / "a.docm", "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, archive.read(name).replace(main, kind.encode()))
    assert parse(tmp_path / "a.docm", Context(tmp_path)).text == "The rent is 900 euros."
