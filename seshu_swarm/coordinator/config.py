"""Settings of the coordinator's commands: a sentence and a unit under every field. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from seshu_swarm.dashboard import address
from seshu_swarm.errors import UsageError
from seshu_swarm.network import link
from seshu_swarm.program.config import NetworkConfig, OutputConfig, argument, setting

LANGUAGES = ("hi", "ta", "bn")
GATE_READINGS = 10  # after that the spent alpha asks for gains that few adapters bring
MAX_DETECTABLE = 0.05
MIN_GAIN = 0.002
METHODS = ("centred_clip",)
MIN_KEPT_ROUNDS = 5
WIRE_TYPES = ("int8", "bfloat16", "float32")
COMPUTE_TYPES = ("float32", "bfloat16")
# What one scoring batch looks like, to find the number of threads that suits it.
SCORED_WINDOWS, SCORED_TOKENS = 4, 512
MIN_SCORE_CALLS = 6
MAX_RANK = 64  # as the strict reader and the run record have it
MAX_LICENCE_CHARACTERS = 300
LANGUAGE = re.compile("[a-z]{2,3}")
HUB_REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class RunFolderConfig(OutputConfig):
    """A command on an existing run folder."""

    state_dir: str = setting(
        "~/.seshu-run", "Folder of the run: key, ledger, hold-outs, checkpoints."
    )


@dataclass(frozen=True, kw_only=True)
class OpenConfig(RunFolderConfig):
    """`coordinator open`: make a run from text."""

    run_id: str = setting("seshu", "Name of the run in links and keys: a-z, 0-9 and -.")
    data: str | None = setting(
        None, "Folder with pretrain/, sft/ and parallel/; unset: the built-in phrasebook."
    )
    languages: tuple[str, ...] = setting(LANGUAGES, "Languages of the run, by ISO code.")
    bad_rows: str = setting("refuse", "Unreadable rows: refuse the run, or skip and count them.")
    licence: str = setting("CC-BY-4.0", "Licence of what the run publishes.")
    rows_per_shard: int = setting(1_000, "Rows in one shard of the data catalogue.")
    hold_out_rows: int = setting(160, "Rows held out per language and split (tuning, gate, final).")
    hold_out_documents: int = setting(
        60, "Documents of running text held out per language for the gate; half for the others."
    )
    base: str | None = setting(
        None, "Folder of a Mamba checkpoint to start from; unset: pretrain one."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not link.RUN_ID.fullmatch(self.run_id):
            raise UsageError(f"--run-id {self.run_id!r}", rule="1-40 of a-z, 0-9 and -")
        if self.bad_rows not in ("refuse", "skip"):
            raise UsageError(f"--bad-rows {self.bad_rows!r} is unknown", way_out="refuse or skip")
        if not self.languages:
            raise UsageError("no languages given", way_out="--languages hi,ta,bn")
        for language in self.languages:
            if not LANGUAGE.fullmatch(language):
                raise UsageError(f"--languages {language!r}", rule="an ISO code such as hi or mai")
        if len(self.licence) > MAX_LICENCE_CHARACTERS:
            raise UsageError(
                f"--licence of {len(self.licence)} characters",
                rule=f"at most {MAX_LICENCE_CHARACTERS}",
            )
        _must_be_positive(self, "rows_per_shard", "hold_out_rows", "hold_out_documents")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunFolderConfig):
    """`coordinator pretrain`: train the run's base, or its head further, on running text."""

    data: str | None = setting(
        None, "Folder with new text in pretrain/<lang>.jsonl; unset: the run's own text."
    )
    replay_share: float = setting(
        0.5,
        "Share of the training that goes to the run's own text where there is new; 0 to below 1.",
    )
    d_model: int = setting(128, "Width of the residual stream of a fresh base.")
    num_blocks: int = setting(4, "Number of Mamba blocks of a fresh base.")
    batch_size: int = setting(4, "Sequences computed at once.")
    length: int = setting(256, "Bytes per sequence.")
    accumulate: int = setting(1, "Batches whose gradients make one optimiser step.")
    learning_rate: float | None = setting(
        None, "Peak learning rate of AdamW; unset: 4e-3 for a fresh base, 1e-3 to train it further."
    )
    max_steps: int = setting(
        20_000, "Most optimiser steps; 0: a base of random weights, for training through peers."
    )
    max_seconds: float = setting(3_600.0, "Most training time, in seconds.")
    max_threads: int | None = setting(None, "Most processor threads; unset: all cores.")
    seed: int = setting(0, "Seed of weights and order of text.")


@dataclass(frozen=True, kw_only=True)
class RunConfig(NetworkConfig):
    """`coordinator run`: serve the run, train it through peers if asked, and hold its rounds."""

    state_dir: str = setting(
        "~/.seshu-run", "Folder of the run: key, ledger, hold-outs, checkpoints."
    )
    round_seconds: float = setting(3_600.0, "How long a round takes adapters, in seconds.")
    close_after: int | None = setting(
        None,
        "Close a round early once this many adapters that no earlier round had arrived; unset: wait "
        "for the clock.",
    )
    rounds: int | None = setting(None, "Stop holding rounds after this many; unset: go on.")
    max_rank: int = setting(64, "Largest LoRA rank that is taken.")
    gather_seconds: float = setting(
        600.0, "How long fetching adapters may take once a round has closed, in seconds."
    )
    score_seconds: float = setting(
        7_200.0, "How long one phase of blind scoring may take, in seconds."
    )
    max_adapters: int = setting(
        64, "Most adapters scored in one round; if more pass the reader, a draw decides."
    )
    score_calls: int | None = setting(
        None,
        "Most mixtures scored in choosing adapters in one round; unset: four for each adapter, and eight.",
    )
    methods: tuple[str, ...] = setting(
        METHODS,
        "Merge methods tried beside the weighted sum; ties and dare hold a matrix of every member.",
    )
    gate_readings: int = setting(
        GATE_READINGS, "Most readings of a gate set; the next one in reserve takes its place then."
    )
    min_gain: float = setting(
        MIN_GAIN,
        "Least gain, in bits per byte, that each member of a mixture must bring: above what noise brings.",
    )
    max_detectable: float = setting(
        MAX_DETECTABLE,
        "A language whose smallest detectable gain is above this is unscored, in bits per byte.",
    )
    hub: str | None = setting(
        None,
        "Repository of the Hugging Face Hub, OWNER/NAME, that every release is pushed to; unset: none.",
    )
    keep_rounds: int | None = setting(
        None,
        "Keep the weights of this many newest rounds on the disk, and all boundaries; unset: all.",
    )
    max_threads: int | None = setting(None, "Most processor threads; unset: all cores.")
    web: str | None = setting(
        None, "Serve the dashboard at HOST:PORT, for everybody who reaches it; unset: not."
    )
    stages: int = setting(
        0, "Train the model through peers first, cut into this many stages; 0: rounds alone."
    )
    train_steps: int = setting(1_000, "Steps of that training.")
    microbatches: int = setting(8, "Microbatches of a step, of all trainers together.")
    train_batch_size: int = setting(4, "Sequences of a microbatch.")
    train_length: int = setting(256, "Bytes of a sequence.")
    train_learning_rate: float | None = setting(
        None, "Peak learning rate; unset: 4e-3 for a base of random weights, 1e-3 for any other."
    )
    checkpoint_steps: int = setting(100, "A checkpoint every so many steps.")
    wire_type: str = setting(
        "int8", "Activations and gradients on the wire: int8, bfloat16 or float32."
    )
    compute_type: str = setting(
        "float32", "Products of matrices in training through peers: float32 or bfloat16."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_training()
        if self.web is not None:
            address.parse(self.web)
        _must_be_positive(self, "round_seconds", "gather_seconds", "score_seconds", "gate_readings")
        _must_be_positive(self, "max_adapters", "max_detectable")
        if not 1 <= self.max_rank <= MAX_RANK:
            raise UsageError(f"--max-rank {self.max_rank}", rule=f"1 to {MAX_RANK}")
        if self.score_calls is not None and self.score_calls < MIN_SCORE_CALLS:
            raise UsageError(
                f"--score-calls {self.score_calls}",
                rule=f"at least {MIN_SCORE_CALLS}: up to four of them are the round's controls",
            )
        if self.hub is not None and not HUB_REPOSITORY.fullmatch(self.hub):
            raise UsageError(f"--hub {self.hub!r} is no repository", rule="OWNER/NAME")
        if self.keep_rounds is not None and self.keep_rounds < MIN_KEPT_ROUNDS:
            raise UsageError(
                f"--keep-rounds {self.keep_rounds}",
                rule=f"at least {MIN_KEPT_ROUNDS}: what is given out and pushed must be here",
            )

    def _check_training(self) -> None:
        _must_be_positive(self, "train_steps", "checkpoint_steps")
        if self.stages < 0:
            raise UsageError(f"--stages {self.stages}", rule="0 or more")
        limits = {"microbatches": (1, 1_024), "train_batch_size": (1, 1_024)}
        for name, (least, most) in (limits | {"train_length": (2, 65_536)}).items():
            if not least <= getattr(self, name) <= most:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} {getattr(self, name)}", rule=f"{least} to {most}")
        if self.train_learning_rate is not None and not 0 < self.train_learning_rate < 1:
            rate = self.train_learning_rate
            raise UsageError(f"--train-learning-rate {rate}", rule="between 0 and 1")
        if self.wire_type not in WIRE_TYPES:
            raise UsageError(f"--wire-type {self.wire_type!r}", rule=f"one of {WIRE_TYPES}")
        if self.compute_type not in COMPUTE_TYPES:
            raise UsageError(
                f"--compute-type {self.compute_type!r}", rule=f"one of {COMPUTE_TYPES}"
            )


def _must_be_positive(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not 0 < value < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} {value}", rule="more than 0, and finite")


@dataclass(frozen=True, kw_only=True)
class PushConfig(OutputConfig):
    """`releasing push FOLDER`: push one release to the Hub."""

    folder: str = argument("Folder of the checkpoint.")
    repository: str = setting("", "Repository of the Hub, OWNER/NAME.")
    tag: str = setting("", "Name of the release there.")
    after_revision: str | None = setting(None, "Revision of the release pushed before.")
    after_commit: str | None = setting(None, "Its commit.")
    withdrawn: tuple[str, ...] = setting((), "Revisions of the run that were withdrawn.")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(OutputConfig):
    """`blind score FOLDER`: carry out one scoring job."""

    folder: str = argument("Folder of the job.")


@dataclass(frozen=True, kw_only=True)
class StatusConfig(RunFolderConfig):
    """`coordinator status`: the run and its rounds, from the ledger."""


@dataclass(frozen=True, kw_only=True)
class DashboardConfig(RunFolderConfig):
    """`coordinator dashboard`: the run as a page, from its folder alone."""

    web: str = setting("127.0.0.1:8080", "Serve it at HOST:PORT; port 0: a free one.")

    def __post_init__(self) -> None:
        super().__post_init__()
        address.parse(self.web)


@dataclass(frozen=True, kw_only=True)
class RoundConfig(RunFolderConfig):
    """`coordinator round N`: verdicts and numbers of one round."""

    number: int = argument("Number of the round, from 1.")


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(RunFolderConfig):
    """`coordinator verify N`: merge round N again and compare digests."""

    what: str = argument("Number of the round, or the first digits of a merged revision.")
