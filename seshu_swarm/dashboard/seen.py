"""Peers as their signed span records show them, and those that were seen a while ago.

A record lives for half a minute; who looks again and again remembers for longer who went, so that a
map shows a hole together with who left it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from seshu_swarm.dashboard.snapshot import Peer
from seshu_swarm.records.kinds import LEASE_SECONDS, SpanRecord

REMEMBERED_SECONDS = 900.0
MAX_PEERS = 1_000


class Signed(Protocol):
    """A span record, its owner, and when it runs out (`dht.Found`)."""

    @property
    def record(self) -> SpanRecord: ...
    @property
    def owner(self) -> str: ...
    @property
    def expiration_time(self) -> float: ...


def peers_of(found: Iterable[Signed], now: float) -> tuple[Peer, ...]:
    """A record was made a lease before it runs out; never in the future, whatever its owner's clock says."""
    return tuple(
        Peer(
            peer_id=one.owner,
            start=one.record.start,
            end=one.record.end,
            revisions=one.record.revisions,
            num_sessions=one.record.num_sessions,
            step_seconds=one.record.step_seconds,
            heard_at=min(now, one.expiration_time - LEASE_SECONDS),
            state=one.record.paused or ("leaving" if one.record.is_draining else "serving"),
            limits=one.record.limits,
        )
        for one in found
    )


def remembered(before: Iterable[Peer], seen: Iterable[Peer], now: float) -> tuple[Peer, ...]:
    """What is seen now, and whoever was seen in the last quarter of an hour; not without bound."""
    newest = {peer.peer_id: peer for peer in before}
    newest |= {peer.peer_id: peer for peer in seen}
    recent = [p for p in newest.values() if now - p.heard_at <= REMEMBERED_SECONDS]
    recent.sort(key=lambda peer: -peer.heard_at)
    return tuple(recent[:MAX_PEERS])
