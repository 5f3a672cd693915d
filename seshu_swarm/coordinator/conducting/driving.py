"""One task drives a plan: it begins steps, writes the books, and tells members what to do, in this order.

Nothing is told before the books that it follows from are written. What is told is told again with each
word of a member until both agree, so that a message more or less changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time

from seshu_swarm import log
from seshu_swarm.coordinator.conducting.checkpointing import Checkpointing
from seshu_swarm.coordinator.conducting.collecting import GivesStates
from seshu_swarm.coordinator.conducting.commits import Commits
from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.journal import Entry, Journal
from seshu_swarm.coordinator.conducting.progress import Progress
from seshu_swarm.coordinator.conducting.roster import Member
from seshu_swarm.coordinator.conducting.stored import StoredStates
from seshu_swarm.coordinator.conducting.waiting import Waiting
from seshu_swarm.errors import PeerLostError
from seshu_swarm.pipeline.conductor import Books
from seshu_swarm.pipeline.protocol import FeedMessage, of_feed, of_order
from seshu_swarm.running import Stop

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25
AGAIN_SECONDS = 0.5
# Words that come together are answered together.
TOGETHER_SECONDS = 0.002
LAST_CHECKPOINT_SECONDS = 2.0
END_SECONDS = 2.0


class Driver:
    """`keeper` is the coordinator's name as a source of stored states, which `gives` gives out."""

    def __init__(
        self,
        course: Course,
        journal: Journal,
        checkpointing: Checkpointing,
        progress: Progress,
        *,
        commits: Commits,
        stored: StoredStates,
        gives: GivesStates,
        keeper: str,
    ) -> None:
        self._course, self._journal = course, journal
        self._checkpointing, self._progress = checkpointing, progress
        self._commits, self._stored = commits, stored
        self._gives, self._keeper = gives, keeper
        self._waiting = Waiting(course)
        self._written: Books | None = None
        self._feed: FeedMessage | None = None
        self._fed_at = 0.0

    async def drive(self, stop: Stop) -> bool:
        """Until the plan is over, or stopped; whether it is over."""
        self._checkpointing.take_up()
        try:
            while not stop.is_set():
                self._course.news.clear()
                self._course.lose()
                is_over = await self._go_on()
                await self._write()
                if is_over:
                    await self._say_over()
                    return True
                self._tell()
                await self._progress.show()
                await self._rest()
            return False
        finally:
            await self._checkpointing.end()

    async def _go_on(self) -> bool:
        """The next thing that is due; True once all is done."""
        await self._restore()
        course = self._course
        if not course.conductor.is_done:
            return False
        made = course.made
        self._progress.count(made)
        if self._checkpointing.is_due(made):
            took = await self._checkpointing.take(
                made, self._progress.num_tokens, self._progress.curve
            )
            if not took and made == course.record.num_steps:
                await asyncio.sleep(LAST_CHECKPOINT_SECONDS)
        if made >= course.record.num_steps:
            return self._checkpointing.is_over
        # Members came and went meanwhile.
        if not self._waiting.waits():
            course.begin()
            self._progress.began()
        return False

    async def _restore(self) -> None:
        """A group that nobody has the weights of any more goes on from stored ones."""
        for group in self._waiting.gone():
            step, path = await asyncio.to_thread(self._stored.newest, group)
            if group not in self._waiting.gone():
                continue
            version = self._course.conductor.restore(group, self._keeper)
            self._gives.offer(group, version, path)
            text = (
                f"all replicas of group {group} are gone, and its weights with them: it goes on from "
                f"those of step {step}, {version.step - step} steps back"
            )
            log.event("restored", text, group=group, step=step, lost_steps=version.step - step)

    async def _write(self) -> None:
        """Until what is written is what is so."""
        groups = self._course.conductor.groups
        while True:
            books, commits = self._notable(), self._commits.new(groups)
            if books == self._written and not commits:
                return
            progress = self._progress
            entry = Entry(
                books, dict(self._course.numbers), progress.num_tokens, tuple(progress.curve)
            )
            await asyncio.to_thread(self._journal.write, entry)
            await asyncio.to_thread(self._commits.write, commits)
            self._written = books

    def _notable(self) -> Books:
        """A list that is not final is given up after a kill: its ids need not be known."""
        books = self._course.conductor.books
        ids = books.ids if books.is_final else frozenset()
        return Books(books.step, ids, books.is_final, books.versions)

    def _tell(self) -> None:
        """No await from the last look at the books to the last word."""
        now = time.monotonic()
        feed = self._feed_now()
        is_due = feed != self._feed or now - self._fed_at >= AGAIN_SECONDS
        if is_due:
            self._feed, self._fed_at = feed, now
        for member in self._course.roster:
            try:
                self._tell_member(member, feed if is_due and member.is_trainer else None)
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
