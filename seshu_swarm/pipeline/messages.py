"""What the conductor, the trainers and the replicas of a pipeline say to one another. Pure.

Orders are wishes, statuses are facts: both are said again until they agree, so one that comes twice,
late or not at all changes nothing. Tensors travel beside these, never inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import NamedTuple


class MicrobatchId(NamedTuple):
    """One microbatch of the run: who feeds it, and its number there."""

    trainer: str
    number: int


class Version(NamedTuple):
    """Weights of a stage: how many steps made them, and the round in which the last one was committed.

    Rounds of a stage only grow, so equal versions are equal weights, and the greater one is newer.
    """

    step: int
    round: int


FIRST = Version(0, 0)
# A replica without weights: it downloads those of its group.
NOTHING = Version(-1, -1)


class Phase(IntEnum):
    """Of a replica in its round; within one round it only grows."""

    OPEN = 0
    SEALED = 1
    AVERAGING = 2
    FAILED = 3


@dataclass(frozen=True)
class Status:
    """Of a replica. `claim`: what it has counted, told once it is sealed and counts no more. `lacking`:
    of an average that failed here, the members whose part did not come."""

    version: Version
    round: int
    phase: Phase
    claim: frozenset[MicrobatchId] = frozenset()
    lacking: frozenset[str] = frozenset()

    @property
    def age(self) -> tuple[Version, int, Phase]:
        """A greater one was said later."""
        return self.version, self.round, self.phase


@dataclass(frozen=True)
class Open:
    """Count ids of the step on `version` in this round: on top of the sealed claim if it `keeps`,
    else from none."""

    version: Version
    round: int
    ids: frozenset[MicrobatchId]
    keeps: bool


@dataclass(frozen=True)
class Seal:
    """Count no more, and tell your claim."""

    version: Version
    round: int


@dataclass(frozen=True)
class Commit:
    """Average what you counted with exactly these members, then step. Beside each member the number of
    its ids: its weight. If all are 0, the list was empty, and the step changes no numbers."""

    version: Version
    round: int
    members: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Join:
    """You are out of step: download `version` from `source`."""

    version: Version
    source: str


Order = Open | Seal | Commit | Join


class Effect(Enum):
    """What an order asks of whoever owns the tensors. CLEAR: forget the gradients of this step."""

    NONE = auto()
    CLEAR = auto()
    AVERAGE = auto()
    DOWNLOAD = auto()


@dataclass(frozen=True)
class Call:
    """Heads a microbatch's backward pass: on which weights, in which round of the stage, and which
    attempt of its trainer at this stage it is."""

    id: MicrobatchId
    version: Version
    round: int
    attempt: int


@dataclass(frozen=True)
class Withdrawal:
    """From a trainer to a replica: do not count this id by any attempt up to this one."""

    id: MicrobatchId
    round: int
    attempt: int


@dataclass(frozen=True)
class StageFeed:
    """What one stage lacks in its round: these ids, whoever counted them before."""

    version: Version
    round: int
    missing: frozenset[MicrobatchId]


@dataclass(frozen=True)
class Feed:
    """From the conductor to all trainers: the list of ids of this step, and what each stage lacks."""

    step: int
    ids: frozenset[MicrobatchId]
    stages: tuple[StageFeed, ...]
