"""Settings of the peer's commands: a sentence and a unit under every field. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from seshu_swarm.adapters.rules import TARGETS
from seshu_swarm.errors import UsageError
from seshu_swarm.peer.guest import GuestConfig
from seshu_swarm.program.config import JoinConfig, OutputConfig, argument, setting

LANGUAGE = re.compile(r"[a-z]{2,3}")
TASK = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
REPOSITORY = re.compile(r"[\w-]+/\w[\w.-]*")
MAX_LICENCE_CHARACTERS = 300  # a record takes no longer text


@dataclass(frozen=True, kw_only=True)
class LentConfig(JoinConfig, GuestConfig):
    """A command that joins a run with a machine somebody lends."""


@dataclass(frozen=True, kw_only=True)
class HostConfig(LentConfig):
    """`peer host`: serve a span of blocks."""

    blocks: str | None = setting(
        None,
        "Blocks START:END to host, of a run that pretrains a stage; unset: those that lack peers most.",
    )
    num_blocks: int | None = setting(
        None, "How many blocks to choose when --blocks is unset; unset: as many as fit."
    )
    max_sessions: int = setting(64, "Most inference sessions held at once.")
    hold_adapters: bool = setting(True, "Keep copies of donors' adapters until they are judged.")
    poll_seconds: float = setting(5.0, "How often to look for a new revision, in seconds.")
    rebalance_seconds: float = setting(
        60.0, "How often to look for blocks that need this peer more, in seconds; 0: never."
    )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(LentConfig):
    """`peer finetune`: train a LoRA adapter here and offer it to the swarm."""

    language: str | None = setting(
        None, "Language of the rows; unset: the one dealt with the shard."
    )
    data: str | None = setting(
        None, "Own rows: a file, a folder or a Hub data set; unset: a shard of the run's catalogue."
    )
    columns: str = setting(
        "",
        "Columns of own data as FIELD=COLUMN,…; fields: instruction, input, output, language; "
        "src and tgt of pairs; messages of talks.",
    )
    split: str = setting("train", "Split of a Hub data set.")
    subset: str = setting(
        "", "Subset (configuration) of a Hub data set; unset for Samanantar: the language."
    )
    max_rows: int | None = setting(
        None, "Most own rows read; unset: all of a file or folder, 20000 of a Hub data set."
    )
    bad_rows: str = setting("refuse", "Unreadable rows: refuse the run, or skip and count them.")
    task: str = setting(
        "",
        "Offer the adapter for this task, by name (a-z, 0-9, -), to whoever fetches it, and never "
        "for merging; unset: offer it for the next checkpoint.",
    )
    store: str = setting("swarm", "Where the adapter goes: swarm, file, or hub.")
    repository: str = setting("", "Hub repository OWNER/NAME to push to, with --store hub.")
    licence: str | None = setting(
        None,
        "Licence under which you give the adapter; unset: CC-BY-4.0, or what a known Hub data set "
        "binds it to.",
    )
    rank: int = setting(16, "Rank of the LoRA matrices.")
    targets: tuple[str, ...] = setting(TARGETS, "Projections of each block that get LoRA matrices.")
    learning_rate: float = setting(5e-3, "Peak learning rate of AdamW; it falls along a cosine.")
    warmup_fraction: float = setting(
        0.05, "Share of the training in which the learning rate rises to its peak."
    )
    batch_tokens: int = setting(1_024, "Most tokens computed at once.")
    accumulate: int = setting(1, "Batches whose gradients make one optimiser step.")
    max_steps: int = setting(2_000, "Most optimiser steps.")
    max_seconds: float = setting(3_600.0, "Most training time, in seconds.")
    save_seconds: float = setting(
        20.0, "How often training is saved, in seconds; killed, it goes on from there."
    )
    replay_share: float = setting(
        0.4, "Share of steps on running text of the run's languages, against forgetting."
    )
    seed: int = setting(0, "Seed of the order of rows and of the first weights.")
    follow: bool = setting(False, "Go on with each new checkpoint until stopped.")
    wait_seconds: float = setting(3_600.0, "How long to wait for the verdict, in seconds.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.store not in ("swarm", "file", "hub"):
            raise UsageError(f"--store {self.store!r} is unknown", way_out="swarm, file or hub")
        if self.bad_rows not in ("refuse", "skip"):
            raise UsageError(f"--bad-rows {self.bad_rows!r} is unknown", way_out="refuse or skip")
        if not 1 <= self.rank <= 64:
            raise UsageError(f"--rank {self.rank}", rule="1 to 64: larger adapters are refused")
        if self.language and not LANGUAGE.fullmatch(self.language):
            raise UsageError(
                f"--language {self.language!r}", rule="two or three small letters, such as hi or ta"
            )
        if self.data and not self.language:
            raise UsageError("own rows need --language", way_out="for example --language hi")
        if self.task and not TASK.fullmatch(self.task):
            raise UsageError(f"--task {self.task!r}", rule="1-40 of a-z, 0-9 and -")
        if self.max_rows is not None and self.max_rows < 1:
            raise UsageError(f"--max-rows {self.max_rows}", rule="at least one row")
        self._check_offer()
        for flag, seconds in (("wait", self.wait_seconds), ("save", self.save_seconds)):
            if not 0 < seconds < math.inf:
                raise UsageError(f"--{flag}-seconds {seconds}", rule="seconds, more than none")

    def _check_offer(self) -> None:
        if self.store == "hub" and not self.repository:
            raise UsageError("--store hub without --repository", way_out="--repository OWNER/NAME")
        if self.repository and not REPOSITORY.fullmatch(self.repository):
            raise UsageError(
                f"--repository {self.repository!r}",
                rule="OWNER/NAME",
                way_out="copy it from the repository's page, without the address before it",
            )
        if self.licence is not None and not 0 < len(self.licence) <= MAX_LICENCE_CHARACTERS:
            raise UsageError(
                f"--licence of {len(self.licence)} characters",
                rule=f"1 to {MAX_LICENCE_CHARACTERS}: a name, not the text",
                way_out="for example CC-BY-4.0",
            )


@dataclass(frozen=True, kw_only=True)
class AutoConfig(FinetuneConfig, HostConfig):
    """`peer` alone: whatever the swarm lacks most."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LentConfig):
    """`peer train`: feed text to a run that is trained through its peers."""

    data: str | None = setting(
        None,
        "Own running text: a .txt, .jsonl, .csv or .parquet file, a folder of such, or a run's "
        "folder; unset: that of the run's catalogue.",
    )
    languages: tuple[str, ...] = setting((), "Only text in these; unset: all of the run's.")
    bad_rows: str = setting("refuse", "Unreadable rows: refuse the run, or skip and count them.")
    max_in_flight: int | None = setting(
        None, "Most microbatches under way at once; unset: two for each stage."
    )
    seed: int | None = setting(
        None, "Seed of the order of the text; unset: another one at each start."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bad_rows not in ("refuse", "skip"):
            raise UsageError(f"--bad-rows {self.bad_rows!r} is unknown", way_out="refuse or skip")
        if self.max_in_flight is not None and self.max_in_flight < 1:
            raise UsageError(f"--max-in-flight {self.max_in_flight}", rule="at least 1")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"--seed {self.seed}", rule="0 or more")


@dataclass(frozen=True, kw_only=True)
class AdaptersConfig(JoinConfig):
    """`peer adapters`: task adapters of a run."""

    language: str | None = setting(None, "Only those of this language.")
    task: str | None = setting(None, "Only those for this task.")
    fetch: str = setting("", "Fetch the one whose digest begins so; unset: list them.")
    out: str = setting("", "Folder for the fetched adapter.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fetch and not self.out:
            raise UsageError("--fetch without --out", way_out="--out FOLDER, a new one")


@dataclass(frozen=True, kw_only=True)
class PushConfig(OutputConfig):
    """`donating push FOLDER`: push one adapter to the Hub."""

    folder: str = argument("Folder of the adapter.")
    repository: str = setting("", "Repository of the Hub, OWNER/NAME.")


@dataclass(frozen=True, kw_only=True)
class StatusConfig(OutputConfig):
    """`peer status`: what the peer of this machine does."""

    state_dir: str = setting("~/.seshu", "Folder of the peer to show.")
