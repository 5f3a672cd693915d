"""The public ledger in the swarm: sealed when something has changed, and named by a signed record.

Anyone with the join link can then see what the maintainer sees. The package before it stays for
whoever is fetching it; older ones go.
"""

from __future__ import annotations

import asyncio
import shutil
import time

from seshu_swarm import packages
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.coordinator.state.removing import remove_package
from seshu_swarm.coordinator.state.run_folder import RunFolder
from seshu_swarm.coordinator.web.books import Books
from seshu_swarm.dashboard.public import FILE, KIND, ledger_of
from seshu_swarm.network.dht import Swarm
from seshu_swarm.records.kinds import LedgerRecord

FACT = "public-ledgers"
KEPT = 2
# Training changes at every step: not every one is told.
SEAL_SECONDS = 30.0


class Publisher:
    """Of one run."""

    def __init__(self, swarm: Swarm, folder: RunFolder, ledger: Ledger) -> None:
        self._swarm, self._folder, self._ledger = swarm, folder, ledger
        self._books = Books(folder, ledger)
        self._sealed_at = -float("inf")

    async def publish(self) -> None:
        """Seal if it is time, then announce. Raises SeshuError."""
        if time.monotonic() - self._sealed_at >= SEAL_SECONDS:
            await asyncio.to_thread(seal, self._folder, self._ledger, self._books)
            self._sealed_at = time.monotonic()
        for digest in (self._ledger.fact(FACT) or [])[-1:]:
            await self._swarm.announce(LedgerRecord(run_id=self._swarm.run_id, digest=digest))


def seal(folder: RunFolder, ledger: Ledger, books: Books) -> str:
    """The digest of the public ledger as it is now. Raises SeshuError."""
    fresh = folder.packages / "sealing-ledger"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    packages.write_whole(fresh / FILE, ledger_of(books.read()))
    digest = packages.seal(fresh, KIND, [FILE], {})
    known: list[str] = ledger.fact(FACT) or []
    # A ledger that came out of a backup names a package that no backup keeps.
    if digest in known[-1:] and (folder.package(digest) / packages.MANIFEST).is_file():
        shutil.rmtree(fresh)
        return digest
    packages.publish_folder(fresh, folder.package(digest))
    known = [*(one for one in known if one != digest), digest]
    ledger.set_fact(FACT, known[-KEPT:])
    for old in known[:-KEPT]:
        remove_package(folder, old)
    return digest
