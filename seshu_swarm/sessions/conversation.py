"""The client's side of a session: it feeds the first part, hears the last, keeps snapshots, and puts
new parts in the place of lost ones. Pure.

Usually parts push to one another (a ring). Where one peer cannot reach the next, the client carries the
pieces between those two (a star edge); then it keeps a log of that edge too.

What is lost goes on from one position, that of `newest`: every part of the present chain and the
client's outputs have passed it, and no log begins after it (`recovery`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from seshu_swarm.sessions.log import Log
from seshu_swarm.sessions.messages import (
    CLIENT,
    At,
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

# The address of a part and the blocks it takes. Each time a part is opened, its address is a new one: so
# nothing that an older part there says is taken for its words.
Place = tuple[str, Span]


@dataclass
class Leg(Generic[P]):
    """One part as the client sees it. `feed` is what the client sends it, none if another part does;
    `sent` is how far that has been sent, none while the part has not said where it is; `asked` is the
    gap in its outputs that it already knows of."""

    peer: str
    span: Span
    feed: Log[P] | None = None
    sent: int | None = None
    asked: int | None = None


@dataclass(frozen=True)
class Lost:
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
        for index in {0, *star}:
            self._carry_to(index)
        return [*self._opening(range(len(self.legs))), *self._hearing()]

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
            return self._ask(index)
        fresh = piece.since(wanted)
        following = self.legs[index + 1] if index + 1 < len(self.legs) else None
        if following is not None and following.feed is not None:
            following.feed.append(fresh)
            return self._forward(following, fresh)
        self.outputs.append(fresh.payload)
        self.received = fresh.end
        return self._settle()

    def told_where(self, sender: str, at: At) -> list[To[P, S]]:
        """A part that the client feeds says where it is: send what it lacks."""
        leg = self._leg_of(sender)
        if leg is None or leg.feed is None or at.epoch != self.epoch:
            return []
        if at.position < leg.feed.start:
            return []  # said long ago: nobody is behind what was trimmed
        leg.sent = max(at.position, leg.feed.end)
        return [To(sender, piece) for piece in leg.feed.since(at.position, self.epoch)]

    def saved(self, sender: str, snapshot: Snapshot[S]) -> list[To[P, S]]:
        """A snapshot has come; once those of all blocks at its position have, older tokens may go.

        At a position of its own a part's snapshot serves only if all others send theirs of it too.
        """
        leg = self._leg_of(sender)
        if leg is None or snapshot.position > self.fed or set(snapshot.blocks) != set(leg.span):
            return []
        self._saved.add(snapshot.position, snapshot.blocks)
        return self._settle()

    def newest(self, span: Span) -> tuple[int, Mapping[int, S] | None]:
        """The position from which everything can go on, and the states of these blocks there: none
        before the first token."""
        return self._saved.position, self._saved.of(span)

    def lost(self, peers: Collection[str]) -> list[Lost]:
        """What has to be replaced if these peers are gone: ranges of neighbours."""
        ranges: list[Lost] = []
        for index, leg in enumerate(self.legs):
            if leg.peer not in peers:
                continue
            if ranges and ranges[-1].end == index:
                last = ranges[-1]
                ranges[-1] = Lost(last.first, index + 1, Span(last.span.start, leg.span.end))
            else:
                ranges.append(Lost(index, index + 1, leg.span))
        return ranges

    def replace(self, lost: Lost, chain: Sequence[Place]) -> list[To[P, S]]:
        """New parts in the place of a lost range; everybody learns the new epoch. One range at a time,
        the last one first, so that the indices of the others stay true."""
        self._saved.forget(lost.span)
        feed = self.legs[lost.first].feed
        self.legs[lost.first : lost.end] = [Leg(peer, span) for peer, span in chain]
        self.legs[lost.first].feed = feed
        self._next_epoch()
        fresh = range(lost.first, lost.first + len(chain))
        others = [index for index in range(len(self.legs)) if index not in fresh]
        return [*self._opening(fresh), *self._rerouting(others), *self._hearing()]

    def carry(self, index: int) -> list[To[P, S]]:
        """From now on the client carries what leads to leg `index`: its neighbour cannot reach it."""
        self._next_epoch()
        self._carry_to(index)
        return [*self._rerouting(range(len(self.legs))), *self._hearing()]

    def nudge(self) -> list[To[P, S]]:
        """Any message may have been lost: all neighbours compare their positions again."""
        return [*self._rerouting(range(len(self.legs))), *self._hearing()]

    def _next_epoch(self) -> None:
        self.epoch += 1
        for leg in self.legs:
            leg.sent = leg.asked = None

    def _carry_to(self, index: int) -> None:
        leg = self.legs[index]
        if leg.feed is None:
            leg.feed = self._input if index == 0 else Log[P](self._saved.position)

    def _settle(self) -> list[To[P, S]]:
        """Let go of what nobody will ask for again."""
        if not self._saved.settle(self.received):
            return []
        position = self._saved.position
        for leg in self.legs:
            if leg.feed is not None:
                leg.feed.trim(position)
        return [To(leg.peer, Trim(position)) for leg in self.legs]

    def _opening(self, indices: Collection[int]) -> list[To[P, S]]:
        opening: list[To[P, S]] = []
        for index in indices:
            leg, route = self.legs[index], self._reroute(index)
            opened = Open(
                epoch=self.epoch,
                span=leg.span,
                before=route.before,
                next=route.next,
                position=self._saved.position,
                state=self._saved.of(leg.span),
                snapshot_tokens=self._snapshot_tokens,
            )
            opening.append(To(leg.peer, opened))
        return opening

    def _rerouting(self, indices: Collection[int]) -> list[To[P, S]]:
        return [To(self.legs[index].peer, self._reroute(index)) for index in indices]

    def _reroute(self, index: int) -> Reroute:
        before = CLIENT if self.legs[index].feed is not None else self.legs[index - 1].peer
        return Reroute(self.epoch, before, self._next_of(index))

    def _next_of(self, index: int) -> str:
        if index == len(self.legs) - 1 or self.legs[index + 1].feed is not None:
            return CLIENT
        return self.legs[index + 1].peer

    def _hearing(self) -> list[To[P, S]]:
        """To all whose outputs come here: go on from what is here. Those that are fed say by themselves
        where they are."""
        hearing = [i for i in range(len(self.legs)) if self._next_of(i) == CLIENT]
        return [To(self.legs[i].peer, At(self.epoch, self._wanted(i))) for i in hearing]

    def _ask(self, index: int) -> list[To[P, S]]:
        leg, wanted = self.legs[index], self._wanted(index)
        if leg.asked == wanted:
            return []
        leg.asked = wanted
        return [To(leg.peer, At(self.epoch, wanted))]

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

    def _leg_of(self, peer: str) -> Leg[P] | None:
        return next((leg for leg in self.legs if leg.peer == peer), None)

    def _forward(self, leg: Leg[P], piece: Piece[P]) -> list[To[P, S]]:
        """Unless the part has it, or will be sent it when it says where it is."""
        if leg.sent is None or leg.sent >= piece.end:
            return []
        fresh = piece.since(leg.sent)
        leg.sent = piece.end
        return [To(leg.peer, Piece(self.epoch, fresh.start, fresh.payload))]
