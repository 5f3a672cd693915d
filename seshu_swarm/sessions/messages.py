"""What the parts of a session and its client say to one another. Pure.

A payload is the tokens of one piece: hidden states on sockets, numbers in the simulator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from seshu_swarm.spans import Span

# Where a part sends what it computed, or from whom it takes its input, if that is the client.
CLIENT = ""


class Payload(Protocol):
    """Tokens that can be cut and joined."""

    @property
    def count(self) -> int: ...

    def part(self, start: int, end: int) -> Self:
        """The tokens [start, end) of it."""
        ...

    def followed_by(self, others: Sequence[Self]) -> Self:
        """These tokens, then those of the others."""
        ...


P = TypeVar("P", bound=Payload)
S = TypeVar("S")


@dataclass(frozen=True)
class Piece(Generic[P]):
    """Tokens from position `start` on."""

    epoch: int
    start: int
    payload: P

    @property
    def end(self) -> int:
        return self.start + self.payload.count

    def since(self, position: int) -> Piece[P]:
        """Without the tokens before `position`, which lies inside."""
        if position <= self.start:
            return self
        skipped = position - self.start
        return Piece(self.epoch, position, self.payload.part(skipped, self.payload.count))


@dataclass(frozen=True)
class Attach:
    """From the sender of an edge: where are you? Answered by `At`."""

    epoch: int


@dataclass(frozen=True)
class At:
    """From the receiver of an edge: I have all tokens before `position`; go on from there."""

    epoch: int
    position: int


@dataclass(frozen=True)
class Open(Generic[S]):
    """From the client: take these blocks of the session on, from `position` with `state`.

    `before` and `next` are peer ids or CLIENT. `state` holds one entry for each block, none for the
    state before the first token. Snapshots are due at multiples of `snapshot_tokens`.
    """

    epoch: int
    span: Span
    before: str
    next: str
    position: int
    state: Mapping[int, S] | None
    snapshot_tokens: int


@dataclass(frozen=True)
class Reroute:
    """From the client: from this epoch on your neighbours are these."""

    epoch: int
    before: str
    next: str


@dataclass(frozen=True)
class Trim:
    """From the client: nobody will ask for tokens before `position` again."""

    position: int


@dataclass(frozen=True)
class Snapshot(Generic[S]):
    """To the client: the state of every block of the part, after `position` tokens."""

    position: int
    blocks: Mapping[int, S]


Message = Piece[P] | Attach | At | Open[S] | Reroute | Trim | Snapshot[S]


@dataclass(frozen=True)
class To(Generic[P, S]):
    """A message to be carried to a peer, or to the client."""

    peer: str
    message: Message[P, S]
