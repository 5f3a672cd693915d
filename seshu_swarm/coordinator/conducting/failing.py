"""Averages that fail again and again: whom to leave out, so that the others can go on. Pure; times are given.

An average is of exactly its members, so that one that cannot be reached, or never answers, fails it for
all. Each names whose part it lacked. Of a pair one is at fault, whoever of the two names the other; who is
of most pairs is left out. Where that does not tell: who is named by most, was there when most averages
failed since its last that did not, and made the fewest. After each the others begin anew.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from seshu_swarm.pipeline.group import StageGroup, StagePhase
from seshu_swarm.pipeline.messages import Phase, Status, Version
from seshu_swarm.pipeline.protocol.fields import MAX_MEMBERS, peer_of

# Three rounds of a step that fail at once, or six that time ran out for: members of a slow line first
# have to find out how slow it is, and double their time with each.
ENOUGH_POINTS, QUICK_POINTS, SLOW_POINTS = 6, 2, 1
SLOW_SECONDS = 3.0


class Failing:
    """Of one plan. Peers are remembered, not members, which are new at each start."""

    def __init__(self) -> None:
        self._groups: defaultdict[int, _Group] = defaultdict(_Group)
        # Of each peer, who named it since the last average of either that did not fail.
        self._named_by: defaultdict[str, set[str]] = defaultdict(set)
        self._failed: Counter[str] = Counter()
        self._made: Counter[str] = Counter()

    def note(self, place: int, group: StageGroup, name: str, status: Status, *, now: float) -> None:
        """What a member says, before the group hears it."""
        here = self._groups[place]
        if group.phase is StagePhase.COMMITTING:
            here.begin(group, now)
        if name in here.members and status.version.step > here.turn[0].step:
            here.members -= {name}
            self._succeeded(peer_of(name), is_alone=here.is_alone)
        is_here = name in here.members and (status.version, status.round) == here.turn
        if is_here and status.phase is Phase.FAILED:
            for lacked in status.lacking & here.members - {name}:
                self._named_by[peer_of(lacked)].add(peer_of(name))
            if here.fails(now):
                self._failed.update({peer_of(member) for member in here.members})

    def left_out(self, place: int) -> str | None:
        """Who should be left out now, if anybody; the others begin anew."""
        found = self._groups[place].overdue()
        return max(found, key=self._suspicion) if found else None

    def _suspicion(self, name: str) -> tuple[int, int, int, int, str]:
        peer = peer_of(name)
        named_by = self._named_by.get(peer, set())
        names = {other for other, by in self._named_by.items() if peer in by}
        pairs = (named_by | names) - {peer}
        return len(pairs), len(named_by), self._failed[peer], -self._made[peer], name

    def _succeeded(self, peer: str, *, is_alone: bool) -> None:
        self._made[peer] += 1
        if not is_alone:  # there, nobody had to be reached
            self._failed.pop(peer, None)
            self._named_by.pop(peer, None)
            for by in self._named_by.values():
                by.discard(peer)
        self._forget()

    def _forget(self) -> None:
        """Those of whom least is known, where peers are many."""
        for counter in (self._failed, self._made):
            if len(counter) > 2 * MAX_MEMBERS:
                kept = dict(counter.most_common(MAX_MEMBERS))
                counter.clear()
                counter.update(kept)
        if len(self._named_by) > 2 * MAX_MEMBERS:
            self._named_by.clear()


class _Group:
    """The averages of one group: `members` of the newest who have not made it, `turn` its version and
    round."""

    def __init__(self) -> None:
        self.turn = Version(-1, -1), -1
        self.members, self.is_alone = frozenset[str](), False
        self._since = 0.0
        self._has_failed = False
        self._points: Counter[str] = Counter()

    def begin(self, group: StageGroup, now: float) -> None:
        if self.turn == (group.version, group.round):
            return
        if self.turn[0] != group.version:
            self._points.clear()
        self.turn, self.members = (group.version, group.round), group.members
        self.is_alone = len(group.members) == 1
        self._since, self._has_failed = now, False

    def fails(self, now: float) -> bool:
        """Whether this is the first that is heard of it."""
        if self._has_failed:
            return False
        self._has_failed = True
        points = SLOW_POINTS if now - self._since >= SLOW_SECONDS else QUICK_POINTS
        self._points.update(dict.fromkeys(self.members, points))
        return True

    def overdue(self) -> list[str]:
        """Members of so many failed averages of a step that one of them must go: told once."""
        names = [name for name, points in self._points.items() if points >= ENOUGH_POINTS]
        if names:
            self._points.clear()
        return names
