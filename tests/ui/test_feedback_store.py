"""What people say of answers: kept whole, by one file that tuning and evaluation read."""

from __future__ import annotations

import json
import multiprocessing
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from rag.errors import SettingsError
from rag.filter import Filter
from rag.finetune.feedback import read_feedback
from rag.settings import Settings
from rag.types import Answer, Citation, Hit, Message, Sentence, Timings
from tests.conftest import make_hit
from ui.server import feedback
from ui.server.feedback import Feedback, Given, given
from ui.server.kept import Conversation, Turn

RENT = "The rent is 900 euros."
HITS = (
    make_hit("Whales sing.\u2028Loudly.", 0),
    make_hit(RENT, 1, headings=("Rent", "Flat"), header="| sum |", title="Lease", doc="/d/lease.pdf"),
)


def answer(question: str, *said: Sentence, hits: tuple[Hit, ...] = HITS, searched: str = "") -> Answer:
    text = " ".join(each.text for each in said)
    return Answer(question, text, False, said, hits, Timings(1.0), "model@1", searched)


def conversation() -> Conversation:
    cited = Citation(1, "/d/lease.pdf", "Lease", None, ("Rent", "Flat"), 104, 108, "rent")
    within = Filter(types=("pdf",), since=date(2024, 1, 2))
    turns = (
        Turn("first", answer("Flat?", Sentence("Yes.", 0.2)), "", Filter(), "2025-01-01T10:00:00+00:00"),
        Turn(
            "second",
            answer("And the rent?", Sentence("900.", 0.9, (cited,)), Sentence("Zebras.", 0.1), searched="rent flat"),
            "mark",
            within,
            "2025-01-01T10:01:00+00:00",
        ),
    )
    return Conversation("c", "default", "Flat?", turns[0].time, turns[1].time, turns)


def said(verdict: str = "up", who: str = "ana", about: str = "second", **more: str) -> Given:
    line = given(conversation(), about, who, verdict, **more)  # type: ignore[arg-type]
    assert line is not None
    return line


@pytest.fixture
def store(settings: Settings) -> Feedback:
    return Feedback(settings)


def rows(store: Feedback) -> list[dict[str, Any]]:
    return [json.loads(line) for line in store.path.read_bytes().split(b"\n")[:-1]]


def test_a_line_holds_all_that_is_needed_later(store: Feedback) -> None:
    store.add(said("down", correction=" 950. ", reason="wrong", comment="See the \ud800 annex."))
    (row,) = rows(store)
    assert row.pop("time").endswith("+00:00")
    assert len(row.pop("id")) == 32
    assert row == {
        "question": "And the rent?",
        "answer": "900. Zebras.",
        "verdict": "down",
        "correction": "950.",
        "passages": [
            {"text": HITS[0].chunk.text, "title": "Doc", "headings": [], "header": "", "doc": "/documents/doc.md"},
            {"text": RENT, "title": "Lease", "headings": ["Rent", "Flat"], "header": "| sum |", "doc": "/d/lease.pdf"},
        ],
        "searched": "rent flat",
        "cited": [1],
        "who": "ana",
        "about": "second",
        "collection": "default",
        "model": "model@1",
        "reason": "wrong",
        "comment": "See the ? annex.",
        "history": [{"role": "user", "content": "Flat?"}, {"role": "assistant", "content": "Yes."}],
        "strictness": "mark",
        "filter": {
            "documents": [],
            "folders": [],
            "types": ["pdf"],
            "since": "2024-01-02",
            "until": None,
            "metadata": [],
        },
        "supported": 1,
    }


def test_tuning_reads_what_was_kept(store: Feedback) -> None:
    store.add(said("up", about="first"))
    store.add(said("down", correction="950."))
    first, second = read_feedback(store.path)
    assert (first.asked[0].question, first.asked[0].answer) == ("Flat?", "Yes.")
    assert (second.asked[0].answer, second.asked[0].rejected) == ("950.", "900. Zebras.")
    assert [each.hit.chunk.with_header for each in second.passages] == [hit.chunk.with_header for hit in HITS]


def test_what_a_person_says_later_of_an_answer_counts(store: Feedback) -> None:
    for line in (said("up"), said("down", who="ben"), said("up", about="first"), said("down", reason="incomplete")):
        store.add(line)
    assert len(rows(store)) == 4
    found = store.of("ana")
    assert {about: (line.verdict, line.reason) for about, line in found.items()} == {
        "first": ("up", ""),
        "second": ("down", "incomplete"),
    }
    assert found["second"].history == (Message("user", "Flat?"), Message("assistant", "Yes."))
    assert found["second"].filter == Filter(types=("pdf",), since=date(2024, 1, 2))
    assert [(line.who, line.about) for line in store.lines()] == [
        ("ben", "second"),
        ("ana", "first"),
        ("ana", "second"),
    ]
    assert store.of("nobody") == {}


def test_nothing_was_said_yet(store: Feedback) -> None:
    assert store.lines() == []


def test_an_answer_that_is_gone_cannot_be_judged() -> None:
    assert given(conversation(), "replaced", "ana", "up") is None


def test_an_answer_without_passages_can_be_disliked(store: Feedback) -> None:
    turn = Turn("t", answer("Flat?", Sentence("I can't.", 0.0), hits=()), "", Filter(), "")
    line = given(Conversation("c", "default", "", "", "", (turn,)), "t", "ana", "down", reason="not in the documents")
    assert line is not None
    store.add(line)
    store.add(said())
    assert len(store.lines()) == 2
    assert len(read_feedback(store.path)) == 1


def test_a_line_that_broke_off_costs_no_other_line(store: Feedback) -> None:
    store.add(said("up", about="first"))
    whole = store.path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 2):
        store.path.write_bytes(whole + whole[:cut])
        assert len(store.lines()) == 1
        store.add(said("down"))
        assert store.path.read_bytes().startswith(whole)
        assert [line.about for line in store.lines()] == ["first", "second"]


def test_a_line_without_its_line_break_is_kept(store: Feedback) -> None:
    """As some editors leave the last one."""
    store.path.parent.mkdir(parents=True)
    store.path.write_text('{"question": "Why?", "answer": "So.", "verdict": "up", "passages": []}')
    store.add(said())
    assert [line.question for line in store.lines()] == ["Why?", "And the rent?"]


def test_only_the_user_can_read_it(store: Feedback) -> None:
    store.add(said())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.path.parent.iterdir()}
    assert modes["feedback.jsonl"] == 0o600
    assert not any(mode & 0o077 for mode in modes.values())


def test_a_full_disk_leaves_no_half_line(store: Feedback) -> None:
    store.add(said())
    before = store.path.read_bytes()
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal = pytest.importorskip("signal")
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(SettingsError, match=r"feedback.jsonl cannot be written: .*; check the disk"):
            store.add(said("down"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.path.read_bytes() == before
    store.add(said("down"))
    assert [line.verdict for line in store.lines()] == ["down"]


def test_another_writer_that_hangs_is_named(store: Feedback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "WAIT", 0.05)
    store.path.parent.mkdir(parents=True)
    with (
        FileLock(f"{store.path}.lock"),
        pytest.raises(SettingsError, match="is being written by another process; try again"),
    ):
        store.add(said())


def _say(home: Path, who: str, times: int) -> None:
    feedback.WAIT = 60.0
    store = Feedback(Settings.load(home=home))
    for number in range(times):
        store.add(said(who=f"{who}{number}"))


def test_many_threads_and_processes_write_at_once(store: Feedback, settings: Settings) -> None:
    other = multiprocessing.get_context("spawn").Process(target=_say, args=(settings.home, "p", 20))
    other.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: _say(settings.home, f"t{n}-", 10), range(4)))
    other.join(60)
    assert other.exitcode == 0
    assert len({line.who for line in store.lines()}) == len(rows(store)) == 60
