import os
import re
import sys
import tempfile
from collections import Counter
from io import BytesIO
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ingest.parse.document import Context, ParsedDocument, Piece, assemble, clean, pick_title
from ingest.parse.table import BINARY, TEXTUAL, parse
from ingest.parse.text import decode
from rag.errors import ParseError

SHARED = Path(__file__).parents[2].parent / "shared" / "files"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared sample files are not there")


def parse_file(path: Path) -> ParsedDocument:
    """Parse a file with an empty spool beside it."""
    with tempfile.TemporaryDirectory() as spool:
        return parse(path, Context(Path(spool)))


@pytest.fixture
def read(tmp_path):
    """Write content to a file of the given name and parse it."""

    def _read(name: str, content: str | bytes) -> ParsedDocument:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return parse_file(path)

    return _read


@pytest.fixture
def reason(read):
    """Why a file cannot be parsed."""

    def _reason(name: str, content: str | bytes) -> str:
        with pytest.raises(ParseError) as caught:
            read(name, content)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return _reason


def blocks(parsed: ParsedDocument) -> list[str]:
    return [parsed.text[block.start : block.end] for block in parsed.blocks]


def kinds(parsed: ParsedDocument, kind: str) -> list[str]:
    return [parsed.text[block.start : block.end] for block in parsed.blocks if block.kind == kind]


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


def pdf(*pages: str, trailer: str = "", title: str = "", extra: tuple[str, ...] = (), root: str = "") -> bytes:
    """A PDF file with one content stream a page; objects 1-3 are catalog, page tree and font, `extra` come next."""
    first = 4 + len(extra)
    kids = " ".join(f"{first + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {root} >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *extra,
    ]
    for index, content in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {first + 2 * index + 1} 0 R "
            f"/Resources << /Font << /F1 3 0 R >> >> {'/Annots [5 0 R]' if extra else ''} >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    if title:
        objects.append(f"<< /Title ({title}) >>")
        trailer += f" /Info {len(objects)} 0 R"
    out, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + end.encode()


def lines(*texts: str) -> str:
    """Content stream of a page that shows these lines."""
    shown = " ".join(f"({text}) Tj 0 -20 Td" for text in texts)
    return f"BT /F1 12 Tf 72 700 Td {shown} ET"


def word(document) -> bytes:
    out = BytesIO()
    document.save(out)
    return out.getvalue()


class TestDocument:
    @given(st.lists(st.builds(Piece, st.text(), st.sampled_from(["text", "heading", "table"]))))
    def test_blocks_cover_the_whole_text_in_order(self, pieces):
        parsed = assemble("t", pieces)
        covered = 0
        for block in parsed.blocks:
            assert parsed.text[covered : block.start].strip() == ""
            assert parsed.text[block.start : block.end].strip()
            covered = block.end
        assert covered == len(parsed.text)

    @given(st.text(alphabet=st.characters(exclude_categories=())))
    def test_text_can_be_encoded_and_keeps_what_can_be_seen(self, text):
        cleaned = clean(text)
        cleaned.encode("utf-8")
        assert "".join(re.findall(r"\w", text, re.ASCII)) == "".join(re.findall(r"\w", cleaned, re.ASCII))

    def test_soft_hyphens_and_line_ends_are_normalised(self):
        assert clean("im\u00adpor\u200btant \r\nnext\rlast\x00") == "important\nnext\nlast"

    @pytest.mark.parametrize(
        "junk", ["", "  ", "untitled", "Microsoft Word - a.doc", "report.docx", "Document1", "..."]
    )
    def test_junk_is_no_title(self, junk):
        assert pick_title(junk, "Real\n title") == "Real title"


class TestRefusals:
    @pytest.mark.parametrize("suffix", [*sorted(BINARY | TEXTUAL), ".xyz", ""])
    def test_empty_file_of_every_format(self, reason, suffix):
        assert "empty (0 bytes)" in reason(f"a{suffix}", b"")

    @pytest.mark.parametrize("suffix", [*sorted(TEXTUAL), ".txt", ""])
    @pytest.mark.parametrize("blank", [" \n\t\r\n ", "\ufeff", "\u00ad\u200b\n"])
    def test_file_without_a_visible_character(self, reason, suffix, blank):
        assert re.search("it holds no (text|messages)", reason(f"a{suffix}", blank))

    @pytest.mark.parametrize("suffix", sorted(BINARY))
    def test_text_under_the_name_of_a_binary_format(self, reason, suffix):
        assert f"text or unknown, not {suffix}" in reason(f"a{suffix}", "Plain words.")

    @pytest.mark.parametrize("suffix", [*sorted(BINARY | TEXTUAL), ".txt", ".xyz", ""])
    def test_a_program_under_any_name(self, reason, suffix):
        assert "it is a program" in reason(f"a{suffix}", b"\x7fELF\x02\x01\x01\x00" + bytes(64))

    @pytest.mark.parametrize("suffix", [*sorted(TEXTUAL), ".txt", ".xyz", ""])
    def test_bytes_of_no_known_format(self, reason, suffix):
        said = reason(f"a{suffix}", bytes(range(256)) * 8)
        assert re.search("it is binary, not text|it holds no (text|messages)", said)

    def test_page_of_scripts_only(self, reason):
        assert "no text" in reason("app.html", "<html><body><script>start()</script><div id=app></div></body></html>")

    def test_nesting_beyond_all_bounds(self, reason):
        assert "nested" in reason("a.html", "<div>" * 1500 + "deep" + "</div>" * 1500)
        assert "nested" in reason("b.html", "<b>" * 4000 + "deep")

    def test_vanished_file(self, tmp_path):
        with pytest.raises(ParseError, match="cannot be read: No such file"):
            parse_file(tmp_path / "gone.txt")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_forbidden_file(self, tmp_path):
        path = tmp_path / "secret.txt"
        path.write_text("x")
        path.chmod(0)
        with pytest.raises(ParseError, match="cannot be read: Permission denied"):
            parse_file(path)

    def test_folder_and_pipe(self, tmp_path):
        (tmp_path / "folder.txt").mkdir()
        os.mkfifo(tmp_path / "pipe.txt")
        for name in ("folder.txt", "pipe.txt"):
            with pytest.raises(ParseError, match="not a regular file"):
                parse_file(tmp_path / name)

    def test_damaged_word_document(self, reason):
        document = docx.Document()
        document.add_paragraph("hello")
        assert "damaged" in reason("a.docx", word(document)[:-200])
        assert "damaged OLE file" in reason("b.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))

    def test_damaged_pdf(self, reason):
        message = reason("a.pdf", b"%PDF-1.7 nothing more")
        assert "damaged" in message
        assert "PdfiumError" in message


class TestWhichParser:
    @pytest.mark.parametrize("name", ["notes.xyz", "README", "main.rs", "a.SRT", ".profile"])
    def test_text_of_any_name_is_read(self, read, name):
        assert blocks(read(name, "Plain words.\n\n# not a heading")) == ["Plain words.", "# not a heading"]

    @pytest.mark.parametrize("suffix", [".md", ".html", ".pdf", ".xyz"])
    def test_content_goes_before_the_name(self, read, suffix):
        document = docx.Document()
        document.add_paragraph("In Word.")
        parsed = read(f"a{suffix}", word(document))
        assert parsed.text == "In Word."
        assert parsed.notes == (f"named {suffix}, but it is a Word document (.docx) and was read as one",)

    @pytest.mark.parametrize("name", ["a", "a.docx", "A.DOCX", "a.dotx", "a.docm"])
    def test_a_fitting_name_or_none_needs_no_note(self, read, name):
        document = docx.Document()
        document.add_paragraph("In Word.")
        assert read(name, word(document)).notes == ()

    @pytest.mark.parametrize("suffix", [".pptm", ".ppsx", ".ppsm", ".potx", ".potm", ".xlsm", ".xltx", ".xltm"])
    def test_shows_and_templates_need_no_note(self, read, suffix):
        out = BytesIO()
        if suffix.startswith(".p"):
            deck = pptx.Presentation()
            deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = "Words"
            deck.save(out)
        else:
            book = openpyxl.Workbook()
            book.active.append(["Words"])
            book.save(out)
        parsed = read(f"a{suffix}", out.getvalue())
        assert "Words" in parsed.text
        assert parsed.notes == ()

    def test_every_suffix_belongs_to_one_table(self):
        assert not BINARY.keys() & TEXTUAL.keys()
        assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in BINARY | TEXTUAL)


class TestText:
    def test_paragraphs_keep_their_lines(self, read):
        parsed = read("notes.TXT", "First line\r\nsecond line\r\n\r\n \r\n- item\r\n- other\r\n")
        assert blocks(parsed) == ["First line\nsecond line", "- item\n- other"]
        assert (parsed.title, parsed.pages) == ("notes", 1)

    @pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_unicode_encodings(self, codec):
        text = "Grüße, żółw, and a plain line of text"
        assert decode(text.encode(codec)) == (text, ())

    def test_legacy_encodings_are_guessed_and_said(self):
        for text, codec in (
            ("Le garçon naïf était déjà là, à côté de la forêt où l'été s'achève. " * 5, "cp1252"),
            ("Широкая электрификация южных губерний даст мощный толчок. " * 5, "koi8-r"),
            ("Zażółć gęślą jaźń. Król Zygmunt przeniósł stolicę do Warszawy, a później. " * 5, "cp1250"),
        ):
            decoded, (note,) = decode(text.encode(codec))
            assert decoded == text
            assert "guessed" in note

    def test_a_few_broken_bytes_do_not_spoil_the_rest(self):
        text, (note,) = decode("naïve café ".encode() * 50 + b"\xff end")
        assert text.startswith("naïve café")
        assert "not valid UTF-8" in note

    @given(st.binary(max_size=200))
    def test_any_bytes_decode_or_are_refused(self, data):
        try:
            text, _ = decode(data)
        except ParseError:
            return
        assert "\r" not in text

    @needs_shared
    @pytest.mark.parametrize(
        "name", ["norwich-city", "fake-text-utf-16", "fake-text-utf-16-be", "book-war-and-peace-1p"]
    )
    def test_every_word_of_real_files(self, name):
        path = SHARED / f"{name}.txt"
        data = path.read_bytes()
        codec = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-16-be" if b"\x00" in data else "utf-8"
        assert parse_file(path).text.split() == data.decode(codec).split()


GUIDE = """\
---
title: "The guide"
tags: [a, b]
---

# Install & run

Use `<name>` or *emphasis*, and open <your-file> with [a link](http://x.y/z).
A list right after:
- one
- two
  - nested by two
    1. deeper

- three

  ```bash
  footnote ingest <PATH> --json   # fenced in a list
  ```

| name | what |
|------|-----:|
| a    | x \\| y |
| b    | **bold** |

> quoted words
> - in quote

    indented <code>

Under
-----

~~struck~~ H<sub>2</sub>O &amp; more

5. five
6. six

```python
# not a heading
x = "<b>"
```

<details><summary>Summary</summary>

Folded **text**.

</details>
<!-- a comment -->
"""


class TestMarkdown:
    def test_a_guide_comes_out_complete_and_in_order(self, read):
        parsed = read("guide.md", GUIDE)
        assert parsed.title == "The guide"
        found = blocks(parsed)
        for expected in (
            "Use <name> or emphasis, and open <your-file> with a link. A list right after:",
            "- nested by two",
            "1. deeper",
            "footnote ingest <PATH> --json   # fenced in a list",
            "quoted words",
            "- in quote",
            "indented <code>",
            "struck H2O & more",
            "5. five",
            "6. six",
            '# not a heading\nx = "<b>"',
            "Summary",
            "Folded text.",
        ):
            assert expected in found
        assert kinds(parsed, "table") == ["name | what\na | x | y\nb | bold"]
        assert kinds(parsed, "heading") == ["Install & run", "Under"]
        assert "comment" not in parsed.text

    def test_headings_are_a_path(self, read):
        parsed = read("a.md", "# A\n\n### B\n\nx\n\n## C\n\ny\n\n# D\n\nz\n")
        paths = {parsed.text[b.start : b.end]: b.headings for b in parsed.blocks if b.kind == "text"}
        assert paths == {"x": ("A", "B"), "y": ("A", "C"), "z": ("D",)}
        assert parsed.title == "A"

    def test_a_rule_at_the_top_is_no_front_matter(self, read):
        assert blocks(read("a.md", "---\n\nbefore\n\n---\n\nafter\n")) == ["before", "after"]

    def test_legacy_bytes(self, read):
        assert blocks(read("a.md", "## können\n\näöüß\n".encode("latin-1"))) == ["können", "äöüß"]


class TestHtml:
    def test_what_readers_see_is_kept_and_what_they_do_not_is_dropped(self, read):
        parsed = read(
            "a.html",
            "<title>Tea</title><style>p{}</style><script>steal()</script><nav>Home</nav>"
            "<form><p>In a form</p><label>Name</label><input value=v></form>"
            "<details><summary>More</summary>folded</details>"
            "<figure><img src=x.png alt='a cup'><figcaption>Figure 1</figcaption></figure>"
            "<p>7</p><dl><dt>k</dt><dd>a letter</dd></dl><p>- 5 degrees</p>",
        )
        assert blocks(parsed) == [
            "In a form",
            "Name",
            "More",
            "folded",
            "a cup",
            "Figure 1",
            "7",
            "k",
            "a letter",
            "- 5 degrees",
        ]

    def test_title_is_the_first_h1_then_the_title_tag_then_the_name(self, read):
        assert read("a.html", "<title>Site</title><h1>Page</h1>x").title == "Page"
        assert read("a.html", "<title>Site</title><p>x").title == "Site"
        assert read("a.html", "<title>a_1.htm</title><p>x").title == "a"

    def test_heading_with_blocks_and_permalink_is_one_heading(self, read):
        parsed = read("a.html", "<h2><div>Block <p>heading</p></div><a href='#x'>¶</a></h2><p>text</p>")
        assert kinds(parsed, "heading") == ["Block heading"]
        assert parsed.blocks[1].headings == ("Block heading",)

    def test_a_paragraph_in_large_print_is_no_heading(self, read):
        parsed = read("a.html", f"<h1>{'long words ' * 40}</h1><p>x</p>")
        assert kinds(parsed, "heading") == []
        assert parsed.blocks[-1].headings == ()

    def test_lists_keep_their_numbers(self, read):
        parsed = read(
            "a.html", "<ol start=3><li>three<li><p>four</p><p>more</p></ol><ul><li><a href=y>link</a> tail</ul>"
        )
        assert blocks(parsed) == ["3. three", "4. four", "more", "- link tail"]

    def test_preformatted_text_keeps_lines_and_angle_brackets(self, read):
        assert blocks(read("a.html", "<pre>if a &lt; b:\n    go()</pre>")) == ["if a < b:\n    go()"]

    def test_data_table_has_a_line_a_row(self, read):
        parsed = read(
            "a.html",
            "<table><caption>Prices</caption><tr><th>Item<th></th><th>Price<tr><td>Tea<br>leaves<td></td><td>3"
            "<tr><td></td><td></td><td></td></table>",
        )
        assert kinds(parsed, "text") == ["Prices"]
        assert kinds(parsed, "table") == ["Item | Price\nTea leaves | 3"]

    def test_layout_table_is_laid_out(self, read):
        parsed = read(
            "a.html",
            "<table><tr><td>Menu<td><h1>Story</h1><p>Once.</p><table><tr><th>a<th>b<tr><td>1<td>2</table></table>"
            "<table><tr><td><p>&bull;</p><td><p>A point</p></table>",
        )
        assert blocks(parsed) == ["Menu", "Story", "Once.", "a | b\n1 | 2", "• A point"]
        assert kinds(parsed, "table") == ["a | b\n1 | 2"]

    def test_main_is_the_page_only_if_it_holds_most_of_it(self, read):
        story = "<p>" + "story " * 50 + "</p>"
        assert "aside" not in read("a.html", f"<body><p>aside</p><main>{story}</main></body>").text
        assert "story" in read("b.html", f"<body><main><p>banner</p></main>{story}</body>").text

    def test_declared_encoding(self, read):
        page = '<meta charset="{}"><p>{}</p>'
        assert read("a.html", page.format("Shift_JIS", "日本語の文").encode("cp932")).text == "日本語の文"
        assert read("b.html", page.format("iso-8859-1", "€ “é”").encode("cp1252")).text == "€ “é”"
        assert read("c.html", '<?xml version="1.0" encoding="utf-8"?><html><body>é</body></html>').text == "é"

    def test_deep_pages_and_long_paragraphs_are_not_cut_short(self, read):
        deep = read("a.html", "<div>" * 300 + "deep" + "</div>" * 300 + "<p>after</p>")
        assert blocks(deep) == ["deep", "after"]
        long = read("b.html", f"<p>{'word ' * 2_100_000}</p><p>after</p>")
        assert blocks(long)[-1] == "after"

    @given(
        st.recursive(
            st.text(alphabet="abc ", min_size=1),
            lambda inner: st.tuples(
                st.sampled_from(["p", "div", "b", "li", "h2", "td", "tr", "table", "section", "form", "pre", "x-y"]),
                st.lists(inner, max_size=4),
            ),
            max_leaves=12,
        )
    )
    def test_every_word_of_any_page(self, tree):
        from ingest.parse.html import from_html

        def render(node):
            return node if isinstance(node, str) else f"<{node[0]}>{''.join(map(render, node[1]))}</{node[0]}>"

        page = f"<body>{render(tree)}</body>"
        root = etree.fromstring(page.encode(), etree.HTMLParser())
        seen = "".join(root.itertext())
        expected = Counter(re.sub(r"\s", "", seen))
        got = Counter(from_html(page, "page").text)
        assert all(got[letter] >= count for letter, count in expected.items())

    @needs_shared
    @pytest.mark.parametrize(
        "name", ["example-10k", "example-with-scripts", "ideas-page", "example-steelJIS-datasheet-utf-16"]
    )
    def test_every_word_of_real_pages(self, name):
        path = SHARED / f"{name}.html"
        data = path.read_bytes()
        codec = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        root = etree.fromstring(data.decode(codec).encode(), etree.HTMLParser(encoding="utf-8", huge_tree=True))
        hidden = ["script", "style", "noscript", "nav", "head", "button", "textarea", "select", "iframe", "ix:header"]
        etree.strip_elements(root, *hidden, with_tail=False)
        seen = words(" ".join(node for node in root.itertext() if isinstance(node, str)))
        got = words(parse_file(path).text)
        # Words that markup cuts in two are one word to a reader, and two to this count.
        missing = sum((seen - got).values())
        assert missing <= 0.002 * sum(seen.values()), (seen - got).most_common(20)

    @needs_shared
    def test_real_report_has_its_tables_row_by_row(self):
        parsed = parse_file(SHARED / "example-10k.html")
        tables = [parsed.text[block.start : block.end] for block in parsed.blocks if block.kind == "table"]
        assert any("Item 1A. | Risk Factors | 9" in table.split("\n") for table in tables)
        assert parsed.title == "example-10k"


class TestWord:
    def test_headings_lists_and_tables(self, read):
        document = docx.Document()
        document.core_properties.title = "The plan"
        document.add_heading("Part", 1)
        document.add_paragraph("Intro words.")
        document.add_heading("Detail", 2)
        document.add_paragraph("A point", style="List Bullet")
        table = document.add_table(2, 2)
        for cell, text in zip(table._cells, ["Item", "Price", "Tea\nleaves", "3"], strict=True):
            cell.text = text
        parsed = read("a.docx", word(document))
        assert parsed.title == "The plan"
        assert blocks(parsed) == ["Part", "Intro words.", "Detail", "- A point", "Item | Price\nTea leaves | 3"]
        assert parsed.blocks[-1].headings == ("Part", "Detail")
        assert {block.page for block in parsed.blocks} == {None}

    def test_title_falls_back_to_the_first_heading_then_the_name(self, read):
        document = docx.Document()
        document.core_properties.title = "Word Document"
        document.add_paragraph("x")
        assert read("name.docx", word(document)).title == "name"
        document.add_heading("Head", 1)
        assert read("name.docx", word(document)).title == "Head"

    def test_header_and_footer_show_once(self, read):
        document = docx.Document()
        document.sections[0].header.paragraphs[0].text = "ACME confidential"
        document.sections[0].footer.paragraphs[0].text = "Order 66"
        document.add_paragraph("Body")
        section = document.add_section()
        section.header.is_linked_to_previous = False
        section.header.paragraphs[0].text = "ACME confidential"
        document.add_paragraph("More")
        assert blocks(read("a.docx", word(document))) == ["ACME confidential", "Body", "Order 66", "More"]

    def test_what_lies_off_the_beaten_track(self, read):
        """Content controls, tracked insertions, text boxes and equations, all unseen by python-docx."""
        namespaces = nsdecls("w")
        document = docx.Document()
        body = document.element.body
        document.add_paragraph("Start.")
        body.insert(
            0,
            parse_xml(
                f"<w:sdt {namespaces}><w:sdtContent><w:p><w:r><w:t>Cover page</w:t></w:r></w:p></w:sdtContent></w:sdt>"
            ),
        )
        body.insert(
            2,
            parse_xml(
                f'<w:p {namespaces} xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math">'
                '<w:r><w:t xml:space="preserve">We </w:t></w:r>'
                '<w:ins w:id="1" w:author="a"><w:r><w:t>do</w:t></w:r></w:ins>'
                '<w:del w:id="2" w:author="a"><w:r><w:delText>removed</w:delText></w:r></w:del>'
                '<w:sdt><w:sdtContent><w:r><w:t xml:space="preserve"> agree: </w:t></w:r></w:sdtContent></w:sdt>'
                "<m:oMath><m:r><m:t>E=mc</m:t></m:r></m:oMath></w:p>"
            ),
        )
        body.insert(
            3,
            parse_xml(
                f'<w:p {namespaces} xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
                ' xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
                ' xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing">'
                "<w:r><w:t>Beside the box.</w:t></w:r><w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:drawing>"
                "<wp:anchor><wps:txbx><w:txbxContent><w:p><w:r><w:t>Boxed one.</w:t></w:r></w:p>"
                "<w:p><w:r><w:t>Boxed two.</w:t></w:r></w:p></w:txbxContent></wps:txbx></wp:anchor></w:drawing>"
                "</mc:Choice><mc:Fallback><w:pict><w:txbxContent><w:p><w:r><w:t>Boxed one.</w:t></w:r></w:p>"
                "</w:txbxContent></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"
            ),
        )
        assert blocks(read("a.docx", word(document))) == [
            "Cover page",
            "Start.",
            "We do agree: E=mc",
            "Beside the box.",
            "Boxed one.",
            "Boxed two.",
        ]

    def test_footnotes_follow_the_paragraph_that_refers_to_them(self, read):
        from docx.opc.constants import RELATIONSHIP_TYPE
        from docx.opc.packuri import PackURI
        from docx.opc.part import Part

        document = docx.Document()
        paragraph = document.add_paragraph("A claim")
        paragraph._p.append(parse_xml(f'<w:r {nsdecls("w")}><w:footnoteReference w:id="2"/></w:r>'))
        document.add_paragraph("Next.")
        notes = (
            f'<w:footnotes {nsdecls("w")}><w:footnote w:id="0" w:type="separator"><w:p/></w:footnote>'
            '<w:footnote w:id="2"><w:p><w:pPr><w:pStyle w:val="FootnoteText"/></w:pPr><w:r><w:footnoteRef/></w:r>'
            "<w:r><w:t>The source.</w:t></w:r></w:p></w:footnote></w:footnotes>"
        )
        kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
        part = Part(PackURI("/word/footnotes.xml"), kind, notes.encode(), document.part.package)
        document.part.relate_to(part, RELATIONSHIP_TYPE.FOOTNOTES)
        assert blocks(read("a.docx", word(document))) == ["A claim[1]", "[1] The source.", "Next."]

    def test_pages_where_word_recorded_them(self, read):
        document = docx.Document()
        document.add_paragraph("First page.")
        second = document.add_paragraph()
        second._p.append(parse_xml(f"<w:r {nsdecls('w')}><w:lastRenderedPageBreak/><w:t>Second page.</w:t></w:r>"))
        parsed = read("a.docx", word(document))
        assert [block.page for block in parsed.blocks] == [1, 2]
        assert parsed.pages == 2

    @needs_shared
    def test_ragged_table_loses_no_cell(self):
        assert words(parse_file(SHARED / "grid_offset_error.docx").text) == words("A Merged B1-B3 C")

    @needs_shared
    @pytest.mark.parametrize("path", sorted(SHARED.glob("**/*.docx")), ids=lambda path: path.stem)
    def test_every_word_of_real_documents(self, path):
        import zipfile

        with zipfile.ZipFile(path) as archive:
            root = etree.fromstring(archive.read("word/document.xml"))
        tag = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
        parts = [f"{tag}{name}" for name in ("t", "br", "tab")]
        seen = " ".join("".join(node.text or " " for node in p.iter(*parts)) for p in root.iter(f"{tag}p"))
        assert not words(seen) - words(parse_file(path).text)


class TestPdf:
    def test_pages_are_counted_from_one(self, read):
        parsed = read("a.pdf", pdf(lines("Alpha", "line two"), lines("Beta"), title="The paper"))
        assert [(block.page, parsed.text[block.start : block.end]) for block in parsed.blocks] == [
            (1, "Alpha\nline two"),
            (2, "Beta"),
        ]
        assert (parsed.title, parsed.pages, parsed.notes) == ("The paper", 2, ())

    def test_title_of_a_word_processor_is_no_title(self, read):
        assert read("name.pdf", pdf(lines("x y"), title="Microsoft Word - draft.doc")).title == "name"

    def test_words_broken_at_a_line_end_are_mended(self, read):
        parsed = read(
            "a.pdf", pdf(lines("the impor-", "tant worst-", "case of Lucene-", "BM25"), lines("a worst-case"))
        )
        assert parsed.text.startswith("the important worst-case of Lucene-BM25")
        assert "\ufffe" not in parsed.text

    def test_scanned_pages_are_named_and_blank_ones_are_not(self, read):
        scan = "10 10 200 200 re f"
        parsed = read("a.pdf", pdf(lines("Text"), scan, scan, "", scan))
        (note,) = parsed.notes
        assert note.startswith("pages 2-3, 5")
        assert parsed.pages == 5
        assert [block.page for block in parsed.blocks] == [1]

    def test_scan_without_any_text(self, reason):
        message = reason("a.pdf", pdf("10 10 200 200 re f", "10 10 200 200 re f"))
        assert message.startswith("no text layer on any of its 2 pages, and pages 1-2")

    def test_password(self, reason):
        lock = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'42' * 32}> /P -4 >> /ID [<00><00>]"
        message = reason("a.pdf", pdf(lines("secret"), trailer=lock))
        assert message.startswith("password-protected")
        assert "qpdf" in message

    def test_repaired_file_is_said_to_be_damaged(self, read):
        whole = pdf(lines("Text"))
        assert read("a.pdf", re.sub(rb"startxref\n\d+", b"startxref\n7", whole)).notes == (
            "the file is damaged and was repaired while reading; parts may be missing",
        )

    def test_values_of_form_fields_are_read(self, read):
        shown = "q BT /F1 12 Tf 2 5 Td (Jane Doe) Tj ET Q"
        field = (
            "<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (Jane Doe) /F 4 /Rect [72 600 300 620] "
            "/DA (/F1 12 Tf) /AP << /N 6 0 R >> >>"
        )
        drawn = (
            f"<< /Type /XObject /Subtype /Form /BBox [0 0 228 20] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Length {len(shown)} >>\nstream\n{shown}\nendstream"
        )
        form = "<< /Fields [5 0 R] /DR << /Font << /F1 3 0 R >> >> >>"
        parsed = read("a.pdf", pdf(lines("Name:"), extra=(form, field, drawn), root="/AcroForm 4 0 R"))
        assert words(parsed.text) == words("Name: Jane Doe")

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux lists open files here")
    def test_files_are_closed_whatever_happens(self, read, reason, tmp_path):
        reason("a.pdf", pdf("10 10 200 200 re f"))
        reason("b.pdf", b"%PDF-1.7 nothing more")
        read("c.pdf", pdf(lines("x y")))
        held = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
        assert not [name for name in held if name.startswith(str(tmp_path))]

    @needs_shared
    @pytest.mark.parametrize("path", sorted(SHARED.glob("**/*.pdf")), ids=lambda path: path.stem)
    def test_real_files_have_text_or_a_reason(self, path):
        if path.stem == "DA-619p":
            pytest.skip("long")
        if path.stem == "password":
            with pytest.raises(ParseError, match="password"):
                parse_file(path)
            return
        parsed = parse_file(path)
        assert parsed.blocks
        assert {block.page for block in parsed.blocks} <= set(range(1, parsed.pages + 1))

    @needs_shared
    def test_real_paper(self):
        parsed = parse_file(SHARED / "pdf" / "layout-parser-paper-fast.pdf")
        assert "easy reuse of important innovations" in " ".join(parsed.text.split())
        assert parsed.pages == 2


class TestNothingIsLoadedOrFetched:
    def test_spacy_and_torch_stay_out(self, tmp_path):
        """Parsing a page costs neither spaCy nor PyTorch, and no module is loaded before the first page."""
        import subprocess

        (tmp_path / "a.html").write_text("<h1>T</h1><p>Some narrative text that could be looked at by a tagger.</p>")
        script = (
            "import sys; from pathlib import Path\n"
            "from ingest.parse.document import Context\n"
            "from ingest.parse.table import parse\n"
            "heavy = ('unstructured', 'lxml', 'pypdfium2', 'docx', 'markdown_it', 'spacy', 'torch')\n"
            "print([m for m in heavy if m in sys.modules])\n"
            f"parse(Path({str(tmp_path / 'a.html')!r}), Context(Path({str(tmp_path)!r})))\n"
            "print([m for m in ('spacy', 'torch', 'nltk') if m in sys.modules])\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
        assert run.stdout.split("\n")[:2] == ["[]", "[]"], run.stderr
