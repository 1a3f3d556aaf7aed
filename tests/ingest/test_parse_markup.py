import io
import json
import re
import resource
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.parse.document import Context, ParsedDocument
from ingest.parse.table import parse
from rag.errors import ParseError

SHARED = Path(__file__).parents[2].parent / "shared" / "files"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared sample files are not there")


@pytest.fixture
def read(tmp_path):
    """Write content to a file of the given name and parse it."""

    def _read(name: str, content: str | bytes, **limits: int) -> ParsedDocument:
        path, spool = tmp_path / name, tmp_path / f"spool{len(list(tmp_path.iterdir()))}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        spool.mkdir()
        return parse(path, Context(spool, **limits))

    return _read


def blocks(parsed: ParsedDocument, kind: str = "") -> list[str]:
    return [parsed.text[block.start : block.end] for block in parsed.blocks if kind in ("", block.kind)]


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


# JSON


def test_a_record_of_an_array_is_a_block(read):
    first = '{"name": "Trowel", "price": 12.50, "big": 12345678901234567890}'
    text = f'[{first}, {{"name": "Can", "in_stock": false, "x": null}}]'
    assert blocks(read("x.json", text)) == [
        "name: Trowel\nprice: 12.50\nbig: 12345678901234567890",
        "name: Can\nin_stock: false\nx: null",
    ]


def test_nested_keys_are_paths(read):
    value = {
        "a": {"b": {"c": 1}, "": 2},
        "tags": ["x", "y"],
        "list": ["a, b", ""],
        "rows": [{"n": 1}, {"n": [[3]]}],
        "e": {},
        "f": [],
    }
    assert read("x.json", json.dumps(value)).text.splitlines() == [
        "a.b.c: 1",
        "a: 2",
        "tags: x, y",
        "list[1]: a, b",
        "list[2]:",
        "rows[1].n: 1",
        "rows[2].n[1]: 3",
        "e: {}",
        "f: []",
    ]


def test_names_that_come_twice_are_both_kept(read):
    assert read("x.json", '{"a": 1, "a": 2}').text == "a: 1\na: 2"


def test_large_objects_are_divided_below_their_names(read):
    value = {
        "version": "3",
        "people": [{"name": f"Person {number}", "bio": "words " * 30} for number in range(20)],
        "end": "1",
    }
    parsed = read("x.json", json.dumps(value))
    assert blocks(parsed)[:2] == ["version: 3", "people"]
    assert parsed.blocks[1].kind == "heading"
    assert all(block.headings == ("people",) for block in parsed.blocks[1:-1])
    assert [line for line in parsed.text.splitlines() if line.startswith("name")] == [
        f"name: Person {n}" for n in range(20)
    ]
    assert blocks(parsed)[-1] == "end: 1"


@pytest.mark.parametrize("text", ['{"a": 1}\n{"a": 2}\n', '{\n"a": 1\n}\n\n{\n"a": 2\n}', '[{"a": 1}, {"a": 2}]'])
def test_several_values_in_a_json_file_are_read(read, text):
    assert blocks(read("x.json", text)) == ["a: 1", "a: 2"]


def test_scalars_are_read(read):
    assert read("x.json", '"just text"').text == "just text"
    assert read("x.json", "[1, 2, 3]").text == "1, 2, 3"


@pytest.mark.parametrize("text", ['{"a": 1, "b', "// comment\n{}", "hello", "{'a': 1}"])
def test_what_is_no_json_is_read_as_text_with_a_note(read, text):
    parsed = read("x.json", text)
    assert parsed.text == text
    assert re.search(r"^it is not valid JSON \(.*\); it was read as plain text$", parsed.notes[0])


def test_json_that_holds_nothing_fails(read):
    with pytest.raises(ParseError, match="no text"):
        read("x.json", " \n ")


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.ndjson"])
def test_json_of_every_encoding_is_read(read, name, codec):
    assert read(name, '{"käse": "größe"}\n'.encode(codec)).text == "käse: größe"


def test_deep_nesting_is_refused_in_one_line(read):
    with pytest.raises(ParseError, match="nested too deeply"):
        read("x.json", "[" * 100_000 + "]" * 100_000)


def test_json_lines_are_records_and_broken_ones_are_kept(read):
    parsed = read("x.jsonl", '{"a": 1}\n\n{"a": oops}\n[{"b": 2}, {"b": 3}]\n{"a": 4')
    assert blocks(parsed) == ["a: 1", '{"a": oops}', "b: 2", "b: 3", '{"a": 4']
    assert parsed.notes == ("2 lines are not valid JSON and were read as text; the first is line 3",)


def test_pretty_json_named_as_lines_is_read(read):
    assert read("x.ndjson", '{\n  "a": 1\n}').text == "a: 1"


def test_json_named_as_text_stays_as_it_is(read):
    assert read("x.txt", '{"a": 1}').text == '{"a": 1}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc ,.ü\n", max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text("xyz", max_size=5), inner, max_size=5),
    max_leaves=60,
)


@given(JSON)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_word_of_json_is_lost(tmp_path, value):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(["anchor", value]), encoding="utf-8")
    parsed = parse(path, Context(tmp_path))

    assert not Counter(word for text in leaves(value) for word in words(text).elements()) - words(parsed.text)


def leaves(part: object) -> list[str]:
    """All values, and the names of those that are no lists or objects."""
    if isinstance(part, dict):
        named = [key for key, inner in part.items() if not isinstance(inner, dict | list)]
        return [*named, *(text for inner in part.values() for text in leaves(inner))]
    if isinstance(part, list):
        return [text for inner in part for text in leaves(inner)]
    return [part if isinstance(part, str) else json.dumps(part)]


# XML


def test_xml_elements_are_records(read):
    text = (
        "<?xml version='1.0' encoding='UTF-8'?><shop owner='Ann'><!-- no --><item id='7'><name>Trowel &amp; co</name>"
        "<price currency='EUR'>12</price><empty/></item><item id='8'><name><![CDATA[<Can>]]></name></item></shop>"
    )
    parsed = read("x.xml", text)
    assert blocks(parsed) == [
        "shop",
        "owner: Ann",
        "item.id: 7\nitem.name: Trowel & co\nitem.price.currency: EUR\nitem.price: 12\nitem.empty:",
        "item.id: 8\nitem.name: <Can>",
    ]
    assert parsed.blocks[-1].headings == ("shop",)


def test_text_between_elements_is_kept_in_order(read):
    parsed = read("x.xml", "<p>H<sub>2</sub>O is <b>wet</b>, very</p>")
    assert parsed.text == "p: H2O is wet, very"
    parsed = read("x.xml", "<doc>Intro <sec><p>One</p><p>Two</p></sec> outro</doc>")
    assert parsed.text.split("\n\n") == ["doc", "Intro", "sec.p: One\nsec.p: Two", "outro"]


def test_xml_titles(read):
    assert read("x.xml", "<doc><title>On Whales</title><p>x</p></doc>").title == "On Whales"
    assert read("x.xml", "<shop><book><title>On Whales</title></book></shop>").title == "x"


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_xml_encodings_are_honoured(read, codec):
    text = f"<?xml version='1.0' encoding='{codec}'?><a>größe</a>"
    assert read("x.xml", text.encode(codec)).text == "a: größe"


def test_xhtml_is_a_page(read):
    parsed = read("x.xml", "<html xmlns='http://www.w3.org/1999/xhtml'><body><h1>Head</h1><p>Text</p></body></html>")
    assert [(block.kind, block.headings) for block in parsed.blocks] == [("heading", ("Head",)), ("text", ("Head",))]


LAUGHS = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))


@pytest.mark.parametrize(
    "dtd",
    [
        f"<!ENTITY l0 'lol'>{LAUGHS}",
        "<!ENTITY a 'x'><!ENTITY b \"it's &a;&a;\">",
        "<!ENTITY a '&#38;b;&#x26;b;'>",
        "<!ENTITY % p 'x'><!ENTITY a '%p;'>",
    ],
)
def test_entities_of_entities_are_refused(read, dtd):
    with pytest.raises(ParseError, match="entities in terms of others"):
        read("x.xml", f"<!DOCTYPE a [{dtd}]><a>&l9;&b;</a>")


def test_entities_are_never_resolved(read, tmp_path):
    (tmp_path / "secret.txt").write_text("classified")
    text = (
        f"<!DOCTYPE a [<!ENTITY file SYSTEM 'file://{tmp_path}/secret.txt'><!ENTITY nice 'kind &#233;'>]>"
        "<a>before &file; &nice; after</a>"
    )
    assert read("x.xml", text).text == "a: before &file; &nice; after"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<a><b>one</b><b>two</a>", ["one", "two"]),
        ("<a>one & two</a>", ["one", "two"]),
        ("<a>one</a><a>two</a>", ["one", "two"]),
        ("<a><b>one", ["one"]),
        ("no markup at all", ["no markup at all"]),
    ],
)
def test_malformed_xml_loses_nothing_and_says_so(read, text, said):
    parsed = read("x.xml", text)
    assert all(part in parsed.text for part in said)
    assert parsed.notes[0].startswith("it is not valid XML (line 1: ")


def test_xml_without_text_fails(read):
    with pytest.raises(ParseError, match="no text"):
        read("x.xml", "   ")


# EPUB


CONTAINER = "<container><rootfiles><rootfile full-path='OPS/book.opf'/></rootfiles></container>"
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title>The Grey Whale</dc:title><dc:creator>Jane Doe</dc:creator></metadata><manifest>
<item id="two" href="text/two.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="text/one%20a.xhtml" media-type="application/xhtml+xml"/>
<item id="pic" href="pic.png" media-type="image/png"/>
<item id="gone" href="gone.xhtml" media-type="application/xhtml+xml"/>
<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>
</manifest><spine toc="ncx"><itemref idref="one"/><itemref idref="two"/><itemref idref="pic"/><itemref idref="gone"/>
</spine></package>"""
CONTENTS = """<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap><navPoint>
<navLabel><text>At sea</text></navLabel><content src="text/two.xhtml#start"/></navPoint></navMap></ncx>"""
PAGE = "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><head><title/></head><body>{}</body></html>"


def epub(**changes: str) -> bytes:
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OPS/book.opf": PACKAGE,
        "OPS/toc.ncx": CONTENTS,
        "OPS/text/one a.xhtml": PAGE.format("<h1>Shore</h1><p>Call me&nbsp;Ishmael.<a id='x'/></p>"),
        "OPS/text/two.xhtml": PAGE.format("<p>Water everywhere.</p>"),
        **changes,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def test_a_book_is_read_in_its_order(read):
    parsed = read("x.epub", epub())
    assert parsed.title == "The Grey Whale"
    assert blocks(parsed) == ["The Grey Whale\nJane Doe", "Shore", "Call me Ishmael.", "Water everywhere."]
    assert [block.headings for block in parsed.blocks] == [(), ("Shore",), ("Shore",), ("At sea",)]
    assert parsed.notes == ("left out, no page of text: pic", "left out, not in the book: OPS/gone.xhtml")


def test_a_locked_book_says_so_and_one_with_scrambled_fonts_is_read(read):
    encryption = "<encryption><EncryptedData><EncryptionMethod Algorithm='{}'/></EncryptedData></encryption>"
    with pytest.raises(ParseError, match=r"locked by its seller \(DRM\)"):
        read(
            "x.epub",
            epub(**{"META-INF/encryption.xml": encryption.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")}),
        )
    fonts = {"META-INF/encryption.xml": encryption.format("http://www.idpf.org/2008/embedding")}
    assert "Ishmael" in read("x.epub", epub(**fonts)).text


def test_a_book_that_unpacks_to_too_much_is_refused(read):
    with pytest.raises(ParseError, match="unpacks to more"):
        read("x.epub", epub(**{"OPS/text/two.xhtml": PAGE.format("x" * 10_000)}), max_unpacked=5_000)


def test_a_book_without_contents_says_so(read):
    with pytest.raises(ParseError, match="no list of its chapters"):
        read("x.epub", epub(**{"META-INF/container.xml": "<container/>"}))


# OpenDocument


def odt(body: str, styles: str = "", lists: str = "", **files: str) -> bytes:
    names = "office text table draw style svg xlink math meta".split()
    spaces = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{_space(name)}:1.0"' for name in names)
    spaces += ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
    automatic = f"<office:automatic-styles>{lists}</office:automatic-styles>"
    files = {
        "mimetype": "application/vnd.oasis.opendocument.text",
        "content.xml": f"<office:document-content {spaces}>{automatic}<office:body><office:text>{body}</office:text>"
        "</office:body></office:document-content>",
        "styles.xml": f"<office:document-styles {spaces}>{styles}</office:document-styles>",
        "META-INF/manifest.xml": "<manifest/>",
        **files,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def _space(name: str) -> str:
    return {"draw": "drawing", "svg": "svg-compatible"}.get(name, name)


def test_opendocument_texts_lose_nothing(read):
    body = (
        "<text:tracked-changes><text:p>deleted words</text:p></text:tracked-changes>"
        "<text:h text:outline-level='1'>Head</text:h><text:h text:outline-level='2'>Sub</text:h>"
        "<text:p>One<text:s text:c='2'/>two<text:tab/>three<text:line-break/>four<text:note><text:note-citation>1"
        "</text:note-citation><text:note-body><text:p>Note text.</text:p></text:note-body></text:note> after"
        "<draw:frame><draw:text-box><text:p>Boxed.</text:p></draw:text-box><svg:title>alt</svg:title></draw:frame></text:p>"
        "<text:list text:style-name='L1'><text:list-item text:start-value='3'><text:p>third</text:p>"
        "</text:list-item></text:list>"
        "<table:table><table:table-header-rows><table:table-row><table:table-cell><text:p>A</text:p></table:table-cell>"
        "<table:table-cell><text:p>B</text:p></table:table-cell></table:table-row></table:table-header-rows><table:table-row>"
        "<table:table-cell table:number-columns-repeated='2'><text:p>same</text:p></table:table-cell>"
        "</table:table-row></table:table>"
        "<text:p>Formula <draw:object xlink:href='./Object 1'/><office:annotation><dc:creator>Ann</dc:creator>"
        "<text:p>A remark.</text:p></office:annotation>.</text:p>"
    )
    styles = "<style:header><text:p>Running head</text:p></style:header><style:footer><text:p>7</text:p></style:footer>"
    lists = "<text:list-style style:name='L1'><text:list-level-style-number text:level='1'/></text:list-style>"
    formula = (
        "<math><semantics><mi>x</mi><mo>=</mo><mn>1</mn><annotation>x = 1 in StarMath</annotation></semantics></math>"
    )
    parsed = read("x.odt", odt(body, styles, lists, **{"Object 1/content.xml": formula}))
    assert blocks(parsed) == [
        "Running head",
        "Head",
        "Sub",
        "One two three four[1] after",
        "[1] Note text.",
        "Boxed.",
        "3. third",
        "A | B\nsame | same",
        "Formula x = 1.",
        "Ann: A remark.",
    ]
    assert parsed.blocks[-1].headings == ("Head", "Sub")


def test_a_protected_opendocument_text_says_so(read):
    manifest = "<manifest><file-entry><encryption-data/></file-entry></manifest>"
    with pytest.raises(ParseError, match="protected by a password"):
        read("x.odt", odt("<text:p>x</text:p>", **{"META-INF/manifest.xml": manifest}))


# RTF


RTF = r"""{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0 Arial;}{\f1\fcharset204 Arial Cyr;}{\f2\fcharset128 Gothic;}}
{\stylesheet{\s0 Normal;}{\s1 heading 1;}{\s2\outlinelevel1 Custom;}}{\info{\title My title}{\author Bob}}
{\header \pard Running head\par}{\footer \pard Foot {\field{\*\fldinst PAGE}{\fldrslt 1}}\par}
\pard\s1 First\par\pard\s2 Second\par
\pard Note\chftn{\footnote \pard \chftn  The note.} caf\'e9 {\uc1\u1078?\uc2\u22909\'8d\'44}
 {\f1 \'cf\'f0\'e8} {\f2 \'82\'a0\'83A}.\par
{\shp{\*\shpinst\shpleft0{\sp{\sn shapeType}{\sv 202}}{\shptxt \pard Boxed words.\par}}}{\deleted Gone}{\v hidden}\par
\trowd\trhdr\cellx3000\cellx6000\pard\intbl A\cell B\cell\row\trowd\cellx3000\cellx6000 C\cell D\cell\row
\pard {\listtext 1.1\tab}Item\par{\pict\bin5 }}{{}text\par
\trowd\cellx5000\pard\intbl outer\par\pard\itap2\intbl n1\nestcell n2\nestcell{\*\nesttableprops\trowd\nestrow}
n3\nestcell n4\nestcell{\*\nesttableprops\trowd\nestrow}{\nonesttables\par}\pard\intbl tail\cell\row
\pard A \{brace\} \emdash  line\line two{\*\unknown secret}\par}"""


def test_rtf_loses_nothing(read):
    parsed = read("x.rtf", RTF.replace(r"\bin5 }}{{}", "\\bin5 }}{{}}"))
    assert parsed.title == "My title"
    assert blocks(parsed) == [
        "Running head",
        "First",
        "Second",
        "Note[1] café ж好 При あア.",
        "[1] The note.",
        "Boxed words.",
        "A | B\nC | D",
        "1.1 Item",
        "text",
        "outer",
        "n1 | n2\nn3 | n4",
        "tail",
        "A {brace} — line two",
        "Foot 1",
    ]
    assert parsed.blocks[3].headings == ("First", "Second")


def test_rtf_without_its_end_says_so(read):
    parsed = read("x.rtf", r"{\rtf1\ansi {\b Some text")
    assert (parsed.text, parsed.notes) == ("Some text", ("the end of the document is missing; get it anew",))


@needs_shared
def test_a_real_rtf_file(tmp_path):
    parsed = parse(SHARED / "fake-doc.rtf", Context(tmp_path))
    table = "Column 1 | Column 2\nRow 1, Cell 1 | Row 1, Cell 2\nRow 2, Cell 1 | Row 2, Cell 2"
    assert blocks(parsed) == ["My First Heading", "My first paragraph.", "Table Example:", table]


# What pandoc reads


def test_restructured_text(read):
    text = (
        "=====\nTitle\n=====\n\n:Author: Jane\n:Version: 3\n\nSection\n-------\n\n"
        "Para [1]_ with *emph*.\n\n.. [1] The note.\n\n"
        ".. note:: A box.\n\n.. figure:: pic.png\n\n   The caption.\n\n"
        ".. csv-table::\n   :header: a, b\n\n   1, 2\n\n::\n\n   code  x\n"
    )
    parsed = read("x.rst", text)
    assert parsed.title == "Title"
    assert blocks(parsed, "heading") == ["Title", "Section"]
    assert blocks(parsed, "table") == ["a | b\n1 | 2"]
    assert parsed.text.count("The caption.") == 1
    for said in ("author: Jane", "version: 3", "Para1 with emph.", "1. The note.", "A box.", "code  x"):
        assert said in parsed.text


def test_org(read):
    parsed = read(
        "x.org", "#+TITLE: T\n#+AUTHOR: Me & you\n* Head\n** Sub\n| a | b |\n|---+---|\n| 1 | 2 |\n- [ ] box\n"
    )
    assert (parsed.title, blocks(parsed, "heading")) == ("T", ["T", "Head", "Sub"])
    assert blocks(parsed)[1:] == ["author: Me & you", "Head", "Sub", "a | b\n1 | 2", "- box"]


def test_asciidoc(read):
    parsed = read("x.adoc", "= Doc\n:v: 2.1\n\nFor {v}.\n\n== Section\n\nNOTE: Beware.\n\n* one\n** two\n")
    assert (parsed.title, blocks(parsed, "heading")) == ("Doc", ["Doc", "Section"])
    for said in ("For 2.1.", "Beware.", "- one", "- two"):
        assert said in parsed.text


@pytest.mark.parametrize(
    ("name", "directive"),
    [
        ("x.rst", ".. include:: {}"),
        ("x.rst", ".. raw:: html\n   :file: {}"),
        ("x.rst", ".. csv-table::\n   :file: {}"),
        ("x.rst", ".. literalinclude:: {}"),
        ("x.org", '#+INCLUDE: "{}"'),
        ("x.adoc", "include::{}[]"),
    ],
)
def test_other_files_are_never_included(read, tmp_path, name, directive):
    secret = tmp_path / "secret.csv"
    secret.write_text("classified")
    assert "classified" not in read(name, f"Some text.\n\n{directive.format(secret)}\n").text


def test_what_pandoc_cannot_read_is_read_as_text(read):
    parsed = read("x.rst", "Some text.\n\n.. csv-table::\n   :file: gone.csv\n")
    assert "Some text." in parsed.text
    assert parsed.notes[0].startswith("pandoc could not read it (File gone.csv not found")


@needs_shared
@pytest.mark.parametrize("name", ["README-w-include.rst", "README-w-include.org"])
def test_includes_that_were_not_read_are_noted(tmp_path, name):
    parsed = parse(SHARED / name, Context(tmp_path))
    assert parsed.notes == ("included files were not read: file_we_dont_want_imported",)
    assert blocks(parsed, "heading") == ["Example Docs", "XBRL 10-K"]


def test_pandoc_works_within_the_memory_of_a_worker(tmp_path):
    """2 GB of data, as the sandbox allows; pandoc's runtime reserves far more address space than that."""
    path = tmp_path / "x.rst"
    path.write_text("Head\n====\n\n" + "A paragraph of *some* length.\n\n" * 2_000)
    code = (
        "from pathlib import Path; from ingest.parse.document import Context; from ingest.parse.table import parse;"
        f"print(len(parse(Path({str(path)!r}), Context(Path({str(tmp_path)!r}))).blocks))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30)),
    )
    assert done.stdout.strip() == "2001", done.stderr


def test_a_missing_pandoc_says_how_to_get_it(read, monkeypatch):
    import pypandoc

    def missing() -> str:
        raise OSError("no pandoc was found")

    monkeypatch.setattr(pypandoc, "get_pandoc_path", missing)
    with pytest.raises(ParseError, match="pip install pypandoc_binary"):
        read("x.rst", "Text")


@needs_shared
@pytest.mark.parametrize("suffix", ["epub", "odt", "eml", "xml"])
def test_the_same_document_in_many_formats(tmp_path, suffix):
    reference = words(parse(SHARED / "language-docs/eng_spa_mult.txt", Context(tmp_path)).text)
    parsed = parse(SHARED / f"language-docs/eng_spa_mult.{suffix}", Context(tmp_path))
    assert not reference - words(parsed.text)
