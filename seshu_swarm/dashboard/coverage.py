"""Who holds which blocks: rows of the map, holes, and what one session could get at best. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seshu_swarm.dashboard.snapshot import Peer

MAX_COLUMNS = 48
MAX_ROWS = 400
# A peer signs its record anew every ten seconds, and a record lives for thirty.
FRESH_SECONDS, LEASE_SECONDS = 15.0, 30.0


@dataclass(frozen=True)
class Row:
    """A peer in the map: `before`, `held` and `after` count columns and sum to all of them."""

    peer: Peer
    before: int
    held: int
    after: int
    age_seconds: float

    @property
    def freshness(self) -> str:
        if self.age_seconds <= FRESH_SECONDS:
            return "fresh"
        return "late" if self.age_seconds <= LEASE_SECONDS else "silent"


@dataclass(frozen=True)
class Map:
    """`blocks_per_column` is 1 but for very deep models; `num_hidden` rows were too many."""

    rows: tuple[Row, ...]
    num_columns: int
    blocks_per_column: int
    num_hidden: int


def map_of(peers: Iterable[Peer], num_blocks: int, now: float) -> Map:
    """Rows by first block, then by id."""
    per_column = -(-max(1, num_blocks) // MAX_COLUMNS)
    num_columns = -(-max(1, num_blocks) // per_column)
    fitting = [p for p in peers if 0 <= p.start < min(p.end, num_blocks)]
    fitting.sort(key=lambda p: (p.start, p.end, p.peer_id))
    rows = []
    for peer in fitting[:MAX_ROWS]:
        before = peer.start // per_column
        end = -(-min(peer.end, num_blocks) // per_column)
        age = max(0.0, now - peer.heard_at)
        rows.append(Row(peer, before, end - before, num_columns - end, age))
    return Map(tuple(rows), num_columns, per_column, max(0, len(fitting) - MAX_ROWS))


def alive(peers: Iterable[Peer], now: float) -> tuple[Peer, ...]:
    """Those whose record has not run out."""
    return tuple(p for p in peers if now - p.heard_at <= LEASE_SECONDS)


def holders(peers: Iterable[Peer], num_blocks: int) -> tuple[int, ...]:
    """How many peers serve each block."""
    counts = [0] * num_blocks
    for peer in peers:
        if peer.is_serving:
            for block in range(max(0, peer.start), min(peer.end, num_blocks)):
                counts[block] += 1
    return tuple(counts)


def ranges(blocks: Sequence[int]) -> str:
    """0, 1, 2, 7 becomes 0–2, 7."""
    parts: list[list[int]] = []
    for block in blocks:
        if parts and block == parts[-1][1] + 1:
            parts[-1][1] = block
        else:
            parts.append([block, block])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in parts)


def tokens_per_second(peers: Iterable[Peer], num_blocks: int) -> float | None:
    """Of one session through the quickest chain of measured peers, without round trips.

    None where they do not hold all blocks. A peer gives part of its span for that part of its time.
    """
    serving = [p for p in peers if p.is_serving and p.step_seconds > 0]
    best = [0.0] + [float("inf")] * num_blocks
    for boundary in range(num_blocks):
        for peer in serving:
            if peer.start <= boundary < peer.end:
                each = peer.step_seconds / (peer.end - peer.start)
                end = min(peer.end, num_blocks)
                best[end] = min(best[end], best[boundary] + each * (end - boundary))
    return 1 / best[-1] if 0 < best[-1] < float("inf") else None
