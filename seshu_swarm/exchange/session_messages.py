"""Messages of the session streams, strict and frozen. Pure; the rules are in `sessions`.

Two kinds of streams carry them: a control stream from the client to each part (SESSIONS), and one
stream for all that a peer sends to another (PUSHES). A part is named by 16 bytes that its client chose.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from seshu_swarm.records.fields import Count, Digest
from seshu_swarm.streams.protocol import Message

PUSHES = "seshu/pushes"
# Pieces of one message.
MAX_TOGETHER = 64
# Tokens between two snapshots: half of what a part keeps.
MAX_SNAPSHOT_TOKENS = 4_096

PartId = Annotated[bytes, Field(min_length=16, max_length=16)]
Address = Annotated[
    str, StringConstraints(max_length=120, pattern=r"^([0-9A-Za-z]+#[0-9a-f]{32})?$")
]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
WireType = Annotated[str, StringConstraints(pattern=r"^(float32|bfloat16)$")]


class OpenPart(Message):
    """First message of a control stream: take the blocks [start, end) of a session on.

    `before` and `next` are addresses (`PEER#PART`), empty for the client. `state_bytes` of a state after
    `position` tokens follow as Chunks. `takes_pushes`: pieces for the client may come over a PUSHES stream, as
    from one part to another. Opened again in the same epoch by the same client, a part goes on
    where it is.
    """

    part_id: PartId
    epoch: Count
    revision: Digest
    start: Count
    end: Count
    before: Address
    next: Address
    position: Count
    state_bytes: Count
    snapshot_tokens: Annotated[int, Field(ge=1, le=MAX_SNAPSHOT_TOKENS)]
    wire_type: WireType
    takes_pushes: bool = False


class PartOpened(Message):
    """Where the part stands."""

    position: Count


class EdgePiece(Message):
    """Tokens of `hidden` (1, tokens, d_model) from `position` on, along an edge; seconds that the parts
    before it spent computing."""

    type: Literal["piece"] = "piece"
    to: PartId
    sender: PartId
    epoch: Count
    position: Count
    hidden: dict[str, Any]
    seconds: Seconds


class EdgePieces(Message):
    """A token each for several parts of the same peer, on PUSHES: `hidden` (parts, 1, d_model), and in the
    same order what an EdgePiece says of each."""

    type: Literal["pieces"] = "pieces"
    to: Annotated[list[PartId], Field(min_length=2, max_length=MAX_TOGETHER)]
    sender: list[PartId]
    epoch: list[Count]
    position: list[Count]
    hidden: dict[str, Any]
    seconds: list[Seconds]


class EdgeAttach(Message):
    """The sender of an edge asks where its receiver is."""

    type: Literal["attach"] = "attach"
    to: PartId
    sender: PartId
    epoch: Count


class EdgeAt(Message):
    """The receiver of an edge has everything before `position`."""

    type: Literal["at"] = "at"
    to: PartId
    sender: PartId
    epoch: Count
    position: Count


class ReroutePart(Message):
    type: Literal["reroute"] = "reroute"
    epoch: Count
    before: Address
    next: Address


class TrimPart(Message):
    type: Literal["trim"] = "trim"
    position: Count


class Ping(Message):
    """Answered at once by Pong, whatever the part computes."""

    type: Literal["ping"] = "ping"


class AskSnapshot(Message):
    """A snapshot of where the part is now."""

    type: Literal["ask"] = "ask"


class Pong(Message):
    type: Literal["pong"] = "pong"
    position: Count
    received: Count
    is_computing: bool


class SnapshotChunk(Message):
    """`data` at `offset` of the state's `total` bytes after `position` tokens."""

    type: Literal["snapshot"] = "snapshot"
    position: Count
    offset: Count
    total: Count
    data: Annotated[bytes, Field(max_length=1 << 20)]


class Notice(Message):
    """What a client should know of a part: that its peer leaves, or cannot reach one beside it."""

    type: Literal["notice"] = "notice"
    name: Annotated[
        str,
        StringConstraints(
            pattern=r"^(DRAINING|NEXT_UNREACHABLE|BEFORE_UNREACHABLE|REVISION_RETIRED)$"
        ),
    ]


FROM_CLIENT: dict[str, type[Message]] = {
    "piece": EdgePiece,
    "attach": EdgeAttach,
    "at": EdgeAt,
    "reroute": ReroutePart,
    "trim": TrimPart,
    "ping": Ping,
    "ask": AskSnapshot,
}
FROM_PART: dict[str, type[Message]] = {
    "piece": EdgePiece,
    "at": EdgeAt,
    "pong": Pong,
    "snapshot": SnapshotChunk,
    "notice": Notice,
}
BETWEEN_PARTS: dict[str, type[Message]] = {
    "piece": EdgePiece,
    "pieces": EdgePieces,
    "attach": EdgeAttach,
    "at": EdgeAt,
}
