"""Which merged adapter a person means by a digest or the beginning of one."""

from __future__ import annotations

from seshu_swarm.coordinator.rounds.states import REVOKED, RoundState
from seshu_swarm.coordinator.state.ledger import Ledger, Submission
from seshu_swarm.errors import UsageError

MINIMUM_CHARACTERS = 6


def find_merged(ledger: Ledger, prefix: str) -> Submission:
    """The adapter, in the round that merged it; revoked ones count. Raises UsageError."""
    if len(prefix) < MINIMUM_CHARACTERS or not set(prefix) <= set("0123456789abcdef"):
        raise UsageError(
            f"{prefix[:80]!r} is no digest of an adapter",
            rule=f"at least {MINIMUM_CHARACTERS} characters of 0-9 and a-f",
            way_out="coordinator round N lists digests",
        )
    handed_in = {
        a.digest for r in ledger.rounds() for a in ledger.adapters(r.number) if _fits(a, prefix)
    }
    if len(handed_in) != 1:
        raise _none_or_several(prefix, sorted(handed_in))
    digest = handed_in.pop()
    for published in ledger.rounds():
        if published.state is RoundState.PUBLISHED:
            for adapter in ledger.adapters(published.number):
                if adapter.digest == digest and was_merged(adapter):
                    return adapter
    raise UsageError(
        f"adapter {digest} was never merged",
        rule="only what is in a checkpoint can be taken out of one",
        way_out="nothing needs to be done: coordinator status lists what was published",
    )


def was_merged(adapter: Submission) -> bool:
    """Within a round that published."""
    return adapter.state == "accepted" or adapter.reason.startswith(REVOKED)


def _fits(adapter: Submission, prefix: str) -> bool:
    return adapter.digest.startswith(prefix)


def _none_or_several(prefix: str, found: list[str]) -> UsageError:
    if not found:
        return UsageError(
            f"no adapter {prefix[:64]} was handed in", way_out="coordinator round N lists digests"
        )
    return UsageError(
        f"{prefix} begins {len(found)} adapters: {', '.join(d[:16] for d in found[:5])}",
        way_out="give more of the digest",
    )
