"""What the coordinator holds for others: the run's packages, and the adapters it merged.

A donor may go, and its repository with it; who wants to make a release again needs its adapters. So
those of the last rounds are announced too. Pure but for looking which packages lie here.
"""

from __future__ import annotations

from seshu_swarm.coordinator.rounds.states import RoundState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Lineage
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.packages import MANIFEST

# Each package is announced every few seconds: older rounds are had by digest from whoever kept them.
MIRRORED_ROUNDS = 4


def held_by(folder: RunFolder, ledger: Ledger) -> frozenset[str]:
    """Digests of packages that lie here whole and are worth announcing; nothing withdrawn."""
    withdrawn = {one.revision for one in Lineage(ledger.database).all() if one.withdrawn}
    wanted = {ledger.fact("revision"), ledger.fact("catalogue")}
    wanted |= set((ledger.fact("revealed") or {}).values())
    ended = [one for one in ledger.rounds() if one.state is RoundState.PUBLISHED]
    for one in ended[-MIRRORED_ROUNDS:]:
        wanted |= {one.parent, one.revision}
        wanted |= {a.digest for a in ledger.adapters(one.number) if a.state == "accepted"}
    return frozenset(
        d for d in wanted - withdrawn if d and (folder.package(d) / MANIFEST).is_file()
    )
