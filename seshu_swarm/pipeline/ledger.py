"""One replica's books: which ids of the step are in its gradients. Pure.

An id is accumulated here at most once; a repeat is answered and not accumulated. A replica that has
been sealed counts nothing until it is opened again, so that what it claims is what it averages. Only
`averaged` moves the weights on; whoever missed that downloads them.

The owner of the tensors asks `admits` before it computes and `count` when the gradients are there,
in the same thread as the accumulation: between the two the round may have ended.
"""

from __future__ import annotations

from collections.abc import Iterable

from seshu_swarm.errors import RefusalError
from seshu_swarm.pipeline.messages import (
    FIRST,
    Call,
    Commit,
    Effect,
    Join,
    MicrobatchId,
    Open,
    Order,
    Phase,
    Seal,
    Status,
    Version,
    Withdrawal,
)
from seshu_swarm.streams.protocol import Refusal


class StageLedger:
    """`name` is this replica's address, a new one each time it starts: what it counted in a former
    life is gone."""

    def __init__(self, name: str, version: Version = FIRST) -> None:
        self.name = name
        self.version, self.round = version, version.round
        self.phase = Phase.OPEN
        self._listed = frozenset[MicrobatchId]()
        self._counted = set[MicrobatchId]()
        self._lacking = frozenset[str]()
        self._withdrawn: dict[MicrobatchId, int] = {}

    @property
    def status(self) -> Status:
        claim = frozenset(self._counted) if self.phase > Phase.OPEN else frozenset()
        lacking = self._lacking if self.phase is Phase.FAILED else frozenset()
        return Status(self.version, self.round, self.phase, claim, lacking)

    def obey(self, order: Order) -> Effect:
        """Orders of the past, and those that do not fit what is here, change nothing."""
        if isinstance(order, Join):
            return Effect.DOWNLOAD if order.version > self.version else Effect.NONE
        if order.version != self.version:
            return Effect.NONE
        if isinstance(order, Open):
            return self._open(order)
        if order.round != self.round:
            return Effect.NONE
        if isinstance(order, Seal):
            self.phase = max(self.phase, Phase.SEALED)
            return Effect.NONE
        return self._begin_average(order)

    def admits(self, call: Call) -> bool:
        """Whether to accumulate: False for a repeat. Raises RefusalError with the rule's name."""
        self.check_version(call.version)
        if call.round != self.round:
            raise _refusal(Refusal.WRONG_ROUND, f"{call.round}, here is {self.round}")
        if call.id not in self._listed:
            raise _refusal(Refusal.NOT_IN_STEP, f"{call.id}, step {self.version.step}")
        if call.id in self._counted:
            return False
        if self.phase is not Phase.OPEN:
            raise _refusal(Refusal.SEALED, f"round {self.round}")
        if call.attempt <= self._withdrawn.get(call.id, -1):
            raise _refusal(Refusal.WITHDRAWN, f"attempt {call.attempt} of {call.id}")
        return True

    def count(self, call: Call) -> bool:
        """Its gradients are computed: True means accumulate them now. Raises RefusalError if the call
        is not admitted any more; then they are thrown away."""
        is_new = self.admits(call)
        self._counted.add(call.id)
        return is_new

    def check_version(self, version: Version) -> None:
        """For forward passes, which count nothing. Raises RefusalError."""
        if version != self.version:
            raise _refusal(Refusal.WRONG_VERSION, f"asked for {version}, here are {self.version}")

    def withdraw(self, asked: Withdrawal) -> None:
        """What is counted stays counted. Of ids outside the list there is nothing to withdraw."""
        if asked.round == self.round and asked.id in self._listed:
            known = self._withdrawn.get(asked.id, -1)
            self._withdrawn[asked.id] = max(known, asked.attempt)

    def averaged(self, round_: int) -> bool:
        """The average of this round is there: True means apply it; False, that it comes too late."""
        if round_ != self.round or self.phase is not Phase.AVERAGING:
            return False
        self._arrive(Version(self.version.step + 1, round_))
        return True

    def average_failed(self, round_: int, lacking: Iterable[str] = ()) -> None:
        """The gradients are as they were, and sealed. `lacking`: whose part did not come."""
        if round_ == self.round and self.phase is Phase.AVERAGING:
            self.phase, self._lacking = Phase.FAILED, frozenset(lacking)

    def downloaded(self, version: Version) -> bool:
        """True means: take these weights and forget all gradients."""
        if version <= self.version:
            return False
        self._arrive(version)
        return True

    def _open(self, order: Open) -> Effect:
        if order.round <= self.round:
            return Effect.NONE
        self.round, self.phase, self._listed = order.round, Phase.OPEN, order.ids
        self._withdrawn.clear()
        if order.keeps:
            return Effect.NONE
        self._counted.clear()
        return Effect.CLEAR

    def _begin_average(self, order: Commit) -> Effect:
        if self.phase is not Phase.SEALED or self.name not in dict(order.members):
            return Effect.NONE
        self.phase = Phase.AVERAGING
        return Effect.AVERAGE

    def _arrive(self, version: Version) -> None:
        self.version, self.round, self.phase = version, version.round, Phase.OPEN
        self._listed = frozenset()
        self._counted.clear()
        self._withdrawn.clear()


def _refusal(which: Refusal, detail: str) -> RefusalError:
    return RefusalError(which.name, which.value, rule=detail)
