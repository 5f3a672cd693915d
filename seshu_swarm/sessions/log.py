"""What was sent along an edge, until its receiver needs it no more. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic

from seshu_swarm.errors import ProtocolError
from seshu_swarm.sessions.messages import P, Piece

# Tokens of one message: as many as a peer takes at once.
MAX_PIECE_TOKENS = 512


class Log(Generic[P]):
    """Pieces that follow one another, from `start` to `end`."""

    def __init__(self, start: int) -> None:
        self._pieces: deque[Piece[P]] = deque()
        self._start = self._end = start

    @property
    def start(self) -> int:
        """The oldest position that can still be sent."""
        return self._start

    @property
    def end(self) -> int:
        return self._end

    def append(self, piece: Piece[P]) -> None:
        """Raises ProtocolError unless it follows the last piece."""
        if piece.start != self._end:
            raise ProtocolError(f"piece at {piece.start}", rule=f"the log ends at {self._end}")
        self._pieces.append(piece)
        self._end = piece.end

    def since(self, position: int, epoch: int) -> list[Piece[P]]:
        """What a receiver at `position` lacks, in this epoch and as few pieces as may be.

        Raises ProtocolError if it is gone.
        """
        if position < self._start:
            raise ProtocolError(
                f"tokens from {position} on", rule=f"the log begins at {self._start}"
            )
        lacking = [piece.since(position) for piece in self._pieces if piece.end > position]
        return [
            Piece(epoch, group[0].start, joined([piece.payload for piece in group]))
            for group in _groups(lacking)
        ]

    def trim(self, position: int) -> None:
        """Forget whole pieces before `position`; a log that ends before it goes on from there."""
        while self._pieces and self._pieces[0].end <= position:
            self._start = self._pieces.popleft().end
        if not self._pieces:
            self._start = self._end = max(self._end, position)


def joined(payloads: Sequence[P]) -> P:
    """One payload of one or more."""
    return payloads[0] if len(payloads) == 1 else payloads[0].followed_by(payloads[1:])


def _groups(pieces: Iterable[Piece[P]]) -> Iterator[list[Piece[P]]]:
    """Neighbours that fit into one message."""
    group: list[Piece[P]] = []
    for piece in pieces:
        if group and piece.end - group[0].start > MAX_PIECE_TOKENS:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group
