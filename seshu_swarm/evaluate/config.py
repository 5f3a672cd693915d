"""Settings of `python -m seshu_swarm evaluate`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import OutputConfig, argument, setting

TEXT, ANSWERS = "text", "answers"
FLOORS = ("ngram", "ppmd", "xz")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(OutputConfig):
    model: str = argument("Model folder, or the join link of a swarm.")
    against: tuple[str, ...] = setting(
        (), "Folders of other causal language models, scored on the same text."
    )
    data: str | None = setting(
        None, "Held-out text: a folder with pretrain/ and sft/, or a .jsonl file with languages."
    )
    languages: tuple[str, ...] = setting((), "Languages, by ISO code; unset: all of the data.")
    score: str = setting(TEXT, "What is scored: text (documents) or answers (rows).")
    bad_rows: str = setting("refuse", "Unreadable rows: refuse, or skip and count them.")
    max_bytes: int | None = setting(
        None, "At most so many bytes of each language, documents drawn by digest; unset: all."
    )
    window_tokens: int = setting(512, "Tokens scored together, each seeing those before it.")
    context_tokens: int = setting(256, "Tokens before a window that its first token sees.")
    floors: tuple[str, ...] = setting(
        FLOORS, "Compressors beside the models: ngram, ppmd, xz; none: --floors none."
    )
    ngram: int = setting(5, "Order of the byte n-gram: it sees one byte fewer.")
    train: str | None = setting(
        None, "Training text as in --data, read by the floors first; unset: they start empty."
    )
    tasks: tuple[str, ...] = setting(
        (), "Task files (.jsonl) or folders of them, for lm-evaluation-harness."
    )
    limit: int | None = setting(None, "At most so many items of each task; unset: all.")
    prove: bool = setting(False, "Code the text with the model, decode it, and compare sizes.")
    proof: str = setting("proof.seshu", "File that --prove writes.")
    decode: str | None = setting(
        None, "Decode a file of --prove with the model into the file of --out; nothing is scored."
    )
    out: str = setting("decoded.jsonl", "File that --decode writes.")
    state_dir: str = setting("~/.seshu-client", "Folder for key and downloads, of a join link.")
    host: str = setting("0.0.0.0", "Address to listen on, of a join link.")
    report: str | None = setting(None, "Also write the numbers as JSON into this file.")
    plot: str | None = setting(None, "Also draw bits per byte into this PNG file.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("score", self.score, (TEXT, ANSWERS))
        _one_of("bad-rows", self.bad_rows, ("refuse", "skip"))
        for floor in self.floors:
            _one_of("floors", floor, (*FLOORS, "none"))
        for name in ("window_tokens", "context_tokens", "max_bytes", "ngram", "limit"):
            least = 4 if name == "max_bytes" else 1
            if getattr(self, name) is not None and getattr(self, name) < least:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} {getattr(self, name)}", rule=f"{least} or more")
        if not (self.data or self.tasks or self.decode):
            raise UsageError(
                "nothing to evaluate on",
                rule="held-out text, tasks, or a file to decode",
                way_out="give --data FOLDER, --tasks FILE or --decode FILE",
            )
        if self.prove and (self.score != TEXT or not self.data):
            raise UsageError(
                "--prove without running text",
                rule="answers need their prompts to be decoded; text needs nothing else",
                way_out="give --data and --score text",
            )
        if self.plot and not self.data:
            raise UsageError("--plot without --data", rule="it draws bits per byte of text")

    @property
    def chosen_floors(self) -> tuple[str, ...]:
        return tuple(floor for floor in self.floors if floor != "none")


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"--{flag} {value!r} is unknown", way_out=f"use {' or '.join(allowed)}")
