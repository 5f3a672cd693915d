"""One average as one member sees it: the others' sums of its own shard, and the shards averaged by them.

Lives in the event loop; knows no streams. Who waits for this member's shard learns why there is none.
"""

from __future__ import annotations

import asyncio
import time

import torch
from torch import Tensor

from seshu_swarm.errors import DeadlineError, PeerError, ProtocolError
from seshu_swarm.peer.training import shards
from seshu_swarm.peer.training.shards import Shards
from seshu_swarm.pipeline.messages import Commit
from seshu_swarm.pipeline.protocol.groups import GiveShard
from seshu_swarm.streams import frames
from seshu_swarm.streams.channel import refusal
from seshu_swarm.streams.protocol import Refusal


class Gathering:
    """Of member `name`; `summed`, flat over all shards, is what it counted.

    `average` is that of its own shard, `result` that of all, as they come. `unanswered`: whose shards of
    it are not there. `lacking`: members whose sums or answer should be there, and are not.
    """

    def __init__(self, commit: Commit, name: str, summed: Tensor, *, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.commit, self.summed, self.result = commit, summed, torch.empty_like(summed)
        self.shards = Shards(commit.members, summed.numel())
        self.average: asyncio.Future[Tensor] = loop.create_future()
        self._name = name
        self._ends_at = time.monotonic() + seconds
        self._whole: asyncio.Future[None] = loop.create_future()
        self._expected = {name}
        self.unanswered = {other for other, _ in commit.members if other != name}
        self.lacking = set[str]()
        self._sums: dict[str, Tensor] = {}
        self.add(name, summed[self.shards.of(name)])

    @property
    def left_seconds(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    @property
    def num_bytes(self) -> int:
        """Of the shard."""
        return self.shards.num_bytes(self._name)

    def admit(self, sender: str) -> None:
        """A member begins to send. Raises ProtocolError for who is none, and who sends twice."""
        if sender not in dict(self.commit.members) or sender in self._expected:
            raise ProtocolError(
                f"a shard of {sender}", rule="each other member of the commit sends one"
            )
        self._expected.add(sender)

    def check(self, given: GiveShard) -> None:
        """Raises ProtocolError for a weight or a size that are not those of the commit."""
        weight, num_bytes = dict(self.commit.members)[given.sender], self.num_bytes
        if (given.weight, given.num_bytes) != (weight, num_bytes):
            raise ProtocolError(
                f"{given.sender} gives {given.num_bytes} bytes, the sum of {given.weight} ids",
                rule=f"{num_bytes} bytes of {weight}",
            )

    def add(self, name: str, sums_S: Tensor) -> None:
        self._sums[name] = sums_S
        if len(self._sums) == len(self.shards.members) and not self._whole.done():
            self._whole.set_result(None)

    async def settle(self, seconds: float) -> None:
        """The own shard, once all have sent. Raises what it failed with; DeadlineError where sums still
        lack after `seconds`."""
        try:
            await frames.within(seconds, asyncio.shield(self._whole), "the sums of all members")
        except DeadlineError:
            self.lacking.update(dict(self.commit.members).keys() - self._sums.keys())
            raise
        average_S = await asyncio.to_thread(shards.mean, self._sums, self.shards.num_ids)
        if not self.average.done():
            self.average.set_result(average_S)
            self._sums.clear()
        self.result[self.shards.of(self._name)] = await asyncio.shield(self.average)

    def fail(self, error: PeerError) -> None:
        """Nothing, if it has succeeded or failed before."""
        for waited in (self._whole, self.average):
            if not waited.done():
                waited.set_exception(error)
                waited.exception()  # that nobody waits for it is no news

    def give_up(self) -> None:
        """Who still waits is refused."""
        self.fail(refusal(Refusal.INTERNAL, f"round {self.commit.round} was given up"))
        self._sums.clear()
