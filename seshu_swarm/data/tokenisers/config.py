"""Settings of `python -m seshu_swarm data tokeniser`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, argument, setting


@dataclass(frozen=True, kw_only=True)
class DataTokeniserConfig(OutputConfig):
    source: str = argument("Text: a file, a folder, or a catalogue that `data build` made.")
    out: str = setting(
        "", "Folder for the trained tokeniser; unset: none is trained, only measured."
    )
    kind: str = setting("bpe", "What is trained: bpe, or unigram (slower).")
    vocab_size: int = setting(16_384, "Ids of the trained tokeniser, special ones and bytes too.")
    languages: tuple[str, ...] = setting((), "Only these languages; unset: all of the source.")
    megabytes_per_language: float = setting(
        8.0, "Most text of each language that is read, in MB, so that none is drowned; 0: all."
    )
    compare: tuple[str, ...] = setting(
        ("bytes",), "Tokenisers measured beside it: bytes, or folders of trained ones."
    )
    json: str = setting("", "Also write the table into this file as JSON.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("bpe", "unigram"):
            raise UsageError(f"--kind {self.kind!r} is unknown", way_out="bpe or unigram")
        if not 259 <= self.vocab_size <= 1_000_000:
            raise UsageError(
                f"--vocab-size {self.vocab_size}", rule="259 (the bytes alone) to 1000000"
            )
        if self.megabytes_per_language < 0:
            raise UsageError(
                f"--megabytes-per-language {self.megabytes_per_language}", rule="0 or more"
            )
        if not self.out and not self.compare:
            raise UsageError("nothing to train or to measure", way_out="give --out or --compare")
