"""Settings of `python -m seshu_swarm demo`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, setting


@dataclass(frozen=True, kw_only=True)
class DemoConfig(OutputConfig):
    data: str | None = setting(
        None, "Folder with pretrain/, sft/ and parallel/; unset: the built-in phrasebook."
    )
    languages: tuple[str, ...] = setting(("hi", "ta", "bn"), "Languages, by ISO code.")
    bad_rows: str = setting("refuse", "Unreadable rows: refuse the run, or skip and count them.")
    folder: str | None = setting(None, "Folder of the demo; unset: a new one under runs/.")
    report: str | None = setting(None, "Also write the outcome as JSON into this file.")
    d_model: int = setting(128, "Width of the model.")
    num_blocks: int = setting(4, "Number of Mamba blocks; two spans share them.")
    pretrain_seconds: float = setting(60.0, "Time for pretraining the base, in seconds.")
    finetune_seconds: float = setting(50.0, "Time for each donor's training, in seconds.")
    hold_out_rows: int = setting(120, "Rows held out per language for the gate; half for the end.")
    max_new_tokens: int = setting(48, "Bytes generated in each language.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.languages:
            raise UsageError("no languages given", way_out="--languages hi,ta,bn")
        if self.num_blocks < 2:
            raise UsageError(f"--num-blocks {self.num_blocks}", rule="two spans need two blocks")
