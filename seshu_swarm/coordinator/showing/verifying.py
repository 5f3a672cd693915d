"""`coordinator verify`: make a published checkpoint again from its recipe, and compare digests.

A round's is its parent and a merge; a revocation's is a boundary and the merges that stayed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from seshu_swarm import checkpoints, packages
from seshu_swarm.coordinator.config import VerifyConfig
from seshu_swarm.coordinator.releasing import publish
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.lineage import Kind, Lineage, Revision
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.upkeep.replaying import delta_of, rebuild
from seshu_swarm.errors import DigestError, RoundError, UsageError
from seshu_swarm.program import log

MERGED = frozenset({Kind.ROUND, Kind.REVOCATION})


def run(settings: VerifyConfig) -> int:
    """Raises DigestError where what is made again differs from what was published."""
    folder = RunFolder.of(settings.state_dir)
    folder.must_exist()
    ledger = Ledger(folder.ledger)
    found = _wanted(ledger, settings.what)
    packages.verify(folder.package(found.revision), found.revision)
    again = folder.packages / f"verifying-{found.revision[:16]}"
    shutil.rmtree(again, ignore_errors=True)
    try:
        digest = _made_again(folder, found, again)
    finally:
        shutil.rmtree(again, ignore_errors=True)
    if digest != found.revision:
        raise DigestError(
            f"{found.kind} {found.revision} made again gives {digest}",
            rule="the same parent, adapters and recipe give the same digest",
            way_out="parent, adapters or program differ from those of the round",
        )
    name = f"round {found.round}" if found.kind is Kind.ROUND else str(found.kind)
    log.event("verified", f"{name} verified: {digest}", revision=digest)
    return 0


def _wanted(ledger: Ledger, what: str) -> Revision:
    """A round by its number, else a revision by its first digits."""
    if what.isdecimal() and len(what) < 8:
        ended = ledger.round(int(what))
        if ended.revision is None:
            raise RoundError(f"round {what} published nothing ({ended.state})")
        what = ended.revision
    fits = [r for r in Lineage(ledger.database).all() if r.revision.startswith(what)]
    if len(fits) != 1 or fits[0].kind not in MERGED:
        raise UsageError(
            f"{what!r} names {len(fits)} revision(s) of this run, or one that no merge made",
            rule="a round's number, or the first digits of a merged revision",
            way_out="see coordinator status",
        )
    return fits[0]


def _made_again(folder: RunFolder, found: Revision, into: Path) -> str:
    about: dict[str, Any] = packages.read_manifest(folder.package(found.revision)).about
    if found.kind is Kind.REVOCATION:
        return rebuild(folder, about, into)
    shape = checkpoints.read_shape(folder.package(about["parent"]))
    delta = delta_of(folder, about, shape)
    return publish.write_checkpoint(folder, delta, about, into)
