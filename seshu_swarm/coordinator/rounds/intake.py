"""Donors hand in adapters and ask for verdicts: the stream INTAKE.

Libp2p has authenticated who speaks, so the speaker is the owner of what he hands in. Everything
is acknowledged or refused by name; a donor that asks too often is told so.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable

from seshu_swarm.coordinator.rounds.states import RETURNABLE, RoundState
from seshu_swarm.coordinator.state.ledger import Ledger, Round, Submission
from seshu_swarm.coordinator.state.lineage import Lineage
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import AdapterRecord
from seshu_swarm.streams.channel import Channel, refusal
from seshu_swarm.streams.protocol import AskVerdict, IntakeRequest, Refusal, SubmitAdapter, Verdict

REQUEST_SECONDS = 10.0
MAX_REQUESTS_PER_MINUTE = 120
MAX_ADAPTERS_PER_PEER = 4
MAX_PEERS_COUNTED = 10_000
UNKNOWN = Verdict(
    state="unknown", reason="no such adapter here", gain="", next_step="submit it", round_index=0
)


class RateLimit:
    """At most so many calls a minute per peer. Time is passed in."""

    def __init__(self, max_per_minute: int) -> None:
        self._max = max_per_minute
        self._calls: defaultdict[str, deque[float]] = defaultdict(deque)

    def allow(self, peer_id: str, now: float) -> bool:
        if len(self._calls) >= MAX_PEERS_COUNTED:
            self._forget(now)
        calls = self._calls[peer_id]
        while calls and now - calls[0] > 60:
            calls.popleft()
        if len(calls) >= self._max:
            return False
        calls.append(now)
        return True

    def _forget(self, now: float) -> None:
        """Drop peers that have been silent for a minute: strangers must not fill our memory."""
        silent = [p for p, calls in self._calls.items() if not calls or now - calls[-1] > 60]
        for peer_id in silent:
            del self._calls[peer_id]


class Intake:
    """`current` gives the round that takes adapters now, or None between rounds."""

    def __init__(self, ledger: Ledger, current: Callable[[], Round | None]) -> None:
        self._ledger, self._current = ledger, current
        self._rate = RateLimit(MAX_REQUESTS_PER_MINUTE)

    async def serve(self, channel: Channel) -> None:
        asked = await channel.receive(IntakeRequest, seconds=REQUEST_SECONDS, what="a request")
        if not self._rate.allow(channel.peer_id, time.monotonic()):
            raise refusal(Refusal.RATE_LIMITED, f"{MAX_REQUESTS_PER_MINUTE} requests a minute")
        match asked.request:
            case SubmitAdapter() as submit:
                await channel.send(self.take(channel.peer_id, submit.record))
            case AskVerdict() as ask:
                found = self._ledger.adapter(ask.digest)
                await channel.send(verdict_of(found) if found else UNKNOWN)

    def take(self, owner: str, data: bytes) -> Verdict:
        """Note an adapter for the open round. Raises RefusalError."""
        record = record_bytes.from_bytes(data)
        if not isinstance(record, AdapterRecord):
            raise refusal(Refusal.MALFORMED, f"a record of type {record.type}, not an adapter")
        if record.run_id != self._ledger.fact("run_id"):
            raise refusal(Refusal.RUN_UNKNOWN, f"the record is of run {record.run_id}")
        if record.purpose != "merge":
            raise refusal(Refusal.NOT_FOR_MERGING, f"it is announced for task {record.task!r}")
        if record.digest in self._own_packages():
            raise refusal(Refusal.MALFORMED, "this digest is a package of the run itself")
        if found := self._ledger.adapter(record.digest):
            if found.owner != owner:
                raise refusal(Refusal.NOT_OWNER, "another peer handed this adapter in")
            if found.state != "rejected" or not found.reason.startswith(RETURNABLE):
                return verdict_of(found)
        current = self._open_round(record)
        if self._ledger.count_adapters(current.number, owner) >= MAX_ADAPTERS_PER_PEER:
            raise refusal(Refusal.RATE_LIMITED, f"{MAX_ADAPTERS_PER_PEER} adapters a round")
        self._ledger.add_adapter(
            record.digest, round_number=current.number, owner=owner, record=data
        )
        found = self._ledger.adapter(record.digest)
        return verdict_of(found) if found else UNKNOWN

    def _own_packages(self) -> set[str]:
        """Checkpoints, catalogue and revealed sets lie beside adapters, and are none."""
        line = {one.revision for one in Lineage(self._ledger.database).all()}
        revealed = set((self._ledger.fact("revealed") or {}).values())
        return line | revealed | {self._ledger.fact("catalogue")}

    def _open_round(self, record: AdapterRecord) -> Round:
        current = self._current()
        if current is None or current.state is not RoundState.OPEN:
            raise refusal(Refusal.ROUND_CLOSED, "wait for the next round and train on its base")
        if record.base_revision != current.parent:
            raise refusal(Refusal.STALE_BASE, f"this round merges into {current.parent[:12]}")
        return current


def verdict_of(found: Submission) -> Verdict:
    """What the ledger says of an adapter, as its donor may see it."""
    return Verdict(
        state=found.state,
        reason=(found.reason or "waiting for the round to close")[:300],
        gain=found.gain,
        next_step=found.next_step[:300],
        round_index=found.round,
    )
