"""One task drives a plan: it begins steps, writes the books, and tells members what to do, in this order.

Nothing is told before the books that it follows from are written. What is told is told again with each
word of a member until both agree, so that a message more or less changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from seshu_swarm.coordinator.conducting.checkpointing import Checkpointing
from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.progress import Progress
from seshu_swarm.coordinator.conducting.restoring import Restoring
from seshu_swarm.coordinator.conducting.roster import Member
from seshu_swarm.coordinator.conducting.sparing import Sparing
from seshu_swarm.coordinator.conducting.waiting import Waiting
from seshu_swarm.coordinator.conducting.writing import Writing
from seshu_swarm.errors import PeerLostError
from seshu_swarm.pipeline.protocol.converting import of_feed, of_order
from seshu_swarm.pipeline.protocol.steps import CONDUCTOR_SECONDS, FeedMessage
from seshu_swarm.program.running import Stop

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25
AGAIN_SECONDS = 0.5
# Words that come together are answered together.
TOGETHER_SECONDS = 0.002
END_SECONDS = 2.0


class Driver:
    """Of one plan; its parts are told in which order to do their work."""

    def __init__(
        self,
        course: Course,
        waiting: Waiting,
        writing: Writing,
        *,
        checkpointing: Checkpointing,
        keeping: tuple[Restoring, Sparing],
        progress: Progress,
    ) -> None:
        self._course, self._waiting, self._writing = course, waiting, writing
        self._checkpointing, self._progress = checkpointing, progress
        self._restoring, self._sparing = keeping
        self._feed: FeedMessage | None = None
        self._fed_at = self._told_at = 0.0

    async def drive(self, stop: Stop) -> bool:
        """Until the plan is over, or stopped; whether it is over."""
        try:
            while not stop.is_set():
                self._course.news.clear()
                self._course.lose()
                self._checkpointing.take_up()
                is_over = await self._go_on()
                await self._writing.write()
                if is_over:
                    await self._say_over()
                    return True
                self._tell()
                await self._progress.show()
                await self._rest()
            return False
        finally:
            await self._checkpointing.end()
            await self._sparing.end()

    async def _go_on(self) -> bool:
        """The next thing that is due; True once all is done."""
        await self._restoring.restore()
        course = self._course
        if not course.conductor.is_done:
            return False
        made = course.made
        self._progress.count(made)
        if self._checkpointing.is_due(made):
            await self._checkpointing.take(made, self._progress.num_tokens, self._progress.curve)
        if made >= course.record.num_steps:
            return self._checkpointing.is_over
        await self._sparing.take_if_due(made)
        # Members came and went meanwhile.
        if not self._waiting.waits():
            course.begin()
            self._progress.began()
        return False

    def _tell(self) -> None:
        """No await from the last look at the books to the last word."""
        now = time.monotonic()
        feed = self._feed_now()
        is_due = feed != self._feed or now - self._fed_at >= AGAIN_SECONDS
        if is_due:
            self._feed, self._fed_at = feed, now
        is_sign_of_life = now - self._told_at >= CONDUCTOR_SECONDS
        if is_sign_of_life:
            self._told_at = now
        for member in self._course.roster:
            hears = is_sign_of_life or (is_due and member.is_trainer)
            try:
                self._tell_member(member, feed if hears else None)
            except PeerLostError as error:
                logger.warning("%s", error)

    def _tell_member(self, member: Member, feed: FeedMessage | None) -> None:
        if member.outbox is None:
            return
        order = self._course.conductor.groups[member.group].order_for(member.name)
        if order is not None and (order != member.told or member.is_news):
            member.outbox.put(of_order(order))
        member.told, member.is_news = order, False
        if feed is not None:
            member.outbox.put(feed)

    def _feed_now(self, *, is_over: bool = False) -> FeedMessage:
        conductor = self._course.conductor
        replicas = [group.in_step for group in conductor.groups]
        return of_feed(conductor.feed, replicas, is_over=is_over)

    async def _say_over(self) -> None:
        """To everyone; whoever is away learns it when it enlists again."""
        feed = self._feed_now(is_over=True)
        for member in self._course.roster:
            if member.outbox is not None:
                with contextlib.suppress(PeerLostError):
                    member.outbox.put(feed)
                    member.outbox.end()
        await asyncio.sleep(END_SECONDS)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await self._course.news.wait()
            await asyncio.sleep(TOGETHER_SECONDS)
        except TimeoutError:
            return
