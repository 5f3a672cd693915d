"""Who serves which blocks, looked up every few seconds and noted in the ledger with the join link.

Whoever reads the ledger later, another process too, knows the swarm as it was last seen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.dashboard.seen import peers_of, remembered
from seshu_swarm.dashboard.snapshot import Peer
from seshu_swarm.network.link import Link

if TYPE_CHECKING:
    # Heavy, and not needed by who only reads what was noted.
    from seshu_swarm.network.dht import Swarm

logger = logging.getLogger(__name__)

FACT = "swarm-seen"
WATCH_SECONDS = 10.0


@dataclass(frozen=True)
class Seen:
    """The swarm at the time `at`."""

    at: float
    link: str
    peers: tuple[Peer, ...]


_SEEN: TypeAdapter[Seen] = TypeAdapter(Seen)


class Watch:
    """Looks at one run's swarm; `link` gives the join link as it is now."""

    def __init__(
        self, swarm: Swarm, ledger: Ledger, num_blocks: int, link: Callable[[], Awaitable[Link]]
    ) -> None:
        self._swarm, self._ledger, self._num_blocks = swarm, ledger, num_blocks
        self._link = link

    async def look(self) -> None:
        """Once. Raises what the DHT raises."""
        found = await self._swarm.spans(self._num_blocks)
        now, before = time.time(), seen(self._ledger)
        peers = remembered(before.peers if before else (), peers_of(found, now), now)
        note = Seen(now, str(await self._link()), peers)
        await asyncio.to_thread(self._ledger.set_fact, FACT, asdict(note))


def seen(ledger: Ledger) -> Seen | None:
    """The swarm as it was last seen, or None."""
    kept: Any = ledger.fact(FACT)
    try:
        return _SEEN.validate_python(kept) if kept else None
    except ValidationError:
        logger.info("what an earlier program noted of the swarm is not understood")
        return None
