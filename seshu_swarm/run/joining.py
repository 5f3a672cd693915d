"""Into the swarm by a link: identity, addresses, and the run as its coordinator signed it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.errors import UsageError
from seshu_swarm.network import identity, link
from seshu_swarm.network.daemon import Listen
from seshu_swarm.network.dht import RUN_RECORD_SECONDS, Found, Swarm
from seshu_swarm.network.line import Line
from seshu_swarm.network.link import Link
from seshu_swarm.packages import write_whole
from seshu_swarm.program import waits
from seshu_swarm.program.config import JoinConfig
from seshu_swarm.records.kinds import RunRecord
from seshu_swarm.stores.swarm import SwarmStore

logger = logging.getLogger(__name__)

ADDRESSES_FILE = "addresses.json"
MAX_ADDRESSES = 16
JOIN_SECONDS = 20.0  # most that `Swarm.join` takes


@dataclass(frozen=True)
class Joined:
    """A peer inside a run."""

    swarm: Swarm
    link: Link
    found: Found[RunRecord]
    state_dir: Path

    @property
    def run(self) -> RunRecord:
        return self.found.record

    @property
    def coordinator(self) -> str:
        """Peer id of the coordinator."""
        return self.found.owner

    @property
    def store(self) -> SwarmStore:
        return SwarmStore(self.swarm, [self.coordinator])

    def package_folder(self, digest: str) -> Path:
        return packages_of(self.state_dir) / digest


def packages_of(state_dir: Path) -> Path:
    return state_dir / "packages"


async def join(settings: JoinConfig) -> Joined:
    """Enter the run of `settings.join`. Raises JoinError, ResourceError or UsageError."""
    if not settings.join:
        raise UsageError(
            "no join link given",
            rule="a peer joins one run",
            way_out="copy the link that the coordinator printed: --join 'seshu://…'",
        )
    wanted = link.parse(settings.join)
    state_dir = settings.state_path
    me = identity.load_or_create(state_dir)
    peers = list(dict.fromkeys([*wanted.peers, *remembered(state_dir, wanted.run_id)]))
    listen = Listen(settings.host, settings.port, settings.announce)
    with waits.waiting(f"{len(peers)} peer(s) of the link", JOIN_SECONDS):
        swarm = await Swarm.join(me, run_id=wanted.run_id, initial_peers=peers, listen=listen)
    swarm.line = Line(wanted.run_id, state_dir)
    try:
        with waits.waiting(f"the record of run {wanted.run_id}", RUN_RECORD_SECONDS):
            found = await swarm.run_record(wanted)
    except BaseException:
        await swarm.leave()
        raise
    remember(state_dir, wanted.run_id, await swarm.neighbours())
    return Joined(swarm, wanted, found, state_dir)


def remembered(state_dir: Path, run_id: str) -> list[str]:
    """Addresses that worked before: the link's peers may be gone by now."""
    found = _addresses(state_dir).get(run_id)
    return [str(address) for address in found][:MAX_ADDRESSES] if isinstance(found, list) else []


def remember(state_dir: Path, run_id: str, addresses: list[str]) -> None:
    """Keep the addresses of a run beside those of other runs."""
    table = _addresses(state_dir) | {run_id: addresses[:MAX_ADDRESSES]}
    write_whole(state_dir / ADDRESSES_FILE, json.dumps(table).encode())


def _addresses(state_dir: Path) -> dict[str, object]:
    try:
        table = json.loads((state_dir / ADDRESSES_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
