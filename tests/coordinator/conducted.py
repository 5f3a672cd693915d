"""A course without sockets: members that obey as real ones do, their words said by hand; time is given."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.journal import Entry
from seshu_swarm.coordinator.conducting.roster import Member
from seshu_swarm.pipeline.conductor import Books
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import FIRST, Call, Effect, Phase, Version
from seshu_swarm.pipeline.protocol.converting import of_status
from seshu_swarm.pipeline.protocol.steps import Enlist, FedMessage
from seshu_swarm.records.kinds import TrainingRecord
from tests.peer.training.plans import plan_of

PLAN = "0123456789abcdef"
NUM_STAGES = 2


def two_stages(**facts: object) -> TrainingRecord:
    return plan_of(num_blocks=2, boundaries=(0, 1, 2), num_microbatches=4, **facts)


def nothing_done(num_stages: int = NUM_STAGES) -> Entry:
    return Entry(Books(-1, frozenset(), False, (FIRST,) * (num_stages + 1)))


def name_of(letter: str) -> str:
    """Of the only life of a peer."""
    return f"{letter}peer#{ord(letter):08x}"


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Actor:
    """A member with a real ledger; what an average is, is done at once."""

    member: Member
    ledger: StageLedger


class Scene:
    """A course and its members: `turn` lets everybody say what is so, and do what is ordered."""

    def __init__(self, entry: Entry | None = None, *, round_: int = 0) -> None:
        self.clock = Clock()
        self.course = Course(two_stages(), entry or nothing_done(), round_=round_, clock=self.clock)
        self.actors: dict[str, Actor] = {}

    def enlist(
        self, letter: str, group: int | None = None, *, ledger: StageLedger | None = None
    ) -> Actor:
        """A trainer where the group is that of the ends."""
        name, is_trainer = name_of(letter), group == NUM_STAGES
        asked = Enlist(
            plan=PLAN, name=name, is_trainer=is_trainer, group=None if is_trainer else group
        )
        member = self.course.enlist(asked, f"{letter}peer")
        actor = self.actors[name] = Actor(member, ledger or StageLedger(name, FIRST))
        self.say(actor)
        return actor

    def say(self, actor: Actor) -> None:
        self.course.hear(actor.member, of_status(actor.ledger.status))

    def obey(self, actor: Actor) -> Effect:
        order = self.course.conductor.groups[actor.member.group].order_for(actor.member.name)
        return Effect.NONE if order is None else actor.ledger.obey(order)

    def feed(self, trainer: Actor, by_stage: dict[int, list[str]], *, asks: bool = True) -> None:
        """All of a trainer's ids, each stage's by its replicas in turn; and its word on it."""
        feed, asked = (
            self.course.conductor.feed,
            [dict[str, list[int]]() for _ in range(NUM_STAGES)],
        )
        mine = sorted(id_ for id_ in feed.ids if id_.trainer == trainer.member.name)
        for stage, names in by_stage.items():
            for place, id_ in enumerate(mine):
                replica = self.actors[names[place % len(names)]]
                told = feed.stages[stage]
                if id_ in told.missing:
                    replica.ledger.count(Call(id_, told.version, told.round, 0))
                    if asks:
                        asked[stage].setdefault(replica.member.name, []).append(id_.number)
        ends = feed.stages[NUM_STAGES]
        for id_ in mine:
            if id_ in ends.missing:
                trainer.ledger.count(Call(id_, ends.version, ends.round, 0))
        rounds = [told.round for told in feed.stages]
        word = FedMessage(
            step=feed.step, rounds=rounds, asked=asked, nats=4.0 * len(mine), tokens=len(mine)
        )
        self.course.hear(trainer.member, word)

    def settle(self) -> None:
        """Orders and statuses, until nothing changes any more; averages succeed once all are there."""
        for _ in range(12):
            for actor in self.actors.values():
                self._do(actor)
            averaging = [a for a in self.actors.values() if a.ledger.phase is Phase.AVERAGING]
            for actor in averaging:
                group = self.course.conductor.groups[actor.member.group]
                if group.members <= {a.member.name for a in averaging}:
                    actor.ledger.averaged(actor.ledger.round)
            for actor in self.actors.values():
                if actor.member.name in self.course.roster:
                    self.say(actor)

    def _do(self, actor: Actor) -> None:
        order = self.course.conductor.groups[actor.member.group].order_for(actor.member.name)
        if order is not None and actor.ledger.obey(order) is Effect.DOWNLOAD:
            actor.ledger.downloaded(order.version)

    @property
    def versions(self) -> list[Version]:
        return [group.version for group in self.course.conductor.groups]
