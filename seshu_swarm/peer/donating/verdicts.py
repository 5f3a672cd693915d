"""What a donor is told of an adapter: state, reason, rounded gain and what to do next. Pure.

Also for every named no of the coordinator; which of those pass by themselves is said here too.
"""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import RefusalError
from seshu_swarm.streams.protocol import Refusal, Verdict

AGAIN = "start the same command again, or give --follow"
NEXT_STEPS = {
    Refusal.STALE_BASE: f"the run has another checkpoint by now: {AGAIN}, and it trains on that",
    Refusal.ROUND_CLOSED: "it is offered again while this runs: leave it running, or start the same "
    "command later; what was trained is kept",
    Refusal.RATE_LIMITED: "hand in fewer adapters a round; start the same command in the next one",
    Refusal.NOT_OWNER: "use the state folder (--state-dir) whose key handed it in first, or train "
    "one of your own with another --seed",
    Refusal.RUN_UNKNOWN: "compare the join link with the one that the maintainer gives out",
    Refusal.NOT_FOR_MERGING: "leave --task out to offer an adapter for merging",
    Refusal.WIRE_VERSION_MISMATCH: "upgrade the older side: pip install --upgrade seshu-swarm",
}
REPORT = "report this line to the maintainer; the adapter is kept"
NO_GAIN_KNOWN = "not measured"
# Begins the reason where a round came to nothing: the adapter takes part in the next one.
NOT_PUBLISHED = "NOT_PUBLISHED"


@dataclass(frozen=True)
class Word:
    """`state`: accepted, rejected, refused (at the door), or none (no word yet, or stopped).

    `round_index`: the round whose word it is.
    """

    state: str
    reason: str
    gain: str
    next_step: str
    round_index: int | None = None

    @property
    def is_final_no(self) -> bool:
        """Whether this adapter will never be merged."""
        return self.state == "rejected" and not self.reason.startswith(NOT_PUBLISHED)

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}; gain: {self.gain}; next: {self.next_step}"


def word_of_verdict(verdict: Verdict) -> Word:
    """The coordinator's verdict, with nothing left open."""
    default = "nothing: it is in the next checkpoint" if verdict.state == "accepted" else AGAIN
    return Word(
        verdict.state,
        verdict.reason,
        verdict.gain or NO_GAIN_KNOWN,
        verdict.next_step or default,
        verdict.round_index,
    )


def word_of_refusal(error: RefusalError) -> Word:
    """A named no: the name, what it means, what the coordinator added, and the way out."""
    reason = "; ".join(part for part in (error.what, error.rule) if part)
    return Word("refused", reason, NO_GAIN_KNOWN, next_step(error))


def with_next_step(error: RefusalError) -> RefusalError:
    """The same no, with what to do next as its way out."""
    what = error.what.removeprefix(f"{error.name}: ")
    return RefusalError(error.name, what, rule=error.rule, way_out=next_step(error))


def next_step(error: RefusalError) -> str:
    """The way out that came with it, or ours."""
    if error.way_out:
        return error.way_out
    return NEXT_STEPS.get(Refusal.__members__.get(error.name, Refusal.INTERNAL), REPORT)


def passes_by_itself(error: RefusalError, *, is_known: bool) -> bool:
    """Whether to ask again later: between rounds, or who `is_known` asked too often."""
    if error.name == Refusal.RATE_LIMITED.name:
        return is_known
    return error.name == Refusal.ROUND_CLOSED.name
