"""How others reach this peer: directly, or through relays; found out at the door, then kept up.

The peers of the link are asked to dial back. Where those that answer cannot, this peer takes part through
them: its addresses lead through a relay, and it holds nothing for others in the DHT. A peer on
127.0.0.1, one that announces an address, and the first of a swarm are taken at their word.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import StrEnum

from hivemind.p2p import P2P

from seshu_swarm.errors import PeerError
from seshu_swarm.network import dial_back, relaying
from seshu_swarm.network.daemon import Listen
from seshu_swarm.program import waits

logger = logging.getLogger(__name__)

MAX_RELAYS = 3
KEEP_SECONDS = 20.0
CIRCUIT = "/p2p-circuit"


class Kind(StrEnum):
    DIRECT = "direct"
    RELAYED = "relayed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reach:
    """`relays` are multiaddrs of peers with their ids; `tried` says who dialled what in vain."""

    kind: Kind
    relays: tuple[str, ...] = ()
    tried: str = ""
    round_trip_seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """One line for the operator of a relayed peer: what it is, costs, and the way out."""
        there_and_back = 2 * self.round_trip_seconds
        return (
            f"others cannot dial this peer ({self.tried}): it takes part through "
            f"{len(self.relays)} relay{'s' * (len(self.relays) > 1)}, "
            f"{self.round_trip_seconds * 1000:.0f} ms away; what other peers send it and get from it "
            f"takes at least {there_and_back * 1000:.0f} ms and the relay's bandwidth. To be direct, "
            "forward a port on the router and give --port and --announce"
        )


def is_asked(listen: Listen, peers: list[str]) -> bool:
    """Whether there is somebody to ask, and something to find out."""
    return bool(peers) and listen.announce is None and not listen.host.startswith("127.")


async def find(p2p: P2P, run_id: str, peers: list[str], listen: Listen) -> Reach:
    """Ask the peers of the link, all at once, in about 3 s at most where a router is silent."""
    if not is_asked(listen, peers):
        return Reach(Kind.DIRECT)
    with waits.waiting("peers of the link to dial this one back", 2 * dial_back.ASK_SECONDS):
        return await ask(p2p, run_id, peers)


async def ask(p2p: P2P, run_id: str, peers: list[str]) -> Reach:
    """What up to `MAX_RELAYS` of the peers find when they dial this one."""
    ports = dial_back.ports_of(await p2p.get_visible_maddrs(latest=True))
    # Who is behind a relay can be none; addresses of former times may be of such peers.
    asked = [one for one in dict.fromkeys(peers) if CIRCUIT not in one][:MAX_RELAYS]
    answers = await asyncio.gather(
        *(dial_back.ask(p2p, run_id, peer_of(one), ports) for one in asked),
        return_exceptions=True,
    )
    return judge(asked, ports, answers)


def judge(
    asked: list[str], ports: list[int], answers: list[tuple[dial_back.Tried, float] | BaseException]
) -> Reach:
    """One peer that got through is enough; those that could not be asked say nothing."""
    told = [
        (peer, *answer)
        for peer, answer in zip(asked, answers, strict=True)
        if not isinstance(answer, BaseException) and answer[0].address
    ]
    if not told:
        return Reach(Kind.UNKNOWN)
    nearest = min(seconds for _, _, seconds in told)
    if any(tried.reached for _, tried, _ in told):
        return Reach(Kind.DIRECT, round_trip_seconds=nearest)
    places = ", ".join(f"{told[0][1].address}:{port}" for port in ports)
    tried_by = f"tried {places} from {len(told)} peer{'s' * (len(told) > 1)}"
    return Reach(Kind.RELAYED, tuple(peer for peer, _, _ in told), tried_by, nearest)


def peer_of(address: str) -> str:
    """The peer id at the end of a multiaddr."""
    return address.rpartition("/")[2]


class Kept:
    """The places at the relays, reserved again and again: a relay that was started anew knows none."""

    def __init__(self, p2p: P2P, relays: tuple[str, ...]) -> None:
        self._p2p, self._relays = p2p, relays

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            await self.reserve()

    async def reserve(self) -> None:
        """At each relay that answers."""
        await asyncio.gather(*(self._reserve_at(relay) for relay in self._relays))

    async def _reserve_at(self, relay: str) -> None:
        try:
            await relaying.connect(self._p2p, relay)
            await relaying.reserve(self._p2p, peer_of(relay))
        except PeerError as error:
            logger.debug("no place at the relay …%s: %s", relay[-6:], error)
