"""The session protocol under everything that can happen, from one seed; no clock, no sockets, no threads.

`python -m tests.sessions.simulator SEED` tells the story of one history.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from seshu_swarm.sessions.conversation import Conversation
from seshu_swarm.spans import Span
from tests.sessions.network import World, WrongError
from tests.sessions.peers import Peer
from tests.sessions.toy import Tokens, Whole
from tests.sessions.user import User

NUM_PEERS = 6


class History:
    """A storm with one or two owners of a session, then calm weather; then the accounts are checked."""

    def __init__(self, seed: int, say: Callable[[str], None] | None = None) -> None:
        self.world = World(seed, say)
        rng = self.world.rng
        self.places: dict[str, Any] = {}
        self.peers = [Peer(f"p{i}", self.world, self.places) for i in range(NUM_PEERS)]
        self.places |= {peer.name: peer for peer in self.peers}
        self.span = Span(0, rng.choice((1, 2, 3, 4)))
        self.snapshot_tokens = rng.choice((1, 2, 3, 5, 8))
        talk = Conversation[Tokens, int](self.span, snapshot_tokens=self.snapshot_tokens)
        self.users = [self._user("a", talk, Whole(self.span))]

    def run(self) -> None:
        """Raises WrongError."""
        rng, storm = self.world.rng, self.world.rng.choice((5.0, 20.0, 40.0))
        for _ in range(rng.randrange(8)):
            self.world.at(rng.random() * storm, self._strike, rng.choice(FAULTS))
        self.world.at(storm, self._calm)
        self.user.begin()
        self.world.run()
        self._check_end()

    def _strike(self, fault: Callable[[History], None]) -> None:
        self.world.note(f"-- {fault.__name__}")
        fault(self)

    @property
    def user(self) -> User:
        """The owner of the session."""
        return self.users[-1]

    def kill(self) -> None:
        self._kill(self._legs(1))

    def kill_neighbours(self) -> None:
        self._kill(self._legs(2))

    def pause(self) -> None:
        for peer in self._legs(1):
            peer.paused_until = self.world.now + self.world.rng.choice((3.0, 15.0, 30.0))
            self.world.note(f"{peer.name} pauses until {peer.paused_until:.2f}")

    def suspect(self) -> None:
        """Replace parts that are quite well."""
        peers = self.user.conversation.peers
        self.user.replace(self.world.rng.sample(peers, min(len(peers), 1 + bool(peers[1:]))))

    def cut(self) -> None:
        """A peer cannot reach a neighbour any more, one way, for good."""
        legs = self._legs(2)
        one, other = legs[0].name, legs[-1].name
        if one != other:
            link = (one, other) if self.world.rng.random() < 0.5 else (other, one)
            self.world.note(f"{link[0]} cannot reach {link[1]}")
            self.world.cuts.add(link)

    def drain(self) -> None:
        self.user.drain(self.world.rng.choice(self.user.conversation.peers))

    def drain_at_rest(self) -> None:
        self.drain()
        self.user.rest()

    def take_over(self) -> None:
        """Another owner goes on from what is safe; the former one does not know."""
        former = self.user
        former.has_successor = True
        position, blocks = former.conversation.newest(self.span)
        talk = Conversation[Tokens, int](
            self.span,
            snapshot_tokens=self.snapshot_tokens,
            epoch=former.conversation.epoch + 100,
            position=position,
            blocks=blocks,
        )
        whole = Whole(self.span, former.whole.inputs[:position])
        self.users.append(self._user(former.name + "b", talk, whole))
        same = self.world.rng.random() < 0.5
        self.world.note(f"{self.user.name} takes over at {position}")
        self.user.begin(former.conversation.peers if same else ())

    def _user(self, name: str, talk: Conversation[Tokens, int], whole: Whole) -> User:
        user = User(name, self.world, self.places, conversation=talk, whole=whole)
        self.places[name] = user
        return user

    def _legs(self, num: int) -> list[Peer]:
        """The peers of as many neighbours of the chain."""
        peers = self.user.conversation.peers
        first = self.world.rng.randrange(max(1, len(peers) - num + 1))
        return [self.places[p.partition("#")[0]] for p in peers[first : first + num]]

    def _kill(self, peers: list[Peer]) -> None:
        for peer in peers:
            self.world.note(f"{peer.name} is killed")
            peer.kill()
            self.world.after(self.world.rng.random() * 20.0, peer.restart)

    def _calm(self) -> None:
        self.world.note("calm")
        self.world.calm_down()
        for user in self.users:
            user.finish_after(2 * self.snapshot_tokens + 1)

    def _check_end(self) -> None:
        """Everybody is where the tokens are, with the reference's state, and keeps little."""
        user, talk = self.user, self.user.conversation
        if not user.is_over or talk.received != len(user.whole.inputs):
            raise WrongError(f"{talk.received} of {len(user.whole.inputs)} tokens came out")
        safe = talk.newest(self.span)[0]
        if safe <= talk.fed - self.snapshot_tokens:
            raise WrongError(f"safe only to {safe} of {talk.fed}")
        for leg in talk.legs:
            part = self.places[leg.peer.partition("#")[0]].held[leg.peer].part
            if part.state != user.whole.state(talk.fed, leg.span):
                raise WrongError(f"{leg.peer} has another state than the reference")
            kept = [part.num_kept] + ([] if leg.feed is None else [talk.fed - leg.feed.start])
            if max(kept) > talk.fed - safe:
                raise WrongError(f"{kept} tokens are kept for {leg.peer}, safe at {safe}")


FAULTS: tuple[Callable[[History], None], ...] = (
    History.kill,
    History.kill,
    History.kill_neighbours,
    History.pause,
    History.pause,
    History.suspect,
    History.cut,
    History.cut,
    History.drain,
    History.drain_at_rest,
    History.take_over,
)


if __name__ == "__main__":
    History(int(sys.argv[1]), print).run()
