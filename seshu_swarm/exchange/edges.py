"""Between the pure session protocol and the messages on streams.

An address is `PEER#PART`, the part's 16 bytes in hex; the client's is empty, and its part all zeros.
What goes to one peer at the same time goes as one message: the swarm's own work counts by messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from seshu_swarm.errors import ProtocolError
from seshu_swarm.exchange.payloads import Hidden
from seshu_swarm.exchange.session_messages import (
    MAX_TOGETHER,
    EdgeAt,
    EdgeAttach,
    EdgePiece,
    EdgePieces,
)
from seshu_swarm.sessions.log import MAX_PIECE_TOKENS
from seshu_swarm.sessions.messages import CLIENT, At, Attach, Piece
from seshu_swarm.streams import wire
from seshu_swarm.streams.protocol import Message

CLIENT_PART = bytes(16)

EdgeEvent = Piece[Hidden] | Attach | At


@dataclass(frozen=True, eq=False)
class Letter:
    """An event on its way from part `sender` to part `to`, or what is wrong with it."""

    to: bytes
    sender: bytes
    event: EdgeEvent | ProtocolError


def address(peer: str, part_id: bytes) -> str:
    return f"{peer}#{part_id.hex()}"


def split(where: str) -> tuple[str, bytes]:
    """Peer id and part id of an address."""
    peer, _, part = where.partition("#")
    return (peer, bytes.fromhex(part)) if where != CLIENT else (CLIENT, CLIENT_PART)


def to_message(event: EdgeEvent, *, to: bytes, sender: bytes, wire_type: str) -> Message:
    """As it travels along an edge."""
    match event:
        case Piece(epoch=epoch, start=start, payload=hidden):
            return EdgePiece(
                to=to,
                sender=sender,
                epoch=epoch,
                position=start,
                hidden=wire.pack_tensor(hidden.tensor, wire_type),
                seconds=hidden.seconds,
            )
        case Attach(epoch=epoch):
            return EdgeAttach(to=to, sender=sender, epoch=epoch)
        case At(epoch=epoch, position=position):
            return EdgeAt(to=to, sender=sender, epoch=epoch, position=position)


def from_message(message: Message, d_model: int | None) -> EdgeEvent:
    """Raises ProtocolError for a tensor of another shape, too many tokens, or no edge message."""
    match message:
        case EdgePiece():
            tensor = wire.unpack_tensor(message.hidden, (1, None, d_model))
            if tensor.shape[1] > MAX_PIECE_TOKENS:
                raise ProtocolError(
                    f"a piece of {tensor.shape[1]} tokens", rule=f"at most {MAX_PIECE_TOKENS}"
                )
            return Piece(message.epoch, message.position, Hidden(tensor, message.seconds))
        case EdgeAttach():
            return Attach(message.epoch)
        case EdgeAt():
            return At(message.epoch, message.position)
    raise ProtocolError(f"{type(message).__name__} does not travel along an edge")


def letters(message: Message) -> list[Letter]:
    """What a message of PUSHES brings. Whoever takes it checks its width.

    Raises ProtocolError where that cannot be said, and the sender, not a session, is at fault.
    """
    if isinstance(message, EdgePieces):
        return _opened(message)
    to: bytes = message.to  # type: ignore[attr-defined]
    sender: bytes = message.sender  # type: ignore[attr-defined]
    try:
        return [Letter(to, sender, from_message(message, None))]
    except ProtocolError as error:
        return [Letter(to, sender, error)]


def _opened(message: EdgePieces) -> list[Letter]:
    facts = message.to, message.sender, message.epoch, message.position, message.seconds
    if len({len(each) for each in facts}) != 1:
        raise ProtocolError("pieces whose lists differ in length", rule="one entry for each piece")
    rows = wire.unpack_rows(message.hidden, (len(message.to), 1, None))
    return [
        Letter(to, sender, _row(row, epoch, position, seconds))
        for row, to, sender, epoch, position, seconds in zip(rows, *facts, strict=True)
    ]


def _row(
    row: Tensor | ProtocolError, epoch: int, position: int, seconds: float
) -> EdgeEvent | ProtocolError:
    if isinstance(row, ProtocolError):
        return row
    return Piece(epoch, position, Hidden(row, seconds))


def checked(event: EdgeEvent | ProtocolError, d_model: int) -> EdgeEvent:
    """Raises ProtocolError: what was wrong with it, or a tensor of another width."""
    if isinstance(event, ProtocolError):
        raise event
    if isinstance(event, Piece) and event.payload.tensor.shape[2] != d_model:
        raise ProtocolError(
            f"a tensor of width {event.payload.tensor.shape[2]}", rule=f"d_model is {d_model}"
        )
    return event


def together(messages: Iterable[Message]) -> Iterator[Message]:
    """The same messages in the same order, neighbours with one token each as one message."""
    group: list[EdgePiece] = []
    for message in messages:
        fits = isinstance(message, EdgePiece) and message.hidden["shape"][1] == 1
        if group and (not fits or not _are_alike(group, message)):
            yield _joined(group)
            group = []
        if fits:
            group.append(message)  # type: ignore[arg-type]
        else:
            yield message
    if group:
        yield _joined(group)


def _are_alike(group: list[EdgePiece], message: Message) -> bool:
    first, other = group[0].hidden, message.hidden  # type: ignore[attr-defined]
    is_alike = first["dtype"] == other["dtype"] and first["shape"] == other["shape"]
    return is_alike and len(group) < MAX_TOGETHER


def _joined(group: list[EdgePiece]) -> Message:
    if len(group) == 1:
        return group[0]
    one = group[0].hidden
    return EdgePieces(
        to=[piece.to for piece in group],
        sender=[piece.sender for piece in group],
        epoch=[piece.epoch for piece in group],
        position=[piece.position for piece in group],
        hidden={
            "dtype": one["dtype"],
            "shape": [len(group), *one["shape"][1:]],
            "data": b"".join(piece.hidden["data"] for piece in group),
        },
        seconds=[piece.seconds for piece in group],
    )
