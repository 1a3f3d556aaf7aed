"""Pictures of pages: a passage is found where it is, on pages of any form, and a bad file costs nothing but itself."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pypdfium2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from ingest.chunk import Chunker
from ingest.parse.document import Context
from ingest.parse.pdf import parse_pdf
from rag.sentences import split
from tests.conftest import words
from tests.ingest.test_parse import lines, pdf
from ui.server import drawing, pictures, quotes
from ui.server.drawing import Box, Drawn, Order
from ui.server.pictures import PictureError, PicturesBusy

WORD = st.text(st.sampled_from("abcé8,.ﬁ½漢🐋𝑥"), min_size=1, max_size=4)
BREAK = st.sampled_from([" ", "  ", "\r\n", "\u00a0", " \u200b"])
REAL = (
    "pdf/multi-column-2p.pdf",
    "pdf/layout-parser-paper-fast.pdf",
    "pdf/list-item-example.pdf",
    "pdf/copy-protected.pdf",
    "language-docs/fr_olap.pdf",
)


class TestQuotes:
    @given(st.lists(st.tuples(WORD, BREAK, st.booleans()), min_size=1, max_size=20), st.data())
    def test_a_quote_is_found_where_it_is(self, parts: list[tuple[str, str, bool]], data: st.DataObject) -> None:
        """Whatever the lines' ends, hyphens and blanks, and however often the same words come."""
        first = data.draw(st.integers(0, len(parts) - 1))
        last = data.draw(st.integers(first, len(parts) - 1))
        shown = [f"{word[:1]}\x02\r\n{word[1:]}" if broken and word[1:] else word for word, _, broken in parts]
        page = "".join(word + gap for word, (_, gap, _) in zip(shown, parts, strict=True))
        start = sum(len(word) + len(gap) for word, (_, gap, _) in zip(shown[:first], parts, strict=False))
        said = [word for word, _, _ in parts]
        found = quotes.find(page, " ".join(said[first : last + 1]), " ".join(said[:first]))
        assert found is not None
        assert (found.start, found.whole) == (start, True)
        assert re.sub("\x02\r\n|\\s|\u200b", "", page[found.start : found.end]) == "".join(said[first : last + 1])

    def test_characters_of_page_and_quote_differ_in_form(self) -> None:
        page = "An e\0cient o\ufb03ce in Cafe\u0301 3\u00bd \ud83d\udc0b whales"
        found = quotes.find(page, "efficient office in Caf\u00e9 3\u00bd \U0001f40b")
        assert found == quotes.Found(page.index("e\0"), page.index(" whales"), True)

    def test_what_runs_over_the_end_of_the_page_is_found_as_far_as_it_is_there(self) -> None:
        page = "So it began. The ship left the harbour at\r\n17"
        found = quotes.find(page, "The ship left the harbour at dawn with forty men and a dog on board.")
        assert found is not None
        assert (page[found.start : found.end], found.whole) == ("The ship left the harbour at", False)

    @pytest.mark.parametrize(
        "quote", ["", " - ", "Nothing of it is here", "the ship sank off an island near Crete", "art gallery"]
    )
    def test_too_little_is_no_find(self, quote: str) -> None:
        """A few words of a quote are everywhere, and letters of other words are none."""
        assert quotes.find("We start a party on the ship today.", quote) is None

    def test_what_stands_before_a_quote_decides_which_one_it_is(self) -> None:
        page = "Rent 2015: total 15 Heating: total 15 Water: total 15"
        assert quotes.find(page, "15", "Heating: total ") == quotes.Found(35, 37, True)
        assert quotes.find(page, "15") == quotes.Found(17, 19, True)


def drawn(source: bytes | Path, quote: str, page: int = 1, width: int = 600) -> Drawn:
    return drawing.draw(source, Order(page, width, quote))


def picture(made: Drawn) -> Image.Image:
    return Image.open(BytesIO(made.png))


def ink(made: Drawn) -> Box:
    """Where the page is not white, in its shares."""
    image = picture(made).convert("L")
    found = ImageChops.invert(image).point(lambda value: 255 * (value > 100)).getbbox()
    assert found is not None
    left, top, right, bottom = found
    return Box(left / image.width, top / image.height, (right - left) / image.width, (bottom - top) / image.height)


def saved(content: bytes, change: Callable[[pypdfium2.PdfPage], None]) -> bytes:
    with pypdfium2.PdfDocument(content) as document:
        change(document[0])
        out = BytesIO()
        document.save(out)
    return out.getvalue()


class TestBoxes:
    def test_a_quote_has_a_box_a_line(self) -> None:
        (first, second) = drawn(
            pdf(lines("Ships float. The impor-", "tant one sank.", "So it is.")), "important one"
        ).boxes
        assert first.left > second.left + second.width
        assert second.left == pytest.approx(72 / 612, abs=0.005)
        assert first.top < 1 - 700 / 792 < first.top + first.height
        assert second.top < 1 - 680 / 792 < second.top + second.height
        assert first.height == pytest.approx(second.height, abs=0.002)
        assert first.top + first.height < second.top + second.height

    @pytest.mark.parametrize("rotation", [0, 90, 180, 270])
    @pytest.mark.parametrize("cropped", [False, True])
    def test_boxes_lie_over_what_shows(self, rotation: int, cropped: bool) -> None:
        """On a page with one line all the ink is under its box, and the box is no larger than a line."""

        def change(page: pypdfium2.PdfPage) -> None:
            page.set_rotation(rotation)
            if cropped:
                page.set_mediabox(-150, -90, 700, 900)
                page.set_cropbox(40, 500, 450, 780)

        made = drawn(saved(pdf(lines("Whales breathe air.")), change), "Whales breathe air.")
        (box,), shown = made.boxes, ink(made)
        assert made.width == 600
        assert made.height == pytest.approx(
            600 * ((280 / 410) if cropped else (792 / 612)) ** (1 if rotation % 180 == 0 else -1), abs=2
        )
        assert box.left <= shown.left + 0.004
        assert box.top <= shown.top + 0.004
        assert box.left + box.width >= shown.left + shown.width - 0.004
        assert box.top + box.height >= shown.top + shown.height - 0.004
        assert box.width * box.height < 2.5 * shown.width * shown.height

    def test_text_that_runs_up_the_page_is_one_box(self) -> None:
        content = "BT /F1 12 Tf 0 1 -1 0 300 200 Tm (Whales breathe air.) Tj ET"
        made = drawn(pdf(content), "Whales breathe air.")
        (box,), shown = made.boxes, ink(made)
        assert box.height > 3 * box.width
        assert box.left <= shown.left + 0.004
        assert box.top + box.height >= shown.top + shown.height - 0.004

    def test_what_is_cropped_away_has_no_box(self) -> None:
        content = saved(pdf(lines("Whales breathe air.")), lambda page: page.set_cropbox(0, 0, 612, 600))
        assert drawn(content, "Whales breathe air.").boxes == ()

    def test_columns_far_apart_are_two_boxes(self) -> None:
        content = "BT /F1 12 Tf 72 700 Td (Total) Tj 300 0 Td (900 euros) Tj ET"
        assert len(drawn(pdf(content), "Total 900 euros").boxes) == 2

    def test_a_value_in_a_form_is_found(self) -> None:
        shown = "q BT /F1 12 Tf 2 5 Td (Jane Doe) Tj ET Q"
        field = (
            "<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (Jane Doe) /F 4 /Rect [72 600 300 620] "
            "/DA (/F1 12 Tf) /AP << /N 6 0 R >> >>"
        )
        look = (
            f"<< /Type /XObject /Subtype /Form /BBox [0 0 228 20] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Length {len(shown)} >>\nstream\n{shown}\nendstream"
        )
        form = "<< /Fields [5 0 R] /DR << /Font << /F1 3 0 R >> >> >>"
        content = pdf(lines("Name:"), extra=(form, field, look), root="/AcroForm 4 0 R")
        (box,) = drawn(content, "Jane Doe").boxes
        assert box.top < 1 - 608 / 792 < box.top + box.height


@pytest.mark.parametrize("size", ["3 14000", "14000 3", "14000 14000", "0.01 0.01", "0 0"])
@pytest.mark.parametrize("width", [pictures.NARROWEST, pictures.WIDEST])
def test_pages_of_odd_sizes_are_pictures_of_a_bounded_size(size: str, width: int) -> None:
    made = drawn(pdf(lines("x y")).replace(b"[0 0 612 792]", f"[0 0 {size}]".encode()), "", width=width)
    assert picture(made).size == (made.width, made.height)
    assert 1 <= made.width <= width + 1
    assert made.width * made.height <= 1.01 * drawing.MOST_PIXELS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(lines("Whales breathe air."), lines("Ships float.")))
    return path


class TestProcess:
    def test_a_file_and_its_bytes_look_the_same(self, file: Path) -> None:
        made = pictures.page(file, 2, "Ships float.", 300)
        assert Image.open(BytesIO(made.png)).size == (made.width, made.height) == (300, 389)
        assert len(made.boxes) == 1
        assert pictures.page(file.read_bytes(), 2, "Ships float.", 300) == made

    def test_what_was_drawn_is_kept_as_long_as_the_file_stays(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = pictures.page(file, 1, "Whales", 300)
        with monkeypatch.context() as patched:
            patched.setattr(pictures, "SECONDS", 0)  # nothing can be drawn now
            assert pictures.page(file, 1, "Whales", 300) == made
            assert pictures.page(file, 1, width=300) == made._replace(boxes=())
            with pytest.raises(PictureError):
                pictures.page(file, 1, "breathe", 300)
        file.write_bytes(pdf(lines("Only whales breathe air here.")))
        assert pictures.page(file, 1, "whales", 300).boxes[0].left > made.boxes[0].left

    def test_the_least_used_go_first(self) -> None:
        kept = pictures._Kept(10)
        for key in ("a", "b", "c"):
            kept.put(key, key.upper(), 4)
            kept.get("a")
        assert [kept.get(key) for key in ("a", "b", "c")] == ["A", None, "C"]
        kept.put("a", "larger than all", 11)
        assert [kept.get(key) for key in ("a", "c")] == [None, None]

    @pytest.mark.parametrize(
        ("content", "page", "says"),
        [
            (b"%PDF-1.7 nothing more", 1, "damaged, or no PDF"),
            (b"", 1, "damaged, or no PDF"),
            (b"hello", 1, "damaged, or no PDF"),
            (pdf(lines("x y")), 2, "it has 1 pages, page 2 was asked for"),
            (
                pdf(
                    lines("secret"),
                    trailer=f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'42' * 32}> /P -4 >> "
                    "/ID [<00><00>]",
                ),
                1,
                "needs a password",
            ),
        ],
    )
    def test_a_bad_file_is_told_in_one_line(self, tmp_path: Path, content: bytes, page: int, says: str) -> None:
        (tmp_path / "a.pdf").write_bytes(content)
        with pytest.raises(PictureError, match=says) as caught:
            pictures.page(tmp_path / "a.pdf", page)
        assert "\n" not in str(caught.value)

    def test_what_is_no_file_is_told_in_one_line(self, tmp_path: Path) -> None:
        for path, says in ((tmp_path / "none.pdf", "No such file"), (tmp_path, "not a regular file")):
            with pytest.raises(PictureError, match=says):
                pictures.page(path, 1)
        with pytest.raises(PictureError, match="expected 200 to 2000"):
            pictures.page(b"", 1, width=100_000)

    def test_a_page_that_takes_too_long_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each form shows the next one 200 times, so that the page has 200^5 lines of text."""
        monkeypatch.setattr(pictures, "SECONDS", 2)
        forms = [
            f"<< /Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << /XObject << /X {number + 1} 0 R >> "
            f"/Font << /F1 3 0 R >> >> /Length {len(content)} >>\nstream\n{content}\nendstream"
            for number, content in ((4, "/X Do " * 200), (5, "/X Do " * 200), (6, "/X Do " * 200), (7, "/X Do " * 200))
        ]
        last = "0 0 600 700 re f " * 200
        forms.append(
            f"<< /Type /XObject /Subtype /Form /BBox [0 0 612 792] /Length {len(last)} >>\nstream\n{last}\nendstream"
        )
        content = pdf("/X Do", extra=tuple(forms))
        content = content.replace(b"/Font << /F1 3 0 R >> >> /Annots [5 0 R]", b"/XObject << /X 4 0 R >> >>")
        with pytest.raises(PictureError, match="page 1 cannot be shown"):
            pictures.page(content, 1)

    def test_a_page_that_takes_too_much_memory_ends(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pictures, "MEMORY", 4 << 20)
        with pytest.raises(PictureError, match="page 1 cannot be shown: the process that draws it"):
            pictures.page(file, 1, width=pictures.WIDEST)

    def test_no_more_than_some_draw_at_a_time(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pictures, "PATIENCE", 0)
        taken = [pictures._SLOTS.acquire(timeout=10) for _ in range(pictures.AT_ONCE)]
        try:
            with pytest.raises(PicturesBusy, match="try again"):
                pictures.page(file, 1)
        finally:
            for _ in taken:
                pictures._SLOTS.release()
        assert pictures.page(file, 1).png


def test_passages_of_real_files_are_found_on_their_pages(shared: Path, tmp_path: Path) -> None:
    """Of nine in ten sampled passages and sentences at least, the text under the boxes is what is quoted."""
    chosen, found, asked = random.Random(0), 0, 0
    for name in REAL:
        path = shared / "files" / name
        if not path.is_file():
            pytest.skip(f"{name} is not among the shared files")
        parsed = parse_pdf(path, Context(tmp_path))
        chunks = list(Chunker(lambda text: len(words(text)), 150, 20).chunks(parsed, "0" * 8, name))
        for chunk in chosen.sample(chunks, min(6, len(chunks))):
            start, end = chosen.choice(split(chunk.text))
            for quote in (chunk.text, chunk.text[start:end]):
                assert chunk.page is not None
                asked += 1
                found += under(path, chunk.page, quote) >= 0.9
    assert asked > 40
    assert found >= 0.9 * asked


def under(path: Path, number: int, quote: str) -> float:
    """The share of a quote's words that stand under its boxes, hyphens at lines' ends mended."""
    boxes = drawing.draw(path, Order(number, 0, quote)).boxes
    with pypdfium2.PdfDocument(path) as document:
        page = document[number - 1]
        text, (width, height) = page.get_textpage(), page.get_size()
        left, bottom, _, _ = page.get_cropbox()
        shown = " ".join(
            text.get_text_bounded(
                left + box.left * width,
                bottom + (1 - box.top - box.height) * height,
                left + (box.left + box.width) * width,
                bottom + (1 - box.top) * height,
            )
            for box in boxes
        )
    there = re.sub(r"\W", "", shown)
    return sum(re.sub(r"\W", "", word) in there for word in quote.split()) / len(quote.split())
