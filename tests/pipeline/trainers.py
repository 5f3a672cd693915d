"""Trainers and the conductor of the simulator: real machines, timers and choices around them."""

from __future__ import annotations

from typing import Any

from seshu_swarm.pipeline.conductor import Conductor
from seshu_swarm.pipeline.messages import Feed, MicrobatchId, Status, Withdrawal
from seshu_swarm.pipeline.step import Kind, Task, TrainerStep
from tests.pipeline.replicas import Actor, Swarm
from tests.sessions.network import WrongError

TICK = 1.0
ANSWER_DEADLINE = 6.0
SILENCE = 12.0
CONDUCTOR = "conductor"


class Trainer(Actor):
    """Feeds its microbatches to whomever it finds, and asks again when nobody answers."""

    def __init__(self, name: str, swarm: Swarm, per_step: int) -> None:
        super().__init__(name, swarm)
        self.per_step = per_step
        self.step: TrainerStep[Any] | None = None
        self.max_in_flight = self.world.rng.choice((1, 2, 8))
        self.is_over = False
        self._deadlines: dict[tuple[Task, str], float] = {}
        self._made = -1
        self._tick()

    def follow(self, feed: Feed) -> None:
        if self.step is None or feed.step > self.step.step:
            self._begin(feed)
        elif feed.step == self.step.step:
            self.step.follow(feed)
        self._pump()

    def answered(self, task: Task, replica: str, value: Any, round_: int) -> None:
        if self.step is not None and value[-1] == self._made:
            self._deadlines.pop((task, replica), None)
            self._withdraw(self.step.answered(task, replica, value, round_=round_))
            self._pump()

    def refused(self, task: Task, replica: str) -> None:
        if self._deadlines.pop((task, replica), None) is not None and self.step is not None:
            self._withdraw(self.step.failed(task, replica))
            self.later(self.world.rng.random(), self._pump)

    def offers(self, step: int) -> list[MicrobatchId]:
        numbers = range(step * self.per_step, (step + 1) * self.per_step)
        return [MicrobatchId(self.name, number) for number in numbers]

    def _begin(self, feed: Feed) -> None:
        self._deadlines = {}
        mine = [i for i in feed.ids if i.trainer == self.name]
        # Steps that a conductor gave up were begun, but not made.
        self._made = min(told.version.step for told in feed.stages)
        inputs = {i: ("input", i, 0, self._made) for i in mine}
        self.step = TrainerStep(feed, inputs, max_in_flight=self.max_in_flight)

    def _tick(self) -> None:
        if self.is_over:
            return
        now = self.world.now
        for (task, replica), deadline in list(self._deadlines.items()):
            if deadline < now and self.step is not None:
                del self._deadlines[task, replica]
                self._withdraw(self.step.failed(task, replica))
        self._pump()
        step, fed = (-1, ()) if self.step is None else (self.step.step, self.step.fed)
        self.swarm.tell(self.name, CONDUCTOR, "heard_trainer", self.name, step, fed)
        self.later(TICK, self._tick)

    def _pump(self) -> None:
        step = self.step
        while step is not None and not self.is_over and (ready := step.ready()):
            for task in ready:
                if task.kind is Kind.HEAD:
                    gradient = ("gradient", task.id, task.stage - 1, self._made)
                    step.answered(task, "", gradient)
                else:
                    self._send(step, task)

    def _send(self, step: TrainerStep[Any], task: Task) -> None:
        replica = self.world.rng.choice(self.swarm.directory[task.stage])
        call = step.sent(task, replica)
        self._deadlines[task, replica] = self.world.now + ANSWER_DEADLINE
        version, values = step.version(task.stage), step.inputs(task)
        if call is None:
            values = values[0], None
        self.swarm.tell(self.name, replica, "compute", self.name, task, values, version, call)

    def _withdraw(self, withdrawals: list[tuple[str, Withdrawal]]) -> None:
        for replica, withdrawal in withdrawals:
            self._deadlines = {
                (t, r): d
                for (t, r), d in self._deadlines.items()
                if (t.kind, t.id, r) != (Kind.BACKWARD, withdrawal.id, replica)
            }
            self.swarm.tell(self.name, replica, "withdraw", withdrawal)


class Conducting(Actor):
    """Says its wishes at every tick, and takes who is silent for lost."""

    def __init__(self, swarm: Swarm, *, num_stages: int, num_steps: int) -> None:
        super().__init__(CONDUCTOR, swarm)
        self.conductor = Conductor(num_stages)
        # What is written down, and how often it was started.
        self.books, self.num_starts = self.conductor.books, 1
        self.num_steps = num_steps
        self.is_stopped = False
        # For each step the list, what is forfeited, and who lived when it ended.
        self.steps: list[tuple[frozenset[MicrobatchId], set[tuple[int, MicrobatchId]]]] = []
        self.forfeited = set[tuple[int, MicrobatchId]]()
        self.trainers: dict[str, float] = {}
        self.replicas: dict[str, tuple[int, float]] = {}
        self._tick()

    def restart(self) -> None:
        """kill -9, and another one goes on from the books; who is there comes again by itself."""
        self.world.note(f"the conductor begins again in step {self.books.step}")
        self.forfeited |= set(self.conductor.forfeited)
        self.conductor = Conductor.resumed(self.books, round_=self.num_starts << 32)
        self.num_starts += 1
        self.replicas.clear()
        # Those of the list have time to come again.
        self.trainers = dict.fromkeys(self.conductor.trainers, self.world.now)

    @property
    def is_over(self) -> bool:
        return len(self.steps) == self.num_steps

    def heard_replica(self, stage: int, name: str, status: Status) -> None:
        if not self.is_over:
            if not self.conductor.groups[stage].can_be(status):
                raise WrongError(f"{name} is at {status.age}, where no order has led")
            self.replicas[name] = stage, self.world.now
            self.conductor.heard(stage, name, status)
            self._go_on()

    def heard_trainer(self, name: str, step: int, fed: tuple[int, ...]) -> None:
        if not self.is_over:
            self.trainers[name] = self.world.now
            self.conductor.fed(name, step, fed)
            self._go_on()

    def closed(self, name: str) -> None:
        """A connection ended."""
        if not self.is_over and name in self.replicas:
            stage, _ = self.replicas.pop(name)
            self.conductor.lost(stage, name)
            self._go_on()

    def _tick(self) -> None:
        if self.is_over or self.is_stopped:
            return
        self._lose()
        self._go_on()
        self.books = self.conductor.books
        for stage, names in self.swarm.directory.items():
            for name in names:
                order = self.conductor.groups[stage].order_for(name)
                self.swarm.tell(self.name, name, "ask", self.name, order)
        if self.conductor.step >= 0:
            for name in list(self.trainers):
                self.swarm.tell(self.name, name, "follow", self.conductor.feed)
        self.later(TICK, self._tick)

    def _lose(self) -> None:
        limit = self.world.now - SILENCE
        for name in [n for n, (_, heard) in self.replicas.items() if heard < limit]:
            self.world.note(f"{name} is LOST to the conductor")
            self.closed(name)
        for name in [n for n, heard in self.trainers.items() if heard < limit]:
            self.world.note(f"{name} is LOST to the conductor")
            del self.trainers[name]
            self.conductor.trainer_lost(name)

    def _go_on(self) -> None:
        conductor = self.conductor
        if not conductor.is_done or self.is_over:
            return
        if conductor.groups[0].version.step > len(self.steps):
            self.steps.append((conductor.ids, self.forfeited | set(conductor.forfeited)))
            self.forfeited = set()
            self.world.note(f"step {conductor.step} is done")
        alive = [n for n in self.trainers if n in self.swarm.places]
        if not self.is_over and alive:
            offers = {n: self.swarm.places[n].offers(conductor.step + 1) for n in alive}
            conductor.begin(offers)
