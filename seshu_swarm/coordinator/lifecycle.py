"""Life of the coordinator: serve the run, train it through peers while a plan is open, then hold one
round after another.

Heavy work runs in a thread, so that peers are answered meanwhile. Sessions and hosting go on when
the coordinator is away: the run record outlives it by a day.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from seshu_swarm import checkpoints, packages
from seshu_swarm.adapters.merge.registry import method_of
from seshu_swarm.coordinator.conducting.training import Training
from seshu_swarm.coordinator.config import SCORED_TOKENS, SCORED_WINDOWS, RunConfig
from seshu_swarm.coordinator.opening.place import must_be_opened
from seshu_swarm.coordinator.releasing.mirror import held_by
from seshu_swarm.coordinator.releasing.release import Releases
from seshu_swarm.coordinator.releasing.waiting import waiting_for_hub
from seshu_swarm.coordinator.rounds.holding import RoundHolder
from seshu_swarm.coordinator.rounds.intake import Intake
from seshu_swarm.coordinator.rounds.states import ENDED
from seshu_swarm.coordinator.state.ledger import Ledger, Round
from seshu_swarm.coordinator.state.limits import DETECTABLE_FACT, READINGS_FACT
from seshu_swarm.coordinator.state.lineage import Lineage
from seshu_swarm.coordinator.state.pruning import prune
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.web import service as web
from seshu_swarm.coordinator.web.books import Books
from seshu_swarm.coordinator.web.publishing import Publisher
from seshu_swarm.coordinator.web.watching import Watch
from seshu_swarm.errors import ForkError, UnreachableError, UsageError
from seshu_swarm.network import identity
from seshu_swarm.network.daemon import Listen
from seshu_swarm.network.dht import Swarm
from seshu_swarm.network.identity import Identity
from seshu_swarm.network.link import Link
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import ANNOUNCE_SECONDS, CheckpointRecord, ProviderRecord, RunRecord
from seshu_swarm.run import joining
from seshu_swarm.stores.holder import Holder, HolderPolicy
from seshu_swarm.stores.references import Reference
from seshu_swarm.streams.protocol import BLOBS, INTAKE
from seshu_swarm.training.threads import set_threads

logger = logging.getLogger(__name__)

# Peers that dialled in vain while this was away do not try again for a moment.
ENTRIES, ENTRY_SECONDS = 3, 1.0


def run(settings: RunConfig) -> int:
    check_methods(settings.methods)
    folder = RunFolder.of(settings.state_dir)
    folder.must_exist()
    ledger = Ledger(folder.ledger)
    must_be_opened(folder, ledger)
    revision = ledger.fact("revision")
    if revision is None:
        raise UsageError(
            f"the run in {folder.path} has no model yet",
            rule="a run serves a base model",
            way_out="python -m seshu_swarm.coordinator pretrain, or open it with --base FOLDER",
        )
    shape = checkpoints.read_shape(folder.package(revision))
    set_threads(settings.max_threads, shape, batch_size=SCORED_WINDOWS, length=SCORED_TOKENS)
    with folder.hold():
        ledger.set_fact(READINGS_FACT, settings.gate_readings)
        ledger.set_fact(DETECTABLE_FACT, settings.max_detectable)
        return running.run(lambda stop: coordinate(settings, folder, ledger, stop))


def check_methods(names: Sequence[str]) -> None:
    """Raises UsageError for a method that cannot be tried on a mixture that was found."""
    for name in names:
        if method_of(name).needs_score:
            raise UsageError(
                f"--methods {name}",
                rule="it chooses members itself, with a score of its own",
                way_out="methods that merge given members: ties, centred_clip, dare_ties, …",
            )


async def coordinate(settings: RunConfig, folder: RunFolder, ledger: Ledger, stop: Stop) -> int:
    me = identity.load_or_create(folder.path)
    with web.opened(settings.web) as listener:
        swarm = await _enter(me, ledger.fact("run_id"), settings, folder)
        try:
            coordinator = Coordinator(swarm, me, folder, ledger, settings)
            watch = Watch(swarm, ledger, coordinator.num_blocks, coordinator.link)
            publisher, books = Publisher(swarm, folder, ledger), Books(folder, ledger)
            shown = asyncio.create_task(web.live(watch, publisher, books, listener, stop))
            try:
                await coordinator.live(stop)
            finally:
                shown.cancel()
                await asyncio.gather(shown, return_exceptions=True)
        finally:
            await swarm.leave()
    return 0


async def _enter(me: Identity, run_id: str, settings: RunConfig, folder: RunFolder) -> Swarm:
    """Back into the swarm through peers known from before, or as its first peer."""
    listen = Listen(settings.host, settings.port, settings.announce)
    known = joining.remembered(folder.path, run_id)
    for _ in range(ENTRIES if known else 0):
        try:
            return await Swarm.join(me, run_id=run_id, initial_peers=known, listen=listen)
        except UnreachableError as error:
            logger.info("not back in the swarm yet: %s", error)
            await asyncio.sleep(ENTRY_SECONDS)
    if known:
        logger.info("none of %d known peers answers; starting as the first", len(known))
    return await Swarm.join(me, run_id=run_id, initial_peers=(), listen=listen)


class Coordinator:
    """Announces the run, takes adapters in, gives packages out, holds rounds."""

    def __init__(
        self, swarm: Swarm, me: Identity, folder: RunFolder, ledger: Ledger, settings: RunConfig
    ) -> None:
        self._swarm, self._me, self._folder = swarm, me, folder
        self._ledger, self._settings = ledger, settings
        self._shape = checkpoints.read_shape(folder.package(ledger.fact("revision")))
        self._releases = Releases(folder, ledger, repository=settings.hub)
        self._intake = Intake(ledger, self._current_round)
        self._holder = Holder(
            folder.packages,
            policy=HolderPolicy(takes_adapters=True),
            allow_upload=lambda num_bytes: True,
            on_stored=lambda digest: None,
        )
        self._rounds = RoundHolder(
            swarm, folder, ledger, settings, intake=self._intake, herald=self
        )
        self._training = Training(swarm, folder, ledger, settings, herald=self)

    @property
    def num_blocks(self) -> int:
        return self._shape.num_blocks

    def _current_round(self) -> Round | None:
        rounds = self._ledger.rounds()
        return rounds[-1] if rounds and rounds[-1].state not in ENDED else None

    async def live(self, stop: Stop) -> None:
        """Raises ForkError where the swarm knows a head that this run's ledger does not."""
        await self._must_be_alone()
        await self._swarm.serve(BLOBS, self._holder.serve)
        await self._swarm.serve(INTAKE, self._intake.serve)
        await self._training.serve()
        await self.announce()
        link = str(await self.link())
        log.event("ready", f"ready {link}", link=link, peer_id=self._swarm.peer_id)
        await asyncio.gather(
            running.repeat(stop, ANNOUNCE_SECONDS, self.announce),
            self._train_and_hold(stop),
            self._releases.keep_pushing(stop),
        )

    async def _train_and_hold(self, stop: Stop) -> None:
        await self._training.live(stop)
        if not stop.is_set():
            await self._rounds.hold(stop)

    async def release(self) -> None:
        """Papers beside what was published, and all of it to the Hub, in time."""
        await self._releases.release()
        if self._settings.keep_rounds is not None:
            freed_bytes = await asyncio.to_thread(
                prune,
                self._folder,
                self._ledger,
                keep=self._settings.keep_rounds,
                unpushed=waiting_for_hub(self._ledger, repository=self._settings.hub),
            )
            logger.info("%d bytes of old rounds removed", freed_bytes)

    async def _must_be_alone(self) -> None:
        """A copy of this run's folder, or an older backup, must not publish beside another."""
        link = Link(self._swarm.run_id, self._me.fingerprint, ())
        found = await self._swarm.current_run(link)
        line = Lineage(self._ledger.database).all()
        known = {one.revision for one in line}
        if found is not None and known and found.record.revision not in known:
            raise ForkError(
                f"the swarm is at {found.record.revision[:12]}, signed by this run's own key, and "
                f"this ledger ends at {line[-1].revision[:12]}",
                rule="one coordinator per run: two would sign two different rounds",
                way_out="stop the other coordinator, or restore the newest backup",
            )

    async def link(self) -> Link:
        """The join link: this peer first, then a neighbour to enter by when it is away."""
        addresses = await self._swarm.addresses()
        neighbours = await self._swarm.neighbours()
        peers = (*addresses[:2], *neighbours[:1])
        return Link(self._swarm.run_id, self._me.fingerprint, peers)

    async def announce(self) -> None:
        """Store the run record and what this peer holds; remember who is there."""
        await self._swarm.announce(self._run_record())
        for digest in sorted(held_by(self._folder, self._ledger)):
            await self._swarm.announce(ProviderRecord(run_id=self._swarm.run_id, digest=digest))
        await self._swarm.announce(self._checkpoint_record())
        if (plan := self._training.record()) is not None:
            await self._swarm.announce(plan)
        neighbours = await self._swarm.neighbours()
        joining.remember(self._folder.path, self._swarm.run_id, neighbours)

    def _run_record(self) -> RunRecord:
        current = self._current_round()
        last = len(self._ledger.rounds())
        return RunRecord(
            run_id=self._swarm.run_id,
            coordinator=self._me.fingerprint,
            revision=self._ledger.fact("revision"),
            parent=self._parent(),
            num_blocks=self._shape.num_blocks,
            d_model=self._shape.d_model,
            num_parameters=self._shape.num_parameters,
            languages=tuple(self._ledger.fact("languages")),
            lora_max_rank=self._settings.max_rank,
            catalogue=self._ledger.fact("catalogue"),
            round_index=current.number if current else last,
            round_state=str(current.state) if current else self._between_rounds(),
            round_closes_at=current.closes_at if current else 0.0,
            licence=self._ledger.fact("licence"),
        )

    def _between_rounds(self) -> str:
        plan = self._training.record()
        is_training = plan is not None and plan.state == "open"
        return "training through peers" if is_training else "between rounds"

    def _parent(self) -> str | None:
        head = Lineage(self._ledger.database).head()
        return head.parent if head else None

    def _checkpoint_record(self) -> CheckpointRecord:
        revision = self._ledger.fact("revision")
        manifest = packages.read_manifest(self._folder.package(revision))
        return CheckpointRecord(
            run_id=self._swarm.run_id,
            revision=revision,
            parent=manifest.about.get("parent"),
            round_index=int(manifest.about.get("round", 0)),
            size_bytes=manifest.size_bytes,
            reference=str(Reference.of_swarm(revision)),
        )
