"""The chain of spans for a request: the shortest path over measured times. Pure.

Nodes are block boundaries 0..num_blocks; a peer that hosts `[start, end)` is an edge from every
boundary inside its span to `end`. A hop costs the peer's measured step time for those blocks, its
queue, and one round trip.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from seshu_swarm.errors import PeerLostError
from seshu_swarm.spans import Span

HOP_SECONDS = 0.002  # until round trips are measured: what one hop costs on a fast link
UNKNOWN_STEP_SECONDS = 0.01


@dataclass(frozen=True)
class Offer:
    """A peer that hosts a span of the wanted revision. `step_seconds` is 0 while unmeasured;
    `round_trip_seconds` is measured by this client, infinite for a peer out of reach."""

    peer_id: str
    span: Span
    step_seconds: float
    num_sessions: int
    round_trip_seconds: float = HOP_SECONDS


@dataclass(frozen=True)
class Hop:
    """One peer's part of a chain."""

    peer_id: str
    span: Span


def cost_seconds(offer: Offer, span: Span) -> float:
    """Expected time of a step through `span` at this peer."""
    whole = offer.step_seconds or UNKNOWN_STEP_SECONDS
    share = whole * span.length / offer.span.length
    return offer.round_trip_seconds + share * (1 + offer.num_sessions)


def choose_chain(
    offers: Iterable[Offer], wanted: Span, without: Collection[str] = ()
) -> tuple[Hop, ...]:
    """The cheapest chain over `wanted`. Raises PeerLostError naming the first uncovered block.

    Ties go to the smaller peer id, so that a choice can be repeated.
    """
    reachable = (o for o in offers if o.round_trip_seconds < float("inf"))
    usable = sorted((o for o in reachable if o.peer_id not in without), key=lambda o: o.peer_id)
    best: dict[int, tuple[float, tuple[Hop, ...]]] = {wanted.start: (0.0, ())}
    for boundary in range(wanted.start, wanted.end):
        if boundary not in best:
            continue
        spent, hops = best[boundary]
        for offer in usable:
            if boundary not in offer.span:
                continue
            span = Span(boundary, min(offer.span.end, wanted.end))
            total = spent + cost_seconds(offer, span)
            if span.end not in best or total < best[span.end][0]:
                best[span.end] = (total, (*hops, Hop(offer.peer_id, span)))
    if wanted.end not in best:
        raise _uncovered(usable, wanted)
    return best[wanted.end][1]


def _uncovered(usable: list[Offer], wanted: Span) -> PeerLostError:
    covered = {block for offer in usable for block in offer.span}
    missing = [block for block in wanted if block not in covered]
    where = f"block {missing[0]}" if missing else f"the blocks {wanted} in one chain"
    return PeerLostError(
        f"no reachable peer hosts {where}",
        rule="every block needs at least one peer",
        way_out="host it yourself: python -m seshu_swarm.peer host --join LINK",
    )
