"""A group that nobody has the weights of any more goes on from stored ones, which the coordinator gives out."""

from __future__ import annotations

import asyncio
import secrets

from seshu_swarm.coordinator.conducting.collecting import GivesStates
from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.stored import StoredStates
from seshu_swarm.coordinator.conducting.waiting import Waiting
from seshu_swarm.program import log


class Restoring:
    """`gives` gives the states out, at the peer `peer_id`."""

    def __init__(
        self,
        course: Course,
        waiting: Waiting,
        stored: StoredStates,
        gives: GivesStates,
        peer_id: str,
    ) -> None:
        self._course, self._waiting = course, waiting
        self._stored, self._gives = stored, gives
        self._keeper = f"{peer_id}#{secrets.token_hex(4)}"

    async def restore(self) -> None:
        """Where a group's weights have been gone for long, and somebody waits for them."""
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
