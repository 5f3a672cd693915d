"""What the parts of a session have said since somebody looked."""

from __future__ import annotations

from dataclasses import dataclass, field

from seshu_swarm.errors import PeerError
from seshu_swarm.exchange.session_messages import Pong


@dataclass
class News:
    """By address."""

    gone: dict[str, PeerError] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    is_retiring: bool = False  # whether any of those has given the revision up
    cannot_reach_next: set[str] = field(default_factory=set)
    pongs: dict[str, tuple[float, Pong]] = field(default_factory=dict)
    snapshots: dict[str, int] = field(default_factory=dict)
