"""Which packages a run cannot do without: its line of revisions, its catalogue, what was merged.

Knows the ledger; whether the folders are there is for who asks.
"""

from __future__ import annotations

from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Lineage
from seshu_swarm.coordinator.upkeep.finding import was_merged


def needed_packages(ledger: Ledger) -> tuple[str, ...]:
    """Digests, sorted: the head to go on, the rest to verify rounds and to revoke adapters."""
    found = {ledger.fact("revision"), ledger.fact("catalogue")}
    found |= {revision.revision for revision in Lineage(ledger.database).since_boundary()}
    for published in ledger.rounds():
        if published.state is RoundState.PUBLISHED:
            found |= {a.digest for a in ledger.adapters(published.number) if was_merged(a)}
    return tuple(sorted(digest for digest in found if digest))


def public_packages(ledger: Ledger) -> frozenset[str]:
    """Digests that this run itself has named to the swarm: no adapter of a donor has one of them."""
    found = {one.revision for one in Lineage(ledger.database).all()}
    found |= {ledger.fact("catalogue"), *(ledger.fact("revealed") or {}).values()}
    return frozenset(digest for digest in found if digest)
