"""How far a plan is, for people: loss, tokens per second, who counted how much. Kept in the ledger for
`status`, and said now and then.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from seshu_swarm.coordinator.conducting.course import Course
from seshu_swarm.coordinator.conducting.journal import Entry
from seshu_swarm.coordinator.conducting.roster import Member
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.program import log

FACT = "training-status"
SAY_SECONDS = 5.0
NUM_POINTS = 100
# Tokens per second are a mean over about so many steps.
SMOOTHED_STEPS = 10


class Progress:
    """Of one plan; goes on from the journal's entry."""

    def __init__(self, course: Course, ledger: Ledger, entry: Entry) -> None:
        self._course, self._ledger = course, ledger
        self.num_tokens, self.curve = entry.num_tokens, list(entry.curve)
        self.loss = entry.curve[-1][1] if entry.curve else 0.0
        self.tokens_per_second = 0.0
        self._counted = course.made
        self._began_at = time.monotonic()
        self._shown_at = 0.0
        self._shares: Counter[str] = Counter()

    def began(self) -> None:
        """A step."""
        self._began_at = time.monotonic()

    def count(self, made: int) -> None:
        """Once for each step that was made."""
        if made <= self._counted:
            return
        self._counted = made
        trainers = self._course.roster.trainers()
        tokens = sum(member.tokens for member in trainers)
        seconds = time.monotonic() - self._began_at
        if tokens:
            self.loss = sum(member.nats for member in trainers) / tokens
            self.num_tokens += tokens
            self._measure(tokens / max(seconds, 1e-6))
        for group in self._course.conductor.groups:
            self._shares.update(dict(group.shares))
        every = max(1, self._course.record.num_steps // NUM_POINTS)
        if made % every == 0 or made == 1:
            self.curve.append((made, self.loss))

    async def show(self) -> None:
        """Now and then."""
        now = time.monotonic()
        if now - self._shown_at < SAY_SECONDS:
            return
        self._shown_at = now
        facts = self.facts()
        text = (
            f"step {self._counted} of {self._course.record.num_steps}: loss {self.loss:.3f}, "
            f"{self.tokens_per_second:,.0f} tokens/s"
        )
        log.event("training", text, **facts)
        await asyncio.to_thread(self._ledger.set_fact, FACT, facts)

    def facts(self) -> dict[str, Any]:
        return {
            "plan": self._course.record.plan,
            "step": self._counted,
            "num_steps": self._course.record.num_steps,
            "loss": self.loss,
            "num_tokens": self.num_tokens,
            "tokens_per_second": self.tokens_per_second,
            "at": time.time(),
            "members": [self._facts_of(member) for member in self._course.roster],
        }

    def _facts_of(self, member: Member) -> dict[str, Any]:
        group = self._course.conductor.groups[member.group]
        now = self._course.clock()
        return {
            "name": member.name,
            "group": member.group,
            "is_trainer": member.is_trainer,
            "is_in_step": member.name in group.in_step,
            "age_seconds": now - member.enlisted_at,
            "silent_seconds": now - member.heard_at,
            "num_counted": self._shares[member.name],
        }

    def _measure(self, rate: float) -> None:
        known = self.tokens_per_second or rate
        self.tokens_per_second = known + (rate - known) / SMOOTHED_STEPS
