"""Donors' adapters that a host keeps: known again after a restart, announced, dropped in time.

An adapter is kept for a week after its donor last left it here, and all of them together within
MAX_BYTES: rounds are over long before. Checkpoints and catalogues beside them are not touched.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm import packages
from seshu_swarm.errors import PeerError, SeshuError
from seshu_swarm.network.dht import Swarm
from seshu_swarm.packages import MANIFEST
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop
from seshu_swarm.records.kinds import ANNOUNCE_SECONDS, DAY_SECONDS, ProviderRecord
from seshu_swarm.stores.holder import HolderPolicy

logger = logging.getLogger(__name__)

MAX_AGE_SECONDS = 7 * DAY_SECONDS
MAX_BYTES = 2_000_000_000
TIDY_SECONDS = 600.0
# A lease lives thirty seconds, so each is announced again every ten; older ones are given unannounced.
MAX_ANNOUNCED = 64
ANNOUNCED_AT_ONCE = 8


def policy_of(hold_adapters: bool) -> HolderPolicy:
    """What a volunteer's disk takes in for others, in a day."""
    return HolderPolicy(takes_adapters=hold_adapters, max_bytes_of_all=MAX_BYTES)


@dataclass(frozen=True)
class Kept:
    """An adapter on this disk; `since`: when its donor last left it, in seconds of Unix time."""

    digest: str
    size_bytes: int
    since: float


def kept_in(root: Path) -> list[Kept]:
    """The whole adapters among the packages of a folder, newest first."""
    found = []
    for path in root.glob(f"*/{MANIFEST}"):
        try:
            manifest = packages.read_manifest(path.parent)
            since = path.stat().st_mtime
        except (SeshuError, OSError) as error:
            logger.debug("%s is passed over: %s", path.parent, error)
            continue
        if manifest.kind == "adapter" and manifest.digest == path.parent.name:
            found.append(Kept(manifest.digest, manifest.size_bytes, since))
    return sorted(found, key=lambda one: -one.since)


def to_drop(kept: Iterable[Kept], *, now: float, max_bytes: int = MAX_BYTES) -> list[Kept]:
    """Those that are too old, and the oldest of the others beyond `max_bytes`."""
    dropped, filled_bytes = [], 0
    for one in sorted(kept, key=lambda one: -one.since):
        filled_bytes += one.size_bytes
        if filled_bytes > max_bytes or now - one.since > MAX_AGE_SECONDS:
            dropped.append(one)
    return dropped


class Keeper:
    """Whoever takes adapters in tells it by `add`. Not `is_keeping`: it leaves all as it is."""

    def __init__(self, root: Path, swarm: Swarm, *, is_keeping: bool = True) -> None:
        self._root, self._swarm, self._is_keeping = root, swarm, is_keeping
        self._since: dict[str, float] = {}

    async def live(self, stop: Stop) -> None:
        """Until stopped. A host that declines adapters neither announces nor drops what is there."""
        if self._is_keeping:
            await asyncio.gather(
                running.repeat(stop, TIDY_SECONDS, self.tidy),
                running.repeat(stop, ANNOUNCE_SECONDS, self.announce),
            )

    def add(self, digest: str) -> None:
        self._since[digest] = time.time()

    @property
    def announced(self) -> list[str]:
        """Digests of the newest, newest first."""
        newest = sorted(self._since, key=lambda digest: -self._since[digest])
        return newest[:MAX_ANNOUNCED]

    async def tidy(self) -> None:
        """Look at the disk, and drop what is not kept any longer."""
        found = await asyncio.to_thread(kept_in, self._root)
        dropped = to_drop(found, now=time.time())
        for one in found:
            self._since.setdefault(one.digest, one.since)
        for one in dropped:
            self._since.pop(one.digest, None)
            await asyncio.to_thread(shutil.rmtree, self._root / one.digest, ignore_errors=True)
        if dropped:
            text = f"dropped {len(dropped)} adapter(s) of donors"
            log.event("dropped", text, adapters=[one.digest for one in dropped])

    async def announce(self) -> None:
        """Say that they are here. One that the DHT does not take now is announced the next time."""
        gate = asyncio.Semaphore(ANNOUNCED_AT_ONCE)

        async def one(digest: str) -> None:
            record = ProviderRecord(run_id=self._swarm.run_id, digest=digest)
            async with gate:
                try:
                    await self._swarm.announce(record)
                except PeerError as error:
                    logger.debug("adapter %s was not announced: %s", digest[:12], error)

        await asyncio.gather(*map(one, self.announced))
