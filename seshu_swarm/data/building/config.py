"""Settings of `python -m seshu_swarm data build`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, argument, setting


@dataclass(frozen=True, kw_only=True)
class DataBuildConfig(OutputConfig):
    recipe: str = argument("The recipe, a TOML file; see docs/data.md.")
    out: str = setting("", "Folder of the catalogue; unfinished work lies in it until it is whole.")
    workers: int | None = setting(None, "Processes that work at once; unset: one per core.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.out:
            raise UsageError(
                "no folder for the catalogue",
                rule="a build writes into a folder of its own",
                way_out="give one with --out DIR",
            )
        if self.workers is not None and not 1 <= self.workers <= 256:
            raise UsageError(f"--workers {self.workers}", rule="1 to 256")
