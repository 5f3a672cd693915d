"""A round's adapter records, all at once, through a real DHT: how many reach the coordinator, and when.

The coordinator's own look-up and intake take what they find into a ledger on disk; the clock runs
from the first donor's announcement until the ledger holds them all.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from seshu_swarm.coordinator.rounds import gather
from seshu_swarm.coordinator.rounds.intake import Intake
from seshu_swarm.coordinator.state.ledger import Ledger
from seshu_swarm.network import identity
from seshu_swarm.network.daemon import Listen
from seshu_swarm.network.dht import Swarm
from seshu_swarm.program.children import Child, Children, Event

DONORS = "seshu_swarm.bench.rounds"
RUN_ID, BASE = "bench", "0" * 64
JOIN_SECONDS, ANNOUNCE_SECONDS = 300.0, 300.0
LOOK_UPS_AT_THE_END = 3  # what is not there by then is lost
ROUND_SECONDS = 3_600.0


@dataclass(frozen=True, kw_only=True)
class Crowds:
    """Nodes of the DHT beside the coordinator's, in so many processes, and the donors of all."""

    donors: int = 1_000
    nodes: int = 9
    processes: int = 3

    def shares(self) -> list[tuple[int, int, int]]:
        """Of each process: its nodes, its donors, the number of its first donor."""
        nodes, donors = _shares(self.nodes, self.processes), _shares(self.donors, self.processes)
        return [(nodes[i], donors[i], sum(donors[:i])) for i in range(self.processes)]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """`taken`: stores that a node confirmed; `found`: records in the coordinator's ledger."""

    donors: int
    taken: int
    found: int
    announce_seconds: float
    seconds: float

    @property
    def lost(self) -> int:
        return self.donors - self.found


async def measure(folder: Path, crowds: Crowds) -> Spread:
    """Raises SeshuError naming the process that failed."""
    me = identity.load_or_create(folder / "coordinator")
    children = Children(folder / "logs", _unheard)
    swarm = await Swarm.join(me, run_id=RUN_ID, initial_peers=[], listen=Listen("127.0.0.1", 0))
    try:
        started = await _start(children, crowds, folder, await swarm.addresses())
        return await _spread(swarm, folder, crowds, started)
    finally:
        await children.end()
        await swarm.leave()


async def _start(children: Children, crowds: Crowds, folder: Path, peers: list[str]) -> list[Child]:
    started = []
    for number, (nodes, donors, first) in enumerate(crowds.shares()):
        arguments = [
            "crowd",
            "--run-id",
            RUN_ID,
            "--base-revision",
            BASE,
            "--peers",
            ",".join(peers),
        ]
        arguments += ["--folder", str(folder), "--nodes", str(nodes)]
        arguments += ["--donors", str(donors), "--first", str(first)]
        started.append(await children.start(f"donors {number}", DONORS, arguments))
    await asyncio.gather(*(child.wait_for("ready", seconds=JOIN_SECONDS) for child in started))
    return started


async def _spread(swarm: Swarm, folder: Path, crowds: Crowds, started: list[Child]) -> Spread:
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.set_fact("run_id", RUN_ID)
    round_ = ledger.begin_round(parent=BASE, seed=0, closes_at=time.time() + ROUND_SECONDS)
    intake = Intake(ledger, lambda: ledger.round(round_.number))
    began = time.perf_counter()
    for child in started:
        child.process.send_signal(signal.SIGUSR1)
    announcing = asyncio.gather(
        *(child.wait_for("done", seconds=ANNOUNCE_SECONDS) for child in started)
    )
    left, found = LOOK_UPS_AT_THE_END, 0
    while left and found < crowds.donors:
        left -= announcing.done()
        await gather.look_up(swarm, intake)
        found = len(ledger.adapters(round_.number))
    ended, told = time.perf_counter(), await announcing
    return Spread(
        donors=crowds.donors,
        taken=sum(event["taken"] for event in told),
        found=found,
        announce_seconds=max(event["ended"] for event in told) - began,
        seconds=ended - began,
    )


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (number < total % parts) for number in range(parts)]


def _unheard(name: str, event: Event) -> None:
    """Children are listened to by those who wait for them."""
