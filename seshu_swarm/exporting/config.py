"""Settings of `python -m seshu_swarm export`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.config import OutputConfig, argument, setting
from seshu_swarm.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ExportConfig(OutputConfig):
    model: str = argument("Folder of the checkpoint.")
    gguf: bool = setting(False, "One GGUF file for llama.cpp, in float32.")
    out: str | None = setting(
        None, "Where to write, a place that is free; unset: beside the model, under its name."
    )
    report: str | None = setting(None, "Also write what was done as JSON into this file.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.gguf:
            raise UsageError("nothing to export to", way_out="--gguf")
