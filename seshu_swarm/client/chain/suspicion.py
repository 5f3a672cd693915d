"""When a step is overdue: who of the chain is gone, who is only slow, or was a message lost?

What it finds goes into the carrier's news, as lost parts; replacing them is the mender's.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from seshu_swarm.client.chain.carrier import Carrier
from seshu_swarm.client.chain.mending import Mender
from seshu_swarm.client.chain.patience import Patience
from seshu_swarm.errors import DeadlineError
from seshu_swarm.exchange import edges
from seshu_swarm.exchange.payloads import BlockState, Hidden
from seshu_swarm.exchange.session_messages import Ping
from seshu_swarm.sessions.conversation import Conversation

# Links stall for some tenths of a second without being dead.
LEAST_PING_SECONDS = 0.5
# A living peer may take so many times the usual deadline before another one is tried instead.
SLOW_FACTOR = 4.0


class Suspicion:
    """`investigate` when nothing came for `patience_seconds`; `took` says what a token usually takes.

    `step_seconds`: how long one step may take at one peer.
    """

    def __init__(
        self,
        conversation: Conversation[Hidden, BlockState],
        carrier: Carrier,
        mender: Mender,
        step_seconds: float,
    ) -> None:
        self._conversation, self._carrier, self._mender = conversation, carrier, mender
        self._step_seconds = step_seconds
        self._steps = Patience()
        self._pings = Patience(least_seconds=LEAST_PING_SECONDS)

    @property
    def patience_seconds(self) -> float:
        return self._steps.seconds

    def took(self, seconds: float) -> None:
        """A step of one token, during which nobody was lost."""
        self._steps.add(seconds)
        self._pings.add(seconds)

    async def investigate(self, overdue: int, idle_seconds: float) -> None:
        """Ask everybody, the `overdue`th time. Who does not answer is gone; if all do, a message may be
        lost: say again."""
        asked = time.monotonic()
        addresses = self._conversation.peers
        for address in addresses:
            self._carrier.put(address, Ping())
        silent = await self._silent_after(addresses, asked)
        for address in silent:
            self._lose(address, f"peer …{_short(address)} is silent")
        if silent:
            return
        self._pings.add(time.monotonic() - asked)
        if overdue > 1:
            self._carrier.tell(self._conversation.nudge())
        if idle_seconds > min(self._step_seconds, SLOW_FACTOR * self._steps.seconds):
            self._give_up_on_the_slowest(idle_seconds)

    async def _silent_after(self, addresses: Collection[str], asked: float) -> list[str]:
        """Who has not answered a ping of that moment in time."""
        deadline = asked + self._pings.seconds
        while (silent := self._silent(addresses, asked)) and time.monotonic() < deadline:
            if not await self._carrier.wait(max(0.0, deadline - time.monotonic())):
                break
        return silent

    def _silent(self, addresses: Collection[str], since: float) -> list[str]:
        pongs = self._carrier.news.pongs
        return [a for a in addresses if a not in pongs or pongs[a][0] < since]

    def _give_up_on_the_slowest(self, idle_seconds: float) -> None:
        """The first part that has not absorbed what it was given holds everybody up: another one is
        tried at once, the same one only replaced when it takes longer than a step may."""
        for leg in self._conversation.legs:
            _, pong = self._carrier.news.pongs[leg.peer]
            if pong.position < self._conversation.fed:
                if idle_seconds > self._step_seconds or self._mender.has_another(leg):
                    text = f"no answer in {idle_seconds:.1f} s from …{_short(leg.peer)}"
                    self._lose(leg.peer, text)
                return

    def _lose(self, address: str, why: str) -> None:
        self._carrier.news.gone.setdefault(address, DeadlineError(why))


def _short(address: str) -> str:
    return edges.split(address)[0][-6:]
