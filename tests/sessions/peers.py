"""Peers of the simulator: real parts; here are only the wires between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seshu_swarm.sessions.messages import CLIENT, At, Attach, Open, Piece, Reroute, To, Trim
from seshu_swarm.sessions.part import Part
from tests.sessions.network import World, WrongError
from tests.sessions.toy import Tokens, compute


@dataclass(frozen=True)
class AskSnapshot:
    """From the client: a snapshot of where the part is now."""


@dataclass(frozen=True)
class Unknown:
    """To the client: there is no such part here."""


@dataclass(frozen=True)
class Fenced:
    """To the client: this part has a newer owner."""

    epoch: int


@dataclass(frozen=True)
class Unreachable:
    """To the client: this part cannot reach the one before or behind it."""

    is_next: bool


@dataclass
class Held:
    """A part here, and the client that opened it."""

    part: Part[Tokens, int]
    owner: str


class Peer:
    """May pause, and may be killed: then all that it held and all that is under way to it is gone."""

    def __init__(self, name: str, world: World, places: Mapping[str, Any]) -> None:
        self.name, self.world = name, world
        self.held: dict[str, Held] = {}
        self.is_alive = True
        self.paused_until = 0.0
        self._life = 0
        self._places = places  # all peers and clients by name

    @property
    def is_paused(self) -> bool:
        return self.paused_until > self.world.now

    def kill(self) -> None:
        self.is_alive = False
        self.held.clear()
        self._life += 1

    def restart(self) -> None:
        self.is_alive = True

    def hear(self, life: int, address: str, source: str, sender: str, message: Any) -> None:
        """`source`: the place it comes from. `sender`: the part there, empty for a client."""
        if life != self._life or not self.is_alive:
            return
        if self.is_paused:
            self.world.at(self.paused_until, self.hear, life, address, source, sender, message)
            return
        if self.world.say is not None:
            self.world.note(f"{address} hears {sender or source}: {message}")
        held = self.held.get(address)
        if isinstance(message, Open):
            self._open(address, source, held, message)
        elif held is None:
            if sender == CLIENT:
                self._tell(source, address, Unknown())
        elif sender == CLIENT and source != held.owner:
            self._tell(source, address, Fenced(held.part.epoch))
        else:
            self._send(address, held, _react(held.part, sender, message))
            self._wake(address, held)

    def life(self) -> int:
        return self._life

    def _open(self, address: str, source: str, held: Held | None, opened: Open[int]) -> None:
        if held is None or opened.epoch > held.part.epoch:
            held = self.held[address] = Held(Part[Tokens, int](opened), source)
        elif opened.epoch < held.part.epoch or source != held.owner:
            self._tell(source, address, Fenced(held.part.epoch))
            return
        self._send(address, held, held.part.greet())

    def _wake(self, address: str, held: Held) -> None:
        if held.part.is_ready:
            luck = self.world.rng.random()
            tokens = held.part.take(1 if luck < 0.3 else 3 if luck < 0.6 else 100)
            self.world.after(luck * 0.5, self._finish, self._life, address, held, tokens)

    def _finish(self, life: int, address: str, held: Held, tokens: Tokens) -> None:
        if life != self._life:
            return
        if self.is_paused:
            self.world.at(self.paused_until, self._finish, life, address, held, tokens)
            return
        state, output = compute(held.part.state, held.part.span, tokens)
        self._send(address, held, held.part.done(state, output))
        self._wake(address, held)

    def _send(self, address: str, held: Held, saying: Sequence[To[Tokens, int]]) -> None:
        for to in saying:
            if to.peer == CLIENT:
                self._tell(held.owner, address, to.message)
                continue
            peer = self._places[to.peer.partition("#")[0]]
            args = (peer.life(), to.peer, self.name, address, to.message)
            if not self.world.send(self.name, peer.name, peer.hear, *args):
                self._tell(held.owner, address, Unreachable(to.peer == held.part.next))

    def _tell(self, owner: str, address: str, message: object) -> None:
        self.world.send(self.name, owner, self._places[owner].hear, address, message)


def _react(part: Part[Tokens, int], sender: str, message: Any) -> list[To[Tokens, int]]:
    match message:
        case Piece():
            return part.receive(sender, message)
        case At():
            return part.go_on(sender, message)
        case Attach():
            return part.attached(sender, message)
        case Reroute():
            return part.reroute(message)
        case Trim():
            part.trim(message.position)
            return []
        case AskSnapshot():
            return [To(CLIENT, part.snapshot())]
    raise WrongError(f"a part was told {message}")
