"""The exact average of a group's gradients: all members of a commit, or none.

A member sends its sum of shard j to member j, who averages them (`shards`) and answers everybody with
the same bytes: equal at all members to the bit. Whoever lacks a part in time, or gets one of a wrong
size or with NaN, gives the average up and refuses those who wait for it, so that it fails at all of
them at once. Sums have less time than answers, which wait for sums: so a refusal comes before the end of
the time, and who is `lacking` at the end is at fault itself, or its line is.
A shard that comes before this member was told to average waits unread in its stream. Knows no weights.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from seshu_swarm.errors import DeadlineError, PeerError, ProtocolError, RefusalError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.peer.training import shards
from seshu_swarm.peer.training.gathering import Gathering
from seshu_swarm.peer.training.shards import Shards
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import Commit, Phase, Version
from seshu_swarm.pipeline.protocol.fields import of_version, peer_of, to_version
from seshu_swarm.pipeline.protocol.groups import AVERAGES, GiveShard, ShardAveraged
from seshu_swarm.stores.asking import all_of
from seshu_swarm.streams import frames
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.chunks import receive_bytes, send_bytes
from seshu_swarm.streams.protocol import Refusal

logger = logging.getLogger(__name__)

AVERAGE_SECONDS = 5.0
MAX_AVERAGE_SECONDS = 120.0
ASK_SECONDS = 10.0
# Of the time of an average: until the sums of all are there.
SUMS_SHARE = 0.7
MAX_WAITING_OF_ONE = 2
MAX_WAITING = 1_000

Blame = Callable[[str, str], None]


class Averaging:
    """Of one member of `group`, whose phase and round `ledger` knows. `blame(name, reason)` is told of
    members whose numbers cannot be used. `lacking`: whose part of the last average did not come; not
    those who refused it, because they lacked somebody's part themselves."""

    def __init__(
        self, swarm: Swarm, ledger: StageLedger, *, plan: str, group: int, blame: Blame
    ) -> None:
        self._swarm, self._ledger, self._blame = swarm, ledger, blame
        self._plan, self._group = plan, group
        self._turn: tuple[tuple[Version, int], asyncio.Future[Gathering]] | None = None
        self._waiting: Counter[str] = Counter()
        self._bytes_per_second = float("inf")
        self._least_seconds = AVERAGE_SECONDS
        self.lacking = frozenset[str]()
        self.sent_bytes = 0

    async def average(self, commit: Commit, summed: Tensor) -> Tensor:
        """The flat average over the ids of all members; `summed` is what was counted here.

        At least one member has an id. Raises PeerError: nobody's part may be left out.
        """
        me = self._ledger.name
        num_bytes = Shards(commit.members, summed.numel()).num_bytes_exchanged(me)
        seconds = patience_seconds(num_bytes, self._bytes_per_second, least=self._least_seconds)
        gathering, began = Gathering(commit, me, summed, seconds=seconds), time.monotonic()
        self._future_of(commit.version, commit.round).set_result(gathering)
        others = [name for name, _ in commit.members if name != me]
        settling = gathering.settle(SUMS_SHARE * seconds)
        try:
            working = all_of([settling, *(self._exchange(gathering, name) for name in others)])
            await frames.within(seconds, working, f"the average of round {commit.round}")
        except DeadlineError:
            # A slow line is not measured before it has got through once.
            self._least_seconds = min(2 * seconds, MAX_AVERAGE_SECONDS)
            gathering.lacking = gathering.lacking or set(gathering.unanswered)
            raise
        finally:
            self.sent_bytes += num_bytes // 2  # as many come as go
            self.lacking = frozenset(gathering.lacking)
            gathering.give_up()
        self._least_seconds = AVERAGE_SECONDS
        self._bytes_per_second = max(1, num_bytes) / (time.monotonic() - began)
        return gathering.result

    async def serve(self, channel: Channel) -> None:
        """Handler of AVERAGES: another member's sums of the shard that is averaged here."""
        given = await channel.receive(GiveShard, seconds=ASK_SECONDS, what="a shard")
        self._check(given, channel.peer_id)
        with self._waiting_place(channel.peer_id):
            gathering = await self._begun(given)
        gathering.admit(given.sender)
        await self._receive(channel, given, gathering)
        data = shards.to_bytes(await asyncio.shield(gathering.average))
        await channel.send(ShardAveraged(num_bytes=len(data)))
        seconds = max(AVERAGE_SECONDS, gathering.left_seconds)
        await frames.within(seconds, send_bytes(channel, data), "a shard to be taken")

    def _check(self, given: GiveShard, peer_id: str) -> None:
        """Raises RefusalError; ProtocolError for a name that is not the sender's own."""
        if (given.plan, given.group) != (self._plan, self._group):
            raise refusal(Refusal.NOT_TRAINING, f"here is group {self._group} of {self._plan}")
        if peer_of(given.sender) != peer_id:
            raise ProtocolError(f"shard of {given.sender}", rule="a member sends its own")
        ledger = self._ledger
        ledger.check_version(to_version(given.version))
        is_here = given.round == ledger.round and ledger.phase in (Phase.SEALED, Phase.AVERAGING)
        if not is_here:
            detail = f"{given.round}, here is {ledger.round}, {ledger.phase.name}"
            raise refusal(Refusal.WRONG_ROUND, detail)

    @contextmanager
    def _waiting_place(self, peer_id: str) -> Iterator[None]:
        if self._waiting[peer_id] >= MAX_WAITING_OF_ONE or self._waiting.total() >= MAX_WAITING:
            raise refusal(Refusal.RATE_LIMITED, f"{MAX_WAITING_OF_ONE} shards of one may wait")
        self._waiting[peer_id] += 1
        try:
            yield
        finally:
            self._waiting[peer_id] -= 1
            self._waiting += Counter()  # forgets who has none

    async def _begun(self, given: GiveShard) -> Gathering:
        """This member's own part in that round: a bounded time may pass until it is told to begin."""
        waiting = asyncio.shield(self._future_of(to_version(given.version), given.round))
        try:
            async with asyncio.timeout(AVERAGE_SECONDS):
                return await waiting
        except TimeoutError:
            detail = f"{given.round}, which does not average here"
            raise refusal(Refusal.WRONG_ROUND, detail) from None

    def _future_of(self, version: Version, round_: int) -> asyncio.Future[Gathering]:
        """Of the newest round that was asked for; who waits for an older one is refused in time."""
        if self._turn is None or self._turn[0] != (version, round_):
            self._turn = (version, round_), asyncio.get_running_loop().create_future()
        return self._turn[1]

    async def _receive(self, channel: Channel, given: GiveShard, gathering: Gathering) -> None:
        """A member's sums. Raises PeerError, and then the whole average has failed."""
        what, seconds = f"the shard of {given.sender}", gathering.left_seconds
        try:
            gathering.check(given)
            data = await receive_bytes(channel, given.num_bytes, seconds=seconds, what=what)
            gathering.add(given.sender, await asyncio.to_thread(shards.from_bytes, data, what))
        except PeerError as error:
            gathering.lacking.add(given.sender)
            gathering.fail(error)
            self._blame_if_wrong(given.sender, error)
            raise

    async def _exchange(self, gathering: Gathering, name: str) -> None:
        """My sums of the shard that another member averages, for its average. Raises PeerError."""
        commit, place = gathering.commit, gathering.shards.of(name)
        data, what = shards.to_bytes(gathering.summed[place]), f"the shard averaged by {name}"
        seconds = gathering.left_seconds
        try:
            channel = await self._swarm.open(peer_of(name), AVERAGES, seconds=seconds)
        except PeerError:
            gathering.lacking.add(name)
            raise
        try:
            await channel.send(self._shard_of(commit, len(data)))
            await send_bytes(channel, data)
            seconds = gathering.left_seconds
            told = await channel.receive(ShardAveraged, seconds=seconds, what=what)
            if told.num_bytes != len(data):
                raise ProtocolError(f"{what}: {told.num_bytes} bytes", rule=f"{len(data)} bytes")
            seconds = gathering.left_seconds
            data = await receive_bytes(channel, len(data), seconds=seconds, what=what)
            gathering.result[place] = await asyncio.to_thread(shards.from_bytes, data, what)
            gathering.unanswered.discard(name)
        except PeerError as error:
            if not isinstance(error, RefusalError):
                gathering.lacking.add(name)
            self._blame_if_wrong(name, error)
            raise
        finally:
            channel.close()

    def _shard_of(self, commit: Commit, num_bytes: int) -> GiveShard:
        return GiveShard(
            plan=self._plan,
            group=self._group,
            version=of_version(commit.version),
            round=commit.round,
            sender=self._ledger.name,
            weight=dict(commit.members)[self._ledger.name],
            num_bytes=num_bytes,
        )

    def _blame_if_wrong(self, name: str, error: PeerError) -> None:
        if isinstance(error, ProtocolError):
            logger.warning("the average failed by %s: %s", name, error)
            self._blame(name, str(error))


def patience_seconds(num_bytes: int, bytes_per_second: float, *, least: float) -> float:
    """How long an average may take at the rate of the last one. Bounded: a member that is just in time
    each time would make it three times as long with each."""
    return min(MAX_AVERAGE_SECONDS, max(least, 3 * num_bytes / bytes_per_second))
