"""One peer's part of a session: a span's state, its input edge and its output edge. Pure.

An SSM step is not idempotent: done twice, it advances the state twice. So tokens are absorbed by
position and never twice: a piece that is known is passed over, a gap is answered with the position to
go on from, the client's epoch and the neighbour it named fence everybody else. States and payloads
are opaque, and time is nobody's business here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Generic

from seshu_swarm.sessions.log import Log, joined
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
)

# Of `_twin`: the next part was asked where it is and has said nothing yet.
AWAITED = -1


class Part(Generic[P, S]):
    """`take` gives what is to be computed next, `done` commits it.

    `position` counts tokens absorbed into the state, `received` those that wait as well, `sent` those
    handed to the next part: none while it has not said where it is.
    """

    def __init__(self, opened: Open[S]) -> None:
        self.epoch, self.span = opened.epoch, opened.span
        self.before, self.next = opened.before, opened.next
        self.state = opened.state
        self.position = self.received = opened.position
        self.is_computing = False
        self._snapshot_tokens = opened.snapshot_tokens
        self._inbox: deque[Piece[P]] = deque()
        self._log = Log[P](opened.position)
        self._sent: int | None = None
        # The gap that the sender already knows of: the pieces behind it, under way, say nothing new.
        self._asked: int | None = None
        # The next part's own greeting and its answer to ours say the same where they cross. This is
        # what the first of them said; the other one, its twin, says nothing new.
        self._twin: int | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is something to compute and nothing under way."""
        return bool(self._inbox) and not self.is_computing

    @property
    def num_kept(self) -> int:
        """Tokens kept in memory: waiting, or needed if the next part is lost."""
        return self.received - self._log.start

    def greet(self) -> list[To[P, S]]:
        """Say to both neighbours that this part is here, in this epoch. The client asks by itself."""
        greetings: list[To[P, S]] = [To(self.before, At(self.epoch, self.received))]
        if self.next != CLIENT:
            greetings.append(To(self.next, Attach(self.epoch)))
        self._twin = None if self.next == CLIENT else AWAITED
        return greetings

    def reroute(self, asked: Reroute) -> list[To[P, S]]:
        """New neighbours, or the same ones in a new epoch; the same epoch again is a nudge, an older
        one is passed over. Of two neighbours, whoever is later to reach the epoch finds the other."""
        if asked.epoch < self.epoch:
            return []
        if asked.epoch > self.epoch:
            self.epoch, self.before, self.next = asked.epoch, asked.before, asked.next
            self._sent = self._asked = None
        return self.greet()

    def receive(self, sender: str, piece: Piece[P]) -> list[To[P, S]]:
        """Tokens from the input edge; what is known or fenced off is passed over."""
        if (sender, piece.epoch) != (self.before, self.epoch) or piece.end <= self.received:
            return []
        if piece.start > self.received:
            return self._ask()
        self._inbox.append(piece.since(self.received))
        self.received = piece.end
        return []

    def attached(self, sender: str, asked: Attach) -> list[To[P, S]]:
        """The input edge asks where this part is."""
        if (sender, asked.epoch) != (self.before, self.epoch):
            return []
        return [To(sender, At(self.epoch, self.received))]

    def go_on(self, sender: str, at: At) -> list[To[P, S]]:
        """The output edge says where it is: send what it lacks.

        It may be ahead of this part, which then is catching up and has nothing to send yet. Nobody is
        behind what was trimmed: who says so said it long ago. Of two that crossed the first is
        answered. What was lost with a broken stream is asked for again, since both ends of a new
        one greet; whoever waits in vain is nudged.
        """
        if (sender, at.epoch) != (self.next, self.epoch) or at.position < self._log.start:
            return []
        if at.position == self._twin:
            self._twin = None
            return []
        self._twin = at.position if self._twin == AWAITED else None
        self._sent = max(at.position, self._log.end)
        return [To(self.next, piece) for piece in self._log.since(at.position, self.epoch)]

    def take(self, max_tokens: int) -> P | None:
        """What to compute next: at most `max_tokens`, ending where a snapshot is due."""
        if not self.is_ready:
            return None
        self.is_computing = True
        wanted = min(max_tokens, self._snapshot_tokens - self.position % self._snapshot_tokens)
        taken: list[P] = []
        while self._inbox and wanted > 0:
            piece = self._inbox.popleft()
            if piece.payload.count > wanted:
                self._inbox.appendleft(piece.since(piece.start + wanted))
                piece = Piece(piece.epoch, piece.start, piece.payload.part(0, wanted))
            taken.append(piece.payload)
            wanted -= piece.payload.count
        return joined(taken)

    def done(self, state: Mapping[int, S], output: P) -> list[To[P, S]]:
        """Commit a computed step: the output goes on, and a snapshot where one is due."""
        piece = Piece(self.epoch, self.position, output)
        self.state, self.position, self.is_computing = state, piece.end, False
        self._log.append(piece)
        sending: list[To[P, S]] = []
        if self._sent is not None and self._sent < piece.end:
            sending.append(To(self.next, piece.since(self._sent)))
            self._sent = piece.end
        if self.position % self._snapshot_tokens == 0:
            sending.append(To(CLIENT, self.snapshot()))
        return sending

    def snapshot(self) -> Snapshot[S]:
        return Snapshot(self.position, self.state or {})

    def trim(self, position: int) -> None:
        """Forget outputs before `position`; what is still to be computed stays."""
        self._log.trim(min(position, self.position))

    def _ask(self) -> list[To[P, S]]:
        if self._asked == self.received:
            return []
        self._asked = self.received
        return [To(self.before, At(self.epoch, self.received))]
