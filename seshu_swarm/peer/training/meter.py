"""What a trainer's passes cost: bytes and seconds, for status and bench. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.pipeline.protocol.passes import StagePassed


@dataclass
class Meter:
    """What passes took since the start. `compute`: at replicas, as they tell. `network`: the rest of the
    time from asking to the answer. `wait`: in a replica's queue, as it tells, for nothing where a pass
    failed, and after refusals. `own`: the ends, computed here."""

    num_passes: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    serialise_seconds: float = 0.0
    network_seconds: float = 0.0
    compute_seconds: float = 0.0
    wait_seconds: float = 0.0
    own_seconds: float = 0.0

    def passed(self, seconds: float, told: StagePassed) -> None:
        """What a replica tells is believed as far as it fits into the time."""
        compute = min(seconds, told.compute_seconds)
        wait = min(seconds - compute, told.wait_seconds)
        self.num_passes += 1
        self.compute_seconds += compute
        self.wait_seconds += wait
        self.network_seconds += seconds - compute - wait
