"""Whether to host other blocks than now. Pure.

The weakest block decides how fast the swarm is: a peer moves to the window with the worst throughput if
that makes the weakest block clearly faster, and never if it would leave a block without a peer
(Petals, block_selection; there a move drops every session, here they are handed over).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from seshu_swarm.spans import Span, choose_span

# The weakest block's throughput now, over what it would be: above it a move is not worth the trouble.
WORTH_MOVING = 0.75


@dataclass(frozen=True)
class Load:
    """A host's blocks, and the seconds of one token through all of them; 0 while unmeasured."""

    peer_id: str
    span: Span
    step_seconds: float


def throughput(loads: Iterable[Load], num_blocks: int, usual_seconds: float) -> list[float]:
    """Tokens per second that all hosts of a block could do together; unmeasured ones are as usual."""
    total = [0.0] * num_blocks
    for load in loads:
        for block in range(load.span.start, min(load.span.end, num_blocks)):
            total[block] += 1 / (load.step_seconds or usual_seconds)
    return total


def better_span(
    loads: Iterable[Load],
    me: str,
    num_blocks: int,
    rng: random.Random,
    *,
    worth_moving: float = WORTH_MOVING,
) -> Span | None:
    """Where this peer had better be, or None to stay. `worth_moving` of infinity: anywhere else that
    leaves every block hosted."""
    everyone = list(loads)
    mine = next((load for load in everyone if load.peer_id == me), None)
    if mine is None:
        return None
    measured = [load.step_seconds for load in everyone if load.step_seconds > 0]
    usual = median(measured) if measured else 1.0
    others = [load for load in everyone if load.peer_id != me]
    without = throughput(others, num_blocks, usual)
    span = choose_span(_barring(without, mine.span, worth_moving), mine.span.length, rng)
    if span == mine.span:
        return None
    now = min(throughput(everyone, num_blocks, usual))
    after = min(throughput([*others, Load(me, span, mine.step_seconds)], num_blocks, usual))
    return span if after > 0 and now / after < worth_moving else None


def _barring(without: list[float], span: Span, worth_moving: float) -> list[float]:
    """When any other place will do, the present one must not be the best."""
    if worth_moving != float("inf"):
        return without
    ceiling = max(without) + 1.0
    return [rate + ceiling if block in span else rate for block, rate in enumerate(without)]
