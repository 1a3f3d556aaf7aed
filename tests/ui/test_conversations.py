"""Kept conversations: nothing is lost, everything is found again, and nobody sees another's."""

from __future__ import annotations

import math
import sqlite3
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examined
from hypothesis import strategies as st

from rag.errors import SettingsError
from rag.filter import Filter
from rag.settings import Settings
from rag.types import Answer, Chunk, Citation, Hit, Message, Sentence, Timings, Via
from tests.conftest import make_hit
from ui import records, render
from ui.server.conversations import LOCAL, Conversations
from ui.server.kept import LONGEST_NAME, name_of, packed, record, unpacked

Open = Callable[..., Conversations]
SECRET = "Xylophonist"


def answered(question: str, text: str = "So.") -> Answer:
    return Answer(question, text, False, (Sentence(text, 0.5),), (make_hit(text),), Timings(1.0), "model")


@pytest.fixture
def open_(settings: Settings) -> Iterator[Open]:
    opened: list[Conversations] = []

    def open_one(full_text: bool = True) -> Conversations:
        opened.append(Conversations.open(settings, full_text))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def kept(open_: Open) -> Conversations:
    return open_()


def asked(kept: Conversations, *questions: str, owner: str = LOCAL, collection: str = "default") -> str:
    """A conversation of these questions."""
    id_ = kept.start(owner, collection, questions[0])
    for question in questions:
        assert kept.add(owner, id_, answered(question))
    return id_


def names(found: list[records.Any]) -> list[str]:
    return [each.name for each in found]


# --- answers as JSON

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCORE = st.floats(allow_nan=False)
PLACE = st.integers(0, 2**70)
PAGE = st.none() | PLACE
TEXTS = st.lists(TEXT, max_size=2).map(tuple)
PAIRS = st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple)
CHUNKS = st.builds(
    Chunk, TEXT, TEXT, TEXT, TEXT, PAGE, TEXTS, PLACE, PLACE, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, metadata=PAIRS
)
HITS = st.builds(Hit, CHUNKS, SCORE, st.lists(st.builds(Via, TEXT, PLACE, SCORE), max_size=2).map(tuple))
CITATIONS = st.builds(Citation, PLACE, TEXT, TEXT, PAGE, TEXTS, PLACE, PLACE, TEXT)
SENTENCES = st.lists(
    st.builds(Sentence, TEXT, SCORE, st.lists(CITATIONS, max_size=2).map(tuple), TEXTS, st.booleans()), max_size=2
).map(tuple)
TIMES = st.builds(Timings, SCORE, st.none() | SCORE, st.none() | SCORE, st.none() | SCORE, SCORE)
ANSWERS = st.builds(
    Answer, TEXT, TEXT, st.booleans(), SENTENCES, st.lists(HITS, max_size=2).map(tuple), TIMES, TEXT, TEXT, SENTENCES
)


@given(ANSWERS)
def test_an_answer_comes_back_as_it_was(answer: Answer) -> None:
    back = unpacked(packed(answer))
    assert back == answer
    assert repr(back) == repr(answer)  # so that numbers are of the same kind, too, and named tuples have their names


def test_what_is_read_back_looks_as_it_did(kept: Conversations) -> None:
    hit = make_hit("The rent is 900 euros.", page=3, headings=("Rent",))
    note = Citation(1, hit.chunk.doc, "Doc", 3, ("Rent",), 0, 22, hit.chunk.text)
    sentences = (Sentence(hit.chunk.text, 0.9, (note,)), Sentence("Zebras.", 0.1, (), ("no zebras",)))
    answer = Answer("Rent?", "The rent is 900 euros. Zebras.", False, sentences, (hit,), Timings(1.0), "m", "rent?")
    id_ = kept.start(LOCAL, "default", "Rent?")
    kept.add(LOCAL, id_, answer)
    found = kept.read(LOCAL, id_)
    assert found is not None
    (turn,) = found.turns
    assert render.answer(turn.answer) == render.answer(answer)
    assert render.sources(turn.answer) == render.sources(answer)
    (told,) = record(found)["turns"]
    assert {name: told[name] for name in records.answer(answer)} == records.answer(answer)


def test_bytes_that_are_no_text_do_not_get_in_the_way(kept: Conversations) -> None:
    id_ = asked(kept, "What\udc80 \x00 is it?")
    found = kept.read(LOCAL, id_)
    assert found is not None
    assert found.turns[0].answer.question == "What? \x00 is it?"


# --- conversations


def test_a_conversation_goes_on_after_a_restart(open_: Open) -> None:
    first = open_()
    id_ = first.start(LOCAL, "default", "Rent?")
    within = Filter(("a.pdf",), ("/d",), (".PDF",), date(2024, 1, 2), None, (("author", "Ana"), ("author", "Ben")))
    turn = first.add(LOCAL, id_, answered("Rent?", "900."), "drop", within)
    first.close()
    second = open_()
    second.add(LOCAL, id_, answered("And heating?", "80."))
    found = second.read(LOCAL, id_)
    assert found is not None
    assert (found.collection, found.name) == ("default", "Rent?")
    assert found.created < found.turns[0].time < found.turns[1].time == found.updated
    assert (found.turns[0].id, found.turns[0].strictness, found.turns[0].within) == (turn, "drop", within)
    assert found.history() == (
        Message("user", "Rent?"),
        Message("assistant", "900."),
        Message("user", "And heating?"),
        Message("assistant", "80."),
    )
    assert found.history(1) == found.history()[:2]
    assert (found.number_of(turn), found.number_of("other")) == (0, None)


def test_an_answer_that_is_made_anew_takes_the_place_of_the_last(kept: Conversations) -> None:
    id_ = asked(kept, "One?", "Two?")
    before = kept.read(LOCAL, id_)
    assert kept.replace_last(LOCAL, id_, answered("Three?", "Anew."))
    after = kept.read(LOCAL, id_)
    assert before is not None
    assert after is not None
    assert [turn.answer.question for turn in after.turns] == ["One?", "Three?"]
    assert after.turns[0] == before.turns[0]
    assert after.turns[1].id != before.turns[1].id
    assert names(kept.search(LOCAL, "default", "anew")) == ["One?"]
    assert kept.search(LOCAL, "default", "two") == []


def test_a_conversation_is_called_by_its_first_question_until_it_gets_a_name(kept: Conversations) -> None:
    id_ = kept.start(LOCAL, "default", "Rant?")
    assert names(kept.recent(LOCAL, "default")) == ["Rant?"]
    kept.add(LOCAL, id_, answered("Rant?"))
    kept.replace_last(LOCAL, id_, answered("Rent?"))
    kept.add(LOCAL, id_, answered("Heating?"))
    assert names(kept.recent(LOCAL, "default")) == ["Rent?"]
    assert kept.rename(LOCAL, id_, "  The \n flat ")
    kept.replace_last(LOCAL, id_, answered("Deposit?"))
    assert names(kept.recent(LOCAL, "default")) == ["The flat"]
    assert kept.rename(LOCAL, id_, "  ")
    assert names(kept.recent(LOCAL, "default")) == ["Rent?"]


@given(st.text(max_size=300))
def test_names_are_short_and_on_one_line(text: str) -> None:
    name = name_of(text)
    assert len(name) <= LONGEST_NAME
    assert len(name.splitlines()) <= 1
    assert name_of(name) == name
    assert bool(name) is bool(text.split())


def test_long_names_are_cut_between_words_where_there_are_any() -> None:
    assert name_of("word " * 40) == "word " * 15 + "…"
    assert name_of("字" * 100) == "字" * 78 + " …"


def test_the_list_begins_with_the_newest_turn_and_goes_page_by_page(kept: Conversations) -> None:
    ids = [asked(kept, f"Question {number}?") for number in range(5)]
    kept.add(LOCAL, ids[1], answered("More?"))
    found = kept.recent(LOCAL, "default")
    assert [each.id for each in found] == [ids[1], ids[4], ids[3], ids[2], ids[0]]
    assert [each.turns for each in found] == [2, 1, 1, 1, 1]
    assert kept.recent(LOCAL, "default", offset=1, limit=2) == found[1:3]
    assert kept.search(LOCAL, "default", "question", offset=1, limit=2) == found[1:3]


@pytest.mark.parametrize("full_text", [True, False])
def test_words_are_found_in_questions_answers_and_names(open_: Open, full_text: bool) -> None:
    kept = open_(full_text)
    id_ = kept.start(LOCAL, "default", "How much?")
    kept.add(LOCAL, id_, answered("How much is the rent?", "It is 900 euros."))
    kept.add(LOCAL, id_, answered("And the deposit?", 'Two "cold" rents_plus 10%.'))
    kept.rename(LOCAL, id_, "Flat in Elm Street")
    asked(kept, "What do whales eat?")
    for text in (
        "rent",
        "EUROS",
        "depos",
        "elm flat",
        "900 cold",
        "deposit how",
        '"cold"',
        "rents_plus",
        "10%",
        "rent " * 5000,
    ):
        assert names(kept.search(LOCAL, "default", text)) == ["Flat in Elm Street"], text
    for text in ("", "  ", "?", "%", "_", "rent whales", "dinosaur", "rent OR whales"):
        assert kept.search(LOCAL, "default", text) == [], text


@pytest.mark.parametrize("full_text", [True, False])
@examined(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30) | st.text("\"*()^:-+ANDORNEAR {}'\\%_\x00", max_size=15))
def test_whatever_is_looked_for_is_taken_as_words(settings: Settings, full_text: bool, text: str) -> None:
    kept = Conversations.open(settings.model_copy(update={"home": settings.home / str(full_text)}), full_text)
    try:
        assert kept.search(LOCAL, "default", text) == []
    finally:
        kept.close()


def test_what_was_written_without_full_text_search_is_found_with_it(open_: Open) -> None:
    plain = open_(full_text=False)
    gone, changed = asked(plain, "Gone whales?"), asked(plain, "Rent?")
    full = open_()
    assert names(full.search(LOCAL, "default", "whales")) == ["Gone whales?"]
    plain.delete(LOCAL, gone)
    plain.add(LOCAL, changed, answered("Whales?"))
    again = open_()
    assert names(again.search(LOCAL, "default", "whales")) == ["Rent?"]


# --- owners


def test_nobody_reaches_the_conversations_of_another(kept: Conversations) -> None:
    mine, theirs = asked(kept, "Whales of mine?", owner="ana"), asked(kept, "Whales of theirs?", owner="ben")
    before = kept.read("ben", theirs)
    assert kept.read("ana", theirs) is None
    assert kept.add("ana", theirs, answered("Mine?")) == ""
    assert kept.replace_last("ana", theirs, answered("Mine?")) == ""
    assert not kept.rename("ana", theirs, "Mine")
    assert not kept.delete("ana", theirs)
    assert names(kept.recent("ana", "default")) == names(kept.search("ana", "default", "whales")) == ["Whales of mine?"]
    assert kept.delete_all("ana", "default") == 1
    assert kept.read("ana", mine) is None
    assert kept.read("ben", theirs) == before


def test_collections_are_apart(kept: Conversations) -> None:
    asked(kept, "Whales?", collection="sea")
    asked(kept, "Wales?", collection="land")
    assert names(kept.recent(LOCAL, "sea")) == ["Whales?"]
    assert kept.search(LOCAL, "land", "whales") == []
    assert kept.delete_all(LOCAL, "land") == 1
    assert names(kept.recent(LOCAL, "sea")) == ["Whales?"]


# --- the file


@pytest.mark.parametrize("full_text", [True, False])
@pytest.mark.parametrize("everything", [True, False])
def test_what_is_deleted_is_gone_from_the_disk(
    open_: Open, settings: Settings, full_text: bool, everything: bool
) -> None:
    kept = open_(full_text)
    asked(kept, "What do whales eat?", owner="ben")
    id_ = asked(kept, f"Who is the {SECRET}?", "And who else?")
    kept.rename(LOCAL, id_, f"About the {SECRET}")
    assert on_disk(settings.home, SECRET)
    assert kept.delete_all(LOCAL, "default") == 1 if everything else kept.delete(LOCAL, id_)
    assert not on_disk(settings.home, SECRET)
    assert on_disk(settings.home, "whales")
    assert names(kept.recent("ben", "default")) == ["What do whales eat?"]


def on_disk(home: Path, word: str) -> bool:
    """Whether a word stands in any file, as it was written or as a search index has it."""
    everything = b"".join(path.read_bytes() for path in home.iterdir())
    return word.lower().encode() in everything.lower()


def test_only_the_user_can_read_the_files(kept: Conversations, settings: Settings) -> None:
    asked(kept, "Rent?")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.home.iterdir()}
    assert modes == dict.fromkeys(("conversations.db", "conversations.db-wal", "conversations.db-shm"), 0o600)


def test_several_threads_and_stores_write_at_once(open_: Open) -> None:
    stores = [open_(), open_(), open_(full_text=False)]
    id_ = stores[0].start(LOCAL, "default", "Many?")

    def write(number: int) -> None:
        kept = stores[number % 3]
        kept.add(LOCAL, id_, answered(f"Question {number}?"))
        asked(kept, f"Own {number}?")
        kept.recent(LOCAL, "default")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(30)))
    found = stores[0].read(LOCAL, id_)
    assert found is not None
    assert sorted(turn.answer.question for turn in found.turns) == sorted(f"Question {n}?" for n in range(30))
    assert len(stores[0].recent(LOCAL, "default", limit=100)) == 31


def test_what_fails_half_way_changes_nothing(kept: Conversations) -> None:
    """An answer made anew that cannot be written must not have cost the one before."""
    id_ = asked(kept, "One?")
    before = kept.read(LOCAL, id_)
    unwritable = replace(answered("Two?"), hits=(object(),))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        kept.replace_last(LOCAL, id_, unwritable)
    assert kept.read(LOCAL, id_) == before


def test_a_file_that_cannot_be_used_is_named_with_a_remedy(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    path = settings.home / "conversations.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SettingsError, match=r"conversations.db have version 99.*update Footnote"):
        Conversations.open(settings)
    path.write_bytes(b"no database " * 100)
    with pytest.raises(SettingsError, match=r"conversations.db cannot be used: .*; move the file away"):
        Conversations.open(settings)


def test_infinite_scores_are_kept() -> None:
    answer = Answer("Q", "A", False, (Sentence("A", math.inf),), (), Timings(0.0))
    assert unpacked(packed(answer)) == answer
