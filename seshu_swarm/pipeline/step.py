"""A trainer's side of a global step: its microbatches, on their way through the stages and back. Pure.

What is known of a microbatch decides what can be done next, and in any order:

    input of a stage known, its output not         FORWARD through the stage
    input of the head known, no gradient yet       HEAD, at the trainer: loss and its gradient
    input and output gradient of a stage known,    BACKWARD through the stage, which counts it there
    and not counted there in this round

All that was sent is kept until the step is committed at all stages. So what a lost replica had counted
is counted again by another one, at that stage alone, from the very same numbers. Values are opaque.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Generic, NamedTuple, TypeVar

from seshu_swarm.pipeline.messages import Call, Feed, MicrobatchId, StageFeed, Version, Withdrawal

V = TypeVar("V")


class Kind(Enum):
    FORWARD = auto()
    HEAD = auto()
    BACKWARD = auto()


class Task(NamedTuple):
    """`stage` is that of the head, one more than the last, for HEAD."""

    kind: Kind
    stage: int
    id: MicrobatchId


class TrainerStep(Generic[V]):
    """`microbatches`: the inputs of stage 0. At most `max_in_flight` of them are on their way at once,
    replays aside."""

    def __init__(
        self, feed: Feed, microbatches: Mapping[MicrobatchId, V], *, max_in_flight: int
    ) -> None:
        self.step = feed.step
        self.num_stages = len(feed.stages)
        self._stages = list(feed.stages)
        self._max_in_flight = max_in_flight
        self._ids = [id_ for id_ in sorted(microbatches) if id_ in feed.ids]
        self._inputs = {(id_, 0): microbatches[id_] for id_ in self._ids}
        self._gradients: dict[tuple[MicrobatchId, int], V] = {}
        self._counted: dict[tuple[MicrobatchId, int], int] = {}
        self._in_flight: dict[Task, dict[str, Call | None]] = {}
        self._attempts: dict[tuple[MicrobatchId, int], int] = {}

    def follow(self, feed: Feed) -> None:
        """What the conductor says now; older words change nothing. Ids that left the list are over."""
        if feed.step != self.step:
            return
        self._ids = [id_ for id_ in self._ids if id_ in feed.ids]
        for stage, told in enumerate(feed.stages):
            if told.round > self._stages[stage].round:
                self._reopen(stage, told)

    @property
    def fed(self) -> tuple[int, ...]:
        """For each stage the round in which all that it lacked of this trainer is counted, or -1."""
        return tuple(
            -1 if any(self._lacks(id_, stage) for id_ in self._ids) else told.round
            for stage, told in enumerate(self._stages)
        )

    @property
    def num_under_way(self) -> int:
        """Microbatches that have begun and are not back from stage 0."""
        return sum(self._is_under_way(id_) for id_ in self._ids)

    def ready(self) -> list[Task]:
        """What can be done now and is not being done: replays and what is under way first, and of
        these backward before forward, so that little is kept in flight."""
        tasks = [task for id_ in self._ids for task in self._tasks(id_)]
        begun = [task for task in tasks if not self._begins(task)]
        begun.sort(key=lambda task: task.kind is Kind.FORWARD)
        free = max(0, self._max_in_flight - self.num_under_way)
        return begun + [task for task in tasks if self._begins(task)][:free]

    def version(self, stage: int) -> Version:
        """Of the weights that a forward or backward pass there needs."""
        return self._stages[stage].version

    def inputs(self, task: Task) -> tuple[V, V | None]:
        """What goes with it: the input, and backward the gradient by the output."""
        place = task.id, task.stage
        return self._inputs[place], self._gradients.get(place)

    def sent(self, task: Task, replica: str) -> Call | None:
        """It goes to this replica. The head of the message, for backward."""
        call = None
        if task.kind is Kind.BACKWARD:
            place, told = (task.id, task.stage), self._stages[task.stage]
            attempt = self._attempts[place] = self._attempts.get(place, -1) + 1
            call = Call(task.id, told.version, told.round, attempt)
        self._in_flight.setdefault(task, {})[replica] = call
        return call

    def answered(
        self, task: Task, replica: str, value: V, *, round_: int = -1
    ) -> list[tuple[str, Withdrawal]]:
        """The output or the gradient by the input, from a replica that counted it in `round_`.

        Others that were asked for the same should count it no more: whom to tell what.
        """
        if task.id not in self._ids:
            return []
        if task.kind is Kind.FORWARD:
            self._inputs.setdefault((task.id, task.stage + 1), value)
        else:
            self._gradients.setdefault((task.id, task.stage - 1), value)
        if task.kind is Kind.BACKWARD:
            if round_ != self._stages[task.stage].round:
                return self.failed(task, replica)  # it was asked in an older round: ask again
            self._counted[task.id, task.stage] = round_
        asked = self._in_flight.pop(task, {})
        others = [(name, call) for name, call in asked.items() if name != replica]
        return [(name, _withdrawal(call)) for name, call in others if call is not None]

    def failed(self, task: Task, replica: str) -> list[tuple[str, Withdrawal]]:
        """No answer in time, a refusal, or the replica is lost: the task is ready again."""
        asked = self._in_flight.get(task, {})
        call = asked.pop(replica, None)
        if not asked:
            self._in_flight.pop(task, None)
        return [] if call is None else [(replica, _withdrawal(call))]

    def _reopen(self, stage: int, told: StageFeed) -> None:
        """A new round: what is not missing was counted by somebody whose claim is kept."""
        self._stages[stage] = told
        for task in [t for t in self._in_flight if (t.kind, t.stage) == (Kind.BACKWARD, stage)]:
            del self._in_flight[task]

    def _lacks(self, id_: MicrobatchId, stage: int) -> bool:
        """Whether the stage lacks it in its round."""
        told = self._stages[stage]
        return id_ in told.missing and self._counted.get((id_, stage), -1) < told.round

    def _tasks(self, id_: MicrobatchId) -> list[Task]:
        tasks = []
        for stage in range(self.num_stages):
            has_gradient = (id_, stage) in self._gradients
            if self._can_go_forward(id_, stage):
                tasks.append(Task(Kind.FORWARD, stage, id_))
            if has_gradient and self._lacks(id_, stage):
                tasks.append(Task(Kind.BACKWARD, stage, id_))
        last = id_, self.num_stages - 1
        if (id_, self.num_stages) in self._inputs and last not in self._gradients:
            tasks.append(Task(Kind.HEAD, self.num_stages, id_))
        return [task for task in tasks if task not in self._in_flight]

    def _can_go_forward(self, id_: MicrobatchId, stage: int) -> bool:
        return (id_, stage) in self._inputs and (id_, stage + 1) not in self._inputs

    def _begins(self, task: Task) -> bool:
        return task.kind is Kind.FORWARD and task.stage == 0 and not self._is_under_way(task.id)

    def _is_under_way(self, id_: MicrobatchId) -> bool:
        has_begun = (id_, 1) in self._inputs or Task(Kind.FORWARD, 0, id_) in self._in_flight
        return has_begun and (id_, -1) not in self._gradients


def _withdrawal(call: Call) -> Withdrawal:
    return Withdrawal(call.id, call.round, call.attempt)
