"""Settings of `python -m seshu_swarm data instructions`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.data.instructions.alternating import BOTH, TURNS
from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, argument, setting


@dataclass(frozen=True, kw_only=True)
class DataInstructionsConfig(OutputConfig):
    source: str = argument("Rows, talks or pairs: a file, a folder or a Hub data set.")
    out: str = setting("", "Folder of the run: sft/ or pretrain/ is written in it.")
    language: str = setting("", "Language of the answers (of pairs: beside English), such as hi.")
    columns: str = setting(
        "",
        "Columns of the source as FIELD=COLUMN,…; fields: instruction, input, output, language; "
        "src and tgt of pairs; messages of talks.",
    )
    alternate: str = setting(
        "",
        "Pairs as running text: turns (each sentence once, languages in turn) or both (each sentence "
        "in both); unset: as translation rows.",
    )
    document_bytes: int = setting(4_096, "Size of a document of alternating sentences, in bytes.")
    max_rows: int | None = setting(None, "Most rows read; unset: all, 20000 of a Hub data set.")
    bad_rows: str = setting("refuse", "Unreadable rows: refuse the source, or skip and count them.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.out or not self.language:
            raise UsageError(
                "no folder to write in, or no language",
                rule="rows are in a language, and become a file of it",
                way_out="--out DIR --language hi",
            )
        if self.alternate not in ("", TURNS, BOTH):
            raise UsageError(f"--alternate {self.alternate!r} is unknown", way_out="turns or both")
        if self.bad_rows not in ("refuse", "skip"):
            raise UsageError(f"--bad-rows {self.bad_rows!r} is unknown", way_out="refuse or skip")
        if self.document_bytes < 64:
            raise UsageError(f"--document-bytes {self.document_bytes}", rule="64 or more")
        if self.max_rows is not None and self.max_rows < 1:
            raise UsageError(f"--max-rows {self.max_rows}", rule="1 or more")
