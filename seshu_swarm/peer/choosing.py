"""Which blocks this peer hosts: those it was told, or the window with the worst coverage."""

from __future__ import annotations

import random

from seshu_swarm.errors import UsageError
from seshu_swarm.peer.config import HostConfig
from seshu_swarm.peer.guest import Guest
from seshu_swarm.records.kinds import RunRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.spans import Span, choose_span, coverage

BYTES_PER_PARAMETER = 4


async def choose_blocks(joined: Joined, settings: HostConfig, guest: Guest) -> Span:
    """Raises UsageError for blocks that the model does not have."""
    run = joined.run
    if settings.blocks:
        return _told(Span.parse(settings.blocks), run)
    found = await joined.swarm.spans(run.num_blocks)
    covered = coverage((Span(f.record.start, f.record.end) for f in found), run.num_blocks)
    length = settings.num_blocks or _blocks_that_fit(run, guest)
    return choose_span(covered, length, random.Random(joined.swarm.peer_id))


def _told(span: Span, run: RunRecord) -> Span:
    if span.end > run.num_blocks:
        raise UsageError(
            f"--blocks {span} of a model with {run.num_blocks} blocks",
            rule="a span lies inside the model",
            way_out=f"for example --blocks 0:{run.num_blocks}",
        )
    return span


def _blocks_that_fit(run: RunRecord, guest: Guest) -> int:
    """As many blocks as the memory limit allows, at least one."""
    bytes_per_block = 2 * BYTES_PER_PARAMETER * run.num_parameters // run.num_blocks
    return max(1, min(run.num_blocks, guest.free_bytes() // bytes_per_block))
