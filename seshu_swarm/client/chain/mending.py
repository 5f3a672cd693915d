"""Putting a broken chain right: replacing parts that are gone or leave, carrying past broken links.

`Conversation` says what has to be replaced and how it is told; here are the choice of peers, the waiting
for states that are handed over, and the memory of who failed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection

from seshu_swarm.client.chain.carrier import Carrier, Say
from seshu_swarm.client.chain.recovery import Recovery, takers
from seshu_swarm.client.chain.revisions import Retirement, covers
from seshu_swarm.client.chain.routing import Offer, choose_chain
from seshu_swarm.errors import PeerError, PeerLostError
from seshu_swarm.exchange import edges
from seshu_swarm.exchange.payloads import BlockState, Hidden
from seshu_swarm.exchange.session_messages import AskSnapshot
from seshu_swarm.program import waits
from seshu_swarm.sessions.conversation import Conversation, Leg, Place
from seshu_swarm.spans import Span

logger = logging.getLogger(__name__)

MAX_RECOVERIES = 64
HAND_OVER_SECONDS = 3.0
# How long to look for peers that have some blocks, and to try those that say they have, but do not answer:
# after a dial that failed libp2p tries no other for several seconds.
FIND_SECONDS, REACH_SECONDS = 5.0, 30.0
FRESH_SECONDS = 5.0
FIND_AGAIN_SECONDS = 0.3
BAN_SECONDS, FORGIVE_SECONDS = 15.0, 2.0

FindOffers = Callable[[], Awaitable[list[Offer]]]


class Mender:
    """`mend` returns when nobody is known to be gone. `recoveries`: one for each loss."""

    def __init__(
        self,
        conversation: Conversation[Hidden, BlockState],
        carrier: Carrier,
        find: FindOffers,
        retirement: Retirement,
    ) -> None:
        self.recoveries: list[Recovery] = []
        self._conversation, self._carrier, self._find = conversation, carrier, find
        self._retirement = retirement
        self._banned: dict[str, float] = {}
        self._forgiven: dict[str, float] = {}
        self._stuck_at, self._num_stuck = -1, 0
        self._known: list[Offer] = []
        self._known_at = -FRESH_SECONDS
        self._looking: asyncio.Task[None] | None = None

    def keep_fresh(self) -> None:
        """Look who is there, in the background: when a peer is lost, the DHT may be slow, for it was
        part of that too."""
        if time.monotonic() - self._known_at > FRESH_SECONDS and self._looking is None:
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        try:
            self._known, self._known_at = await self._find(), time.monotonic()
        except PeerError as error:
            logger.info("looking for peers: %s", error)
        finally:
            self._looking = None

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def has_another(self, leg: Leg[Hidden]) -> bool:
        """Whether its blocks could go on elsewhere, as far as is known."""
        without = {*self._banned_now(), edges.split(leg.peer)[0]}
        try:
            return bool(choose_chain(self._known, leg.span, without))
        except PeerLostError:
            return False

    async def mend(self) -> None:
        """Replace whoever is gone or leaves; carry what a peer cannot push.

        Raises PeerLostError when a block has no peer, RevisionRetiredError when it will get none.
        """
        since, news = time.monotonic(), self._carrier.news
        if news.is_retiring:
            self._retirement.told()
        while news.gone or news.leaving or news.cannot_reach_next:
            if news.leaving - set(news.gone):
                # Between two steps all parts are at one position, and nothing is computed again.
                await self.ask_snapshots(
                    [a for a in self._conversation.peers if a not in news.gone]
                )
            gone = {**{a: PeerLostError("it leaves") for a in news.leaving}, **news.gone}
            if gone:
                await self._replace(gone, since)
            else:
                await self._carry_past(news.cannot_reach_next.pop())

    async def _replace(self, gone: dict[str, PeerError], since: float) -> None:
        before = len(self.recoveries)
        for address, error in gone.items():
            self._note_loss(address, error)
        ranges = self._conversation.lost(gone)
        try:
            places = [await self.places(lost.span, since) for lost in ranges]
        except PeerError:
            del self.recoveries[before:]  # nobody was replaced
            raise
        saying: list[Say] = []
        for lost, chain in reversed(list(zip(ranges, places, strict=True))):
            saying = [*saying, *self._conversation.replace(lost, chain)]
        chain = [place for chain in places for place in chain]
        self.recoveries[before:] = [
            dataclasses.replace(one, by=takers(one.span, chain)) for one in self.recoveries[before:]
        ]
        self._carrier.drop(list(gone))
        await self._carrier.say(saying)

    def went_on(self, seconds: float) -> None:
        """What came back after all losses so far had been waited for so long."""
        for index in range(len(self.recoveries) - 1, -1, -1):
            if self.recoveries[index].seconds is not None:
                return
            self.recoveries[index] = dataclasses.replace(self.recoveries[index], seconds=seconds)

    async def _carry_past(self, address: str) -> None:
        """The client carries what this part cannot push to the next one."""
        index = next(
            (i for i, leg in enumerate(self._conversation.legs) if leg.peer == address), -1
        )
        following = self._conversation.legs[index + 1 : index + 2]
        if index >= 0 and following and following[0].feed is None:
            logger.info("carrying what peer …%s cannot push", _short(address))
            await self._carrier.say(self._conversation.carry(index + 1))

    def _note_loss(self, address: str, error: PeerError) -> None:
        peer = edges.split(address)[0]
        self._banned[peer] = time.monotonic() + BAN_SECONDS
        self._retirement.note(error)
        leg = next((leg for leg in self._conversation.legs if leg.peer == address), None)
        said_goodbye = address not in self._carrier.news.gone
        position, span = self._conversation.received, leg.span if leg else None
        self.recoveries.append(Recovery(peer, span, position, str(error), said_goodbye))
        logger.info("replacing peer …%s: %s", peer[-6:], error)
        if self._conversation.received > self._stuck_at:
            self._stuck_at, self._num_stuck = self._conversation.received, 0
        self._num_stuck += 1
        if self._num_stuck > MAX_RECOVERIES:
            raise PeerLostError(f"gave up after {MAX_RECOVERIES} replacements", rule=str(error))

    async def ask_snapshots(self, addresses: Collection[str]) -> None:
        """The states of these parts as they are now, as far as they answer in time."""
        snapshots, position = self._carrier.news.snapshots, self._conversation.received
        for address in addresses:
            self._carrier.put(address, AskSnapshot())
        deadline = time.monotonic() + HAND_OVER_SECONDS
        # An older snapshot may still be on its way.
        while time.monotonic() < deadline and any(
            snapshots.get(a, -1) < position and a not in self._carrier.news.gone for a in addresses
        ):
            if not await self._carrier.wait(max(0.0, deadline - time.monotonic())):
                return

    async def places(self, span: Span, since: float | None = None) -> list[Place]:
        """A chain over these blocks, waiting a little for peers that come, from the moment on when the
        trouble began. Raises PeerLostError, and RevisionRetiredError when they will not."""
        with waits.waiting(f"peers that host blocks {span}", REACH_SECONDS):
            return await self._places(span, since)

    async def _places(self, span: Span, since: float | None) -> list[Place]:
        since, known = time.monotonic() if since is None else since, self._known
        while True:
            offers = known or await self._find()
            try:
                hops = choose_chain(offers, span, self._banned_now())
            except PeerLostError:
                if not known:
                    is_late = time.monotonic() - since > self._most_seconds(offers, span)
                    await self._retirement.check(offers, span, is_late=is_late)
                    if is_late:
                        raise
                    self._forgive()
                    await asyncio.sleep(FIND_AGAIN_SECONDS)
                known = []
                continue
            return [(edges.address(h.peer_id, secrets.token_bytes(16)), h.span) for h in hops]

    def _most_seconds(self, offers: list[Offer], span: Span) -> float:
        """How long to try. A session that has not begun can as well be begun later."""
        is_worth_it = self._conversation.received > 0 and covers(offers, span)
        return REACH_SECONDS if is_worth_it else FIND_SECONDS

    def _banned_now(self) -> set[str]:
        return {peer for peer, until in self._banned.items() if until > time.monotonic()}

    def _forgive(self) -> None:
        """Where nobody else is, peers that were lost are tried again, and again: perhaps only a stream
        broke, perhaps one comes back."""
        now = time.monotonic()
        for peer in self._banned_now():
            if now > self._forgiven.get(peer, 0.0):
                del self._banned[peer]
                self._forgiven[peer] = now + FORGIVE_SECONDS


def _short(address: str) -> str:
    return edges.split(address)[0][-6:]
