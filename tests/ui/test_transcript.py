"""Conversations as Markdown: everything that was said is there, and nothing of it is markup."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import date
from typing import Any

import pypandoc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from rag.filter import Filter
from rag.prompt import ABSTENTION
from rag.types import Answer, Citation, Sentence, Timings
from tests.ui.test_render import ATTACKS
from ui.server.kept import Conversation, Turn
from ui.transcript import markdown

OURS = {"heading", "paragraph", "inline", "strong", "bullet_list", "list_item"}
PANDOCS = {"Header", "Para", "Plain", "BulletList", "Strong", "Note", "Str", "Space", "LineBreak"}
"""As pandoc calls them."""
TEXTS = {"text", "text_special", "softbreak", "hardbreak"}
RENT = Citation(1, "/secret/folder/lease.pdf", "Lease", 3, ("Rent", "Flat"), 5, 27, "The rent is 900 euros.")
HOSTILE = [
    *ATTACKS,
    "[^1]: http://evil.example 'x'",
    "[^1] [^2]: gotcha ^[inline note]",
    "a\n- b\n+ c\n* d\n1. e\n2) f\n# g\n> h\n\ti\n    j\n: k\n(a) l\nIV. m",
    "title\n===\nother\n---\n***\n- - -\n___",
    "Wow!",
    "back\\",
    "two  \nspaces",
    "==high== ++in++ --gone-- %%hidden%% :smile: H~2~O x^2^",
    "| a |\n|---|\n| b |",
    "**(not found in your documents)** [^1]",
    "[evil]: https://evil.example\n[evil]",
    "www.evil.example mail@evil.example mailto:a@b.example",
]


def conversation(*answers: Answer, name: str = "The flat", within: Filter | None = None) -> Conversation:
    turns = tuple(
        Turn(str(number), answer, "", within or Filter(), f"2025-01-01T11:{number:02}:30.5+01:00")
        for number, answer in enumerate(answers)
    )
    return Conversation("id", "leases", name, "2025-01-01T09:59:00+00:00", "", turns)


def answer(*sentences: Sentence, between: str = " ", **changes: Any) -> Answer:
    text = between.join(sentence.text for sentence in sentences)
    return replace(Answer("How much is it?", text, False, sentences, (), Timings(1.0), "model@1"), **changes)


def tokens(text: str, *more: str) -> list[Token]:
    """Every token of the Markdown, by a parser that takes raw HTML and all that GitHub has."""
    parser, found = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]), {}
    parsed = parser.parse(text, found)
    assert not found.get("references")
    return [token for block in parsed for token in (block, *(block.children or ()))]


def shown(text: str) -> str:
    """What a person reads."""
    breaks = {"softbreak", "hardbreak", "heading_close", "paragraph_close"}
    return "".join("\n" if token.type in breaks else token.content for token in tokens(text) if token.type != "inline")


def test_a_conversation_reads_like_this() -> None:
    said = answer(
        Sentence(
            "The rent is 900 euros.", 0.9, (RENT, replace(RENT, number=2, doc="annex.md", page=None, headings=()))
        ),
        Sentence("It includes zebras.", 0.1, (), ("no zebras are mentioned",)),
        Sentence("Shall I go on?", 0.0, (), ("a question",), checkable=False),
    )
    again = answer(
        Sentence("Still 900.", 0.8, (RENT,)), question="And\nnow?", searched="How much is the flat's rent now?"
    )
    declined = answer(
        Sentence(ABSTENTION, 0.0, checkable=False),
        abstained=True,
        model="",
        dropped=(Sentence("Zebras pay.", 0.1), Sentence("900 euros.", 0.9, (RENT,))),
    )
    assert markdown(conversation(said, again, declined)) == (
        """# The flat

A conversation about the documents in leases, begun 2025-01-01 09:59 UTC: 3 questions.

## Question 1

How much is it?

**Answer:** The rent is 900 euros.[^1][^2] It includes zebras. **(not found in your documents: no zebras are mentioned)** Shall I go on?

Answered by model&#64;1, 2025-01-01 10:00 UTC.

## Question 2

And  
now?

Searched for: How much is the flat's rent now?

**Answer:** Still 900.[^1]

Answered by model&#64;1, 2025-01-01 10:01 UTC.

## Question 3

How much is it?

**No answer:** I can't find the answer to that in your documents.

The model wrote 2 sentences, 1 not found in your documents:

- Zebras pay. **(not found in your documents)**
- 900 euros.[^1]

Answered without a language model, 2025-01-01 10:02 UTC.

[^1]: lease.pdf › page 3 › Rent › Flat: “The rent is 900 euros.”

[^2]: annex.md: “The rent is 900 euros.”
"""  # noqa: E501, W291
    )


def test_where_the_files_lie_is_not_told() -> None:
    within = Filter(
        ("/secret/folder/lease.pdf",), ("/secret/folder",), ("pdf",), date(2024, 1, 2), None, (("by", "Ana"),)
    )
    text = markdown(conversation(answer(Sentence("900.", 0.9, (RENT,))), within=within))
    assert "secret" not in text
    assert "Asked of some documents only: lease.pdf, folder, pdf, from 2024-01-02, by=Ana" in text


def test_line_breaks_of_answers_and_quotes_are_kept() -> None:
    table = replace(RENT, quote="| rent | 900 |\n\n| heating | 80 |")
    text = markdown(conversation(answer(Sentence("First.", 0.9, (table,)), Sentence("Second.", 0.9), between="\n\n")))
    assert "Answer: First.[^1]\nSecond." in shown(text)
    assert "“| rent | 900 |\n| heating | 80 |”" in shown(text)


def hostile(*texts: str) -> Conversation:
    """A conversation where each of the texts stands everywhere that a text can."""

    def said(text: str) -> Answer:
        note = replace(RENT, doc=f"/d/{text}", headings=(text, text), quote=text)
        sentences = (
            Sentence(text, 0.9, (note,)),
            Sentence(text, 0.1, (), (text,)),
            Sentence(text, 0.9, (replace(note, start=6),)),
        )
        return answer(*sentences, question=text, model=text, searched=text, dropped=sentences[:2])

    within = Filter((texts[0],), (), (), None, None, ((texts[0], texts[0]),))
    return conversation(*map(said, texts), name=texts[0], within=within)


def kinds(text: str) -> Counter[str]:
    return Counter(token.type.removesuffix("_open").removesuffix("_close") for token in tokens(text))


@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=60), min_size=1, max_size=3).map("\n".join))
@example("<script>alert(1)</script>")
@example("\n".join(HOSTILE))
@example("a\n\n- b `c` | d | [^1] \\")
def test_nothing_that_was_said_becomes_markup(text: str) -> None:
    made = markdown(hostile(text))
    found = kinds(made)
    assert found.keys() <= OURS | TEXTS
    harmless = kinds(markdown(hostile("x")))
    for kind in ("heading", "strong", "bullet_list", "list_item", "paragraph"):
        assert found[kind] <= harmless[kind]  # a blank text makes no paragraph of its own
    assert "<script" not in made
    assert "://" not in made


@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=60), min_size=1, max_size=3).map("\n".join))
@example("\n".join(HOSTILE))
def test_all_that_was_said_is_shown_letter_by_letter(text: str) -> None:
    letters = "".join(text.split())
    read = "".join(shown(markdown(hostile(text))).split())
    unseen = {ord(c): "\N{REPLACEMENT CHARACTER}" for c in letters if c not in read}
    assert all(not chr(c).isprintable() for c in unseen)
    # question, its search, the sentence three times, the reason, and what was dropped of it, and the quotes
    assert not letters or read.count(letters.translate(unseen)) >= 8


def test_text_directions_end_with_the_text() -> None:
    text = markdown(conversation(answer(Sentence("a\u202egnp.exe \u2066b", 0.1))))
    assert not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.mark.parametrize("dialect", ["gfm", "markdown-smart"])
def test_footnotes_are_those_of_the_answers_alone(dialect: str) -> None:
    """By another program, which knows footnotes, tables, mathematics and much else."""
    parsed = pypandoc.convert_text(markdown(hostile(*HOSTILE)), "json", format=dialect, sandbox=True)
    found = Counter(re.findall(r'"t":"(\w+)"', parsed))
    assert found.keys() <= PANDOCS
    assert found["Note"] == 3 * len(HOSTILE)
