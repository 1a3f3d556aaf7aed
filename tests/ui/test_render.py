"""Answers as HTML: what documents, models and people wrote shows as text, whatever it is."""

from __future__ import annotations

import re
from dataclasses import replace

import lxml.html
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag.types import Answer, Citation, Hit, Sentence, Timings
from tests.conftest import make_hit
from ui import render
from ui.panel import walked

ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</div></div><iframe src=//evil.example></iframe>",
    "</mark></blockquote><b>",
    "![track](https://evil.example/pixel.png)",
    "[click](javascript:alert(1))",
    "<https://evil.example> www.evil.example https://evil.example",
    "**bold** __bold__ *i* _i_ ~~gone~~ `code` # heading",
    "```\n<script>\n```",
    "$$\\frac{1}{0}$$ \\(x\\) $x$",
    "${process.env} {{7*7}} {% raw %} <%= 1 %> #{x}",
    "&lt;b&gt; &amp; &#60;script&#62; &nbsp;",
    "| a | b |\n|---|---|\n- item\n1. item\n> quote\n\n    code",
    "<!-- comment --> <![CDATA[x]]> <?php ?>",
    "a\u202egnp.exe\u202c b\u200bc\u200dd\u2066e\u2069 \ufeff",
    "tab\there\nline\r\nbreak",
    "🐋 Größe 你好 שלום",
]
PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"], include_characters="\n\t"), max_size=120)
HOSTILE = st.lists(st.sampled_from(ATTACKS) | PRINTABLE, min_size=1, max_size=3).map(" ".join)
TAGS = {"div", "span", "sup", "br", "mark", "blockquote", "details", "summary"}
TIMES = Timings(1.0)


def parse(html: str) -> lxml.html.HtmlElement:
    return lxml.html.fragment_fromstring(html, create_parent="main")


def shown(element: lxml.html.HtmlElement) -> str:
    """The text a person sees; line breaks are `<br>`."""
    copy = lxml.html.fromstring(lxml.html.tostring(element, encoding="unicode", with_tail=False))
    for line_break in copy.iter("br"):
        line_break.tail = f"\n{line_break.tail or ''}"
    return str(copy.text_content())


def without_made(root: lxml.html.HtmlElement) -> lxml.html.HtmlElement:
    """An answer without the line about what wrote it."""
    (made,) = root.find_class("fn-made")
    made.getparent().remove(made)
    return root


def sources(record: Answer) -> str:
    return "".join(render.sources(record)) + render.others(record)


def squeezed(text: str) -> str:
    return " ".join(text.split())


def check_markup(html: str) -> lxml.html.HtmlElement:
    """Only our own elements, classes and attributes; nothing that Markdown could read after us."""
    root = parse(html)
    for element in root.iterdescendants():
        assert element.tag in TAGS
        assert set(element.attrib) <= {"class", "title", "role", "tabindex", "open"}
        assert all(name.startswith("fn-") for name in element.get("class", "fn-").split())
        assert element.get("role", "alert") in ("alert", "button", "status")
    # Markdown leaves an HTML block alone up to a blank line, so there must be no line of its own at all.
    assert "\n" not in html
    text = re.sub(r"<summary>[\w, ]+\(\d+\)</summary>|<[^>]*>|&#\d+;", "", html)
    assert not re.search(r"[<>&`*_\[\](){}$\\|~#!\"/]", text)
    return root


def cite(number: int, hit: Hit, quote: str = "", **changes: object) -> Citation:
    chunk = hit.chunk
    quote = quote or chunk.text
    start = chunk.start + chunk.text.index(quote)
    note = Citation(number, chunk.doc, chunk.title, chunk.page, chunk.headings, start, start + len(quote), quote)
    return replace(note, **changes)  # type: ignore[arg-type]


def answered(*sentences: Sentence, hits: tuple[Hit, ...] = (), abstained: bool = False) -> Answer:
    return Answer("Why?", " ".join(s.text for s in sentences), abstained, sentences, hits, TIMES, "parrot")


WHALES = make_hit("Whales are mammals. They breathe air.", 1, page=3, headings=("Life", "At sea"))
SHIPS = make_hit("Ships float.", 2, doc="/documents/ships.pdf", page=None)


def test_footnotes_stand_behind_their_sentence_and_are_listed_under_the_answer() -> None:
    record = answered(
        Sentence("Whales breathe.", 0.9, (cite(1, WHALES, "They breathe air."), cite(2, SHIPS))),
        Sentence("Ships float.", 0.9, (cite(2, SHIPS),)),
        hits=(WHALES, SHIPS),
    )
    root = check_markup(render.answer(record))
    assert squeezed(without_made(root).text_content()) == (
        "Whales breathe.[1][2] Ships float.[2][1] doc.md › page 3 › Life › At sea[2] ships.pdf"
    )
    assert [mark.get("title") for mark in root.iter("sup")] == [
        "doc.md › page 3 › Life › At sea: “They breathe air.”",
        "ships.pdf: “Ships float.”",
        "ships.pdf: “Ships float.”",
    ]
    assert [note.text_content() for note in root.find_class("fn-note")] == [
        "[1] doc.md › page 3 › Life › At sea",
        "[2] ships.pdf",
    ]


def test_an_unsupported_sentence_says_so_in_words() -> None:
    record = answered(Sentence("Whales fly.", 0.2), Sentence("Ships float.", 0.9, (cite(1, SHIPS),)), hits=(SHIPS,))
    root = check_markup(render.answer(record))
    assert squeezed(root.text_content()).startswith("Whales fly. not found in your documents Ships float.[1]")
    assert [mark.text_content() for mark in root.find_class("fn-unsupported")] == ["Whales fly."]


def test_the_mark_says_why_and_what_claims_nothing_has_none() -> None:
    why = ("the number 42 is not in the passages", "<b>no</b> name")
    record = answered(Sentence("It has 42.", 0.2, (), why), Sentence("Shall I go on?", 0.0, checkable=False))
    root = check_markup(render.answer(record))
    (mark,) = root.find_class("fn-mark-unsupported")
    assert mark.text_content() == f"not found in your documents: {why[0]}; {why[1]}"
    assert squeezed(without_made(root).text_content()).endswith("Shall I go on?")


def test_line_breaks_between_sentences_stay() -> None:
    record = replace(answered(Sentence("One.", 0.1), Sentence("Two.", 0.1)), text="One.\n\nTwo.")
    assert "<br>" in render.answer(record)
    assert "<br>" in render.writing("One.\n\nTwo.\n\nThr", record.sentences)


def test_while_an_answer_is_written_what_was_checked_shows_it() -> None:
    checked = [Sentence("Ships float.", 0.9, (cite(1, SHIPS),)), Sentence("Whales fly.", 0.1, (), ("no wings",))]
    root = check_markup(render.writing("Ships float. Whales fly. They <b>fl", checked))
    assert squeezed(root.text_content()) == (
        "Ships float.[1] Whales fly. not found in your documents: no wings They <b>fl[1] ships.pdf"
    )
    (rest,) = root.find_class("fn-unchecked")
    assert rest.text_content() == "They <b>fl"
    leaving = check_markup(render.writing("Ships float. Whales fly. They", checked, dropping=True))
    assert [each.text_content() for each in leaving.find_class("fn-leaving")] == ["Whales fly."]
    assert "left out, not found in your documents: no wings" in leaving.text_content()
    assert (
        "stopped, not checked" in parse(render.stopped(render.writing("Ships float. Wh", checked[:1]))).text_content()
    )


@pytest.mark.parametrize(
    ("abstained", "dropped", "says"),
    [
        (False, (Sentence("Whales fly.", 0.1),), "1 sentence left out, not found in your documents"),
        (True, (Sentence("Whales fly.", 0.1),) * 2, "What the model wrote was not found in your documents"),
        (
            True,
            (Sentence("Whales fly.", 0.1), Sentence("Ships float.", 0.9, (cite(1, SHIPS),))),
            "The model wrote 2 sentences, 1 not found in your documents",
        ),
        (True, (Sentence("Why?", 0.0, checkable=False),), "The model wrote nothing that could be checked"),
    ],
)
def test_what_was_left_out_can_be_opened(abstained: bool, dropped: tuple[Sentence, ...], says: str) -> None:
    record = replace(answered(Sentence("So.", 0.9), abstained=abstained), dropped=dropped)
    root = check_markup(render.answer(record))
    (details,) = root.find_class("fn-dropped")
    assert details.get("open") is None
    assert details[0].text_content() == says
    assert [row.text_content().split(".")[0].split("?")[0] for row in root.find_class("fn-left-out")] == [
        sentence.text.rstrip(".?") for sentence in dropped
    ]


def test_an_abstention_has_no_marks_and_its_panel_shows_the_closest_passages() -> None:
    record = answered(Sentence("I can't find it.", 0.0), hits=(WHALES, SHIPS), abstained=True)
    root = check_markup(render.answer(record))
    assert squeezed(without_made(root).text_content()) == "I can't find it."
    panel = check_markup(sources(record))
    assert "Closest passages (2)" in panel.text_content()
    assert panel.xpath("//details/@open")
    assert WHALES.chunk.text in panel.text_content()
    assert SHIPS.chunk.text in panel.text_content()
    assert not panel.xpath("//mark")


@pytest.mark.parametrize("abstained", [False, True])
def test_what_a_follow_up_was_searched_for_as_stands_under_the_answer(abstained: bool) -> None:
    record = replace(answered(Sentence("So.", 0.1), abstained=abstained), searched="Why? (<b>Birch</b> Lane)")
    root = check_markup(render.answer(record))
    (line,) = root.find_class("fn-searched")
    assert line.text_content() == "searched for: Why? (<b>Birch</b> Lane)"
    assert not check_markup(render.answer(replace(record, searched=""))).find_class("fn-searched")


def test_what_wrote_an_answer_and_how_long_it_took_stand_below_it() -> None:
    times = Timings(120.0, 800.4, 2100.0, None, 2345.6)
    (made,) = check_markup(
        render.answer(replace(answered(Sentence("So.", 0.1)), model="small_model@12ab+v3", timings=times), 25.4)
    ).find_class("fn-made")
    assert made.find_class("fn-model")[0].text_content() == "written by small_model@12ab+v3"
    (took,) = made.iter("details")
    assert took.get("open") is None
    assert [part.text_content() for part in took] == [
        "How long it took",
        "search 0.12 s, first word 0.80 s, writing 2.10 s, in all 2.35 s, about 25 tokens a second",
    ]


def test_an_answer_that_was_kept_for_others_says_so_and_tells_no_times() -> None:
    again = replace(answered(Sentence("So.", 0.1)), timings=Timings(0.0))
    (made,) = check_markup(render.answer(again)).find_class("fn-made")
    assert made.text_content() == "written by parrot, from an earlier answer"
    declined = replace(again, abstained=True, model="")
    assert "from an earlier answer" in check_markup(render.answer(declined)).text_content()


def test_the_marks_of_what_was_left_out_have_their_sources_too() -> None:
    kept, left = (Sentence("Ships float.", 0.9, (cite(2, SHIPS),)), Sentence("Whales.", 0.9, (cite(1, WHALES),)))
    declined = replace(answered(hits=(WHALES, SHIPS), abstained=True), dropped=(left, kept))
    panel = check_markup(sources(declined))
    assert [number.text_content() for number in panel.find_class("fn-number")] == ["[1]", "[2]"]
    (details,) = panel.iter("details")
    assert details[0].text_content() == "Cited in what was left out (2)"
    some = replace(answered(kept, hits=(WHALES, SHIPS)), dropped=(left,))
    assert [number.text_content() for number in check_markup(sources(some)).find_class("fn-number")] == ["[2]", "[1]"]


def test_several_sources_have_a_way_from_one_to_the_next() -> None:
    root = parse(walked(["<div>1</div>", "<div>2</div>"], "", 3))
    assert [button.get("aria-label") for button in root.iter("button")] == ["Previous source", "Next source"]
    assert root.find_class("fn-panel")[0].get("data-exchange") == "3"
    assert not list(parse(walked(["<div>1</div>"], "<div>more</div>", 0)).iter("button"))
    assert walked([], "", 0) == ""


def test_an_answer_without_footnotes_has_a_panel_of_the_closest_passages() -> None:
    panel = check_markup(sources(answered(Sentence("Whales fly.", 0.1), hits=(WHALES,))))
    assert "Closest passages (1)" in panel.text_content()
    assert panel.xpath("//details/@open")
    assert WHALES.chunk.text in panel.text_content()


def test_the_panel_marks_each_quote_inside_its_passage() -> None:
    record = answered(
        Sentence("Whales breathe.", 0.9, (cite(2, WHALES, "They breathe air."),)),
        Sentence("Whales are mammals.", 0.9, (cite(1, WHALES, "Whales are mammals."),)),
        hits=(WHALES, SHIPS),
    )
    panel = check_markup(sources(record))
    first, second, other = panel.find_class("fn-source")
    assert squeezed(first.text_content()).startswith("[1] doc.md › page 3")
    assert [mark.text_content() for mark in panel.iter("mark")] == ["Whales are mammals.", "They breathe air."]
    for card in (first, second):
        (block,) = card.iter("blockquote")
        assert block.text_content() == WHALES.chunk.text
    assert "Also found, not cited (1)" in panel.text_content()
    assert "ships.pdf" in other.text_content()


def test_rows_are_shown_below_their_column_names() -> None:
    hits = tuple(make_hit("Blues | 1\nFlyers | 2", number, header="<Team> | Cups") for number in (0, 1))
    record = answered(Sentence("The Blues.", 0.9, (cite(1, hits[0], "Blues | 1"),)), hits=hits)
    assert [shown(quote) for quote in parse(sources(record)).iter("blockquote")] == [
        "<Team> | Cups\nBlues | 1\nFlyers | 2"
    ] * 2


def test_nothing_read_shows_nothing() -> None:
    assert sources(answered(Sentence("I can't find it.", 0.0), abstained=True)) == ""


def test_a_quote_whose_passage_is_not_at_hand_is_shown_alone() -> None:
    panel = check_markup(sources(answered(Sentence("Ships float.", 0.9, (cite(1, SHIPS),)), hits=())))
    (block,) = panel.iter("blockquote")
    assert block.text_content() == "Ships float."


def test_white_space_around_a_quote_is_kept() -> None:
    hit = make_hit("One.\nTwo. Three.\n\nFour.", 1)
    panel = check_markup(sources(answered(Sentence("Three.", 0.9, (cite(1, hit, "Three."),)), hits=(hit,))))
    (block,) = panel.iter("blockquote")
    assert shown(block) == "One.\nTwo. Three.\nFour."


@pytest.mark.parametrize("text", ATTACKS)
@pytest.mark.parametrize("draw", [render.question, render.writing, render.problem])
def test_attacks_show_as_text_wherever_people_and_models_write(draw: object, text: str) -> None:
    assert callable(draw)
    root = check_markup(draw(text))
    assert squeezed(shown(root)) == squeezed(text)


@given(PRINTABLE)
@example("\n")
@example("a\n\n\nb")
def test_text_is_shown_letter_by_letter(text: str) -> None:
    root = check_markup(render.question(text))
    assert squeezed(shown(root)) == squeezed(text)
    kept = [line.strip() for line in text.split("\n") if line.strip()]
    assert [line.strip() for line in shown(root).split("\n") if line.strip()] == kept


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_nothing_in_a_document_or_an_answer_becomes_markup(
    said: str, before: str, quote: str, heading: str, doc: str
) -> None:
    heading, doc = squeezed(heading), squeezed(doc).replace("/", " ")
    text = f"{before} {quote} end"
    hit = make_hit(text, 3, doc=f"/documents/{doc}.pdf", title=heading, headings=(heading,), page=2)
    other = make_hit(before, 9, doc="/documents/b.md", headings=(heading, squeezed(said)))
    start = 300 + len(before) + 1
    note = replace(cite(1, hit), start=start, end=start + len(quote), quote=quote)
    record = answered(Sentence(said, 0.9, (note,)), Sentence(quote, 0.1, (), (before,)), hits=(hit, other))
    record = replace(record, dropped=(Sentence(heading, 0.1, (), (said,)),))

    root = check_markup(render.answer(record))
    first, second, left_out = root.find_class("fn-sentence")
    assert squeezed(shown(left_out)) == squeezed(heading)
    assert squeezed(shown(first)) == squeezed(said)
    assert squeezed(shown(second)) == squeezed(quote)

    panel = check_markup(sources(record))
    cards = [squeezed(shown(block)) for block in panel.iter("blockquote")]
    assert cards == [squeezed(text), squeezed(before)]
    (mark,) = panel.iter("mark")
    assert squeezed(shown(mark)) == squeezed(quote)
    assert squeezed(heading) in squeezed(shown(panel))

    check_markup(render.writing(f"{said} {quote} {before}", record.sentences))
    root = check_markup(render.answer(replace(record, abstained=True, text=said, dropped=(), model=heading)))
    (made,) = root.find_class("fn-made")
    assert squeezed(heading) in squeezed(shown(made))
    assert squeezed(shown(without_made(root))) == squeezed(said)


@pytest.mark.parametrize("character", [*map(chr, range(9)), "\x0b", "\x0c", "\x1b", "\x7f"])
def test_control_characters_are_shown_as_such(character: str) -> None:
    assert shown(check_markup(render.question(f"a{character}b"))) == "a\N{REPLACEMENT CHARACTER}b"


def test_a_line_break_in_a_files_name_does_not_become_a_tag_in_an_attribute() -> None:
    hit = make_hit("Ships float.", 2, doc="/documents/two\nlines.pdf")
    root = check_markup(render.answer(answered(Sentence("Ships float.", 0.9, (cite(1, hit),)), hits=(hit,))))
    assert [squeezed(mark.get("title")) for mark in root.iter("sup")] == ["two lines.pdf: “Ships float.”"]
