"""Where sentences begin and end: what holds for any text, and a table of examples."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.sentences import pieces, settled, split
from tests.conftest import ROOT

MESSY = st.lists(
    st.sampled_from(
        [*"aB1.!?…\"'”)。」！ \n\t-*•", "\n\n", "etc.", "Dr.", "3.5", " 2. ", "e.g.", "https://x.org/?q=1"]
    ),
    max_size=60,
).map("".join)


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split(text)]


@given(st.text(max_size=300) | MESSY)
def test_sentences_are_in_order_apart_stripped_and_hold_everything_but_white_space(text: str) -> None:
    position = 0
    for start, end in split(text):
        assert position <= start < end <= len(text)
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip()
        position = end
    assert not text[position:].strip()


@given(st.text(max_size=300) | MESSY)
def test_pieces_are_the_whole_text_a_sentence_each(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert [piece.strip() for piece in pieces(text) if piece.strip()] == sentences(text)


@given(st.text(max_size=300) | MESSY, st.integers(0, 300))
def test_what_is_settled_stays_whatever_follows(text: str, so_far: int) -> None:
    spans = settled(text[:so_far])
    assert split(text)[: len(spans)] == spans


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rained. We", ["It rained."]),
        ("It rained. ", []),
        ("It rained. (", []),
        ("It rained etc. ", []),
        ("One. Two. Thr", ["One.", "Two."]),
        ("Steps:\n- in", ["Steps:"]),
        ("今天下雨了。我", ["今天下雨了。"]),
        ("", []),
    ],
)
def test_a_sentence_is_settled_when_the_next_one_has_begun(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in settled(text)] == expected


@given(MESSY, MESSY)
def test_a_paragraph_break_always_ends_a_sentence(one: str, other: str) -> None:
    assert not [part for part in sentences(f"{one}\n\n{other}") if re.search(r"\n\s*\n", part)]


@given(st.lists(st.sampled_from(["The whale dived.", "Was it seen?", "Nobody knows!", "It cost $3.50."]), max_size=8))
def test_plain_sentences_come_apart_however_they_are_spaced(parts: list[str]) -> None:
    assert sentences(" ".join(parts)) == parts
    assert sentences("\n".join(parts)) == parts


# A bar marks where one sentence ends and the next begins.
EXAMPLES = [
    "It rained. | We stayed in! | Did you go out?",
    "It rained. | We stayed",
    "Dr. Smith met Mrs. Jones and Prof. Li. | They talked.",
    "Fruit, e.g. Apples, i.e. Pink Lady, is sold. | Buy some.",
    "Apples, pears, etc. are sold. | Buy some.",
    "See Fig. 3 and Eq. 4 on pp. 12-14. | They agree.",
    "J. R. R. Tolkien wrote it. | George W. Bush read it.",
    "The U.S. Senate met. | It voted.",
    "It grew by 3.5 percent. | Then it fell to 0.7. | Why?",
    "It cost 1.234.567,89 euros. | Nobody paid.",
    "Version 2.0.1 is out. | Python 3.11.7 runs it.",
    "He was born in 1999. | She was not.",
    "See https://example.org/a.b/c.html. | It helps.",
    "Write to a.b@example.co.uk today. | We answer.",
    "Open README.md first. | Then run setup.py now.",
    "It is kept in approx. the same place. | Look there.",
    'She said "Stop." | Then she left.',
    "“Who is it?” | Nobody answered.",
    "It works (see below.) | Try it.",
    "He waited... and left. | Nobody saw.",
    "He waited... | Nobody came.",
    "Really?! | Yes. | No way!!!",
    "Das ist z.B. Gold, d.h. Geld. | Er geht bzw. Sie fährt. | Gut.",
    "今天下雨了。|我们在家。",
    "「雨です。」|と言った。|はい。",
    "1. Install it. | 2. Run it.",
    "Steps:\n| - install it\n| - run it\n| * done",
    "Steps:\n| 1. Install it\n| 2) Run it",
    "A heading\n\n| A paragraph goes\nover two lines. | And on.",
    "Did you see https://example.org/search?q=1 there? | Yes.",
    "It holds where a != 0. | Else not.",
    "(Is it true?). | Yes.",
    "你好！|你在吗？|好。",
    "He loves art. | She paints.",
    '"Stop!" he said. | She stopped.',
    "No. | The warranty does not cover it.",
    "Well… he said so. | Yes.",
    "It sank in 1912.[3] | Nobody knew.[1][12] | Why?",
    "Nr. 5 is on p. 12, Abs. 3. | Look there.",
    "",
    " \n ",
]


@pytest.mark.parametrize("marked", EXAMPLES)
def test_examples(marked: str) -> None:
    expected = [part.strip() for part in marked.split("|") if part.strip()]
    assert sentences(marked.replace("| ", "").replace("|", "")) == expected


LONG_RUNS = """
from rag.sentences import split
for unit in (".", "!", "\\n", "\\n ", " ", ".'", ".[1]", "\\n-", "\\n1", "e.g. ", "a", "Contents" + 120 * "." + "5\\n"):
    split(unit * (60_000 // len(unit)) + "x")
"""


def test_long_runs_of_marks_and_blanks_do_not_stop_the_program() -> None:
    # The limit is no measure of speed: what backtracks would take hours.
    subprocess.run([sys.executable, "-c", LONG_RUNS], cwd=ROOT, check=True, timeout=300)
