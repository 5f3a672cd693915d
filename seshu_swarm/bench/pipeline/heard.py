"""What the events of a run's processes say. Pure.

A trainer tells each step that is over (`trained-step`), every member what went into its weights
(`counted`), and all replicas a digest of them now and then (`digest`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields

from seshu_swarm.program.children import Event

Id = tuple[str, int]


@dataclass(frozen=True)
class Meter:
    """The trainer's sums since its start; see `peer.training.calls.Meter`."""

    sent_bytes: float = 0.0
    received_bytes: float = 0.0
    serialise_seconds: float = 0.0
    network_seconds: float = 0.0
    compute_seconds: float = 0.0
    wait_seconds: float = 0.0
    own_seconds: float = 0.0

    def since(self, before: Meter) -> Meter:
        names = [one.name for one in fields(self)]
        return Meter(**{name: getattr(self, name) - getattr(before, name) for name in names})


@dataclass(frozen=True)
class Step:
    """`at`: when it was over, in seconds. `numbers`: microbatches of the trainer."""

    step: int
    at: float
    loss: float
    numbers: tuple[int, ...]
    meter: Meter


@dataclass(frozen=True)
class Audit:
    """Of all groups and steps: ids that are in no weights, or there more than once, or strange to the
    step. `unheard`: groups of a step of which no member told anything. `counted`: ids checked."""

    lost: int
    doubled: int
    unheard: int
    counted: int


@dataclass
class Heard:
    """Give it to `Children` as what hears: `hear`."""

    events: list[tuple[str, Event]] = field(default_factory=list)

    def hear(self, child: str, event: Event) -> None:
        if event["event"] != "progress":
            self.events.append((child, event))

    def of(self, name: str) -> Iterator[Event]:
        return (event for _, event in self.events if event["event"] == name)

    def steps(self) -> dict[int, Step]:
        """By number, from 1. Of a step that was begun twice the later one counts."""
        return {event["step"]: _step(event) for event in self.of("trained-step")}

    def audit(self, num_groups: int, steps: Iterable[int]) -> Audit:
        """What each step's list and the members' own claims say. A member that was killed before it could
        tell its claim is believed to have had as many ids as the others averaged for it."""
        trained, counted = self.steps(), list(self.of("counted"))
        audits = [
            _audit(trained[step].numbers, [e for e in counted if _is_of(e, group, step)])
            for step in steps
            for group in range(num_groups)
        ]
        return Audit(*(sum(getattr(one, f.name) for one in audits) for f in fields(Audit)))

    def digests(self) -> dict[tuple[int, int], set[str]]:
        """(Group, step) → what its replicas hold, where two or more told it."""
        told: dict[tuple[int, int], dict[str, str]] = {}
        for event in self.of("digest"):
            place = (event["group"], event["version"][0])
            told.setdefault(place, {})[event["member"]] = event["digest"]
        return {place: set(by.values()) for place, by in told.items() if len(by) > 1}


def mean_loss(steps: dict[int, Step], last: int, count: int = 10) -> float:
    """Of the `count` steps up to `last`."""
    found = [steps[number].loss for number in range(max(1, last - count + 1), last + 1)]
    return sum(found) / len(found)


def seconds_between(steps: dict[int, Step], first: int, last: int) -> float:
    """From the end of one step to that of another; NaN where either is missing."""
    if first not in steps or last not in steps or last <= first:
        return math.nan
    return steps[last].at - steps[first].at


def _step(event: Event) -> Step:
    meter = Meter(**{one.name: float(event[one.name]) for one in fields(Meter)})
    loss = float(event.get("loss", math.nan))
    return Step(event["step"], event["time"], loss, tuple(event["numbers"]), meter)


def _is_of(event: Event, group: int, step: int) -> bool:
    return bool(event["group"] == group and event["version"][0] == step)


def _audit(numbers: Sequence[int], counted: Sequence[Event]) -> Audit:
    """One group, one step. Of two averages of the same step the later one counts."""
    if not counted:
        return Audit(0, 0, 1, 0)
    last = max(event["version"][1] for event in counted)
    events = {e["member"]: e for e in counted if e["version"][1] == last}
    claimed = Counter(
        (trainer, number)
        for event in events.values()
        for trainer, found in event["claim"].items()
        for number in found
    )
    members = next(iter(events.values()))["members"]
    silent = sum(weight for name, weight in members.items() if name not in events)
    known = {number for _, number in claimed} & set(numbers)
    foreign = len(claimed) - len(known)
    extra = max(0, len(known) + silent - len(numbers))
    return Audit(
        lost=max(0, len(numbers) - len(known) - silent),
        doubled=claimed.total() - len(claimed) + foreign + extra,
        unheard=0,
        counted=len(numbers),
    )
