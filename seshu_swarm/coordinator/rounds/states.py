"""States of a round. Pure.

    open → gathering → checking → selecting → gating → verifying → published
      any of them → aborted

`open` takes adapters until its time is up; what is decided in a state is written to the ledger
before the next state is entered, so that a coordinator that was killed goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from seshu_swarm.errors import RoundError

UNSCORED = "UNSCORED"  # the language has too little held-out text: its specialists wait
CROWDED = "CROWDED"  # more adapters than a round takes
NOT_FETCHED = "NOT_FETCHED"  # its files were not to be had in time
NOT_PUBLISHED = "NOT_PUBLISHED"  # reason of adapters whose round came to nothing: they may return
REVOKED = "REVOKED"  # reason of adapters that were merged and taken out again: they may not

# An adapter that was rejected for one of these may be handed in again.
RETURNABLE = (NOT_PUBLISHED, NOT_FETCHED, UNSCORED, CROWDED)


class RoundState(StrEnum):
    OPEN = "open"
    GATHERING = "gathering"
    CHECKING = "checking"
    SELECTING = "selecting"
    GATING = "gating"
    VERIFYING = "verifying"
    PUBLISHED = "published"
    ABORTED = "aborted"


_NEXT = {
    RoundState.OPEN: RoundState.GATHERING,
    RoundState.GATHERING: RoundState.CHECKING,
    RoundState.CHECKING: RoundState.SELECTING,
    RoundState.SELECTING: RoundState.GATING,
    RoundState.GATING: RoundState.VERIFYING,
    RoundState.VERIFYING: RoundState.PUBLISHED,
}
ENDED = frozenset({RoundState.PUBLISHED, RoundState.ABORTED})


def advance(state: RoundState, to: RoundState) -> RoundState:
    """`to`, if a round may go there from `state`. Raises RoundError."""
    if state in ENDED or to not in (_NEXT[state], RoundState.ABORTED):
        raise RoundError(f"a round cannot go from {state} to {to}", rule=" → ".join(_NEXT))
    return to


@dataclass(frozen=True)
class Window:
    """When a round takes adapters: until `closes_at` (DHT time) or until enough new ones arrived.

    Those that return from an earlier round are there at once: if they counted, rounds would follow one
    another without an end.
    """

    closes_at: float
    close_after: int | None

    def is_over(self, now: float, num_new: int) -> bool:
        enough = self.close_after is not None and num_new >= self.close_after
        return enough or now >= self.closes_at
