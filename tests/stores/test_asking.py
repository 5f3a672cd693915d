"""Whom a fetch asks again: a peer whose stream broke, never one that refused or lied."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from seshu_swarm.errors import DeadlineError, DigestError, PeerLostError, RefusalError
from seshu_swarm.stores.asking import (
    LONG,
    MAX_STRANGERS,
    RETRY_SECONDS,
    SHORT,
    Patience,
    Providers,
)


class Peers:
    """Each peer fails as often as it was told, then answers with its name."""

    def __init__(self, failures: dict[str, list[Exception]]) -> None:
        self.failures, self.asked = failures, Counter[str]()
        self.order: list[tuple[str, Patience]] = []

    async def ask(self, peer: str, patience: Patience) -> str:
        self.asked[peer] += 1
        self.order.append((peer, patience))
        if self.failures[peer]:
            raise self.failures[peer].pop(0)
        return peer


def answer_of(peers: Peers) -> str:
    return asyncio.run(Providers([], list(peers.failures)).first_answer(peers.ask, "a file"))


def test_a_broken_stream_is_tried_again() -> None:
    peers = Peers({"only": [PeerLostError("the stream ended")]})
    assert answer_of(peers) == "only" and peers.asked["only"] == 2


def test_liars_and_refusers_are_asked_once() -> None:
    lies, no = DigestError("other bytes"), RefusalError("NOT_FOUND", "not here")
    peers = Peers({"liar": [lies], "empty": [no], "late": [PeerLostError("broke")] * 2})
    assert answer_of(peers) == "late"
    assert peers.asked == {"liar": 1, "empty": 1, "late": 3}


def test_nobody_is_named_with_every_reason() -> None:
    times = len(RETRY_SECONDS)
    peers = Peers({"a": [PeerLostError("a broke")] * times, "b": [DigestError("b lied")]})
    with pytest.raises(PeerLostError, match=r"a file: .*a broke.*b lied"):
        answer_of(peers)
    assert peers.asked == {"a": times, "b": 1}


def test_of_many_strangers_few_are_asked_and_the_hint_comes_second() -> None:
    crowd = [f"fake-{n}" for n in range(1_000)]
    drawn = set()
    for _ in range(5):
        order = Providers(crowd, ["hint"]).in_turn(0)
        assert len(order) == MAX_STRANGERS + 1 and order[1] == "hint"
        assert len(set(order)) == len(order) and {*order} - {"hint"} <= {*crowd}
        drawn.add(tuple(order))
    assert len(drawn) == 5  # 1e-23: no order that a peer's id could be made for


def test_each_file_begins_with_another_stranger() -> None:
    providers = Providers(["a", "b", "c"], ["hint"])
    orders = [providers.in_turn(turn) for turn in range(4)]
    assert {order[0] for order in orders} == {"a", "b", "c"} and orders[0] == orders[3]
    assert all(order[1] == "hint" and set(order) == {"a", "b", "c", "hint"} for order in orders)
    assert Providers([], ["hint"]).in_turn(5) == ["hint"] and Providers([]).in_turn(5) == []


def test_who_failed_with_one_file_is_asked_last_for_the_next() -> None:
    providers = Providers(["false"], ["hint"])
    peers = Peers({"false": [DigestError("other bytes")], "hint": []})
    assert asyncio.run(providers.first_answer(peers.ask, "a file")) == "hint"
    assert providers.in_turn(0) == providers.in_turn(1) == ["hint", "false"]


def test_strangers_must_be_quick_while_another_is_left_and_hints_need_not() -> None:
    providers = Providers(["a", "b"], ["hint"])
    first, _, last = providers.in_turn(0)
    slow = [DeadlineError("too slow")]
    peers = Peers({first: [*slow], "hint": [*slow], last: [*slow] * 2})
    assert asyncio.run(providers.first_answer(peers.ask, "a file")) == first
    # Who was slow in the short time has the long one when nobody gave; who had that does not.
    assert peers.order == [(first, SHORT), ("hint", LONG), (last, LONG), (first, LONG)]
