"""What is known of this peer now: what `status` tells, and progress. Knows no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seshu_swarm.peer.guest import Limits
from seshu_swarm.program.progress import Shown


@dataclass
class Seen:
    """What is known of the peer now. `since`: when `doing` began; `idle_since`: without sessions."""

    table: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    progress: Shown | None = None
    since: float = 0.0
    idle_since: float | None = None

    def tell(self, table: Mapping[str, Any], limits: Limits, now: float) -> None:
        """What `status` writes."""
        if table.get("doing") != self.table.get("doing"):
            self.since = now
        if table.get("sessions") != 0:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = now
        self.table, self.limits = dict(table), limits
