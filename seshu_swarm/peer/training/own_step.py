"""One step at one trainer: its microbatches, where they are, and what the conductor is told of them.

Knows no sockets and computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from seshu_swarm.peer.training.ends import Count, EndsStep
from seshu_swarm.pipeline.messages import Feed, MicrobatchId
from seshu_swarm.pipeline.protocol.steps import FedMessage
from seshu_swarm.pipeline.step import TrainerStep
from seshu_swarm.pipeline.tensors import Packed
from seshu_swarm.training.loop import Batch


@dataclass(frozen=True)
class StepTold:
    """A step that is over. `loss`: nats per learned token of this trainer's part, NaN without any;
    `num_microbatches`: of all trainers, `numbers`: this one's; `num_steps`: taken by the weights so far."""

    step: int
    loss: float
    num_microbatches: int
    num_steps: int
    numbers: tuple[int, ...]


@dataclass(eq=False)
class OwnStep:
    """`feed` has the ends as its last stage, `stages` is without them. `asked`: of each stage, which
    replica was asked to count which numbers."""

    feed: Feed
    stages: TrainerStep[Packed]
    ends: EndsStep
    batches: dict[MicrobatchId, Batch]
    asked: list[dict[str, set[int]]]
    # Nats and learned tokens of the microbatches whose loss is known.
    losses: dict[MicrobatchId, tuple[float, int]] = field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        feed: Feed,
        batches: dict[MicrobatchId, Batch],
        inputs: Mapping[MicrobatchId, Packed],
        *,
        count: Count,
        max_in_flight: int,
    ) -> Self:
        """`inputs` are those of stage 0; `count` is the member's."""
        told = _of_stages(feed)
        stages = TrainerStep(told, inputs, max_in_flight=max_in_flight)
        ends = EndsStep(feed.stages[-1], count)
        return cls(feed, stages, ends, batches, [{} for _ in told.stages])

    @property
    def number(self) -> int:
        return self.stages.step

    def follow(self, feed: Feed) -> set[int]:
        """The conductor's newer word of the same step; the stages that are in a new round."""
        rounds = zip(feed.stages[:-1], self.feed.stages[:-1], strict=True)
        reopened = {k for k, (told, known) in enumerate(rounds) if told.round > known.round}
        self.feed = feed
        self.stages.follow(_of_stages(feed))
        self.ends.follow(feed.stages[-1])
        return reopened

    @property
    def ids(self) -> list[MicrobatchId]:
        """This trainer's that are in the list still."""
        return [id_ for id_ in self.batches if id_ in self.feed.ids]

    @property
    def loss(self) -> tuple[float, int]:
        known = [self.losses[id_] for id_ in self.ids if id_ in self.losses]
        return sum(nats for nats, _ in known), sum(tokens for _, tokens in known)

    @property
    def rounds(self) -> list[int]:
        """Of each group, the ends last: in which all of this trainer's is counted, or -1."""
        return [*self.stages.fed, self.ends.fed(self.ids)]

    def message(self) -> FedMessage:
        nats, tokens = self.loss
        return FedMessage(
            step=self.number,
            rounds=self.rounds,
            asked=[{name: sorted(of) for name, of in table.items()} for table in self.asked],
            nats=nats,
            tokens=tokens,
        )


def _of_stages(feed: Feed) -> Feed:
    """Without the ends."""
    return Feed(feed.step, feed.ids, feed.stages[:-1])
