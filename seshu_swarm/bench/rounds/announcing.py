"""A process of donors: join, make keys, wait for the word, announce all at once, stay.

Its event `done` brings moments of time.perf_counter, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path

from seshu_swarm.bench.rounds.config import CrowdConfig
from seshu_swarm.bench.rounds.crowd import Crowd, new_donor, record_of_donor
from seshu_swarm.network.identity import Identity
from seshu_swarm.program import log, running
from seshu_swarm.program.running import Stop


def run(settings: CrowdConfig) -> int:
    """Raises SeshuError."""
    if not settings.verbose:
        logging.getLogger("seshu_swarm").setLevel(logging.ERROR)
    return running.run(lambda stop: announce(settings, stop))


async def announce(settings: CrowdConfig, stop: Stop) -> int:
    word = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, word.set)
    numbers = range(settings.first, settings.first + settings.donors)
    shares = [numbers[node :: settings.nodes] for node in range(settings.nodes)]
    crowds: list[Crowd] = []
    try:
        for node, share in enumerate(shares):
            donors = await asyncio.to_thread(_donors, len(share))
            folder = Path(settings.folder) / f"node-{settings.first}-{node}"
            crowds.append(await Crowd.join(folder, settings.peers, donors))
        log.event("ready", "ready")
        await running.first_to_end(_wait(word), stop.wait())
        if word.is_set():
            await _announce(settings, crowds, shares)
            await stop.wait()
    finally:
        await asyncio.gather(*(crowd.leave() for crowd in crowds))
    return 0


def _donors(count: int) -> list[Identity]:
    return [new_donor() for _ in range(count)]


async def _wait(word: asyncio.Event) -> None:
    await word.wait()


async def _announce(settings: CrowdConfig, crowds: list[Crowd], shares: list[range]) -> None:
    run = {"run_id": settings.run_id, "base_revision": settings.base_revision}
    began = time.perf_counter()
    taken = await asyncio.gather(
        *(
            crowd.announce([record_of_donor(number, **run) for number in share])
            for crowd, share in zip(crowds, shares, strict=True)
        )
    )
    log.event("done", "done", began=began, ended=time.perf_counter(), taken=sum(taken))
