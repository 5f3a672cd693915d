"""What a plan waits for before its next step, and which groups have lost their weights. Decides only.

A step needs a replica in step at every stage and a trainer. Who joins downloads the weights of a version
and takes part if that is still the newest: where the download is slower than a step, the next step waits
for it, for a while.
"""

from __future__ import annotations

from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.roster import Member
from seshu_swarm.pipeline.messages import Version
from seshu_swarm.program import log

# Behind for longer than this, a member is waited for between two steps: so long in all.
BEHIND_SECONDS = 3.0
PATIENCE_SECONDS = 30.0
# Nobody has a group's weights, and somebody waits for them.
GONE_SECONDS = 15.0


class Waiting:
    """Asked again and again; says when what it waits for changes."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._said = ""
        self._behind_since: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._asked_at: float | None = None
        # With the version that is gone: one that took its place has its own time.
        self._gone_since: dict[int, tuple[Version, float]] = {}

    def waits(self) -> bool:
        """Whether the next step has to wait."""
        now = self._course.clock()
        why = self._lacking() or self._joining(now)
        self._asked_at = now if why else None
        if why != self._said:
            self._said = why
            text = f"training waits for {why}" if why else "training goes on"
            log.event("training-waits" if why else "training-goes-on", text, why=why)
        return bool(why)

    def gone(self) -> list[int]:
        """Groups whose weights nobody has had for long, where somebody waits for them."""
        now, found = self._course.clock(), []
        for place, group in enumerate(self._course.conductor.groups):
            versions = [status.version for status in group.statuses.values()]
            if not versions or max(versions) >= group.version:
                self._gone_since.pop(place, None)
                continue
            known = self._gone_since.get(place)
            since = known[1] if known is not None and known[0] == group.version else now
            self._gone_since[place] = group.version, since
            if now - since > GONE_SECONDS:
                found.append(place)
        return found

    def _lacking(self) -> str:
        groups = self._course.conductor.groups
        *stages, ends = ([name for name in group.in_step] for group in groups)
        lacking = [str(stage) for stage, names in enumerate(stages) if not names]
        parts = [f"a replica of stage {', '.join(lacking)}"] if lacking else []
        if not any(member.name in ends for member in self._course.roster.trainers()):
            parts.append("a trainer")
        return " and ".join(parts)

    def _joining(self, now: float) -> str:
        waited_for = []
        behind = [member for member in self._course.roster if self._is_behind(member)]
        # A peer's patience is new once all its members keep up, and not with each that does.
        names, peers = {m.name for m in behind}, {m.peer for m in behind}
        self._behind_since = {n: at for n, at in self._behind_since.items() if n in names}
        self._pauses = {peer: pause for peer, pause in self._pauses.items() if peer in peers}
        for member in behind:
            if now - self._behind_since.setdefault(member.name, now) > BEHIND_SECONDS:
                pause = self._pauses.get(member.peer, 0.0)
                if pause < PATIENCE_SECONDS:
                    waited = now - self._asked_at if self._asked_at is not None else 0.0
                    self._pauses[member.peer] = pause + waited
                    waited_for.append(member.name)
        return f"{', '.join(waited_for)} to have the newest weights" if waited_for else ""

    def _is_behind(self, member: Member) -> bool:
        group = self._course.conductor.groups[member.group]
        status = group.statuses.get(member.name)
        return status is not None and status.version < group.version
