"""Sheets under other names: answers stay answers, names and numbers are others everywhere, the rest stays."""

from __future__ import annotations

import random
import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rag.finetune.disguise import Names, disguised
from rag.finetune.sheets import Asked, Sheet, Shown

TEXTS = (
    "In 1891, Nikola Tesla moved from Belgrade to London with 120 trunks. The American press met Tesla in London.",
    "Later the German engineer Oskar Barnack and the English writer Mary Shelley came to Belgrade, where Oskar Barnack "
    "and Mary Shelley read NASA and IBM papers. The crew of NASA and IBM saw an American and a German in 1902.",
    "The English came with Nikola Tesla. A letter to Belgrade, read in May, cost 45 pence and had 1,250 words.",
)
SHEET = Sheet(
    (Shown("Nikola Tesla", ("Life of Tesla",), "", TEXTS[0], "a"), Shown("Letters", (), "", TEXTS[2], "b")),
    (
        Asked("When did Tesla move to London?", "1891", "person", "set", "a"),
        Asked("With how many trunks?", "120 trunks", "person", "set", "a"),
        Asked("Where did the letter of May go?", "Belgrade", "rule", "set", "b"),
        Asked("Who owned IBM in 1902?", "", "person", "set", "a"),
    ),
)
NAMES = Names(TEXTS)


def shown(sheet: Sheet) -> str:
    return "\n".join(f"{passage.title} {passage.headings} {passage.text}" for passage in sheet.passages)


@given(st.integers(0, 10_000))
def test_answers_still_stand_in_the_passages_and_nothing_is_asked_that_was_not(seed: int) -> None:
    other = disguised(SHEET, NAMES, random.Random(seed))
    assert [bool(each.answer) for each in other.asked] == [bool(each.answer) for each in SHEET.asked]
    for each in other.asked:
        assert each.answer in shown(other)
    assert [(each.kind, each.document) for each in other.asked] == [(each.kind, each.document) for each in SHEET.asked]
    assert [passage.document for passage in other.passages] == ["a", "b"]


@given(st.integers(0, 10_000))
def test_all_but_names_and_numbers_stays(seed: int) -> None:
    other = disguised(SHEET, NAMES, random.Random(seed))
    for before, after in zip(SHEET.passages, other.passages, strict=True):
        for old, new in zip(re.findall(r"\w+|\W", before.text), re.findall(r"\w+|\W", after.text), strict=True):
            assert old == new or (old[0].isupper() and new[0].isupper()) or (old.isdigit() and len(old) == len(new))
    assert "May" in shown(other)


def test_a_name_is_the_same_other_one_in_title_passage_and_question() -> None:
    said = {disguised(SHEET, NAMES, random.Random(seed)) for seed in range(20)}
    for other in said:
        name = other.passages[0].title.split()[-1]
        assert other.passages[0].headings == (f"Life of {name}",)
        assert other.asked[0].question.startswith(f"When did {name} move to ")
    assert len({other.passages[0].title for other in said}) > 3


def test_years_are_moved_together_so_that_they_keep_their_order() -> None:
    texts = ("The war of 1914 ended in 1918, in the year 1920 it was over.",)
    sheet = Sheet((Shown("", (), "", texts[0], "a"),), ())
    for seed in range(20):
        first, second, third = map(int, re.findall(r"\d{4}", shown(disguised(sheet, NAMES, random.Random(seed)))))
        assert (second - first, third - second) == (4, 2)
        assert first != 1914


def test_an_american_becomes_no_city() -> None:
    others = {disguised(SHEET, NAMES, random.Random(seed)).passages[0].text for seed in range(40)}
    assert {re.search(r"The (\w+) press", text)[1] for text in others} <= {"American", "German"}  # type: ignore[index]


def test_without_other_names_nothing_is_exchanged() -> None:
    plain = replace(SHEET, passages=(Shown("", (), "", "nothing is named here, not even 7 things", "a"),), asked=())
    assert disguised(plain, Names(()), random.Random(0)) == plain
