"""Turns at the language model: one at a time, in order, clients in between one another, bounded."""

from __future__ import annotations

from contextlib import ExitStack
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import Busy
from ui.server.turns import Turn, Turns


def served(clients: str, longest: int = 100) -> str:
    """In which order the clients of some letters are served that ask one after another."""
    turns, order = Turns(longest), ""
    with ExitStack() as stack:
        waiting = [(client, stack.enter_context(turns.turn(client))) for client in clients]
        while waiting:
            (client, turn), *others = [each for each in waiting if each[1].ahead == 0]
            assert not others, "one at a time"
            order += client
            turn.leave()
            waiting = [each for each in waiting if each[1] is not turn]
    return order


def test_one_client_is_served_in_its_order_and_another_in_between() -> None:
    assert served("aaaa") == "aaaa"
    assert served("aaaab") == "abaaa"
    assert served("aaabbb") == "ababab"
    assert served("aabc") == "abca"


@given(st.text("abc", max_size=12))
def test_everybody_is_served_and_nobody_waits_for_more_than_a_question_of_each_other(clients: str) -> None:
    order = served(clients)
    assert sorted(order) == sorted(clients)
    for client in set(clients):
        assert order.index(client) <= len(set(clients))  # the one in hand, and one of each other client


def test_who_waits_is_told_how_many_are_before() -> None:
    turns = Turns(5)
    with turns.turn("a") as first, turns.turn("a") as second, turns.turn("b") as third:
        assert (first.ahead, second.ahead, third.ahead) == (0, 2, 1)
        assert turns.waiting == 2
        first.leave()
        assert (second.ahead, third.ahead) == (1, 0)
    assert turns.waiting == 0


def test_who_gives_up_lets_the_others_move_up() -> None:
    turns = Turns(5)
    with turns.turn("a"), turns.turn("b") as gone, turns.turn("c") as last:
        gone.leave()
        gone.leave()
        assert last.ahead == 1


def test_too_many_are_refused_and_leave_no_trace() -> None:
    turns = Turns(2)
    with turns.turn("a"), turns.turn("b"), turns.turn("c"):
        with pytest.raises(Busy, match="2 questions are waiting"), turns.turn("d"):
            pass
        assert turns.waiting == 2
    with turns.turn("d") as turn:
        assert turn.ahead == 0


def test_who_waits_is_woken() -> None:
    turns, seen = Turns(5), list[int]()

    def wait(turn: Turn) -> None:
        ahead = turn.ahead
        while ahead:
            seen.append(ahead := turn.wait(ahead, 30.0))

    with turns.turn("a") as first, turns.turn("b") as second:
        thread = Thread(target=wait, args=(second,))
        thread.start()
        first.leave()
        thread.join(20.0)
        assert not thread.is_alive()
    assert seen in ([0], [])  # it may have looked after the first one had left
    assert Turns(1).waiting == 0
