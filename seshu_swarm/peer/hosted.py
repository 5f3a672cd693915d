"""The parts of sessions that this peer holds: admission, budgets, expiry. No sockets.

Every part's memory is known when it is opened, so a full peer says so by name and never runs out.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from seshu_swarm.errors import PeerLostError, RefusalError
from seshu_swarm.exchange.payloads import BlockState, BlockStates, Hidden
from seshu_swarm.exchange.session_messages import OpenPart, SnapshotChunk
from seshu_swarm.peer.guest import Guest
from seshu_swarm.peer.served import ServedSpan
from seshu_swarm.sessions.part import Part
from seshu_swarm.spans import Span
from seshu_swarm.streams.channel import refusal
from seshu_swarm.streams.outbox import Outbox
from seshu_swarm.streams.protocol import Message, Refusal

logger = logging.getLogger(__name__)

SESSION_SECONDS = 120.0
SNAPSHOT_BYTES = 32 << 10
# Tokens that a part keeps beyond its snapshots' distance before its client counts as deaf.
MAX_KEPT_TOKENS = 8_192


@dataclass(eq=False)
class Hosted:
    """One part and what surrounds it. `failed` is set when it is over, with `why` if the client must
    be refused."""

    part_id: bytes
    client: str
    served: ServedSpan
    part: Part[Hidden, BlockState]
    wire_type: str
    used_at: float
    outbox: Outbox | None = None
    owes_snapshot: bool = False
    is_pushed: bool = False
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    why: RefusalError | None = None

    @property
    def span(self) -> Span:
        return self.part.span

    @property
    def revision(self) -> str:
        return self.served.revision

    def fail(self, error: RefusalError) -> None:
        """End it: the control stream tells the client why."""
        self.why = error
        self.failed.set()

    async def failure(self) -> None:
        """Raises what ends the session, when something does."""
        await self.failed.wait()
        if self.why is not None:
            raise self.why

    def tell(self, message: Message, *, is_bulk: bool = False) -> None:
        """To the client, if its control stream stands."""
        if self.outbox is None:
            return
        try:
            self.outbox.put(message, is_bulk=is_bulk)
        except PeerLostError as error:
            logger.info("%s", error)

    def tell_snapshot(self, position: int) -> None:
        """The state in chunks, which wait behind everything urgent."""
        states = self.part.state
        if not isinstance(states, BlockStates):
            return
        data = states.state.to_bytes(revision=self.revision)
        for offset in range(0, len(data), SNAPSHOT_BYTES):
            part = data[offset : offset + SNAPSHOT_BYTES]
            chunk = SnapshotChunk(position=position, offset=offset, total=len(data), data=part)
            self.tell(chunk, is_bulk=True)


class HostedParts:
    """All parts by id, within `max_sessions` and the guest's memory."""

    def __init__(self, guest: Guest, max_sessions: int) -> None:
        self.max_sessions = max_sessions
        self._guest = guest
        self._parts: dict[bytes, Hosted] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def all(self) -> list[Hosted]:
        return list(self._parts.values())

    def get(self, part_id: bytes) -> Hosted | None:
        return self._parts.get(part_id)

    def of_revision(self, revision: str) -> int:
        return sum(hosted.revision == revision for hosted in self._parts.values())

    def again(self, client: str, asked: OpenPart) -> Hosted | None:
        """The client's own live part to go on with; None if it is new or opened by a newer epoch.

        Raises RefusalError when it has a newer owner, or is not this client's.
        """
        hosted = self._parts.get(asked.part_id)
        if hosted is None or (asked.epoch > hosted.part.epoch and hosted.client == client):
            return None
        if asked.epoch < hosted.part.epoch or hosted.client != client:
            raise refusal(Refusal.EPOCH_FENCED, f"epoch {asked.epoch} of {hosted.part.epoch}")
        if (hosted.revision, hosted.span) != (asked.revision, Span(asked.start, asked.end)):
            raise refusal(Refusal.REVISION_MISMATCH, "the part began on another one")
        return hosted

    def admit(self, asked: OpenPart, state_bytes: int, now: float) -> None:
        """Raises RefusalError MEMORY_FULL, or MALFORMED for a state of another size."""
        self.expire(now)
        if asked.part_id not in self._parts and len(self._parts) >= self.max_sessions:
            raise refusal(Refusal.MEMORY_FULL, f"{self.max_sessions} sessions are open")
        if state_bytes > self._guest.free_bytes():
            raise refusal(Refusal.MEMORY_FULL, f"a session needs {state_bytes} bytes")
        if asked.state_bytes > 2 * state_bytes + 65_536:
            raise refusal(Refusal.TOO_LARGE, f"a state has {state_bytes} bytes")
        if (asked.state_bytes == 0) != (asked.position == 0):
            raise refusal(Refusal.MALFORMED, "a state is given iff the position is not 0")

    def add(self, hosted: Hosted) -> None:
        """A part of an older epoch is ended."""
        if older := self._parts.get(hosted.part_id):
            older.fail(refusal(Refusal.EPOCH_FENCED, "a newer epoch took the session over"))
        self._parts[hosted.part_id] = hosted

    def close(self, hosted: Hosted) -> None:
        """Nothing of it is computed any more."""
        hosted.failed.set()
        if self._parts.get(hosted.part_id) is hosted:
            del self._parts[hosted.part_id]

    def expire(self, now: float) -> None:
        """Forget parts whose client has been gone for too long."""
        for hosted in self.all():
            if hosted.outbox is None and now - hosted.used_at > SESSION_SECONDS:
                self.close(hosted)
