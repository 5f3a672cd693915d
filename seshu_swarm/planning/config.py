"""Settings of `python -m seshu_swarm plan`. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, setting

# Assumed where nothing was measured: TinyLlama reports 0.56 for a Transformer on A100s
# (arXiv:2401.02385); a scan is memory-bound, so less.
ASSUMED_MFU = 0.4


@dataclass(frozen=True, kw_only=True)
class PlanConfig(OutputConfig):
    budget: float = setting(100.0, "What may be spent, in dollars.")
    price: float = setting(2.0, "Price of one GPU or machine, in dollars per hour.")
    hours: float | None = setting(
        None, "Plan for so many hours of all GPUs instead; unset: what the budget pays."
    )
    gpu: str = setting("h100-sxm", "Which GPU is rented; --gpu list shows all.")
    gpus: int = setting(1, "How many of them work at once, as one by data parallelism.")
    mfu: float | None = setting(
        None, "Share of the peak rate that training reaches, 0 to 1; unset: 0.4, an assumption."
    )
    measure: bool = setting(
        False, "Measure this machine by training on it, instead of --gpu and --mfu."
    )
    measure_seconds: float = setting(10.0, "How long to measure, in seconds.")
    max_threads: int | None = setting(None, "Most processor threads while measuring; unset: all.")
    size: str | None = setting(
        None, "Plan for this named size (--size list shows all); unset: the one nearest the best."
    )
    tokens_per_parameter: float = setting(
        20.0, "Tokens a model is given for each parameter at the least cost for its loss."
    )
    length: int = setting(2_048, "Bytes per sequence of a batch.")
    report: str | None = setting(None, "Also write the plan as JSON into this file.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("budget", "price", "hours", "measure_seconds", "tokens_per_parameter"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                flag = name.replace("_", "-")
                raise UsageError(
                    f"--{flag} {value}",
                    rule="more than 0, and finite",
                    way_out=f"for example --{flag} {_EXAMPLES[name]}",
                )
        if self.mfu is not None and not 0 < self.mfu <= 1:
            raise UsageError(f"--mfu {self.mfu}", rule="a share above 0, at most 1")
        if not (1 <= self.gpus <= 65_536 and 2 <= self.length <= 1 << 20):
            raise UsageError(
                f"--gpus {self.gpus} --length {self.length}",
                rule="1 to 65536 GPUs, sequences of 2 to 1048576 bytes",
            )
        if self.max_threads is not None and self.max_threads < 1:
            raise UsageError(f"--max-threads {self.max_threads}", rule="1 or more")
        if self.measure and self.mfu is not None:
            raise UsageError(
                f"--measure with --mfu {self.mfu}",
                rule="a rate is measured or stated",
                way_out="leave one of them out",
            )


_EXAMPLES = {
    "budget": "100",
    "price": "2.0",
    "hours": "24",
    "measure_seconds": "10",
    "tokens_per_parameter": "20",
}
