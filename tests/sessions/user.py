"""A user of the simulator: a real conversation, and somebody impatient who has it.

A prompt goes in several pieces under way at once; then each token follows from the last output, as in
generating. Every output is compared with the reference as it comes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from seshu_swarm.sessions.conversation import Conversation, Place
from seshu_swarm.sessions.messages import At, Piece, Snapshot, To
from seshu_swarm.spans import Span
from tests.sessions.network import World, WrongError
from tests.sessions.peers import AskSnapshot, Fenced, Peer, Unknown, Unreachable
from tests.sessions.toy import MASK, Tokens, Whole

PATIENCE = 8.0


class User:
    """`is_over` once everything that had to come out has come out."""

    def __init__(
        self,
        name: str,
        world: World,
        places: Mapping[str, Any],
        *,
        conversation: Conversation[Tokens, int],
        whole: Whole,
    ) -> None:
        self.name, self.world = name, world
        self.conversation, self.whole = conversation, whole
        self.is_over = self.is_holding = self.has_successor = self.has_lost_it = False
        self.drained: str | None = None
        self.last_token: int | None = None
        self.num_replaced = 0
        self._places = places
        self._peers: list[Peer] = [p for p in places.values() if isinstance(p, Peer)]
        self._num_parts = 0
        self._seen = -1
        self._asked = (-1, -1)

    def begin(self, addresses: Sequence[str] = ()) -> None:
        """Over these addresses where there are enough of them, else over new ones."""
        chain = self._chain(self.conversation.span)
        chain = [
            (addresses[i], span) if i < len(addresses) else (address, span)
            for i, (address, span) in enumerate(chain)
        ]
        star = {i for i in range(1, len(chain)) if self.world.rng.random() < 0.1}
        self._send(self.conversation.begin(chain, star))
        for _ in range(self.world.rng.randrange(4)):
            self._feed(self.world.rng.randrange(1, 8))
        self._go_on()
        self._tick()

    def hear(self, address: str, message: Any) -> None:
        if self.has_lost_it:
            return
        if self.world.say is not None:
            self.world.note(f"{self.name} hears {address}: {message}")
        before = self._safe
        match message:
            case Piece():
                self._send(self.conversation.heard(address, message))
                self._collect()
            case At():
                self._send(self.conversation.told_where(address, message))
            case Snapshot():
                self._check_snapshot(message)
                self._send(self.conversation.saved(address, message))
            case Unknown():
                self.replace([address])
            case Fenced() if message.epoch > self.conversation.epoch:
                self.has_lost_it = True
            case Fenced():
                self.replace([address])
            case Unreachable():
                self._carry(address, message)
        if self._safe > before:
            self._hand_over()
        self._go_on()

    def finish_after(self, num_tokens: int) -> None:
        """So many more, then the user is content."""
        self.last_token = len(self.whole.inputs) + num_tokens
        self._go_on()

    def replace(self, addresses: Collection[str]) -> None:
        """Whatever is known of these parts: others take their place, cut as it happens."""
        for lost in reversed(self.conversation.lost(addresses)):
            self.num_replaced += 1
            chain = self._chain(lost.span)
            self.world.note(f"{self.name} replaces {lost} by {chain}")
            self._send(self.conversation.replace(lost, chain))

    def drain(self, address: str) -> None:
        """Replaced by others once there is a newer position to go on from."""
        self.drained = address

    def rest(self) -> None:
        """Feed nothing more, and when all that went in has come out ask every part for its state."""
        self.is_holding = True
        self.world.after(3 * PATIENCE, self._go_on_at_last)
        self._go_on()

    def nudge(self) -> None:
        self._send(self.conversation.nudge())

    def _go_on_at_last(self) -> None:
        self.is_holding = False
        self._go_on()

    def _hand_over(self) -> None:
        """There is a newer position to go on from; at rest it must be the last one."""
        if self.is_holding and self._safe < self.conversation.fed:
            return
        self.is_holding = False
        if self.drained is not None:
            self.replace([self.drained])
            self.drained = None

    def _go_on(self) -> None:
        """The next token follows from the last output."""
        talk = self.conversation
        if self.is_over or self.has_lost_it or talk.received < talk.fed:
            return
        if self.is_holding and self._safe < talk.fed:
            self._ask_all()
            return
        if self.last_token is not None and talk.fed >= self.last_token:
            self.is_over = True
            return
        self._feed(1)

    @property
    def _safe(self) -> int:
        return self.conversation.newest(self.conversation.span)[0]

    def _feed(self, num_tokens: int) -> None:
        start = len(self.whole.inputs)
        for _ in range(num_tokens):
            previous = self.whole.outputs[-1] if self.whole.outputs else 7
            self.whole.feed((previous * 31 + len(self.name)) & MASK)
        values = self.whole.inputs[start:]
        self._send(self.conversation.feed(Tokens(tuple(values))))

    def _ask_all(self) -> None:
        talk = self.conversation
        if self._asked != (talk.fed, talk.epoch):
            self._asked = talk.fed, talk.epoch
            for peer in talk.peers:
                self._say(peer, AskSnapshot())

    def _collect(self) -> None:
        talk = self.conversation
        collected, talk.outputs = talk.outputs, []
        end = talk.received
        values = [value for tokens in collected for value in tokens.values]
        if values != self.whole.outputs[end - len(values) : end]:
            raise WrongError(f"{self.name}: other outputs than the reference before token {end}")

    def _check_snapshot(self, snapshot: Snapshot[int]) -> None:
        for block, state in snapshot.blocks.items():
            known = self.whole.states[snapshot.position]
            if known is None or known[block] != state:
                raise WrongError(f"{self.name}: another state at {snapshot.position}")

    def _carry(self, address: str, told: Unreachable) -> None:
        legs = self.conversation.legs
        for index, leg in enumerate(legs):
            target = index + 1 if told.is_next else index
            if leg.peer == address and 0 < target < len(legs) and legs[target].feed is None:
                self._send(self.conversation.carry(target))
                return

    def _tick(self) -> None:
        """Whoever waits for too long looks for the dead, and says everything again."""
        if self.is_over or self.has_lost_it:
            return
        talk = self.conversation
        if talk.received == self._seen and not self.is_holding:
            if self.has_successor and self.world.rng.random() < 0.3:
                self.has_lost_it = True
            elif gone := [leg.peer for leg in talk.legs if self._seems_gone(leg.peer)]:
                self.replace(gone)
            elif not self.world.weather.is_reliable:
                self.nudge()
        self._seen = talk.received
        self.world.after(PATIENCE * (0.5 + self.world.rng.random()), self._tick)

    def _seems_gone(self, address: str) -> bool:
        peer: Peer = self._places[address.partition("#")[0]]
        held, is_reliable = peer.held.get(address), self.world.weather.is_reliable
        return not peer.is_alive or peer.is_paused or (held is None and is_reliable)

    def _chain(self, span: Span) -> list[Place]:
        """Cut anywhere, on any peers that live."""
        rng, chain, start = self.world.rng, [], span.start
        alive = [peer for peer in self._peers if peer.is_alive] or self._peers
        while start < span.end:
            end = rng.randint(start + 1, span.end)
            self._num_parts += 1
            address = f"{rng.choice(alive).name}#{self.name}{self._num_parts}"
            chain.append((address, Span(start, end)))
            start = end
        return chain

    def _send(self, saying: Sequence[To[Tokens, int]]) -> None:
        for to in saying:
            self._say(to.peer, to.message)

    def _say(self, address: str, message: object) -> None:
        peer: Peer = self._places[address.partition("#")[0]]
        args = (peer.life(), address, self.name, "", message)
        self.world.send(self.name, peer.name, peer.hear, *args)
