"""Settings of `python -m seshu_swarm bench`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.config import OutputConfig, argument, setting


@dataclass(frozen=True, kw_only=True)
class BenchConfig(OutputConfig):
    name: str = argument("Which bench; `bench list` shows all.")
    report: str | None = setting(None, "Also write the numbers as JSON into this file.")
