"""What signed records say of a run at one moment: its blocks, peers, rounds and training.

Believes of rounds and training only what the run's coordinator signed. Knows no terminal.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from seshu_swarm.network.dht import Found
from seshu_swarm.records import uids
from seshu_swarm.records.kinds import RoundRecord, RunRecord, SpanRecord, TrainingRecord
from seshu_swarm.run.joining import Joined
from seshu_swarm.run.training_plan import find_training
from seshu_swarm.spans import Span, coverage

NUM_ROUNDS = 8  # newest rounds that are looked up; each is a key of the DHT


@dataclass(frozen=True)
class Look:
    """One look. `spans` by their first block; `rounds` newest first; `at`: Unix time, seconds."""

    run: RunRecord
    spans: tuple[Found[SpanRecord], ...]
    rounds: tuple[RoundRecord, ...]
    training: TrainingRecord | None
    at: float

    @property
    def covered(self) -> list[int]:
        """Peers of each block."""
        spans = (Span(one.record.start, one.record.end) for one in self.spans)
        return coverage(spans, self.run.num_blocks)

    @property
    def missing_blocks(self) -> list[int]:
        return [block for block, peers in enumerate(self.covered) if peers == 0]

    def age_seconds(self, one: Found[SpanRecord]) -> float:
        """Since the peer last announced what it hosts."""
        return max(0.0, one.record.ttl_seconds - (one.expiration_time - self.at))

    def facts(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        run = self.run
        return {
            "run": run.run_id,
            "revision": run.revision,
            "round_index": run.round_index,
            "round_state": run.round_state,
            "round_closes_at": run.round_closes_at,
            "num_parameters": run.num_parameters,
            "languages": list(run.languages),
            "coverage": self.covered,
            "missing_blocks": self.missing_blocks,
            "peers": [
                {"peer_id": one.owner, "age_seconds": round(self.age_seconds(one), 1)}
                | one.record.model_dump(mode="json")
                for one in self.spans
            ],
            "rounds": [one.model_dump(mode="json") for one in self.rounds],
            "training": self.training and self.training.model_dump(mode="json"),
            "time": self.at,
        }


async def look(joined: Joined) -> Look:
    """Ask the DHT. Raises DeadlineError."""
    run, swarm = joined.run, joined.swarm
    spans = await swarm.spans(run.num_blocks)
    spans.sort(key=lambda one: (one.record.start, one.owner))
    training, rounds = await find_training(joined), await _rounds(joined)
    return Look(run, tuple(spans), tuple(rounds), training, time.time())


async def _rounds(joined: Joined) -> list[RoundRecord]:
    newest = joined.run.round_index
    indices = range(max(0, newest - NUM_ROUNDS + 1), newest + 1)
    keys = [uids.round_key(joined.run.run_id, index) for index in indices]
    found = await joined.swarm.lookup(keys, RoundRecord)
    own = [one.record for one in found if one.owner == joined.coordinator]
    return sorted(own, key=lambda record: -record.round_index)
