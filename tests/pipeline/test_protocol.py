"""What a stranger says in one message is bounded, however it is divided."""

from __future__ import annotations

import pytest

from seshu_swarm.errors import ProtocolError
from seshu_swarm.pipeline.protocol.fields import MAX_IDS
from seshu_swarm.pipeline.protocol.steps import MAX_ASKED, Enlist, FedMessage, StatusMessage
from seshu_swarm.streams.protocol import parse

NAMES = [f"peer#{index:08x}" for index in range(100)]


def test_a_claim_is_bounded_over_all_trainers() -> None:
    each = MAX_IDS // len(NAMES)
    told = {"version": [0, 0], "round": 1, "phase": 1}
    claim = {name: list(range(each)) for name in NAMES}
    assert parse(StatusMessage, told | {"claim": claim}).claim == claim
    more = {name: list(range(each + 1)) for name in NAMES}
    with pytest.raises(ProtocolError, match="at most 4096"):
        parse(StatusMessage, told | {"claim": more})


def test_what_was_asked_is_bounded_over_all_replicas() -> None:
    told = {"step": 0, "rounds": [0], "nats": 0.0, "tokens": 0}
    table = {name: list(range(1_000)) for name in NAMES}
    assert parse(FedMessage, told | {"asked": [table] * 2}).tokens == 0
    with pytest.raises(ProtocolError, match=f"at most {MAX_ASKED}"):
        parse(FedMessage, told | {"asked": [table] * 3})


def test_a_first_number_leaves_room_for_those_that_follow() -> None:
    """What is asked of a trainer is counted on from it, and must fit into messages itself."""
    told = {"plan": "0" * 16, "name": NAMES[0], "is_trainer": True}
    assert parse(Enlist, told | {"number": 1 << 52}).number == 1 << 52
    with pytest.raises(ProtocolError, match="number"):
        parse(Enlist, told | {"number": 1 << 53})
