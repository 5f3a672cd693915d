"""PASSES: a trainer to a replica, one stream for one pass: AskStagePass → StagePassed."""

from __future__ import annotations

from typing import Any

from seshu_swarm.pipeline.messages import Call, MicrobatchId, Withdrawal
from seshu_swarm.pipeline.protocol.fields import Group, Name, Round, VersionPair, to_version
from seshu_swarm.records.fields import Count, PlanId, Rate
from seshu_swarm.streams.protocol import Message

PASSES = "seshu/passes"


class AskStagePass(Message):
    """One microbatch through the stage. Shapes: B rows, L tokens, M d_model.

    Forward: `hidden` (B, L, M), and nothing else; the replica may keep what it computed. Backward: `gradient`
    (B, L, M) by the output, `round` and `attempt`; `hidden` is left out at first, as the replica may have
    kept the forward pass. If it has not, it answers `StagePassed(is_wanting=True)` and
    the same message comes again with `hidden`, on the same stream.
    """

    plan: PlanId
    stage: Group
    trainer: Name
    number: Count
    version: VersionPair
    round: Round = -1
    attempt: Count = 0
    hidden: dict[str, Any] | None = None
    gradient: dict[str, Any] | None = None

    @property
    def id(self) -> MicrobatchId:
        return MicrobatchId(self.trainer, self.number)

    @property
    def call(self) -> Call:
        return Call(self.id, to_version(self.version), self.round, self.attempt)


class WithdrawPass(Message):
    """`Withdrawal`; alone on its stream of PASSES, without an answer."""

    plan: PlanId
    stage: Group
    trainer: Name
    number: Count
    round: Round
    attempt: Count

    @property
    def withdrawal(self) -> Withdrawal:
        return Withdrawal(MicrobatchId(self.trainer, self.number), self.round, self.attempt)


class PassRequest(Message):
    """First message on PASSES."""

    request: AskStagePass | WithdrawPass


class StagePassed(Message):
    """The output, or the gradient by the input (B, L, M), and what it took; or a wish for `hidden`.
    `wait_seconds`: until the pass had its turn."""

    values: dict[str, Any] | None = None
    compute_seconds: Rate = 0.0
    wait_seconds: Rate = 0.0
    is_wanting: bool = False
