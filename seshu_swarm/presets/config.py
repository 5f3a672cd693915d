"""Settings of `python -m seshu_swarm presets`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, setting


@dataclass(frozen=True, kw_only=True)
class PresetsConfig(OutputConfig):
    show: str | None = setting(None, "Print this preset, to copy and change; unset: list all.")
    path: str | None = setting(
        None, "Print where this preset lies, for --config of its command; unset: list all."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.show and self.path:
            raise UsageError("--show and --path together", way_out="give one of them")
