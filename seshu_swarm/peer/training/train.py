"""`peer train`: a trainer with running text, in a run that is trained through its peers.

It holds the ends, feeds microbatches, and leaves while its owner wants it paused: it comes back under
another name. What it feeds can be read by whoever holds a stage: embeddings are a table look-up.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from seshu_swarm import checkpoints
from seshu_swarm.data.own_text import files_of
from seshu_swarm.errors import (
    DeadlineError,
    PeerLostError,
    ProtocolError,
    RefusalError,
    UsageError,
)
from seshu_swarm.peer import status
from seshu_swarm.peer.config import TrainConfig
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.lending import lend
from seshu_swarm.peer.training.calls import Calls
from seshu_swarm.peer.training.casting import Casting
from seshu_swarm.peer.training.ends import EndsPasses
from seshu_swarm.peer.training.member import Member
from seshu_swarm.peer.training.meter import Meter
from seshu_swarm.peer.training.own_step import StepTold
from seshu_swarm.peer.training.text import batches_of
from seshu_swarm.peer.training.trainer import Trainer
from seshu_swarm.peer.training.weights import TrainedPart
from seshu_swarm.pipeline.protocol.groups import AVERAGES, STATES
from seshu_swarm.pipeline.tensors import bytes_of
from seshu_swarm.program import log, running, waits
from seshu_swarm.program.progress import Bar
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.run.training_plan import find_training
from seshu_swarm.stores.asking import all_of
from seshu_swarm.stores.references import Reference
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import Refusal
from seshu_swarm.training.loop import Batches

WATCH_SECONDS = 1.0
PAUSED_SECONDS = 10.0
ENLIST_SECONDS = 30.0
AGAIN_SECONDS = 1.0
IN_FLIGHT_OF_A_STAGE = 2


def run(settings: TrainConfig) -> int:
    if settings.data:
        files_of(settings.data)  # refused before anybody is joined

    async def train(joined: Joined, guest: Guest, stop: Stop) -> bool:
        record = await find_training(joined)
        if record is None:
            raise UsageError(
                f"run {joined.run.run_id!r} is not trained through its peers now",
                rule="its maintainer opens a plan of training",
                way_out="ask the maintainer, or fine-tune: python -m seshu_swarm.peer finetune",
            )
        batches = await batches_of(joined, settings, record, stop)
        if batches is None:
            return False
        with ThreadPoolExecutor(1, "training") as executor, Bar("training") as bar:
            training = Training(joined, record, guest, batches, executor=executor, bar=bar)
            return await training.live(stop, settings.max_in_flight)

    return lend(settings, train)


class Training:
    """Lives of one trainer after another, until the plan is over."""

    def __init__(
        self,
        joined: Joined,
        record: TrainingRecord,
        guest: Guest,
        batches: Batches,
        *,
        executor: ThreadPoolExecutor,
        bar: Bar,
    ) -> None:
        self._joined, self._record, self._guest = joined, record, guest
        self._batches, self._executor, self._bar = batches, executor, bar
        self._member: Member | None = None
        self._was_enlisted = False
        self._meter = Meter()
        # Of those that were sent: counted against the day's limit; and those of earlier lives.
        self._paid_bytes = self._members_bytes = 0
        self._began, self._num_tokens = time.monotonic(), 0
        self._facts: dict[str, float] = {}

    async def live(self, stop: Stop, max_in_flight: int | None) -> bool:
        """Whether the plan is over; False if it was stopped before. Raises SeshuError."""
        folder = await self._fetch_ends()
        self._guest.need_memory(bytes_kept(self._record, folder), "a trainer's microbatches")
        swarm = self._joined.swarm
        await swarm.serve(AVERAGES, self._serve_averages)
        await swarm.serve(STATES, self._serve_states)
        in_flight = max_in_flight or IN_FLIGHT_OF_A_STAGE * self._record.num_stages
        running.settle()
        while not stop.is_set():
            if reason := self._pause_reason():
                self._show(f"paused: {reason}")
                await stop.sleep(PAUSED_SECONDS)
            elif await self._one_life(folder, in_flight, stop):
                log.event("trained", "the training is over", **self._facts)
                return True
        return False

    async def _fetch_ends(self) -> Path:
        folder = self._joined.package_folder(self._record.base)
        names = checkpoints.files_for_ends()
        with waits.waiting(f"the ends of revision {self._record.base[:12]}"):
            await self._joined.store.fetch(Reference.of_swarm(self._record.base), folder, names)
        return folder

    async def _one_life(self, folder: Path, max_in_flight: int, stop: Stop) -> bool:
        """Whether the plan is over; False when stopped or paused."""
        record, swarm = self._record, self._joined.swarm

        async def part_of(group: int) -> TrainedPart:
            if group != record.num_stages:
                raise ProtocolError(f"a trainer in group {group}", rule=f"{record.num_stages}")
            return TrainedPart(await asyncio.to_thread(checkpoints.load_ends, folder), record)

        if self._member is not None:
            self._members_bytes += self._member.sent_bytes
        member = self._member = Member(
            swarm,
            name=f"{swarm.peer_id}#{secrets.token_hex(4)}",
            record=record,
            part_of=part_of,
            conductor=self._joined.coordinator,
            executor=self._executor,
        )
        if not await self._enlist(member, stop):
            return not stop.is_set()
        d_model = checkpoints.read_shape(folder).d_model
        calls = Calls(swarm, record, d_model=d_model, meter=self._meter)
        trainer = Trainer(
            member,
            calls,
            EndsPasses(
                member.part,
                batch_size=record.batch_size,
                length=record.length,
                casting=Casting(record.compute_type),
            ),
            self._batches,
            executor=self._executor,
            max_in_flight=max_in_flight,
            on_step=self._tell,
        )
        text = f"ready training for run {swarm.run_id}, plan {record.plan}"
        log.event("ready", text, peer_id=swarm.peer_id, trainer=member.name, plan=record.plan)
        return await self._until_over(member, trainer, stop)

    async def _enlist(self, member: Member, stop: Stop) -> bool:
        """False when it was stopped, or the plan was over before it came back from a pause. A conductor
        that is away is waited for: at first for a while, later as long as it takes."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ENLIST_SECONDS
        while not stop.is_set():
            try:
                await member.enlist(is_trainer=True, group=None)
            except (PeerLostError, DeadlineError) as error:
                if not self._was_enlisted and loop.time() > deadline:
                    raise
                most = (
                    "as long as it takes" if self._was_enlisted else f"at most {ENLIST_SECONDS:g} s"
                )
                self._show(f"waiting for the coordinator, {most}: {error}")
                await stop.sleep(AGAIN_SECONDS)
            except RefusalError as error:
                if self._was_enlisted and error.name == Refusal.NOT_TRAINING.name:
                    return False
                raise
            else:
                self._was_enlisted = True
                return True
        return False

    async def _until_over(self, member: Member, trainer: Trainer, stop: Stop) -> bool:
        life, is_over = Stop(), False

        async def enlisted() -> None:
            nonlocal is_over
            await member.live(life)
            is_over = not life.is_set()
            life.set()

        async def stopped() -> None:
            await running.first_to_end(stop.wait(), life.wait())
            life.set()

        watching = running.repeat(life, WATCH_SECONDS, lambda: self._watch(life))
        await all_of([enlisted(), trainer.live(life), watching, stopped()])
        return is_over

    async def _watch(self, life: Stop) -> None:
        """What the owner allows, and what the owner is shown."""
        reason = self._pause_reason()
        self._show("training")
        if reason:
            log.event("paused", f"paused: {reason}", reason=reason)
            life.set()

    def _pause_reason(self) -> str:
        sent_bytes = self._meter.sent_bytes + self._members_bytes
        if self._member is not None:
            sent_bytes += self._member.sent_bytes
        if not self._guest.allow_upload(sent_bytes - self._paid_bytes):
            return f"{Refusal.UPLOAD_LIMIT.name}: {self._guest.limits}"
        self._paid_bytes = sent_bytes
        return self._guest.pause_reason()

    def _tell(self, told: StepTold) -> None:
        """A step is over."""
        record = self._record
        self._num_tokens += told.num_microbatches * record.batch_size * (record.length - 1)
        speed = self._num_tokens / (time.monotonic() - self._began)
        self._facts |= {"step": told.num_steps, "tokens_per_second": speed}
        if not math.isnan(told.loss):
            self._facts["loss"] = told.loss
        log.fact("trained-step", numbers=told.numbers, **self._facts, **asdict(self._meter))
        self._bar.update(min(1.0, told.num_steps / max(1, record.num_steps)), **self._facts)

    def _show(self, doing: str) -> None:
        status.write(
            self._joined.state_dir,
            role="train",
            guest=self._guest,
            run=self._joined.run.run_id,
            plan=self._record.plan,
            doing=doing,
            **self._facts,
            **asdict(self._meter),
        )

    async def _serve_averages(self, channel: Channel) -> None:
        await self._enlisted().serve_averages(channel)

    async def _serve_states(self, channel: Channel) -> None:
        await self._enlisted().serve_states(channel)

    def _enlisted(self) -> Member:
        if self._member is None:
            raise refusal(Refusal.NOT_TRAINING, "I am not enlisted yet")
        return self._member


def bytes_kept(record: TrainingRecord, folder: Path) -> int:
    """Most that a trainer keeps of a step, if all microbatches of it are its own: each stage's input and
    gradient, and the gradients of the ends."""
    shape = checkpoints.read_shape(folder)
    num_numbers = record.batch_size * (record.length - 1) * shape.d_model
    num_ends = sum(math.prod(size) for size in shape.ends_tensors().values())
    kept = (2 * record.num_stages + 2) * bytes_of(num_numbers, record.wire_type) + 8 * num_ends
    return record.num_microbatches * kept
