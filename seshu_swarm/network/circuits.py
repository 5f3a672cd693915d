"""Messages of libp2p's circuit relay v2, the two that a relay speaks: hop and stop. Pure.

A peer that cannot be dialled reserves a place at a relay (hop, RESERVE); who wants to reach it asks the
relay (hop, CONNECT); the relay asks the peer (stop, CONNECT); from the two STATUS answers on the streams
carry whatever the two ends encrypt between them. Knows no streams. Source: the specification
github.com/libp2p/specs/blob/master/relay/circuit-v2.md; fields as in its protobuf definitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hivemind.p2p import PeerID

from seshu_swarm.errors import ProtocolError

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"
# The specification's limit of a message.
MAX_MESSAGE_BYTES = 4_096

VARINT, BYTES = 0, 2
# Widths in bytes of the two fixed wire types, which none of our fields has.
FIXED = {1: 8, 5: 4}


class Hop(IntEnum):
    RESERVE = 0
    CONNECT = 1
    STATUS = 2


class Stop(IntEnum):
    CONNECT = 0
    STATUS = 1


class Status(IntEnum):
    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


@dataclass(frozen=True)
class Circuit:
    """A hop or stop message: its type, the peer it names, its status (0 where there is none)."""

    kind: int
    peer: str = ""
    status: int = 0


def reserve() -> bytes:
    return _message(_number(1, Hop.RESERVE))


def reserved(expiration_time: float) -> bytes:
    """The relay's yes; without a limit, so that the ends treat the circuit as any connection."""
    reservation = _number(1, int(expiration_time))
    return _message(_number(1, Hop.STATUS) + _bytes(3, reservation) + _number(5, Status.OK))


def hop_status(status: Status) -> bytes:
    return _message(_number(1, Hop.STATUS) + _number(5, status))


def stop_connect(source: str) -> bytes:
    """To the peer behind the relay: `source` wants to speak to it."""
    named = _bytes(1, PeerID.from_base58(source).to_bytes())
    return _message(_number(1, Stop.CONNECT) + _bytes(2, named))


def read_hop(body: bytes) -> Circuit:
    """Raises ProtocolError."""
    return _read(body, status_field=5)


def read_stop(body: bytes) -> Circuit:
    """Raises ProtocolError."""
    return _read(body, status_field=4)


def _read(body: bytes, *, status_field: int) -> Circuit:
    fields = _fields(body)
    peer, kind, status = fields.get(2, b""), fields.get(1), fields.get(status_field, 0)
    if not isinstance(peer, bytes) or not isinstance(kind, int) or not isinstance(status, int):
        raise ProtocolError("a circuit message with fields of another type")
    return Circuit(kind, _peer_id(peer) if peer else "", status)


def _peer_id(body: bytes) -> str:
    raw = _fields(body).get(1)
    # A peer id is a multihash: SHA-256 of a key, or a short key itself.
    if not isinstance(raw, bytes) or not 34 <= len(raw) <= 42:
        raise ProtocolError("a circuit message names no peer", rule="34 to 42 bytes of multihash")
    return str(PeerID(raw))


def _fields(body: bytes) -> dict[int, int | bytes]:
    """Field number → value; the last one counts, as protobuf has it."""
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(body):
        key, at = read_varint(body, at)
        value, at = _value(body, at, key & 7)
        found[key >> 3] = value
    return found


def _value(body: bytes, at: int, wire_type: int) -> tuple[int | bytes, int]:
    if wire_type == VARINT:
        return read_varint(body, at)
    if wire_type == BYTES:
        length, at = read_varint(body, at)
    elif wire_type in FIXED:
        length = FIXED[wire_type]
    else:
        raise ProtocolError(f"a circuit message with wire type {wire_type}")
    if at + length > len(body):
        raise ProtocolError("a circuit message ends within a field")
    return body[at : at + length], at + length


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises ProtocolError."""
    number = 0
    for index in range(10):
        if at + index >= len(data):
            break
        byte = data[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise ProtocolError("a circuit message with an endless number")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _varint(len(value)) + value


def _message(body: bytes) -> bytes:
    """On a stream, a message has its length in front."""
    return _varint(len(body)) + body
