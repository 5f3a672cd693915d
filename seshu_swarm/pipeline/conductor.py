"""One global step after another, over all stages: the list of ids, its end, and who is to do what. Pure.

One conductor at a time. It holds no tensors: what it forgets when it dies is asked again from replicas
and trainers, save its `books`, a few lines that are written down before anybody acts on them. The list
of a step is what the trainers offered. It changes only while no stage has committed any of it: a trainer
that is lost takes its ids with it. Once all stages are ready the list is final, and only then do stages
commit; so all commit the same one. An id whose trainer is lost after that, together with the replica that
had counted it, is **forfeited** at that stage, by name: the one case in which an id that counts at one
stage misses at another.

`resumed` goes on from books. A list that was not final is given up: no stage can have committed any of
it. A final one is fed again where it is not committed, in rounds greater than any before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from seshu_swarm.errors import UsageError
from seshu_swarm.pipeline.group import Ids, StageGroup, StagePhase
from seshu_swarm.pipeline.messages import Feed, MicrobatchId, Status, Version


@dataclass(frozen=True)
class Books:
    """What must outlive the conductor: the list of a step, whether it is final, and of each stage the
    version from which the step begins. Between two steps the list is empty."""

    step: int
    ids: Ids
    is_final: bool
    versions: tuple[Version, ...]


class Conductor:
    """`groups[stage]` are the replicas of each stage. `step` counts from 0 the lists that were begun: those
    that were given up, too, so the weights may have made fewer steps."""

    def __init__(self, num_stages: int) -> None:
        self.groups = [StageGroup() for _ in range(num_stages)]
        self.step = -1
        self.ids = Ids()
        self.forfeited: list[tuple[int, MicrobatchId]] = []
        self.is_final = False
        self._fed: dict[str, list[int]] = {}
        self._versions = tuple(group.version for group in self.groups)

    @classmethod
    def resumed(cls, books: Books, *, round_: int) -> Self:
        """`round_`: no less than any round that was ever told."""
        conductor = cls(len(books.versions))
        conductor.groups = [StageGroup(version, round_) for version in books.versions]
        conductor.step, conductor._versions = books.step, books.versions
        if books.is_final:
            conductor._open(books.ids, tried_until=round_)
            conductor.is_final = True
        return conductor

    @property
    def books(self) -> Books:
        """As they are now. They must be kept before the orders that follow from them are given."""
        if self.is_done:
            return Books(self.step, Ids(), False, tuple(g.version for g in self.groups))
        return Books(self.step, self.ids, self.is_final, self._versions)

    @property
    def trainers(self) -> list[str]:
        """Whose ids are in the step, and who is not lost."""
        return list(self._fed)

    def awaits(self, name: str) -> bool:
        """Whether a stage waits for what this trainer feeds."""
        rounds = self._fed.get(name, [])
        groups = zip(self.groups, rounds, strict=False)
        return any(g.phase is StagePhase.FEEDING and fed < g.round for g, fed in groups)

    @property
    def is_done(self) -> bool:
        return all(group.phase is StagePhase.DONE for group in self.groups)

    @property
    def feed(self) -> Feed:
        return Feed(self.step, self.ids, tuple(group.feed for group in self.groups))

    def begin(self, offers: Mapping[str, Iterable[MicrobatchId]]) -> None:
        """The next step, of what these trainers offer. Raises UsageError for an empty one, one begun
        too early, and ids that are not the offerer's own."""
        ids = Ids(id_ for offered in offers.values() for id_ in offered)
        foreign = [i for name, offered in offers.items() for i in offered if i.trainer != name]
        if not self.is_done or not ids or foreign:
            raise UsageError(
                f"step {self.step + 1} of {len(ids)} microbatches, {len(foreign)} of other trainers",
                rule="a step follows a finished one and has a microbatch; trainers offer their own",
            )
        self.step, self.is_final, self.forfeited = self.step + 1, False, []
        self._versions = tuple(group.version for group in self.groups)
        self._open(ids)

    def heard(self, stage: int, name: str, status: Status) -> None:
        """From a replica."""
        self.groups[stage].heard(name, status)
        self._advance()

    def lost(self, stage: int, name: str) -> None:
        """A replica is gone or has been silent for too long."""
        self.groups[stage].lost(name)
        self._advance()

    def fed(self, name: str, step: int, rounds: Iterable[int]) -> None:
        """A trainer's word: at each stage, the newest round in which all its ids are counted."""
        if step == self.step and name in self._fed:
            self._fed[name] = [max(*pair) for pair in zip(self._fed[name], rounds, strict=True)]
            self._advance()

    def trainer_lost(self, name: str) -> None:
        """A trainer is gone, and what it kept. It may offer again for the next step."""
        if self._fed.pop(name, None) is not None:
            if not self.is_final:
                self.ids = Ids(i for i in self.ids if i.trainer != name)
                for group in self.groups:
                    group.give_up(Ids(i for i in group.ids if i.trainer == name))
                if not self.ids:
                    self._abandon()
            self._advance()

    def restore(self, stage: int, keeper: str) -> Version:
        """All replicas of a stage are gone: `StageGroup.restore`. The books hold the new version."""
        version = self.groups[stage].restore(keeper)
        versions = list(self._versions)
        versions[stage] = version
        self._versions = tuple(versions)
        return version

    def _open(self, ids: Ids, *, tried_until: int = -1) -> None:
        self.ids = ids
        self._fed = {id_.trainer: [-1] * len(self.groups) for id_ in sorted(ids)}
        for group in self.groups:
            group.begin(ids, tried_until=tried_until)

    def _advance(self) -> None:
        for stage, group in enumerate(self.groups):
            if group.phase is StagePhase.FEEDING:
                self._forfeit(stage, group)
                if all(rounds[stage] >= group.round for rounds in self._fed.values()):
                    group.all_fed()
        if all(group.phase is StagePhase.READY for group in self.groups):
            self.is_final = True
        if self.is_final:
            for group in self.groups:
                group.commit()

    def _abandon(self) -> None:
        """All trainers of a list that is not final are gone: no average is made of no ids."""
        for group in self.groups:
            group.abandon()

    def _forfeit(self, stage: int, group: StageGroup) -> None:
        gone = Ids(i for i in group.feed.missing if i.trainer not in self._fed)
        if self.is_final and gone:
            self.forfeited += [(stage, i) for i in sorted(gone)]
            group.give_up(gone)
