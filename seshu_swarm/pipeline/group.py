"""The replicas of one stage in a step, as the conductor sees them: from an open list to one commit. Pure.

A step of a stage goes in rounds. In a round the trainers feed the ids that are missing, to whichever
replica answers; then all replicas are **sealed**, and their claims are compared (`settle`):

    FEEDING → SEALING → READY → COMMITTING → DONE
       ↑─────────┴────────┴─────────┘  the next round, with what is missing

A claim is taken whole or not at all, because accumulated gradients cannot be taken apart. Two replicas
may both have counted an id: one was slow, not dead, and it was replayed. The smaller claim is then
dropped **before** averaging: that replica begins the next round with nothing, and its other ids are
missing. Likewise a replica that is lost, or failed while averaging. Committed are only sealed claims
of one round that are disjoint and together the list: nothing counted later or elsewhere can come in.

Some members may apply an average that others miss. What was applied is committed; the others join it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from seshu_swarm.pipeline.messages import (
    FIRST,
    Commit,
    Join,
    MicrobatchId,
    Open,
    Order,
    Phase,
    Seal,
    StageFeed,
    Status,
    Version,
)

Ids = frozenset[MicrobatchId]


class StagePhase(Enum):
    FEEDING = auto()
    SEALING = auto()
    READY = auto()
    COMMITTING = auto()
    DONE = auto()


@dataclass(frozen=True)
class Settled:
    """Whose claims count, and what is then missing."""

    kept: frozenset[str]
    missing: Ids


def settle(ids: Ids, claims: Mapping[str, Ids]) -> Settled:
    """Disjoint claims within the list, the largest first; names break ties."""
    kept, covered = set[str](), set[MicrobatchId]()
    for name in sorted(claims, key=lambda name: (-len(claims[name]), name)):
        if claims[name] <= ids and covered.isdisjoint(claims[name]):
            kept.add(name)
            covered |= claims[name]
    return Settled(frozenset(kept), ids - covered)


class StageGroup:
    """`version` is the newest that is committed: what members of the group have. Rounds go on from
    `round_`, which is no less than any that was ever told of the group."""

    def __init__(self, version: Version = FIRST, round_: int = 0) -> None:
        self.version, self.round = version, max(version.round, round_)
        self.phase = StagePhase.DONE
        self.statuses: dict[str, Status] = {}
        self.ids = self._missing = Ids()
        self._keeping = self.members = frozenset[str]()
        # Of `members`: what they average.
        self.claims: dict[str, Ids] = {}
        self._stored: tuple[Version, str] | None = None
        # Rounds of this step in which members were told to commit; unknown up to the number.
        self._tried, self._tried_until = set[int](), -1

    def begin(self, ids: Ids, *, tried_until: int = -1) -> None:
        """The next step: nobody has counted anything. `tried_until`: it was begun before, and may have
        been committed in a round up to this one."""
        self.ids = ids
        self._tried, self._tried_until = set(), tried_until
        self.members = frozenset()
        self._next_round(Settled(frozenset(), ids))

    def heard(self, name: str, status: Status) -> None:
        """A replica lives, and is there. What was said before what is known is passed over."""
        known = self.statuses.get(name)
        if known is None or status.age >= known.age:
            self.statuses[name] = status
            self._advance()

    def lost(self, name: str) -> None:
        """It is gone, or silent for too long; if it speaks again, it is heard again."""
        if self.statuses.pop(name, None) is not None:
            self._advance()

    def restore(self, keeper: str) -> Version:
        """Nobody has the group's weights any more. Older ones, which `keeper` gives out, take their
        place: their version is that of the same step, and greater than the one that is gone."""
        self.round += 1
        self.version, self.members = Version(self.version.step, self.round), frozenset()
        self._stored = self.version, keeper
        if self.phase is not StagePhase.DONE:
            self._next_round(Settled(frozenset(), self.ids))
        return self.version

    def all_fed(self) -> None:
        """The trainers know of every missing id that some replica has counted it in this round."""
        if self.phase is StagePhase.FEEDING:
            self.phase = StagePhase.SEALING
            self._advance()

    def commit(self) -> None:
        """The list is final at all stages."""
        if self.phase is StagePhase.READY:
            self.phase = StagePhase.COMMITTING
            self._tried.add(self.round)

    def give_up(self, ids: Ids) -> None:
        """Nobody can feed these any more: they leave the list, and claims that hold them are void."""
        if self.phase in (StagePhase.FEEDING, StagePhase.SEALING, StagePhase.READY):
            self.ids -= ids
            self._missing -= ids
            if self.phase is StagePhase.READY:
                self.phase = StagePhase.SEALING
            self._advance()

    def abandon(self) -> None:
        """The list is empty, and nobody was told to commit: the next step begins from the same weights."""
        self.phase, self.members = StagePhase.DONE, frozenset()

    @property
    def shares(self) -> tuple[tuple[str, int], ...]:
        """How many ids each member averages."""
        return tuple((name, len(ids)) for name, ids in sorted(self.claims.items()))

    @property
    def feed(self) -> StageFeed:
        return StageFeed(self.version, self.round, self._missing)

    @property
    def in_step(self) -> list[str]:
        """Who has the weights that the step begins from."""
        return [name for name, status in self.statuses.items() if status.version == self.version]

    def can_be(self, status: Status) -> bool:
        """Whether orders can have led a replica there: nobody is ahead of them."""
        version = status.version
        if max(version.round, status.round) > self.round:
            return False
        if version.step <= self.version.step:
            return True
        was_tried = version.round in self._tried or version.round <= self._tried_until
        is_next = version.step == self.version.step + 1
        return is_next and was_tried and self.phase is not StagePhase.DONE

    def order_for(self, name: str) -> Order | None:
        """What this replica should do now, if anything."""
        status = self.statuses.get(name)
        if status is None or self.phase is StagePhase.DONE:
            return None if status is None else self._joining(status, self.version)
        applied = self._applied()
        if applied is not None or status.version != self.version:
            return self._joining(status, applied or self.version)
        if self.phase in (StagePhase.FEEDING, StagePhase.SEALING):
            if status.round < self.round:
                return Open(self.version, self.round, self.ids, name in self._keeping)
            sealing = self.phase is StagePhase.SEALING and status.phase is Phase.OPEN
            return Seal(self.version, self.round) if sealing else None
        if self.phase is StagePhase.COMMITTING and name in self.members:
            return Commit(self.version, self.round, self.shares)
        return None

    def _joining(self, status: Status, target: Version) -> Join | None:
        sources = sorted(name for name, s in self.statuses.items() if s.version == target)
        if not sources and self._stored is not None and self._stored[0] == target:
            sources = [self._stored[1]]
        if status.version >= target or not sources:
            return None
        return Join(target, sources[0])

    def _advance(self) -> None:
        if self.phase is not StagePhase.DONE and self._applied() is not None:
            self._finish_if_together()
        elif self.phase is StagePhase.SEALING:
            self._settle_if_sealed()
        elif self.phase is StagePhase.READY and not self.members <= set(self.in_step):
            self._settle(self.in_step)
        elif self.phase is StagePhase.COMMITTING:
            self._go_on_if_failed()

    def _settle_if_sealed(self) -> None:
        names = self.in_step
        if names and len(self._sealed(names)) == len(names):
            self._settle(names)

    def _sealed(self, names: Iterable[str]) -> list[str]:
        """Those of them whose claim of this round is known. A replica that was lost and is heard again
        may have said something older since."""
        known = [name for name in names if name in self.statuses]
        return [name for name in known if self._is_sealed(self.statuses[name])]

    def _is_sealed(self, status: Status) -> bool:
        here = self.version, self.round
        return (status.version, status.round) == here and status.phase > Phase.OPEN

    def _claims(self, names: Iterable[str]) -> dict[str, Ids]:
        return {name: self.statuses[name].claim for name in names}

    def _settle(self, names: Iterable[str]) -> None:
        """Another round, unless what is sealed is the whole list, and no claim is dropped: who begins
        again with nothing can take part in the average, and need not download its result."""
        claims = self._claims(self._sealed(names))
        settled = settle(self.ids, claims)
        if settled.missing or not claims or settled.kept != set(claims):
            self._next_round(settled)
            return
        self.phase, self.members = StagePhase.READY, settled.kept
        self.claims = claims

    def _go_on_if_failed(self) -> None:
        """Once no member is averaging any more, and one is lost or failed: another round."""
        members = self._sealed(self.members)
        phases = {self.statuses[name].phase for name in members}
        is_broken = Phase.FAILED in phases or len(members) < len(self.members)
        if self.in_step and is_broken and Phase.AVERAGING not in phases:
            self._next_round(settle(self.ids, self._claims(self._sealed(self.in_step))))

    def _next_round(self, settled: Settled) -> None:
        self.round += 1
        self._keeping, self._missing = settled.kept, settled.missing
        self.phase = StagePhase.FEEDING

    def _applied(self) -> Version | None:
        """The newest weights of the next step, if somebody has any."""
        step = self.version.step + 1
        versions = [s.version for s in self.statuses.values() if s.version.step == step]
        return max(versions, default=None)

    def _finish_if_together(self) -> None:
        """Wait for the members that live: as long as the step is not done, trainers keep what one of
        them would need to do it again."""
        target = self._applied()
        members = [name for name in self.members if name in self.statuses]
        if target is not None and all(self.statuses[n].version >= target for n in members):
            self.phase, self.version, self._missing = StagePhase.DONE, target, Ids()
            self.round = max(self.round, target.round)
