"""Pipelined training in the life of a coordinator: before its rounds, as long as a plan is open.

Takes the plan up where the last coordinator left it, drives it, closes it. Peers that ask when no plan
is open are told so by name.
"""

from __future__ import annotations

import logging

from seshu_swarm.coordinator.conducting.checkpointing import Checkpointing
from seshu_swarm.coordinator.conducting.collecting import GivesStates
from seshu_swarm.coordinator.conducting.commits import Commits
from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.deciding import Decider
from seshu_swarm.coordinator.conducting.driving import Driver
from seshu_swarm.coordinator.conducting.journal import Journal
from seshu_swarm.coordinator.conducting.kept import close_plan, kept_plan
from seshu_swarm.coordinator.conducting.plan import open_plan
from seshu_swarm.coordinator.conducting.progress import Progress
from seshu_swarm.coordinator.conducting.restoring import Restoring
from seshu_swarm.coordinator.conducting.service import StepsService
from seshu_swarm.coordinator.conducting.sparing import Sparing
from seshu_swarm.coordinator.conducting.stored import StoredStates
from seshu_swarm.coordinator.conducting.waiting import Waiting
from seshu_swarm.coordinator.conducting.writing import Writing
from seshu_swarm.coordinator.config import RunConfig
from seshu_swarm.coordinator.rounds.holding import Herald
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.errors import PeerError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.pipeline.protocol.groups import STATES
from seshu_swarm.pipeline.protocol.steps import STEPS
from seshu_swarm.program import log
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Refusal

logger = logging.getLogger(__name__)


class Training:
    """Raises UsageError for a plan that cannot be made."""

    def __init__(
        self,
        swarm: Swarm,
        folder: RunFolder,
        ledger: Ledger,
        settings: RunConfig,
        *,
        herald: Herald,
    ) -> None:
        self._swarm, self._folder, self._ledger = swarm, folder, ledger
        self._settings, self._herald = settings, herald
        self._steps = StepsService()
        self._gives: GivesStates | None = None
        self._driver: Driver | None = None
        self.plan = open_plan(folder, ledger, settings)

    def record(self) -> TrainingRecord | None:
        """What the swarm is told: a plan that rests, because `--stages 0` was given, is over for now."""
        if self.plan is not None:
            return self.plan
        kept = kept_plan(self._ledger)
        return kept.model_copy(update={"state": "over"}) if kept else None

    async def serve(self) -> None:
        """From now on. Members of an open plan find it at once: who is told that there is none leaves."""
        if self.plan is not None:
            self._driver = self._take_up(self.plan)
        await self._swarm.serve(STEPS, self._steps.serve)
        await self._swarm.serve(STATES, self._give)

    async def live(self, stop: Stop) -> None:
        """Until the plan is over, or stopped."""
        if self.plan is None or self._driver is None:
            return
        text = (
            f"plan {self.plan.plan}: {self.plan.num_steps} steps through {self.plan.num_stages} stages "
            f"from {self.plan.base[:12]}; no rounds until it is done"
        )
        log.event("training-open", text, plan=self.plan.plan, base=self.plan.base)
        is_over = await self._driver.drive(stop)
        self._steps.close()
        if is_over:
            self.plan = close_plan(self._ledger, self.plan)
            log.event("training-over", f"plan {self.plan.plan} is done", plan=self.plan.plan)
            await self._announce()

    def _take_up(self, plan: TrainingRecord) -> Driver:
        journal = Journal(self._ledger, plan.plan, num_groups=plan.num_stages + 1)
        entry, round_ = journal.take_up()
        course = self._steps.course = Course(plan, entry, round_=round_)
        kept = self._folder.training_of(plan.plan)
        stored = StoredStates(kept, plan, self._folder.package(plan.base))
        checkpointing = Checkpointing(
            self._swarm,
            course,
            stored,
            Decider(self._folder, self._ledger, plan, stored),
            every=self._settings.checkpoint_steps,
            published=self._published,
        )
        gives = self._gives = GivesStates(plan.plan)
        waiting, progress = Waiting(course), Progress(course, self._ledger, entry)
        restoring = Restoring(course, waiting, stored, gives, self._swarm.peer_id)
        return Driver(
            course,
            waiting,
            Writing(course, progress, journal=journal, commits=Commits(kept)),
            checkpointing=checkpointing,
            keeping=(restoring, Sparing(self._swarm, course, stored)),
            progress=progress,
        )

    async def _announce(self) -> None:
        """Now, if the swarm is there; it is announced again in time."""
        try:
            await self._herald.announce()
        except PeerError as error:
            logger.warning("the end of the plan is not announced yet: %s", error)

    async def _published(self) -> None:
        await self._herald.announce()
        await self._herald.release()

    async def _give(self, channel: Channel) -> None:
        """Handler of STATES."""
        if self._gives is None:
            raise refusal(Refusal.NOT_TRAINING, "no plan is open")
        await self._gives.serve(channel)
