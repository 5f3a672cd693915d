"""When a plan has a checkpoint made: between two steps the states are asked for, then training goes on
while the bytes arrive and are judged. One at a time; one that fails is said, and the next one comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from seshu_swarm.coordinator.conducting import collecting
from seshu_swarm.coordinator.conducting.collecting import Arriving, Wanted
from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.deciding import Decider
from seshu_swarm.coordinator.conducting.stored import StoredStates, group_file
from seshu_swarm.errors import (
    DeadlineError,
    DigestError,
    DiskFullError,
    PeerError,
    ProtocolError,
    SeshuError,
)
from seshu_swarm.network.dht import Swarm
from seshu_swarm.program import log

logger = logging.getLogger(__name__)

Curve = Sequence[tuple[int, float]]
ASK_AGAIN_SECONDS, DECIDE_AGAIN_SECONDS = 2.0, 15.0
MAX_SILENCES = MAX_FAILURES = 3


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
        self._missed, self._again_at = -1, 0.0
        self._has_left = True
        self._silences: Counter[str] = Counter()
        self._failures: Counter[int] = Counter()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def is_over(self) -> bool:
        """The last checkpoint is decided upon."""
        return not self.is_busy and self._decider.is_decided(self._course.record.num_steps)

    def take_up(self) -> None:
        """What a killed coordinator had fetched and not decided, and what failed here for lack of room."""
        if not self._has_left or self.is_busy or self._course.clock() < self._again_at:
            return
        self._has_left = False
        left = [step for step in self._stored.steps() if not self._decider.is_decided(step)]
        if left:
            self._task = asyncio.create_task(self._decide_all(left))

    def is_due(self, made: int) -> bool:
        """Whether states should be asked for before the next step. The last ones are asked for until
        they come."""
        is_last = made == self._course.record.num_steps
        if self._course.clock() < self._again_at:
            return False
        if made == 0 or self.is_busy or not (is_last or made % self._every == 0):
            return False
        is_missed = made == self._missed and not is_last
        return not (is_missed or made in self._stored.steps() or self._decider.is_decided(made))

    async def take(self, made: int, num_tokens: int, curve: Curve) -> bool:
        """Once it returns True all states are copied, and the next step may begin."""
        groups = self._course.conductor.groups
        wanted = [
            Wanted(
                place,
                group.version,
                sorted(group.in_step, key=lambda name: (self._silences[name], name)),
                self._stored.max_bytes(place),
            )
            for place, group in enumerate(groups)
        ]
        try:
            arriving = await collecting.ask_all(
                self._swarm, self._course.record.plan, wanted, gave_none=self._gave_none
            )
        except PeerError as error:
            self._miss(made, error)
            return False
        about = self._decider.about(made, num_tokens, curve)
        self._task = asyncio.create_task(self._finish(made, arriving, about))
        return True

    async def end(self) -> None:
        """What is under way is begun again by the next coordinator."""
        self._decider.stop()
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
        except (SeshuError, OSError) as error:
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
        except (ProtocolError, DigestError, DeadlineError) as error:
            self._send_away(arriving.member, error)
            raise
        self._silences.pop(arriving.member, None)

    def _gave_none(self, name: str, error: PeerError) -> None:
        """One that never gives its state would be asked for it for ever."""
        self._silences = Counter(
            {n: k for n, k in self._silences.items() if n in self._course.roster}
        )
        self._silences[name] += 1
        if self._silences[name] >= MAX_SILENCES:
            self._send_away(name, error)

    def _send_away(self, name: str, error: SeshuError) -> None:
        member = self._course.roster.get(name)
        if member is not None:
            self._course.send_away(member, f"its state: {error}")

    async def _decide_all(self, steps: Sequence[int]) -> None:
        for step in steps:
            try:
                decided = await asyncio.to_thread(self._decider.decide, step)
            except Exception as error:  # of a task that nobody awaits
                self._put_off(step, error)
                continue
            if decided.state == "published":
                await self._publish(decided.revision)
        self._course.news.set()

    async def _publish(self, revision: str) -> None:
        """The ledger has it: where the swarm is away now, it is announced again in time."""
        try:
            await self._published()
        except Exception as error:
            logger.warning("%s is not announced yet: %s", revision[:12], error)

    def _put_off(self, step: int, error: Exception) -> None:
        """The states stay. Room on a disk is waited for; other failures are borne a few times."""
        self._failures[step] += 1
        self._has_left, self._again_at = True, self._course.clock() + DECIDE_AGAIN_SECONDS
        text = f"checkpoint of step {step} is put off: {error!r}"
        log.event("checkpoint-put-off", text, step=step, reason=repr(error))
        if not isinstance(error, DiskFullError) and self._failures[step] >= MAX_FAILURES:
            self._decider.give_up(step, repr(error))

    def _miss(self, step: int, error: Exception) -> None:
        self._missed, self._again_at = step, self._course.clock() + ASK_AGAIN_SECONDS
        text = f"no checkpoint of step {step}: {error}"
        log.event("checkpoint-missed", text, step=step, reason=str(error))
