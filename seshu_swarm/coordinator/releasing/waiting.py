"""Revisions that wait for the Hub: their weights must stay on the disk until they are there.

Every repository counts that the run pushes to or has pushed to. Knows no network.
"""

from __future__ import annotations

from seshu_swarm.coordinator.releasing.release import pushed
from seshu_swarm.coordinator.releasing.withdrawn import tag_of
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Lineage

FACT_PREFIX = "hub "


def waiting_for_hub(ledger: Ledger, *, repository: str | None) -> frozenset[str]:
    """Revisions with a release that some repository lacks; nothing withdrawn is pushed any more.

    `repository` is the one that is pushed to now, which the ledger may not know yet.
    """
    wanted = {
        one.revision: tag
        for one in Lineage(ledger.database).all()
        if not one.withdrawn and (tag := tag_of(one)) is not None
    }
    found: set[str] = set()
    for name in _repositories(ledger) | ({repository} if repository else set()):
        done = {one.tag for one in pushed(ledger, name)}
        found |= {revision for revision, tag in wanted.items() if tag not in done}
    return frozenset(found)


def _repositories(ledger: Ledger) -> set[str]:
    with ledger.database.open() as connection:
        rows = connection.execute("SELECT name FROM facts WHERE name LIKE 'hub %/%'").fetchall()
    return {str(name).removeprefix(FACT_PREFIX) for (name,) in rows}
