"""Settings of `python -m seshu_swarm bench`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, argument, setting

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
    churn_seconds: float | None = setting(
        None,
        "How long peers are killed, in seconds; unset: 60 in bench failover (0: not at all), 300 in "
        "bench pipeline.",
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
    d_model: int | None = setting(
        None, "Width of the model, in bench scoring (unset: 768), pipeline (512), evaluation (256)."
    )
    num_blocks: int | None = setting(
        None, "Blocks of the model, in bench scoring (unset: 24), pipeline (8), evaluation (4)."
    )
    only: tuple[str, ...] = setting((), "Only these sections, in bench pipeline; unset: all.")
    microbatches: int | None = setting(
        None, "Microbatches of a step, in bench pipeline; unset: as each section says."
    )
    steps: int | None = setting(
        None, "Steps compared, in bench pipeline; unset: 50 of equality, 300 of wire."
    )
    measure_seconds: float = setting(
        90.0, "How long throughput is measured, in bench pipeline, in seconds."
    )
    data: str | None = setting(
        None, "Folder with pretrain/<lang>.jsonl, in bench data; unset: the phrasebook."
    )
    megabytes: int = setting(64, "Text that is built, in bench data, in millions of bytes.")
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
        if self.megabytes < 1:
            raise UsageError(f"--megabytes {self.megabytes}", rule="1 or more")
        for name in ("d_model", "num_blocks", "microbatches", "steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} {getattr(self, name)}", rule="1 or more")
        if min(self.drains, self.rolls) < 0:
            raise UsageError(f"--drains {self.drains} --rolls {self.rolls}", rule="0 or more")
        if not self.positions or min(self.positions) < 64:
            raise UsageError(
                f"--positions {','.join(map(str, self.positions))}", rule="at least one, from 64 on"
            )
