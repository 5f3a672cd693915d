"""A group's weights and moments: given to members that join it, and fetched from one that has them.

What is given is a copy, made in the order of the computing thread: of the version that the ledger
showed when it was asked for, whatever is applied meanwhile. Knows no orders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

import safetensors.torch
from torch import Tensor

from seshu_swarm.exchange.group_states import fetch_state, give_state
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import Join, Version
from seshu_swarm.pipeline.protocol.fields import of_version, peer_of, to_version
from seshu_swarm.pipeline.protocol.groups import AskGroupState
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Refusal

ASK_SECONDS = 10.0
MAX_GIVEN_AT_ONCE = 4
# A safetensors file begins with names and places of its tensors.
HEADER_BYTES = 1 << 20


class States:
    """Of one member of `group`: `part` holds the weights whose version `ledger` knows."""

    def __init__(
        self,
        part: TrainedPart,
        ledger: StageLedger,
        executor: Executor,
        *,
        plan: str,
        group: int,
    ) -> None:
        self._part, self._ledger, self._executor = part, ledger, executor
        self._plan, self._group = plan, group
        self.sent_bytes = 0
        self._takers = set[str]()
        self._copy: tuple[Version, asyncio.Future[bytes]] | None = None

    async def serve(self, channel: Channel) -> None:
        """Handler of STATES. Refuses another version by name."""
        asked = await channel.receive(AskGroupState, seconds=ASK_SECONDS, what="a request")
        if (asked.plan, asked.group) != (self._plan, self._group):
            raise refusal(Refusal.NOT_TRAINING, f"here is group {self._group} of {self._plan}")
        with self._place(channel.peer_id):
            self._ledger.check_version(to_version(asked.version))
            data = await asyncio.shield(self._copied())
            self.sent_bytes += len(data)
            await give_state(channel, data)

    def _copied(self) -> asyncio.Future[bytes]:
        """Of the version that is here now: one copy, however many take it. Made in the tick in which
        the version was seen: what is applied later is computed later, too."""
        version = self._ledger.version
        if self._copy is None or self._copy[0] != version:
            loop = asyncio.get_running_loop()
            copying = loop.run_in_executor(self._executor, self._part.state)
            self._copy = version, asyncio.ensure_future(_saved(copying))
        return self._copy[1]

    async def fetch(self, swarm: Swarm, join: Join) -> dict[str, Tensor]:
        """A state that `TrainedPart.load_state` takes. Raises PeerError, DigestError."""
        asked = AskGroupState(plan=self._plan, group=self._group, version=of_version(join.version))
        most_bytes = 3 * self._part.num_bytes + HEADER_BYTES
        tensors = await fetch_state(swarm, peer_of(join.source), asked, most_bytes=most_bytes)
        await asyncio.to_thread(self._part.check_state, tensors)
        return tensors

    @contextmanager
    def _place(self, peer_id: str) -> Iterator[None]:
        if peer_id in self._takers or len(self._takers) >= MAX_GIVEN_AT_ONCE:
            raise refusal(Refusal.RATE_LIMITED, f"one copy for each, {MAX_GIVEN_AT_ONCE} at once")
        self._takers.add(peer_id)
        try:
            yield
        finally:
            self._takers.discard(peer_id)
            if not self._takers:
                self._copy = None


async def _saved(copying: Awaitable[dict[str, Tensor]]) -> bytes:
    return await asyncio.to_thread(safetensors.torch.save, await copying)
