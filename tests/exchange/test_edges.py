"""Pieces and positions between the pure protocol and the messages on streams."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.errors import ProtocolError
from seshu_swarm.exchange import edges
from seshu_swarm.exchange.payloads import BlockStates, Hidden, together
from seshu_swarm.exchange.session_messages import (
    BETWEEN_PARTS,
    FROM_CLIENT,
    FROM_PART,
    MAX_TOGETHER,
    EdgePiece,
    EdgePieces,
    Notice,
    OpenPart,
    Ping,
)
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.state import RecurrentState
from seshu_swarm.sessions.log import MAX_PIECE_TOKENS
from seshu_swarm.sessions.messages import CLIENT, At, Attach, Piece
from seshu_swarm.spans import Span
from seshu_swarm.streams import wire
from seshu_swarm.streams.protocol import Message, parse

TO, SENDER = bytes(range(16)), bytes(range(16, 32))
D_MODEL = 8
OPENING: dict[str, Any] = {
    "part_id": TO,
    "epoch": 0,
    "revision": "0" * 64,
    "start": 0,
    "end": 1,
    "before": "",
    "next": "",
    "position": 0,
    "state_bytes": 0,
    "snapshot_tokens": 64,
    "wire_type": "float32",
}


def over_the_wire(event: edges.EdgeEvent, wire_type: str = "float32") -> edges.EdgeEvent:
    message = edges.to_message(event, to=TO, sender=SENDER, wire_type=wire_type)
    body = message.model_dump()
    assert (body["to"], body["sender"]) == (TO, SENDER)
    return edges.from_message(parse(BETWEEN_PARTS[body["type"]], body), D_MODEL)


def test_an_address_is_taken_apart_as_it_was_put_together() -> None:
    where = edges.address("QmPeer", TO)
    assert where == "QmPeer#000102030405060708090a0b0c0d0e0f"
    assert edges.split(where) == ("QmPeer", TO)
    assert edges.split(CLIENT) == ("", edges.CLIENT_PART)


@pytest.mark.parametrize("event", [At(3, 1 << 40), Attach(7)])
def test_positions_arrive_as_they_were_said(event: At | Attach) -> None:
    assert over_the_wire(event) == event


@given(tokens=st.integers(1, 20), start=st.integers(0, 1 << 50), seconds=st.floats(0, 100))
def test_a_piece_arrives_bit_for_bit(tokens: int, start: int, seconds: float) -> None:
    hidden = torch.randn(1, tokens, D_MODEL)
    arrived = over_the_wire(Piece(2, start, Hidden(hidden, seconds)))
    assert isinstance(arrived, Piece)
    assert (arrived.epoch, arrived.start, arrived.end) == (2, start, start + tokens)
    assert torch.equal(arrived.payload.tensor, hidden) and arrived.payload.seconds == seconds


def test_a_piece_may_travel_as_bfloat16() -> None:
    hidden = torch.randn(1, 5, D_MODEL)
    arrived = over_the_wire(Piece(0, 0, Hidden(hidden)), "bfloat16")
    assert isinstance(arrived, Piece)
    assert torch.equal(arrived.payload.tensor, hidden.bfloat16().float())


def test_a_piece_is_of_limited_length_and_of_the_model_s_width() -> None:
    longest = Piece(0, 0, Hidden(torch.zeros(1, MAX_PIECE_TOKENS, D_MODEL)))
    assert over_the_wire(longest).end == MAX_PIECE_TOKENS  # type: ignore[union-attr]
    with pytest.raises(ProtocolError, match="piece of 513 tokens; at most 512"):
        over_the_wire(Piece(0, 0, Hidden(torch.zeros(1, MAX_PIECE_TOKENS + 1, D_MODEL))))
    for shape in [(1, 2, D_MODEL + 1), (2, 1, D_MODEL), (1, 0, D_MODEL)]:
        with pytest.raises(ProtocolError, match="shape"):
            over_the_wire(Piece(0, 0, Hidden(torch.zeros(shape))))


def parts_of(count: int) -> list[bytes]:
    return [bytes([number]) * 16 for number in range(1, count + 1)]


def sent(position: int, to: bytes, hidden: torch.Tensor, wire_type: str = "float32") -> Message:
    piece = Piece(1, position, Hidden(hidden, 0.25 * position))
    return edges.to_message(piece, to=to, sender=to[::-1], wire_type=wire_type)


def received(messages: list[Message]) -> list[edges.Letter]:
    bodies = [message.model_dump() for message in messages]
    arrived = [parse(BETWEEN_PARTS[body["type"]], body) for body in bodies]
    return [letter for message in arrived for letter in edges.letters(message)]


@pytest.mark.parametrize("wire_type", wire.DTYPES)
def test_tokens_of_several_sessions_travel_as_one_message(wire_type: str) -> None:
    hidden = [torch.randn(1, 1, D_MODEL).bfloat16().float() for _ in range(5)]
    alone = [
        sent(n, to, h, wire_type) for n, (to, h) in enumerate(zip(parts_of(5), hidden, strict=True))
    ]
    [message] = edges.together(alone)
    assert isinstance(message, EdgePieces)
    for number, (letter, to) in enumerate(zip(received([message]), parts_of(5), strict=True)):
        assert (letter.to, letter.sender) == (to, to[::-1])
        piece = letter.event
        assert isinstance(piece, Piece)
        assert (piece.epoch, piece.start, piece.end) == (1, number, number + 1)
        assert torch.equal(piece.payload.tensor, hidden[number])
        assert piece.payload.seconds == 0.25 * number


def test_only_single_tokens_of_one_type_and_width_travel_together() -> None:
    [to] = parts_of(1)
    one, two = torch.randn(1, 1, D_MODEL), torch.randn(1, 2, D_MODEL)
    greeting = edges.to_message(At(1, 4), to=to, sender=to, wire_type="float32")
    messages = [
        *(sent(0, to, one), sent(1, to, two), sent(3, to, one), greeting, sent(4, to, one)),
        *(sent(5, to, one, "bfloat16"), sent(6, to, torch.randn(1, 1, D_MODEL + 1))),
    ]
    assert list(edges.together(messages)) == messages
    assert list(edges.together([])) == []
    many = [sent(n, to, one) for n in range(MAX_TOGETHER + 2)]
    assert [len(m.to) for m in edges.together(many)] == [MAX_TOGETHER, 2]  # type: ignore[attr-defined]
    assert [letter.event.start for letter in received(list(edges.together(many)))] == [  # type: ignore[union-attr]
        *range(MAX_TOGETHER + 2)
    ]


def test_one_bad_token_spoils_no_other_session() -> None:
    hidden = [torch.randn(1, 1, D_MODEL) for _ in range(3)]
    hidden[1][0, 0, 3] = float("nan")
    alone = [sent(0, to, h) for to, h in zip(parts_of(3), hidden, strict=True)]
    found = received(list(edges.together(alone)))
    assert [isinstance(letter.event, ProtocolError) for letter in found] == [False, True, False]
    with pytest.raises(ProtocolError, match="NaN"):
        edges.checked(found[1].event, D_MODEL)
    with pytest.raises(ProtocolError, match="width 8; d_model is 9"):
        edges.checked(found[0].event, D_MODEL + 1)


@pytest.mark.parametrize("name", ["to", "sender", "epoch", "position", "seconds"])
def test_lists_of_unequal_length_are_the_sender_s_fault(name: str) -> None:
    [message] = edges.together([sent(0, to, torch.zeros(1, 1, D_MODEL)) for to in parts_of(3)])
    fields = message.model_dump()
    short = EdgePieces.model_validate(fields | {name: fields[name][:2]})
    with pytest.raises(ProtocolError, match="differ in length"):
        edges.letters(short)


def test_a_tensor_with_other_rows_than_pieces_is_the_sender_s_fault() -> None:
    [message] = edges.together([sent(0, to, torch.zeros(1, 1, D_MODEL)) for to in parts_of(3)])
    hidden = wire.pack_tensor(torch.zeros(2, 1, D_MODEL))
    with pytest.raises(ProtocolError, match="shape"):
        edges.letters(message.model_copy(update={"hidden": hidden}))


def test_what_does_not_travel_along_an_edge_is_said() -> None:
    with pytest.raises(ProtocolError, match="Ping does not travel"):
        edges.from_message(Ping(), D_MODEL)


@pytest.mark.parametrize("kinds", [FROM_CLIENT, FROM_PART, BETWEEN_PARTS])
def test_every_message_is_found_by_its_own_name(kinds: dict[str, type[Message]]) -> None:
    for name, kind in kinds.items():
        assert kind.model_fields["type"].default == name


@pytest.mark.parametrize(
    "change",
    [
        {"part_id": bytes(15)},
        {"part_id": "0" * 16},
        {"epoch": -1},
        {"epoch": True},
        {"revision": "main"},
        {"before": "QmPeer"},
        {"next": "QmPeer#0011"},
        {"next": "Qm/../Peer#" + "0" * 32},
        {"next": "Q" * 100 + "#" + "0" * 32},
        {"next": "QmPeer#" + "0" * 32 + "\n"},
        {"position": 1 << 64},
        {"position": 1.0},
        {"state_bytes": -1},
        {"snapshot_tokens": 0},
        {"snapshot_tokens": 4_097},
        {"wire_type": "float16"},
        {"wire_type": "float32\n"},
        {"admin": True},
    ],
    ids=str,
)
def test_an_opening_that_breaks_a_rule_is_refused(change: dict[str, Any]) -> None:
    assert parse(OpenPart, OPENING).snapshot_tokens == 64
    with pytest.raises(ProtocolError, match="OpenPart malformed"):
        parse(OpenPart, OPENING | change)


def test_a_notice_has_one_of_few_names() -> None:
    assert parse(Notice, {"type": "notice", "name": "DRAINING"}).name == "DRAINING"
    with pytest.raises(ProtocolError):
        parse(Notice, {"type": "notice", "name": "HELLO"})
    for seconds in (-1.0, float("nan"), float("inf")):
        body = {"type": "piece", "to": TO, "sender": TO, "epoch": 0, "position": 0, "hidden": {}}
        with pytest.raises(ProtocolError):
            parse(EdgePiece, body | {"seconds": seconds})


@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_tokens_can_be_cut_and_joined(cuts: list[int]) -> None:
    whole = Hidden(torch.randn(1, sum(cuts), D_MODEL), 0.5)
    parts, start = [], 0
    for cut in cuts:
        parts.append(whole.part(start, start + cut))
        start += cut
    again = parts[0].followed_by(parts[1:])
    assert again.count == whole.count and torch.equal(again.tensor, whole.tensor)
    assert again.seconds == pytest.approx(0.5 * len(cuts))


def test_states_of_blocks_are_put_together_as_they_were() -> None:
    shape = MambaShape(d_model=8, num_blocks=4)
    state = RecurrentState.zeros(shape, Span(1, 4))
    state.conv.normal_()
    state.ssm.normal_()
    blocks = BlockStates(state)
    assert list(blocks) == [1, 2, 3] and len(blocks) == 3 and 0 not in blocks
    with pytest.raises(KeyError):
        blocks[0]
    part = together({block: blocks[block] for block in (2, 3)}, Span(2, 4), 17)
    assert part.positions == (17,) and part.span == Span(2, 4)
    assert torch.equal(part.conv, state.conv[1:]) and torch.equal(part.ssm, state.ssm[1:])
