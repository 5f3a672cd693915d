"""Lending this machine: join a run, work within the owner's limits, leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import torch

from seshu_swarm.errors import EXIT_INTERRUPTED
from seshu_swarm.peer import screen
from seshu_swarm.peer.config import LentConfig
from seshu_swarm.peer.guest import Guest, Limits
from seshu_swarm.program import running
from seshu_swarm.program.running import Stop
from seshu_swarm.run.joining import Joined, join

Work = Callable[[Joined, Guest, Stop], Awaitable[bool]]


def lend(settings: LentConfig, work: Work) -> int:
    """Run `work` until it is done or stopped; it says whether it was done. The exit code."""
    limits = Limits.of(settings)
    if limits.max_threads:
        torch.set_num_threads(limits.max_threads)

    async def visit(stop: Stop) -> int:
        joined = await join(settings)
        guest = Guest(limits, joined.state_dir)
        if joined.swarm.relay:
            joined.swarm.relay.allow_upload = guest.allow_upload
        try:
            is_done = await work(joined, guest, stop)
        finally:
            await joined.swarm.leave()
        return 0 if is_done else EXIT_INTERRUPTED

    with screen.showing():
        return running.run(visit)
