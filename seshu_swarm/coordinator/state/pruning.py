"""Room on the disk of a long run: weights of old rounds go, what is needed to make them again stays.

Of a round older than the newest `keep`, the checkpoint's shards and the adapters that were not
merged are removed; manifest, card and papers stay, and so do merged adapters, the base, every
training boundary and the head. `verify` then says which files are missing; revoking still works.
"""

from __future__ import annotations

import shutil

from seshu_swarm.coordinator.rounds.states import ENDED
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import BOUNDARIES, Lineage
from seshu_swarm.coordinator.state.run_folder import RunFolder

WEIGHTS = "*.safetensors"


def prune(folder: RunFolder, ledger: Ledger, *, keep: int) -> int:
    """Remove what may go; the number of bytes that became free."""
    freed_bytes = 0
    for revision in _old_revisions(ledger, keep):
        for path in folder.package(revision).glob(WEIGHTS):
            freed_bytes += path.stat().st_size
            path.unlink()
    for digest in _old_adapters(ledger, keep):
        package = folder.adapter(digest)
        freed_bytes += sum(p.stat().st_size for p in package.rglob("*") if p.is_file())
        shutil.rmtree(package, ignore_errors=True)
    return freed_bytes


def _old_revisions(ledger: Ledger, keep: int) -> list[str]:
    line = Lineage(ledger.database).all()
    return [one.revision for one in line[:-keep] if one.kind not in BOUNDARIES]


def _old_adapters(ledger: Ledger, keep: int) -> list[str]:
    """Of old rounds, never merged, and not handed in to a newer round again."""
    ended = [one for one in ledger.rounds() if one.state in ENDED][:-keep]
    judged = (adapter for one in ended for adapter in ledger.adapters(one.number))
    numbers = {one.number for one in ended}
    kept = [found for a in judged if (found := ledger.adapter(a.digest)) is not None]
    return [a.digest for a in kept if a.round in numbers and a.state != "accepted"]
