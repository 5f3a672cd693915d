"""One loss of a part of a session, and who took its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seshu_swarm.client.chain.routing import Hop
from seshu_swarm.exchange import edges
from seshu_swarm.sessions.conversation import Place
from seshu_swarm.spans import Span


@dataclass(frozen=True)
class Recovery:
    """`position`: tokens that had come back before. `lost`: a peer id, whose part had `span` (None: it
    was in no chain any more); it `said_goodbye`, or was found gone for `reason`.

    `by`: who has its blocks now. `seconds`: between the last output before the loss and the first one
    after it, or what replacing took where no step was under way; None while that is not over.
    """

    lost: str
    span: Span | None
    position: int
    reason: str
    said_goodbye: bool
    by: tuple[Hop, ...] = ()
    seconds: float | None = None

    def __str__(self) -> str:
        where = f"blocks {self.span}" if self.span else "a part"
        return f"{where} lost at token {self.position}: {self.reason}"


def takers(span: Span | None, places: Iterable[Place]) -> tuple[Hop, ...]:
    """Of a new chain, those that have some of these blocks."""
    if span is None:
        return ()
    hops = (Hop(edges.split(address)[0], has) for address, has in places)
    return tuple(hop for hop in hops if hop.span.start < span.end and span.start < hop.span.end)
