"""Between the pure session protocol and the messages on streams.

An address is `PEER#PART`, the part's 16 bytes in hex; the client's is empty, and its part all zeros.
"""

from __future__ import annotations

from seshu_swarm import wire
from seshu_swarm.errors import ProtocolError
from seshu_swarm.payloads import Hidden
from seshu_swarm.protocol import Message
from seshu_swarm.session_messages import EdgeAt, EdgeAttach, EdgePiece
from seshu_swarm.sessions.log import MAX_PIECE_TOKENS
from seshu_swarm.sessions.messages import CLIENT, At, Attach, Piece

CLIENT_PART = bytes(16)

EdgeEvent = Piece[Hidden] | Attach | At


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


def from_message(message: Message, d_model: int) -> EdgeEvent:
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
