"""A plan under way: the conductor, its members, and what they say. No sockets, no disk; the clock is given.

What cannot be true is believed from nobody: who says it is lost at once, and its peer is avoided by name.
Every change wakes whoever drives the plan (`driving`); nothing is sent from here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from seshu_swarm.coordinator.conducting import checking
from seshu_swarm.coordinator.conducting.failing import Failing
from seshu_swarm.coordinator.conducting.journal import Entry
from seshu_swarm.coordinator.conducting.patience import Patience
from seshu_swarm.coordinator.conducting.roster import AVOID_SECONDS, LOST_SECONDS, Member, Roster
from seshu_swarm.errors import PeerLostError, ProtocolError
from seshu_swarm.pipeline.conductor import Conductor
from seshu_swarm.pipeline.messages import MicrobatchId, Status
from seshu_swarm.pipeline.protocol.converting import to_status
from seshu_swarm.pipeline.protocol.fields import MAX_MEMBERS
from seshu_swarm.pipeline.protocol.steps import Complaint, Enlist, FedMessage, StatusMessage
from seshu_swarm.program import log
from seshu_swarm.records.kinds import TrainingRecord
from seshu_swarm.streams.channel import refusal
from seshu_swarm.streams.protocol import Message, Refusal

logger = logging.getLogger(__name__)

# Trainers of a final list have so long to come again after a restart.
COMING_SECONDS = 2 * LOST_SECONDS
# Of one member, in the log.
COMPLAINT_PAUSE_SECONDS = 0.5
# They are written down with each step.
MAX_NUMBERS = 2 * MAX_MEMBERS


class Course:
    """`entry` and `round_` are what the journal gave. `made` counts the steps in the weights."""

    def __init__(
        self,
        record: TrainingRecord,
        entry: Entry,
        *,
        round_: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.record, self.clock = record, clock
        self.num_stages = record.num_stages
        self.conductor = Conductor.resumed(entry.books, round_=round_)
        self.roster, self._patience = Roster(self.num_stages), Patience()
        self._failing = Failing()
        self.numbers = dict(entry.numbers)
        self.news = asyncio.Event()
        self.num_forfeited = 0
        # Trainers of the list of a killed coordinator that are not back yet.
        self._awaited = dict.fromkeys(self.conductor.trainers, clock() + COMING_SECONDS)

    @property
    def made(self) -> int:
        return min(group.version.step for group in self.conductor.groups)

    def enlist(self, asked: Enlist, peer_id: str) -> Member:
        """Raises RefusalError."""
        if asked.plan != self.record.plan:
            raise refusal(Refusal.NOT_TRAINING, f"the plan is {self.record.plan}")
        is_new = asked.name not in self.roster
        member = self.roster.enlist(asked, peer_id, now=self.clock())
        self._awaited.pop(asked.name, None)
        if member.is_trainer:
            known = self.numbers.pop(asked.name, 0)
            self.numbers[asked.name] = max(known, asked.number)
            self._forget_numbers()
        if is_new:
            what = "trainer" if member.is_trainer else f"replica of stage {member.group}"
            log.event("member", f"{what} {member.name}", member=member.name, group=member.group)
        self.news.set()
        return member

    def hear(self, member: Member, message: Message) -> None:
        """Raises RefusalError where it cannot be true, ProtocolError where it does not fit the plan,
        PeerLostError from who was taken for lost."""
        if self.roster.get(member.name) is not member:
            raise PeerLostError(f"{member.name} was taken for lost", way_out="it enlists again")
        member.heard_at, member.is_news, member.has_spoken = self.clock(), True, True
        match message:
            case StatusMessage():
                self._hear_status(member, message)
            case FedMessage():
                self._hear_fed(member, message)
            case Complaint():
                self._hear_complaint(member, message)
        self.news.set()

    def lose(self) -> None:
        """Take for lost who has been silent for too long, and send away who holds the others up."""
        now = self.clock()
        for member in self.roster.lost(now=now):
            self._lost(member, "silent or without a stream for too long")
        for member, reason in self._patience.overdue(self.conductor, self.roster, now=now):
            self.send_away(member, reason)
        for name in [name for name, until in self._awaited.items() if until < now]:
            del self._awaited[name]
            self.conductor.trainer_lost(name)
        self._name_forfeited()

    def offers(self) -> dict[str, list[MicrobatchId]]:
        """The ids of the next step: shared evenly among trainers that have the ends' weights, and
        numbered on. The numbers count as used."""
        in_step = set(self.conductor.groups[self.num_stages].in_step)
        names = sorted(m.name for m in self.roster.trainers() if m.name in in_step)
        total, offers = self.record.num_microbatches, {}
        for place, name in enumerate(names):
            count = total * (place + 1) // len(names) - total * place // len(names)
            first = self.numbers.get(name, 0)
            self.numbers[name] = first + count
            if count:
                offers[name] = [MicrobatchId(name, first + i) for i in range(count)]
        return offers

    def begin(self) -> None:
        """The next step. Raises UsageError where there is no trainer."""
        for member in self.roster:
            member.asked.clear()
            member.nats, member.tokens = 0.0, 0
        self.conductor.begin(self.offers())
        self.num_forfeited = 0
        self.news.set()

    def _hear_status(self, member: Member, message: StatusMessage) -> None:
        group, status = self.conductor.groups[member.group], to_status(message)
        if wrong := checking.unlikely(group, status):
            self.send_away(member, wrong)
            raise refusal(Refusal.AVOIDED, wrong)
        # Before it is heard: the last claim of a round settles it at once.
        if wrong := self._false_claim(member, status):
            self.send_away(member, wrong)
            return
        self._failing.note(member.group, group, member.name, status, now=self.clock())
        self.conductor.heard(member.group, member.name, status)
        self._check_claims()
        if (name := self._failing.left_out(member.group)) and (at_fault := self.roster.get(name)):
            self.send_away(at_fault, "averages of which it is a member fail again and again")
        self._name_forfeited()

    def _hear_fed(self, member: Member, message: FedMessage) -> None:
        if not member.is_trainer or len(message.rounds) != self.num_stages + 1:
            raise ProtocolError(
                f"what is fed in {len(message.rounds)} groups",
                rule=f"a trainer's word on each of {self.num_stages + 1} groups",
            )
        if message.step != self.conductor.step:
            return
        for place, (group, round_) in enumerate(
            zip(self.conductor.groups, message.rounds, strict=True)
        ):
            if round_ > group.round:
                wrong = f"fed round {round_} of group {place}, where the newest is {group.round}"
                self.send_away(member, wrong)
                raise refusal(Refusal.AVOIDED, wrong)
        # What is no part of the step is not kept, nor are more replicas than there can be.
        own = {id_.number for id_ in self.conductor.ids if id_.trainer == member.name}
        for stage, table in enumerate(message.asked[: self.num_stages]):
            for name, numbers in table.items():
                is_room = len(member.asked) < MAX_MEMBERS or (stage, name) in member.asked
                if is_room and not own.isdisjoint(numbers):
                    member.asked.setdefault((stage, name), set()).update(own.intersection(numbers))
        member.nats, member.tokens = message.nats, message.tokens
        self.conductor.fed(member.name, message.step, message.rounds)
        self._check_claims()

    def _hear_complaint(self, member: Member, message: Complaint) -> None:
        about, now = self.roster.get(message.name), self.clock()
        if about is None or not (member.is_trainer or member.group == about.group):
            return
        if now - member.complained_at >= COMPLAINT_PAUSE_SECONDS:  # the log is not theirs to fill
            member.complained_at = now
            text = f"{member.name} complains about {message.name}: {message.reason}"
            log.event("complaint", text, member=message.name, by=member.name, reason=message.reason)
        if self.roster.complained(member.name, message.name, now=now):
            self.send_away(about, f"complaints, the last one: {message.reason}")

    def _check_claims(self) -> None:
        """Of all whose claims are decided upon now. Who is sent away learns it with its next word."""
        for member in self.roster:
            status = self.conductor.groups[member.group].statuses.get(member.name)
            if status is not None and (wrong := self._false_claim(member, status)):
                self.send_away(member, wrong)

    def _false_claim(self, member: Member, status: Status) -> str:
        """What is wrong with a claim that is decided upon now, or nothing."""
        if not checking.is_settled(self.conductor.groups[member.group], status):
            return ""
        if member.is_trainer:
            wrong = checking.foreign(member.name, status.claim)
        else:
            asked = {m.name: m.asked for m in self.roster.trainers()}
            asked = {name: asked[name] for name in self.conductor.trainers if name in asked}
            wrong = checking.unasked((member.group, member.name), status.claim, asked)
        return "" if wrong is None else f"claims {wrong}, which it was never asked to count"

    def send_away(self, member: Member, reason: str) -> None:
        """Its peer is avoided for a while, and all its members are lost."""
        text = f"{member.name} is avoided for {AVOID_SECONDS:.0f} s: {reason}"
        log.event("avoided", text, member=member.name, reason=reason)
        for other in self.roster.avoid(member.peer, now=self.clock()):
            self._lost(other, "its peer is avoided")

    def _lost(self, member: Member, why: str) -> None:
        text = f"{member.name} of group {member.group} is lost: {why}"
        log.event("member-lost", text, member=member.name, group=member.group, reason=why)
        self.roster.remove(member.name)
        if member.outbox is not None:
            member.outbox.close()
        if member.is_trainer:
            self.conductor.trainer_lost(member.name)
        self.conductor.lost(member.group, member.name)
        self.news.set()

    def _forget_numbers(self) -> None:
        """Of trainers that left long ago: a name is new at each start, and one that comes again tells
        its number itself."""
        gone = [name for name in self.numbers if name not in self.roster]
        for name in gone[: max(0, len(self.numbers) - MAX_NUMBERS)]:
            del self.numbers[name]

    def _name_forfeited(self) -> None:
        found = self.conductor.forfeited
        for stage, id_ in found[self.num_forfeited :]:
            text = f"microbatch {id_.number} of {id_.trainer} is forfeited at group {stage}"
            log.event("forfeited", text, group=stage, trainer=id_.trainer, number=id_.number)
        self.num_forfeited = len(found)
