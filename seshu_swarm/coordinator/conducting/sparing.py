"""Copies of groups that have one replica alone: when it goes, its weights would go with it.

Between two steps its state is asked for, now and then; the bytes arrive while training goes on. The
slower they come, the rarer they are asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from seshu_swarm.coordinator.conducting import collecting
from seshu_swarm.coordinator.conducting.collecting import Arriving, Wanted
from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.stored import StoredStates
from seshu_swarm.errors import PeerError, SeshuError
from seshu_swarm.network.dht import Swarm

logger = logging.getLogger(__name__)

SPARE_SECONDS = 30.0
# Of the time at most a tenth goes to fetching copies.
REST_FOR_SECOND = 10.0


class Sparing:
    """Of one plan."""

    def __init__(self, swarm: Swarm, course: Course, stored: StoredStates) -> None:
        self._swarm, self._course, self._stored = swarm, course, stored
        self._next_at = course.clock() + SPARE_SECONDS
        self._task: asyncio.Task[None] | None = None

    async def take_if_due(self, made: int) -> None:
        """Between two steps: once this returns, what was asked for is copied."""
        is_busy = self._task is not None and not self._task.done()
        if made == 0 or is_busy or self._course.clock() < self._next_at:
            return
        self._next_at = self._course.clock() + SPARE_SECONDS
        wanted = [
            Wanted(place, group.version, group.in_step, self._stored.max_bytes(place))
            for place, group in enumerate(self._course.conductor.groups)
            if len(group.in_step) == 1
        ]
        try:
            arriving = await collecting.ask_all(self._swarm, self._course.record.plan, wanted)
        except PeerError as error:
            logger.warning("no copy of what one replica has alone: %s", error)
            return
        self._task = asyncio.create_task(self._fetch_all(arriving, made))

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _fetch_all(self, arriving: Sequence[Arriving], made: int) -> None:
        began = self._course.clock()
        try:
            for each in arriving:
                path = self._stored.arriving_spare(each.group)
                await collecting.fetch(each, path)
                await asyncio.to_thread(self._stored.keep_spare, each.group, made, path)
        except SeshuError as error:
            logger.warning("no copy of what one replica has alone: %s", error)
        finally:
            for each in arriving:
                each.channel.close()
        now = self._course.clock()
        self._next_at = now + max(SPARE_SECONDS, REST_FOR_SECOND * (now - began))
