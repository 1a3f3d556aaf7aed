"""Answers, passages and documents in a terminal: nothing that a document holds is sent to it as a command."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rag.types import Answer, Citation, Document, Event, Finished, Hit, Piece, Retrieved, Sentence, Timings, Via
from tests.conftest import make_hit
from ui import terminal
from ui.doctor import Check

ESCAPES = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "a\rb",
    "a\x08\x08b",
    "\x7f",
    "gnp\u202egnp.exe",
    "[red]rich[/red] [link=https://evil.example]x[/link] :smile:",
]
HOSTILE = st.lists(st.sampled_from(ESCAPES) | st.text(max_size=40), min_size=1, max_size=4).map(" ".join)
COMMANDS = {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), *"\u202a\u202b\u202d\u202e\u2066\u2067"} - {"\n", "\t"}
TIMES = Timings(1.0)


def harmless(output: str) -> bool:
    return not COMMANDS & set(output)


def cite(number: int, hit: Hit) -> Citation:
    chunk = hit.chunk
    return Citation(number, chunk.doc, chunk.title, chunk.page, chunk.headings, chunk.start, chunk.end, chunk.text)


def answered(*sentences: Sentence, hits: tuple[Hit, ...] = (), abstained: bool = False) -> Answer:
    return Answer("Why?", " ".join(s.text for s in sentences), abstained, sentences, hits, TIMES, "parrot")


WHALES = make_hit("Whales are mammals.", 1, page=3, headings=("Life",))
SHIPS = make_hit("Ships float.", 2, doc="/documents/ships.pdf")


def test_footnotes_stand_behind_sentences_and_are_listed_once() -> None:
    record = answered(
        Sentence("Whales live.", 0.9, (cite(1, WHALES), cite(2, SHIPS))),
        Sentence("They do.", 0.9, (cite(1, WHALES),)),
        hits=(WHALES, SHIPS),
    )
    assert terminal.answer(record).splitlines() == [
        "Whales live. [1][2]",
        "They do. [1]",
        "",
        "[1] doc.md › page 3 › Life",
        "    “Whales are mammals.”",
        "[2] ships.pdf",
        "    “Ships float.”",
    ]


def test_an_unsupported_sentence_says_so_in_words() -> None:
    record = answered(Sentence("Whales fly.", 0.1), Sentence("Ships float.", 0.9, (cite(1, SHIPS),)))
    lines = terminal.answer(record).splitlines()
    assert lines[:2] == ["Whales fly. (not found in your documents)", "Ships float. [1]"]


def test_an_abstention_names_the_closest_places_and_marks_nothing() -> None:
    hits = tuple(make_hit("text", number, doc=f"/documents/{number}.pdf") for number in range(5))
    record = answered(Sentence("I can't find it.", 0.0), hits=hits, abstained=True)
    assert terminal.answer(record).splitlines() == [
        "I can't find it.",
        "",
        "Closest passages:",
        "  0.pdf",
        "  1.pdf",
        "  2.pdf",
    ]


def test_an_answer_without_footnotes_names_the_closest_places() -> None:
    output = terminal.answer(answered(Sentence("Whales fly.", 0.1), hits=(SHIPS,)))
    assert output.splitlines() == ["Whales fly. (not found in your documents)", "", "Closest passages:", "  ships.pdf"]


def test_hits_show_place_score_ranks_and_text() -> None:
    hit = Hit(WHALES.chunk, 0.87654, (Via("dense", 2, 0.5), Via("bm25", 1, 7.0)))
    output = terminal.hits([hit, SHIPS])
    assert "1. doc.md › page 3 › Life  [0.877; dense #2, bm25 #1]" in output
    assert "    Whales are mammals." in output
    assert " 2. ships.pdf" in output
    assert terminal.hits([]) == "nothing found"


def test_rows_are_shown_below_their_column_names() -> None:
    assert "Team | Cups Blues | 1" in terminal.hits([make_hit("Blues | 1", header="Team | Cups")])


def test_the_mark_says_why_and_what_was_left_out_is_counted() -> None:
    why = ("the number 42 is not in the passages",)
    said = answered(Sentence("It has 42.", 0.2, (), why), Sentence("Shall I?", 0.0, checkable=False), hits=(SHIPS,))
    output = terminal.answer(replace(said, dropped=(Sentence("Whales fly.", 0.1),)))
    first, second, *_, last = output.splitlines()
    assert first == "It has 42. (not found in your documents: the number 42 is not in the passages)"
    assert second == "Shall I?"
    assert last == '1 sentence left out, not found in your documents; --json lists it under "dropped".'


def test_a_long_passage_is_shortened() -> None:
    output = terminal.hits([make_hit("word " * 1000)])
    assert len(output) < 600
    assert output.endswith("…")


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_escapes_never_reach_the_terminal(text: str, heading: str, doc: str, said: str) -> None:
    hit = make_hit(text, 1, doc=f"/documents/{doc.replace('/', ' ')}.pdf", headings=(heading,), page=1)
    cited = answered(Sentence(said, 0.9, (cite(1, hit),)), Sentence(said, 0.1, (), (text,)), hits=(hit,))
    declined = answered(Sentence(said, 0.0), hits=(hit,), abstained=True)
    listed = Document("id", hit.chunk.doc, heading, "failed", 0, 0, "", 0, "parse", text)
    outputs = [
        terminal.answer(cited),
        terminal.answer(declined),
        terminal.hits([hit]),
        terminal.documents([listed], "default"),
        terminal.checks([Check("weights", False, text, "mend it")]),
    ]
    assert all(harmless(output) for output in outputs)


@pytest.mark.parametrize("text", ["1\u00a0000 kr", "12\u202f345", "ideographic\u3000space", "thin\u2009space"])
def test_spaces_of_other_widths_stay_spaces(text: str) -> None:
    assert terminal.harmless(text).split() == text.split()


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=80))
def test_text_that_can_be_seen_is_left_alone(text: str) -> None:
    assert terminal.harmless(text) == text


def events_of(record: Answer) -> Iterator[Event]:
    """What `Rag.stream` yields, a piece a word."""
    yield Retrieved(record.hits)
    yield from (Piece(word + " ") for word in record.text.split(" "))
    yield Finished(record)


MARKED_UP = answered(Sentence("Ships [bold]float[/bold] \x1b[31m.", 0.9, (cite(1, SHIPS),)), hits=(SHIPS,))


def test_a_person_sees_the_answer_being_written_and_then_its_checked_form() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None, markup=False, width=200)
    assert terminal.stream_answer(events_of(MARKED_UP), console) == MARKED_UP
    writing, checked = file.getvalue().split("\n", 1)
    assert writing.strip() == terminal.harmless(MARKED_UP.text)
    assert checked.strip() == terminal.answer(MARKED_UP)
    assert "\x1b" not in file.getvalue()


def test_where_nobody_watches_the_answer_is_written_once_and_rich_markup_stays_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert terminal.stream_answer(events_of(MARKED_UP)) == MARKED_UP
    assert capsys.readouterr().out == f"{terminal.answer(MARKED_UP)}\n"


def test_text_between_colons_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    record = answered(Sentence("Mix them 1:100:5, see :book:.", 0.1))
    terminal.stream_answer(events_of(record))
    assert "Mix them 1:100:5, see :book:." in capsys.readouterr().out


def test_documents_show_their_counts_and_why_one_failed() -> None:
    rows = [
        Document("1", "/documents/[b]a[/b].pdf", "A", "indexed", 12, 34, "", 0),
        Document("2", "/documents/b.pdf", "B", "failed", 0, 0, "", 0, "parse", "encrypted; remove the password"),
    ]
    header, first, second, reason = terminal.documents(rows, "default").splitlines()
    assert header.split() == ["status", "pages", "passages", "document"]
    assert first.split() == ["indexed", "12", "34", "/documents/[b]a[/b].pdf"]
    assert second.split() == ["failed", "0", "0", "/documents/b.pdf"]
    assert reason.strip() == "parse: encrypted; remove the password"
    assert "footnote ingest" in terminal.documents([], "letters")


def test_a_long_path_is_never_cut() -> None:
    path = "/documents/" + "/".join(f"folder-{i}" for i in range(60)) + "/file.pdf"
    output = terminal.documents([Document("1", path, "A", "indexed", 1, 1, "", 0)], "default")
    assert path in "".join(line.strip() for line in output.splitlines())


def test_checks_say_what_is_missing_and_what_brings_it() -> None:
    output = terminal.checks(
        [Check("python", True, "3.11.7"), Check("weights", False, "[missing]", "pip install weights")]
    )
    assert [line.split() for line in output.splitlines()] == [
        ["ok", "python", "3.11.7"],
        ["MISSING", "weights", "[missing]"],
        ["→", "pip", "install", "weights"],
    ]


def test_benchmarks_show_one_figure_a_line() -> None:
    assert terminal.benchmark({"ours": 2.5, "peer": {"p50": 1}}).splitlines() == [
        "ours                       2.5",
        'peer                       {"p50": 1}',
    ]
