"""Settings of `python -m seshu_swarm bench`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.config import OutputConfig, argument, setting
from seshu_swarm.errors import UsageError

LOOPBACK, HOME = "loopback", "home"


@dataclass(frozen=True, kw_only=True)
class BenchConfig(OutputConfig):
    name: str = argument("Which bench; `bench list` shows all.")
    report: str | None = setting(None, "Also write the numbers as JSON into this file.")
    links: str = setting(
        LOOPBACK, "Between peers: loopback, or home (25 ms each way, 10 Mbit/s up, 1 % stalls)."
    )
    tokens: int = setting(400, "Tokens measured at each size, in benches of a swarm.")
    positions: tuple[int, ...] = setting(
        (256, 4_096, 32_768), "Positions of a session at which peers fail, in bench failover."
    )
    kills: int = setting(15, "How many times peers are killed at each position.")
    churn_seconds: float = setting(
        60.0, "How long a peer is killed every ten seconds, in bench failover; 0: not at all."
    )
    drains: int = setting(
        20,
        "How often a peer is asked, under live sessions, to leave or to choose other blocks, in turn, "
        "in bench failover; 0: never.",
    )
    rolls: int = setting(
        2, "How many new revisions are announced under live sessions, in bench failover."
    )
    calm_seconds: float = setting(
        450.0,
        "How long eight sessions are watched for false failovers on links like home, in seconds.",
    )
    d_model: int = setting(768, "Width of the model, in bench scoring.")
    num_blocks: int = setting(24, "Number of blocks of the model, in bench scoring.")
    seed: int = setting(0, "Seed of weights, prompts, moments of failure and stalls of links.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.links not in (LOOPBACK, HOME):
            raise UsageError(f"--links {self.links!r} is unknown", way_out="loopback or home")
        if self.tokens < 2 or self.kills < 1:
            raise UsageError(
                f"--tokens {self.tokens} --kills {self.kills}",
                rule="at least two tokens and one kill",
            )
        if min(self.d_model, self.num_blocks) < 1:
            raise UsageError(
                f"--d-model {self.d_model} --num-blocks {self.num_blocks}", rule="1 or more"
            )
        if min(self.drains, self.rolls) < 0:
            raise UsageError(f"--drains {self.drains} --rolls {self.rolls}", rule="0 or more")
        if not self.positions or min(self.positions) < 64:
            raise UsageError(
                f"--positions {','.join(map(str, self.positions))}", rule="at least one, from 64 on"
            )
