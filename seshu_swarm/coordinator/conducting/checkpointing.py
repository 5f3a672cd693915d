"""When a plan has a checkpoint made: between two steps the states are asked for, then training goes on
while the bytes arrive and are judged. One at a time; one that fails is said, and the next one comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from seshu_swarm import log
from seshu_swarm.coordinator.conducting import collecting
from seshu_swarm.coordinator.conducting.collecting import Arriving, Wanted
from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.deciding import Decider
from seshu_swarm.coordinator.conducting.stored import StoredStates, group_file
from seshu_swarm.dht import Swarm
from seshu_swarm.errors import DigestError, PeerError, ProtocolError, SeshuError

Curve = Sequence[tuple[int, float]]


class Checkpointing:
    """Of one plan, every so many steps; `published` is called when the head has moved."""

    def __init__(
        self,
        swarm: Swarm,
        course: Course,
        stored: StoredStates,
        decider: Decider,
        *,
        every: int,
        published: Callable[[], Awaitable[None]],
    ) -> None:
        self._swarm, self._course, self._stored = swarm, course, stored
        self._decider, self._every, self._published = decider, every, published
        self._missed = -1
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def is_over(self) -> bool:
        """The last checkpoint is decided upon."""
        return not self.is_busy and self._decider.is_decided(self._course.record.num_steps)

    def take_up(self) -> None:
        """What a killed coordinator had fetched and not decided."""
        left = [step for step in self._stored.steps() if not self._decider.is_decided(step)]
        if left:
            self._task = asyncio.create_task(self._decide_all(left))

    def is_due(self, made: int) -> bool:
        """Whether states should be asked for before the next step. The last ones are asked for until
        they come."""
        is_last = made == self._course.record.num_steps
        if made == 0 or self.is_busy or not (is_last or made % self._every == 0):
            return False
        is_missed = made == self._missed and not is_last
        return not (is_missed or made in self._stored.steps() or self._decider.is_decided(made))

    async def take(self, made: int, num_tokens: int, curve: Curve) -> bool:
        """Once it returns True all states are copied, and the next step may begin."""
        groups = self._course.conductor.groups
        wanted = [
            Wanted(place, group.version, sorted(group.in_step), self._stored.max_bytes(place))
            for place, group in enumerate(groups)
        ]
        try:
            arriving = await collecting.ask_all(self._swarm, self._course.record.plan, wanted)
        except PeerError as error:
            self._miss(made, error)
            return False
        about = self._decider.about(made, num_tokens, curve)
        self._task = asyncio.create_task(self._finish(made, arriving, about))
        return True

    async def end(self) -> None:
        """What is under way is begun again by the next coordinator."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _finish(
        self, step: int, arriving: Sequence[Arriving], about: dict[str, object]
    ) -> None:
        try:
            folder = self._stored.begin(step)
            await asyncio.gather(
                *(self._fetch(each, group_file(folder, each.group)) for each in arriving)
            )
            await asyncio.to_thread(self._stored.finish, step, about)
        except SeshuError as error:
            self._miss(step, error)
            return
        finally:
            for each in arriving:
                each.channel.close()
        await self._decide_all([step])

    async def _fetch(self, arriving: Arriving, path: Path) -> None:
        try:
            await collecting.fetch(arriving, path)
            await asyncio.to_thread(self._stored.check, path, arriving.group)
        except (ProtocolError, DigestError) as error:
            member = self._course.roster.get(arriving.member)
            if member is not None:
                self._course.send_away(member, str(error))
            raise

    async def _decide_all(self, steps: Sequence[int]) -> None:
        for step in steps:
            decided = await asyncio.to_thread(self._decider.decide, step)
            if decided.state == "published":
                await self._published()
        self._course.news.set()

    def _miss(self, step: int, error: SeshuError) -> None:
        self._missed = step
        text = f"no checkpoint of step {step}: {error}"
        log.event("checkpoint-missed", text, step=step, reason=str(error))
