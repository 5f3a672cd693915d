"""A member's end of the stream STEPS: it enlists, tells its status, hears orders and feeds.

A stream that breaks is opened again under the same name, as everything that the member holds stays.
It ends when the plan is over, when the conductor knows of none, and when it is stopped.
Knows no ledger and no tensors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from seshu_swarm.errors import PeerError, RefusalError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.pipeline.messages import Status
from seshu_swarm.pipeline.protocol.converting import of_status
from seshu_swarm.pipeline.protocol.steps import (
    CONDUCTOR_LOST_SECONDS,
    FROM_CONDUCTOR,
    HEARTBEAT_SECONDS,
    STEPS,
    Complaint,
    Enlist,
    Enlisted,
    FedMessage,
    FeedMessage,
)
from seshu_swarm.program import running
from seshu_swarm.program.running import Stop
from seshu_swarm.streams.channel import Channel
from seshu_swarm.streams.protocol import Message, Refusal

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
MIN_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 2.0


class Enlistment:
    """With the peer `conductor`. `enlist` and `status` say what is so when they are asked; `heard` is
    told of OrderMessages and FeedMessages."""

    def __init__(
        self,
        swarm: Swarm,
        conductor: str,
        *,
        enlist: Callable[[], Enlist],
        status: Callable[[], Status],
        heard: Callable[[Message], None],
    ) -> None:
        self._swarm, self._conductor = swarm, conductor
        self._enlist, self._status, self._heard = enlist, status, heard
        self._channel: Channel | None = None
        self._has_news = asyncio.Event()
        self._is_over = False

    async def dial(self) -> Enlisted:
        """Raises PeerError; RefusalError NOT_TRAINING where no such plan is under way."""
        channel = await self._swarm.open(self._conductor, STEPS)
        try:
            await channel.send(self._enlist())
            enlisted = await channel.receive(
                Enlisted, seconds=ANSWER_SECONDS, what="a place in the training"
            )
        except BaseException:
            channel.close()
            raise
        self._channel = channel
        return enlisted

    def tell(self) -> None:
        """The status has changed."""
        self._has_news.set()

    async def say(self, message: FedMessage | Complaint) -> None:
        """Best effort: what is lost is said again by whoever needs it said."""
        if self._channel is not None:
            try:
                await self._channel.send(message)
            except PeerError as error:
                logger.debug("not said: %s", error)

    async def live(self, stop: Stop) -> None:
        """Until the plan is over or `stop`."""
        pause_seconds = MIN_PAUSE_SECONDS
        while not (self._is_over or stop.is_set()):
            try:
                if self._channel is None:
                    await self.dial()
                    pause_seconds = MIN_PAUSE_SECONDS
                await self._talk(stop)
            except RefusalError as error:
                if error.name == Refusal.NOT_TRAINING.name:
                    logger.info("the training is over: %s", error)
                    return
                logger.warning("the conductor refuses: %s", error)
            except PeerError as error:
                logger.info("the conductor is away: %s", error)
            await self.hang_up()
            if not self._is_over:
                await stop.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, MAX_PAUSE_SECONDS)

    async def _talk(self, stop: Stop) -> None:
        """Over the open stream, until it ends."""
        if self._channel is not None:
            working = self._listen(self._channel), self._speak(self._channel)
            await running.first_to_end(*working, stop.wait())

    async def _listen(self, channel: Channel) -> None:
        while message := await channel.receive_one_of(
            FROM_CONDUCTOR, seconds=CONDUCTOR_LOST_SECONDS, what="a word of the conductor"
        ):
            self._heard(message)
            if isinstance(message, FeedMessage) and message.is_over:
                self._is_over = True
                return

    async def _speak(self, channel: Channel) -> None:
        while True:
            self._has_news.clear()
            await channel.send(of_status(self._status()))
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._has_news.wait()
            except TimeoutError:
                continue

    async def hang_up(self) -> None:
        """With a word, where it is still heard."""
        channel, self._channel = self._channel, None
        if channel is not None:
            try:
                await channel.finish()
            except PeerError as error:
                logger.debug("gone before: %s", error)
            channel.close()
