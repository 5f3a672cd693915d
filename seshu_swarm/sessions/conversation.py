"""The client's side of a session: it feeds the first part, hears the last, keeps snapshots, and puts
new parts in the place of lost ones. Pure.

Usually parts push to one another (a ring). Where one peer cannot reach the next, the client carries the
pieces between those two (a star edge); then it keeps a log of that edge too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from seshu_swarm.sessions.log import Log
from seshu_swarm.sessions.messages import (
    CLIENT,
    At,
    Attach,
    Open,
    P,
    Piece,
    Reroute,
    S,
    Snapshot,
    To,
    Trim,
)
from seshu_swarm.sessions.recovery import Saved
from seshu_swarm.spans import Span

# A peer and the blocks it takes.
Place = tuple[str, Span]


@dataclass
class Leg(Generic[P]):
    """One part as the client sees it. `feed` is what the client sends it, none if another part does;
    `sent` is how far that has been sent, none while the part has not said where it is."""

    peer: str
    span: Span
    feed: Log[P] | None = None
    sent: int | None = None


@dataclass
class Lost(Generic[P]):
    """Neighbouring legs that are gone, `[first, end)` of the chain, and their blocks."""

    first: int
    end: int
    span: Span


class Conversation(Generic[P, S]):
    """`fed` tokens went in, `received` came out; `outputs` waits to be collected."""

    def __init__(
        self,
        span: Span,
        *,
        snapshot_tokens: int,
        epoch: int = 0,
        position: int = 0,
        blocks: Mapping[int, S] | None = None,
    ) -> None:
        self.span, self.epoch = span, epoch
        self.legs: list[Leg[P]] = []
        self.received = position
        self.outputs: list[P] = []
        self._snapshot_tokens = snapshot_tokens
        self._saved = Saved[S](span, position, blocks)
        self._input = Log[P](position)

    @property
    def fed(self) -> int:
        return self._input.end

    @property
    def peers(self) -> list[str]:
        return [leg.peer for leg in self.legs]

    def begin(self, chain: Sequence[Place], star: Collection[int] = ()) -> list[To[P, S]]:
        """Open every part of a chain over all blocks. `star`: edges, by the index of the leg they
        lead to, that the client carries."""
        self.legs = [Leg(peer, span) for peer, span in chain]
        position, blocks = self._saved.newest(self.span)
        self._feed_from(range(len(self.legs)), {0, *star}, position)
        return [*self._opening(range(len(self.legs)), position, blocks), *self._greeting()]

    def feed(self, payload: P) -> list[To[P, S]]:
        """More tokens."""
        piece = Piece(self.epoch, self._input.end, payload)
        self._input.append(piece)
        return self._forward(self.legs[0], piece)

    def heard(self, sender: str, piece: Piece[P]) -> list[To[P, S]]:
        """Outputs of a part that sends to the client; what is known or of another epoch is passed over."""
        index = self._sending(sender)
        if index is None or piece.epoch != self.epoch:
            return []
        wanted = self._wanted(index)
        if piece.end <= wanted:
            return []
        if piece.start > wanted:
            return [To(sender, At(self.epoch, wanted))]
        fresh = piece.since(wanted)
        if index == len(self.legs) - 1:
            self.outputs.append(fresh.payload)
            self.received = fresh.end
            return []
        following = self.legs[index + 1]
        assert following.feed is not None
        following.feed.append(fresh)
        return self._forward(following, fresh)

    def told_where(self, sender: str, at: At) -> list[To[P, S]]:
        """A part that the client feeds says where it is: send what it lacks."""
        leg = next((leg for leg in self.legs if leg.peer == sender and leg.feed is not None), None)
        if leg is None or leg.feed is None or at.epoch != self.epoch:
            return []
        leg.sent = max(at.position, leg.feed.end)
        return [To(sender, piece) for piece in leg.feed.since(at.position, self.epoch)]

    def saved(self, sender: str, snapshot: Snapshot[S]) -> list[To[P, S]]:
        """A snapshot is safe; once those of all blocks at its position are, older tokens may go."""
        if sender not in self.peers or not self._saved.add(snapshot):
            return []
        position = self._saved.complete
        for leg in self.legs:
            if leg.feed is not None:
                leg.feed.trim(position)
        return [To(peer, Trim(position)) for peer in self.peers]

    def lost(self, peers: Collection[str]) -> list[Lost[P]]:
        """What has to be replaced if these peers are gone: ranges of neighbours."""
        ranges: list[Lost[P]] = []
        for index, leg in enumerate(self.legs):
            if leg.peer not in peers:
                continue
            if ranges and ranges[-1].end == index:
                last = ranges[-1]
                ranges[-1] = Lost(last.first, index + 1, Span(last.span.start, leg.span.end))
            else:
                ranges.append(Lost(index, index + 1, leg.span))
        return ranges

    def replace(self, lost: Lost[P], chain: Sequence[Place]) -> list[To[P, S]]:
        """New parts in the place of a lost range; everybody learns the new epoch. One range at a time,
        the last one first, so that the indices of the others stay true."""
        self.epoch += 1
        position, blocks = self._saved.newest(lost.span)
        feed = self.legs[lost.first].feed
        self.legs[lost.first : lost.end] = [Leg(peer, span) for peer, span in chain]
        self.legs[lost.first].feed = feed
        for leg in self.legs:
            leg.sent = None
        fresh = range(lost.first, lost.first + len(chain))
        others = [index for index in range(len(self.legs)) if index not in fresh]
        return [
            *self._opening(fresh, position, blocks),
            *(To(self.legs[index].peer, self._reroute(index)) for index in others),
            *self._greeting(),
        ]

    def carry(self, index: int) -> list[To[P, S]]:
        """From now on the client carries what leads to leg `index`: its neighbour cannot reach it."""
        self.epoch += 1
        self._feed_from([index], {index}, self._saved.complete)
        for leg in self.legs:
            leg.sent = None
        rerouting = [To[P, S](leg.peer, self._reroute(i)) for i, leg in enumerate(self.legs)]
        return [*rerouting, *self._greeting()]

    def nudge(self) -> list[To[P, S]]:
        """Ask and tell all that the client feeds or hears where they and it are."""
        return self._greeting()

    def _feed_from(self, indices: Collection[int], carried: Collection[int], position: int) -> None:
        for index in indices:
            if index in carried and self.legs[index].feed is None:
                self.legs[index].feed = self._input if index == 0 else Log[P](position)

    def _opening(
        self, indices: Collection[int], position: int, blocks: Mapping[int, S] | None
    ) -> list[To[P, S]]:
        opening: list[To[P, S]] = []
        for index in indices:
            leg, route = self.legs[index], self._reroute(index)
            state = None if blocks is None else {b: blocks[b] for b in leg.span}
            opened = Open(
                epoch=self.epoch,
                span=leg.span,
                before=route.before,
                next=route.next,
                position=position,
                state=state,
                snapshot_tokens=self._snapshot_tokens,
            )
            opening.append(To(leg.peer, opened))
        return opening

    def _reroute(self, index: int) -> Reroute:
        before = CLIENT if self.legs[index].feed is not None else self.legs[index - 1].peer
        return Reroute(self.epoch, before, self._next_of(index))

    def _next_of(self, index: int) -> str:
        if index == len(self.legs) - 1 or self.legs[index + 1].feed is not None:
            return CLIENT
        return self.legs[index + 1].peer

    def _greeting(self) -> list[To[P, S]]:
        greeting: list[To[P, S]] = []
        for index, leg in enumerate(self.legs):
            if leg.feed is not None:
                greeting.append(To(leg.peer, Attach(self.epoch)))
            if self._next_of(index) == CLIENT:
                greeting.append(To(leg.peer, At(self.epoch, self._wanted(index))))
        return greeting

    def _wanted(self, index: int) -> int:
        """Up to where the client has what leg `index` computes."""
        if index == len(self.legs) - 1:
            return self.received
        feed = self.legs[index + 1].feed
        return self.received if feed is None else feed.end

    def _sending(self, peer: str) -> int | None:
        """The leg of this peer whose outputs come to the client."""
        for index, leg in enumerate(self.legs):
            if leg.peer == peer and self._next_of(index) == CLIENT:
                return index
        return None

    def _forward(self, leg: Leg[P], piece: Piece[P]) -> list[To[P, S]]:
        if leg.sent is None or leg.sent > piece.start:
            return []
        leg.sent = piece.end
        return [To(leg.peer, Piece(self.epoch, piece.start, piece.payload))]
