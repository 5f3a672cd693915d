"""Sessions at one span: exactly-once steps as a pure state machine.

An SSM step is not idempotent: done twice, it advances the state twice. So a step is accepted iff
its position is the session's position; a repeat of the last step returns the remembered output;
anything else is refused by name. A higher epoch fences the session's older owner. Knows no
sockets, no tensors and no clock: states and outputs are opaque, time is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from seshu_swarm.channel import refusal
from seshu_swarm.protocol import OpenSession, Refusal
from seshu_swarm.spans import Span

State = TypeVar("State")
Output = TypeVar("Output")

SESSION_SECONDS = 120.0


@dataclass
class Session(Generic[State, Output]):
    """`last` is the step before the present position and its output."""

    epoch: int
    revision: str
    span: Span
    state: State
    used_at: float
    position: int = 0
    last: tuple[int, Output] | None = None
    is_stepping: bool = False


class Sessions(Generic[State, Output]):
    """All sessions of a span, by (client, session id), within `max_sessions`."""

    def __init__(self, max_sessions: int) -> None:
        self.max_sessions = max_sessions
        self._sessions: dict[tuple[str, str], Session[State, Output]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def of_revision(self, revision: str) -> int:
        return sum(session.revision == revision for session in self._sessions.values())

    def find(self, client: str, asked: OpenSession) -> Session[State, Output] | None:
        """The client's own live session to go on with; None if it is new or was fenced off.

        Raises RefusalError when the session has a newer owner.
        """
        session = self._sessions.get((client, asked.session_id))
        if session is None or asked.epoch > session.epoch:
            return None
        if asked.epoch < session.epoch:
            raise refusal(Refusal.EPOCH_FENCED, f"epoch {asked.epoch} of {session.epoch}")
        if (session.revision, session.span) != (asked.revision, Span(asked.start, asked.end)):
            raise refusal(Refusal.REVISION_MISMATCH, "the session began on another one")
        return session

    def open(
        self, client: str, asked: OpenSession, state: State, now: float
    ) -> Session[State, Output]:
        """Begin at position 0, replacing any older epoch. Raises RefusalError MEMORY_FULL."""
        key = (client, asked.session_id)
        self._expire(now)
        if key not in self._sessions and len(self._sessions) >= self.max_sessions:
            raise refusal(Refusal.MEMORY_FULL, f"{self.max_sessions} sessions are open")
        span = Span(asked.start, asked.end)
        session = Session[State, Output](asked.epoch, asked.revision, span, state, now)
        self._sessions[key] = session
        return session

    def is_current(self, client: str, session_id: str, session: Session[State, Output]) -> bool:
        return self._sessions.get((client, session_id)) is session

    def close(self, client: str, session_id: str, session: Session[State, Output]) -> None:
        """Forget a session that its owner ended; a newer epoch stays."""
        if self.is_current(client, session_id, session):
            del self._sessions[client, session_id]

    def _expire(self, now: float) -> None:
        old = [k for k, s in self._sessions.items() if now - s.used_at > SESSION_SECONDS]
        for key in old:
            del self._sessions[key]


def remembered(session: Session[State, Output], position: int) -> Output | None:
    """The output to repeat, or None to compute. Raises RefusalError POSITION_MISMATCH."""
    if session.is_stepping:
        raise refusal(Refusal.POSITION_MISMATCH, "a step of this session is under way")
    if position == session.position:
        return None
    if session.last is not None and position == session.last[0]:
        return session.last[1]
    raise refusal(Refusal.POSITION_MISMATCH, f"step at {position}, session at {session.position}")


def advance(
    session: Session[State, Output], state: State, output: Output, num_tokens: int, now: float
) -> None:
    """Commit a computed step."""
    session.last = (session.position, output)
    session.state, session.used_at = state, now
    session.position += num_tokens
