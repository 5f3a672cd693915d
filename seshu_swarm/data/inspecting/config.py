"""Settings of `python -m seshu_swarm data inspect`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, argument, setting


@dataclass(frozen=True, kw_only=True)
class DataInspectConfig(OutputConfig):
    source: str = argument("A file or folder of text, or a catalogue that `data build` made.")
    samples: int = setting(2, "Texts of each language that are shown, drawn by chance.")
    column: str = setting(
        "", "Column with the text; unset: text, output, tgt, or messages, whichever is there."
    )
    plots: str = setting("", "Folder for plots: lengths, duplicates and kept share, as PNG.")
    json: str = setting("", "Also write the numbers into this file as JSON.")
    seed: int = setting(0, "Seed of the samples.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.samples <= 1_000:
            raise UsageError(f"--samples {self.samples}", rule="0 to 1000")
