"""Room on the disk of a long run: weights of old rounds go, what is needed to make them again stays.

Of what is older than the newest `keep` published rounds, the checkpoints' shards and the adapters
that were never merged are removed; manifest, card and papers stay, and so do merged adapters
(revoked ones too), the base, every training boundary, the head, and what is not on the Hub yet.
Whole packages are removed only where they are adapters and nothing else of the run has their
digest: a stranger may hand in any digest. `verify` then says which files are missing; revoking still
works.
"""

from __future__ import annotations

from collections.abc import Collection

from seshu_swarm import packages
from seshu_swarm.adapters.rules import KIND
from seshu_swarm.coordinator.rounds.states import ENDED, RoundState
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import BOUNDARIES, Lineage
from seshu_swarm.coordinator.state.removing import remove_package
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep.needed import needed_packages, public_packages
from seshu_swarm.errors import PackageError

WEIGHTS = "*.safetensors"


def prune(
    folder: RunFolder, ledger: Ledger, *, keep: int, unpushed: Collection[str] = frozenset()
) -> int:
    """Remove what may go; the number of bytes that became free.

    `unpushed` are revisions that wait for the Hub (`releasing.waiting`); they keep their weights.
    """
    first_kept = _first_kept(ledger, keep)
    freed_bytes = 0
    for revision in _old_revisions(ledger, first_kept):
        if revision not in unpushed:
            freed_bytes += _remove_weights(folder, revision)
    for digest in _old_adapters(ledger, first_kept):
        if _is_adapter(folder, digest):
            package = folder.adapter(digest)
            freed_bytes += sum(p.stat().st_size for p in package.rglob("*") if p.is_file())
            remove_package(folder, digest)
    return freed_bytes


def _first_kept(ledger: Ledger, keep: int) -> int:
    """Number of the oldest of the newest `keep` published rounds; aborted ones between stay too."""
    numbers = [r.number for r in ledger.rounds() if r.state is RoundState.PUBLISHED]
    return numbers[-keep] if len(numbers) >= keep else 0


def _remove_weights(folder: RunFolder, revision: str) -> int:
    freed_bytes = 0
    for path in folder.package(revision).glob(WEIGHTS):
        freed_bytes += path.stat().st_size
        path.unlink()
    return freed_bytes


def _old_revisions(ledger: Ledger, first_kept: int) -> list[str]:
    line = Lineage(ledger.database).all()
    old = (one for one in line[:-1] if one.round < first_kept)
    return [one.revision for one in old if one.kind not in BOUNDARIES]


def _old_adapters(ledger: Ledger, first_kept: int) -> list[str]:
    """Of old rounds, never merged, and not handed in to a newer round again."""
    ended = [r for r in ledger.rounds() if r.state in ENDED and r.number < first_kept]
    handed_in = {a.digest for r in ended for a in ledger.adapters(r.number)}
    wanted = set(needed_packages(ledger)) | public_packages(ledger)
    latest = [found for d in sorted(handed_in - wanted) if (found := ledger.adapter(d)) is not None]
    return [a.digest for a in latest if a.round < first_kept]


def _is_adapter(folder: RunFolder, digest: str) -> bool:
    try:
        return packages.read_manifest(folder.package(digest)).kind == KIND
    except PackageError:
        return False
