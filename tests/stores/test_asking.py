"""Whom a fetch asks again: a peer whose stream broke, never one that refused or lied."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from seshu_swarm.errors import DigestError, PeerLostError, RefusalError
from seshu_swarm.stores.swarm import RETRY_SECONDS, first_answer


class Peers:
    """Each peer fails as often as it was told, then answers with its name."""

    def __init__(self, failures: dict[str, list[Exception]]) -> None:
        self.failures, self.asked = failures, Counter[str]()

    async def ask(self, peer: str) -> str:
        self.asked[peer] += 1
        if self.failures[peer]:
            raise self.failures[peer].pop(0)
        return peer


def answer_of(peers: Peers) -> str:
    return asyncio.run(first_answer(list(peers.failures), peers.ask, "a file"))


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
