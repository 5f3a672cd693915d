"""Settings of `python -m seshu_swarm export`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, argument, setting


@dataclass(frozen=True, kw_only=True)
class ExportConfig(OutputConfig):
    model: str = argument("Folder of the checkpoint.")
    gguf: bool = setting(False, "One GGUF file for llama.cpp, in float32.")
    int8: bool = setting(False, "A folder with int8 projections for CPUs, and what that costs.")
    text: str | None = setting(
        None,
        "Running text to measure int8 on: a .txt, .jsonl, .csv or .parquet file, or a folder of such; "
        "unset: the built-in phrasebook.",
    )
    text_bytes: int = setting(60_000, "Most bytes of it that are scored, all languages together.")
    max_threads: int = setting(1, "Processor threads while measuring.")
    out: str | None = setting(
        None, "Where to write, a place that is free; unset: beside the model, under its name."
    )
    report: str | None = setting(None, "Also write what was done as JSON into this file.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gguf == self.int8:
            raise UsageError(
                "both --gguf and --int8" if self.gguf else "nothing to export to",
                way_out="give one of --gguf and --int8",
            )
        if self.text is not None and not self.int8:
            raise UsageError(f"--text {self.text} without --int8", rule="GGUF loses nothing")
        if self.text_bytes < 1_000 or self.max_threads < 1:
            raise UsageError(
                f"--text-bytes {self.text_bytes} --max-threads {self.max_threads}",
                rule="at least 1000 bytes and one thread",
            )
