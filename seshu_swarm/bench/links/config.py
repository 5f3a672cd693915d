"""Settings of the proxies. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, setting


@dataclass(frozen=True, kw_only=True)
class LinksConfig(OutputConfig):
    """One proxy on 127.0.0.1 for each port; what a line at home does to bytes."""

    ports: tuple[int, ...] = setting((), "Ports of 127.0.0.1 on which the peers listen.")
    delay_seconds: float = setting(0.025, "Mean delay of a byte, each way, in seconds.")
    jitter_seconds: float = setting(0.005, "Most that a delay differs from the mean, in seconds.")
    up_bits_per_second: float = setting(10e6, "What one peer can send, over all its connections.")
    stall_share: float = setting(0.01, "Share of chunks that are held up, with all behind them.")
    stall_seconds: float = setting(0.3, "How long such a chunk is held up, in seconds.")
    seed: int = setting(0, "Seed of jitter and stalls.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.jitter_seconds <= self.delay_seconds:
            raise UsageError(
                f"--jitter-seconds {self.jitter_seconds:g}",
                rule=f"from 0 to the delay, {self.delay_seconds:g} s",
            )
        if not 0 <= self.stall_share <= 1 or self.up_bits_per_second <= 0:
            raise UsageError(
                f"--stall-share {self.stall_share:g} --up-bits-per-second {self.up_bits_per_second:g}",
                rule="a share lies between 0 and 1, a rate above 0",
            )
