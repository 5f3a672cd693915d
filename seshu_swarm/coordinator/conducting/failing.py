"""Averages that fail again and again: whom to leave out, so that the others can go on. Pure; times are given.

An average is of exactly its members, so that one that cannot be reached, or never answers, fails it for
all, and nobody outside sees whose fault it is. One member after another is left out, the one first that was
there when most averages failed since its last that did not; so whoever is at fault is soon known.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from seshu_swarm.pipeline.group import StageGroup, StagePhase
from seshu_swarm.pipeline.messages import Phase, Status, Version
from seshu_swarm.pipeline.protocol import MAX_MEMBERS, peer_of

# Three rounds of a step that fail at once, or six that time ran out for: members of a slow line first
# have to find out how slow it is, and double their time with each.
ENOUGH_POINTS, QUICK_POINTS, SLOW_POINTS = 6, 2, 1
SLOW_SECONDS = 4.0


class Failing:
    """Of one plan."""

    def __init__(self) -> None:
        self._step: dict[int, Version] = {}
        self._points: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._round: dict[int, tuple[int, float]] = {}
        self._failed: dict[int, int] = {}
        self._blames: dict[str, set[str]] = {}
        # Since the last one that did not fail, by peer: a member is new at each start.
        self._record: Counter[str] = Counter()

    def note(self, place: int, group: StageGroup, name: str, status: Status, *, now: float) -> None:
        """What a member says, before the group hears it."""
        if group.phase is not StagePhase.COMMITTING or name not in group.members:
            return
        if status.version.step > group.version.step:
            if len(group.members) > 1:  # alone, nobody has to be reached
                self._record.pop(peer_of(name), None)
            return
        if self._step.get(place) != group.version:
            self._step[place], self._points[place] = group.version, Counter()
        is_here = (status.version, status.round) == (group.version, group.round)
        if not is_here or status.phase < Phase.AVERAGING:
            return
        if self._round.get(place, (-1, now))[0] != group.round:
            self._round[place] = group.round, now
        if status.phase is Phase.FAILED and self._failed.get(place) != group.round:
            self._failed[place] = group.round
            self._count(place, group, now - self._round[place][1])

    def blame(self, by: str, name: str) -> None:
        """A member complains about another one of its group."""
        if name in self._blames or len(self._blames) < MAX_MEMBERS:
            self._blames.setdefault(name, set()).add(peer_of(by))

    def left_out(self, place: int) -> str | None:
        """Who should be left out now, if anybody; the others begin anew."""
        points = self._points[place]
        names = [name for name, found in points.items() if found >= ENOUGH_POINTS]
        if not names:
            return None
        points.clear()
        found = max(
            names, key=lambda n: (self._record[peer_of(n)], len(self._blames.get(n, ())), n)
        )
        self._blames.clear()
        return found

    def _count(self, place: int, group: StageGroup, seconds: float) -> None:
        points = SLOW_POINTS if seconds >= SLOW_SECONDS else QUICK_POINTS
        for name in group.members:
            self._points[place][name] += points
        if len(self._record) > MAX_MEMBERS:
            self._record = Counter(dict(self._record.most_common(MAX_MEMBERS // 2)))
        self._record.update({peer_of(name) for name in group.members})
