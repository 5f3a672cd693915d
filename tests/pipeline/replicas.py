"""Replicas of the simulator: real ledgers; tensors are counts of ids, averages are sums of counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from seshu_swarm.errors import RefusalError
from seshu_swarm.pipeline.ledger import StageLedger
from seshu_swarm.pipeline.messages import (
    NOTHING,
    Call,
    Commit,
    Effect,
    Join,
    MicrobatchId,
    Order,
    Version,
    Withdrawal,
)
from seshu_swarm.pipeline.step import Kind, Task
from tests.sessions.network import World, WrongError

AVERAGING_DEADLINE = 8.0
# What a stage's weights are made of: for each step, every id as often as it went in.
Weights = tuple[tuple[MicrobatchId, ...], ...]


@dataclass
class Swarm:
    """All that has an address, and what a test may know of everybody."""

    world: World
    places: dict[str, Any] = field(default_factory=dict)
    directory: dict[int, list[str]] = field(default_factory=dict)
    averages: dict[tuple[int, Commit], Averaging] = field(default_factory=dict)
    weights: dict[tuple[int, Version], Weights] = field(default_factory=dict)

    def check_weights(self, stage: int, version: Version, weights: Weights) -> None:
        """Equal versions are equal weights."""
        if self.weights.setdefault((stage, version), weights) != weights:
            raise WrongError(f"two weights of stage {stage} are called {version}")

    def tell(self, source: str, target: str, name: str, *args: object) -> None:
        """Call a method of whoever is there when the message comes."""
        self.world.send(source, target, self._arrive, target, name, args)

    def _arrive(self, target: str, name: str, args: tuple[object, ...]) -> None:
        place = self.places.get(target)
        if place is not None:
            place.when_awake(lambda: getattr(place, name)(*args))


class Actor:
    """May pause, and may be killed: then it is gone with all it had."""

    def __init__(self, name: str, swarm: Swarm) -> None:
        self.name, self.swarm, self.world = name, swarm, swarm.world
        self.is_alive = True
        self.paused_until = 0.0
        swarm.places[name] = self

    def when_awake(self, call: Callable[[], object]) -> None:
        if not self.is_alive:
            return
        if self.paused_until > self.world.now:
            self.world.at(self.paused_until, self.when_awake, call)
            return
        call()

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        self.world.after(seconds, self.when_awake, call)

    def kill(self) -> None:
        self.is_alive = False
        self.swarm.places.pop(self.name, None)


class Averaging:
    """One all-reduce: once all members gave, each may get the sum, or not."""

    def __init__(self, swarm: Swarm, members: tuple[tuple[str, int], ...]) -> None:
        self.swarm = swarm
        self.members = [name for name, _ in members]
        self.given: dict[str, Counter[MicrobatchId]] = {}

    def give(self, name: str, counts: Counter[MicrobatchId]) -> None:
        self.given[name] = Counter(counts)
        if len(self.given) == len(self.members):
            total = sum(self.given.values(), Counter[MicrobatchId]())
            for member in self.members:
                self._deliver(member, total)

    def _deliver(self, member: str, total: Counter[MicrobatchId]) -> None:
        place, world = self.swarm.places.get(member), self.swarm.world
        if place is not None and world.rng.random() >= world.weather.drop:
            place.later(world.rng.random() * 3.0, lambda: place.take_average(self, total))


class Replica(Actor):
    """`weights` is what was averaged in, step by step; `gradients` what was accumulated."""

    def __init__(self, name: str, stage: int, swarm: Swarm, version: Version = NOTHING) -> None:
        super().__init__(name, swarm)
        self.stage = stage
        self.ledger = StageLedger(name, version)
        self.weights: Weights = ()
        self.gradients = Counter[MicrobatchId]()
        self._averaging: tuple[Averaging, int] | None = None
        swarm.directory.setdefault(stage, []).append(name)

    def ask(self, conductor: str, order: Order | None) -> None:
        """The conductor wishes, and is told where this is."""
        effect = Effect.NONE if order is None else self.ledger.obey(order)
        if order is not None and effect is not Effect.NONE:
            self._do(effect, order)
        self.swarm.tell(
            self.name, conductor, "heard_replica", self.stage, self.name, self.ledger.status
        )

    def compute(
        self, trainer: str, task: Task, values: Any, version: Version, call: Call | None
    ) -> None:
        """Forward, or backward if there is a call; an answer or a refusal."""
        try:
            if call is None:
                self.ledger.check_version(version)
            else:
                self.ledger.admits(call)
        except RefusalError as error:
            self._refuse(trainer, task, error)
            return
        seconds = self.world.rng.random() * self.world.rng.choice((0.5, 0.5, 4.0))
        self.later(seconds, lambda: self._finish(trainer, task, values, version, call))

    def withdraw(self, asked: Withdrawal) -> None:
        self.ledger.withdraw(asked)

    def take_average(self, averaging: Averaging, total: Counter[MicrobatchId]) -> None:
        if self._averaging is None or self._averaging[0] is not averaging:
            return
        if self.ledger.averaged(self._averaging[1]):
            self._arrive((*self.weights, tuple(sorted(total.elements()))))

    def give_weights(self, replica: str) -> None:
        self.swarm.tell(self.name, replica, "take_weights", self.ledger.version, self.weights)

    def take_weights(self, version: Version, weights: Weights) -> None:
        if self.ledger.downloaded(version):
            self._arrive(weights)

    def _do(self, effect: Effect, order: Order) -> None:
        self.world.note(f"{self.name} {effect.name} {self.ledger.status.age}")
        if effect is Effect.CLEAR:
            self.gradients.clear()
        elif isinstance(order, Join):
            self.swarm.tell(self.name, order.source, "give_weights", self.name)
        elif isinstance(order, Commit):
            self._average(order)

    def _average(self, order: Commit) -> None:
        key = self.stage, order
        fresh = Averaging(self.swarm, order.members)
        averaging = self.swarm.averages.setdefault(key, fresh)
        self._averaging = averaging, order.round
        given = Counter(self.gradients)
        self.later(self.world.rng.random(), lambda: averaging.give(self.name, given))
        self.later(AVERAGING_DEADLINE, lambda: self.ledger.average_failed(order.round))

    def _arrive(self, weights: Weights) -> None:
        self.weights, self._averaging = weights, None
        self.gradients.clear()
        self.world.note(f"{self.name} is at {self.ledger.version}")
        self.swarm.check_weights(self.stage, self.ledger.version, weights)

    def _finish(
        self, trainer: str, task: Task, values: Any, version: Version, call: Call | None
    ) -> None:
        given, gradient = values
        try:
            if call is None:
                self.ledger.check_version(version)
            elif self.ledger.count(call):
                self.gradients[call.id] += 1
        except RefusalError as error:
            self._refuse(trainer, task, error)
            return
        step = self.ledger.version.step
        expected = ("input", task.id, task.stage, step)
        if given != expected or (call and gradient != ("gradient", task.id, task.stage, step)):
            raise WrongError(f"{values} came for {task} of step {step}")
        is_forward = task.kind is Kind.FORWARD
        what, where = ("input", 1) if is_forward else ("gradient", -1)
        value = (what, task.id, task.stage + where, step)
        round_ = -1 if call is None else call.round
        self.swarm.tell(self.name, trainer, "answered", task, self.name, value, round_)

    def _refuse(self, trainer: str, task: Task, error: RefusalError) -> None:
        self.world.note(f"{self.name} refuses {task.id}: {error.name}")
        self.swarm.tell(self.name, trainer, "refused", task, self.name)
