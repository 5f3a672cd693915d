"""What became of a plan's checkpoints, as the ledger keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from seshu_swarm.coordinator.state.ledger import Ledger

FACT = "training-checkpoints"


@dataclass(frozen=True)
class Decided:
    """`state` is published, failed (at the gate; kept), passed over (the gate was not asked) or broken (its
    states were no checkpoint). `revision` is "" where nothing is kept."""

    step: int
    revision: str
    state: str
    reason: str


def decided_of(ledger: Ledger, plan: str) -> list[Decided]:
    """Oldest first."""
    kept = ledger.fact(FACT)
    return [Decided(**one) for one in kept["decided"]] if kept and kept["plan"] == plan else []


def note_decided(ledger: Ledger, plan: str, found: Decided) -> None:
    table = [asdict(one) for one in [*decided_of(ledger, plan), found]]
    ledger.set_fact(FACT, {"plan": plan, "decided": table})
