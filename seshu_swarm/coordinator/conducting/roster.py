"""Who takes part in a plan: members by name, whom to take for lost, whom to avoid. Pure: times are given.

A member is known from its first Enlist until it is lost; its stream may break and come again meanwhile.
A peer that is avoided is sent away until its time is up, whatever names it takes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from seshu_swarm.pipeline.messages import Order
from seshu_swarm.pipeline.protocol.fields import MAX_MEMBERS, peer_of
from seshu_swarm.pipeline.protocol.steps import Enlist
from seshu_swarm.streams.channel import refusal
from seshu_swarm.streams.outbox import Outbox
from seshu_swarm.streams.protocol import Refusal

LOST_SECONDS = 5.0
# Until its first word: it fetches and loads what it is to hold.
STARTING_SECONDS = 120.0
BROKEN_SECONDS = 1.5
AVOID_SECONDS = 300.0
# A trainer complains about a replica twice a minute at most.
COMPLAINT_SECONDS = 120.0
# Complaints about one member within that time: of two peers, or so many of one.
MANY_COMPLAINTS = 3
MAX_NAMES_OF_PEER = 16


@dataclass
class Member:
    """`outbox` is None while its stream is broken. `told` and `told_at`: the last order, and when;
    `is_news`: it said something since. `asked`: of a trainer, by stage and replica what it asked for."""

    name: str
    group: int
    is_trainer: bool
    enlisted_at: float
    heard_at: float
    outbox: Outbox | None = None
    broken_at: float | None = None
    told: Order | None = None
    is_news: bool = True
    asked: dict[tuple[int, str], set[int]] = field(default_factory=dict)
    nats: float = 0.0
    tokens: int = 0
    has_spoken: bool = False
    complained_at: float = -math.inf

    @property
    def peer(self) -> str:
        return peer_of(self.name)

    @property
    def patience_seconds(self) -> float:
        """How long it may be silent."""
        return LOST_SECONDS if self.has_spoken else STARTING_SECONDS

    def broke(self, outbox: Outbox, now: float) -> None:
        """The stream ended; nothing, if it was an older one."""
        if self.outbox is outbox:
            self.outbox, self.broken_at = None, now


class Roster:
    """Members of `num_stages` stages, and of the ends after them."""

    def __init__(self, num_stages: int) -> None:
        self._num_stages = num_stages
        self._members: dict[str, Member] = {}
        self._avoided: dict[str, float] = {}
        self._complaints: dict[str, deque[tuple[float, str]]] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def get(self, name: str) -> Member | None:
        return self._members.get(name)

    def trainers(self) -> list[Member]:
        return [member for member in self if member.is_trainer]

    def of_group(self, group: int) -> list[Member]:
        return [member for member in self if member.group == group]

    def enlist(self, asked: Enlist, peer_id: str, *, now: float) -> Member:
        """The member, new or known. Raises RefusalError."""
        if peer_of(asked.name) != peer_id:
            raise refusal(Refusal.NOT_OWNER, f"a name of {peer_id} begins with it")
        left = self._avoided.get(peer_id, now) - now
        if left > 0:
            raise refusal(Refusal.AVOIDED, f"for {left:.0f} s")
        known = self._members.get(asked.name)
        if known is not None and known.is_trainer != asked.is_trainer:
            # It would stand in two groups, and in one of them nobody would ever miss it.
            raise refusal(Refusal.NOT_OWNER, f"{asked.name} is known as something else")
        if known is None:
            self._check_room(peer_id)
            known = Member(asked.name, self._group_of(asked), asked.is_trainer, now, now)
            self._members[asked.name] = known
        known.heard_at, known.broken_at, known.is_news = now, None, True
        return known

    def remove(self, name: str) -> None:
        self._members.pop(name, None)

    def lost(self, *, now: float) -> list[Member]:
        """Who has been silent, or without a stream, for too long."""
        return [
            member
            for member in self
            if now - member.heard_at > member.patience_seconds
            or (member.broken_at is not None and now - member.broken_at > BROKEN_SECONDS)
        ]

    def avoid(self, peer_id: str, *, now: float) -> list[Member]:
        """Send a peer away; its members, which are not of the plan any more."""
        self._avoided = {p: until for p, until in self._avoided.items() if until > now}
        self._avoided[peer_id] = now + AVOID_SECONDS
        return [member for member in self if member.peer == peer_id]

    def complained(self, trainer: str, name: str, *, now: float) -> bool:
        """Whether there are so many complaints about this member now that it should be avoided."""
        if name not in self._members or name == trainer:
            return False
        old = [n for n, all_ in self._complaints.items() if now - all_[-1][0] > COMPLAINT_SECONDS]
        for each in old:
            del self._complaints[each]
        found = self._complaints.setdefault(name, deque(maxlen=MANY_COMPLAINTS))
        found.append((now, trainer))
        recent = [who for at, who in found if now - at <= COMPLAINT_SECONDS]
        is_enough = len({peer_of(who) for who in recent}) > 1 or len(recent) >= MANY_COMPLAINTS
        if is_enough:
            del self._complaints[name]
        return is_enough

    def _group_of(self, asked: Enlist) -> int:
        if asked.is_trainer:
            return self._num_stages
        if asked.group is None:
            return min(range(self._num_stages), key=lambda stage: len(self.of_group(stage)))
        if asked.group >= self._num_stages:
            raise refusal(Refusal.NOT_TRAINING, f"stages 0 to {self._num_stages - 1}")
        return asked.group

    def _check_room(self, peer_id: str) -> None:
        of_peer = sum(member.peer == peer_id for member in self)
        if of_peer >= MAX_NAMES_OF_PEER or len(self._members) >= MAX_MEMBERS:
            raise refusal(
                Refusal.RATE_LIMITED,
                f"{MAX_NAMES_OF_PEER} members of one peer, {MAX_MEMBERS} in all",
            )
