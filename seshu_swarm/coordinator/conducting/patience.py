"""Members that live and do not do what they are told: how long that is borne. Pure; times are given.

A heartbeat proves that a process lives, and no more: one that never seals would hold up its group for
ever, and a trainer that never feeds would hold up all. Where all trainers stand still, the fault is
elsewhere, and nobody is blamed.
"""

from __future__ import annotations

from seshu_swarm.coordinator.conducting.roster import Member, Roster
from seshu_swarm.pipeline.conductor import Conductor
from seshu_swarm.pipeline.messages import Commit, Open, Order, Phase, Seal, Version

# Opening and sealing are done at once, whatever is being computed. An average may be slow.
OBEY_SECONDS = 30.0
COMMIT_SECONDS = 300.0
# Without a single microbatch more.
FEED_SECONDS = 120.0
# Of a group in one step: replicas come and go in some, but not in so many.
MANY_ROUNDS = 20

Fed = tuple[int, ...]


class Patience:
    """Of one plan; asked again and again."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[Order, float]] = {}
        self._fed: dict[str, tuple[Fed, float]] = {}
        self._begun: tuple[int, list[Version]] | None = None
        # Of a step: the rounds of each group in which a trainer's ids were missing.
        self._lacking: dict[tuple[str, int], set[int]] = {}

    def overdue(
        self, conductor: Conductor, roster: Roster, *, now: float
    ) -> list[tuple[Member, str]]:
        """Whom to bear no longer, and why."""
        return [
            *self._disobedient(conductor, roster, now),
            *self._idle(conductor, roster, now),
            *self._unfounded(conductor, roster),
        ]

    def _disobedient(
        self, conductor: Conductor, roster: Roster, now: float
    ) -> list[tuple[Member, str]]:
        told, found = self._told, []
        self._told = {}
        for member in roster:
            group = conductor.groups[member.group]
            order = group.order_for(member.name)
            if not isinstance(order, Open | Seal | Commit):
                continue
            has_failed = group.statuses[member.name].phase is Phase.FAILED
            if has_failed and isinstance(order, Commit):
                continue  # it has tried, and waits for the others
            known = told.get(member.name)
            since = known[1] if known is not None and known[0] == order else now
            self._told[member.name] = order, since
            limit = COMMIT_SECONDS if isinstance(order, Commit) else OBEY_SECONDS
            if now - since > limit:
                what = type(order).__name__.lower()
                found.append((member, f"told to {what} for {limit:.0f} s, and did not"))
        return found

    def _idle(self, conductor: Conductor, roster: Roster, now: float) -> list[tuple[Member, str]]:
        trainers = roster.trainers()
        awaited = [member for member in trainers if conductor.awaits(member.name)]
        if len(awaited) == len(trainers):
            awaited = []
        fed, self._fed = self._fed, {}
        for member in awaited:
            done = _fed_by(member, conductor)
            known = fed.get(member.name)
            since = known[1] if known is not None and known[0] == done else now
            self._fed[member.name] = done, since
        return [
            (member, f"fed nothing for {FEED_SECONDS:.0f} s while others had fed all")
            for member in awaited
            if now - self._fed[member.name][1] > FEED_SECONDS
        ]

    def _unfounded(self, conductor: Conductor, roster: Roster) -> list[tuple[Member, str]]:
        """Trainers that say again and again that all is fed, while their ids are missing."""
        begun = conductor.step, [group.version for group in conductor.groups]
        if begun != self._begun:
            self._begun, self._lacking = begun, {}
        for place, group in enumerate(conductor.groups):
            for name in {id_.trainer for id_ in group.feed.missing}:
                self._lacking.setdefault((name, place), set()).add(group.round)
        names = {name for (name, _), found in self._lacking.items() if len(found) > MANY_ROUNDS}
        return [
            (member, f"its microbatches were missing in {MANY_ROUNDS} rounds of a step")
            for member in roster.trainers()
            if member.name in names
        ]


def _fed_by(member: Member, conductor: Conductor) -> Fed:
    """Grows with each microbatch and with each round."""
    asked = sum(len(numbers) for numbers in member.asked.values())
    return conductor.step, member.tokens, asked, *(group.round for group in conductor.groups)
