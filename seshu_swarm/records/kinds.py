"""What is kept in the DHT: frozen, strict, versioned, small.

Each record knows the one key it may be stored under and how long it may live; `signing` enforces
both. Pure: no network, no clock. A record that does not parse is refused whole.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from seshu_swarm import WIRE_VERSION
from seshu_swarm.records import uids
from seshu_swarm.records.fields import (
    BlockIndex,
    Count,
    Digest,
    Language,
    PlanId,
    Rate,
    Reference,
    RunId,
    ShortText,
    TaskName,
)

LEASE_SECONDS = 30.0
ANNOUNCE_SECONDS = 10.0
DAY_SECONDS = 86_400.0


class Record(BaseModel):
    """`sequence` grows with every announcement of one owner; readers keep the highest."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    wire_version: Annotated[int, Field(ge=0)] = WIRE_VERSION
    run_id: RunId
    sequence: Count = 0

    @property
    def key(self) -> str:
        raise NotImplementedError

    @property
    def ttl_seconds(self) -> float:
        return LEASE_SECONDS


class RunRecord(Record):
    """The coordinator's word on the run: what everyone pins and by which rules."""

    type: Literal["run"] = "run"
    coordinator: ShortText
    revision: Digest
    parent: Digest | None = None
    num_blocks: Annotated[int, Field(ge=1, le=1_000)]
    d_model: Annotated[int, Field(ge=1, le=65_536)]
    num_parameters: Count
    tokeniser: Literal["bytes"] = "bytes"
    languages: Annotated[tuple[Language, ...], Field(min_length=1, max_length=64)]
    lora_max_rank: Annotated[int, Field(ge=1, le=64)]
    catalogue: Digest | None
    round_index: Count
    round_state: ShortText
    round_closes_at: Rate
    licence: ShortText

    @property
    def key(self) -> str:
        return uids.run_key(self.run_id)

    @property
    def ttl_seconds(self) -> float:
        return DAY_SECONDS


class SpanRecord(Record):
    """A peer serves blocks `[start, end)` of these revisions; rates are measured, not declared."""

    type: Literal["span"] = "span"
    start: BlockIndex
    end: BlockIndex
    revisions: Annotated[tuple[Digest, ...], Field(max_length=4)]
    step_seconds: Rate
    num_sessions: Count
    is_draining: bool
    paused: ShortText = ""
    limits: ShortText = ""

    @model_validator(mode="after")
    def _is_half_open(self) -> Self:
        # Whoever reads the record makes a Span of it, and that raises for any other pair.
        if self.start >= self.end:
            raise ValueError(f"blocks {self.start}:{self.end} are not a half-open interval")
        return self

    @property
    def key(self) -> str:
        return uids.span_key(self.run_id, self.start)


class AdapterRecord(Record):
    """A donor offers an adapter; the reference pins its bytes.

    For `merge` into the next checkpoint, or for a `task` beside it: such a one is never merged.
    """

    type: Literal["adapter"] = "adapter"
    reference: Reference
    digest: Digest
    base_revision: Digest
    rank: Annotated[int, Field(ge=1, le=64)]
    language: Language
    num_rows: Count
    licence: ShortText
    round_index: Count
    purpose: Literal["merge", "task"] = "merge"
    task: TaskName = ""

    @model_validator(mode="after")
    def _names_its_task(self) -> Self:
        if bool(self.task) != (self.purpose == "task"):
            raise ValueError(f"purpose {self.purpose} with task {self.task!r}")
        return self

    @property
    def key(self) -> str:
        return uids.adapter_key(self.run_id, self.digest)

    @property
    def ttl_seconds(self) -> float:
        return DAY_SECONDS


class CheckpointRecord(Record):
    """A published revision, its parent and its size."""

    type: Literal["checkpoint"] = "checkpoint"
    revision: Digest
    parent: Digest | None
    round_index: Count
    size_bytes: Count
    reference: Reference

    @property
    def key(self) -> str:
        return uids.checkpoint_key(self.run_id, self.revision)

    @property
    def ttl_seconds(self) -> float:
        return DAY_SECONDS


class RoundRecord(Record):
    """How a round ended."""

    type: Literal["round"] = "round"
    round_index: Count
    parent: Digest
    revision: Digest | None
    state: Literal["published", "aborted"]
    num_accepted: Count
    num_rejected: Count
    reason: ShortText

    @property
    def key(self) -> str:
        return uids.round_key(self.run_id, self.round_index)

    @property
    def ttl_seconds(self) -> float:
        return DAY_SECONDS


class TrainingRecord(Record):
    """The coordinator's plan of pipelined training; believed only from the run's coordinator.

    Stage k holds the blocks [boundaries[k], boundaries[k + 1]) and begins from those of `base`. A step is
    `num_microbatches` of `batch_size` sequences of `length` tokens; AdamW with warm-up and cosine over
    `num_steps`, gradients clipped to the norm `clip` in each group alone. `compute_type` is that of the
    products of matrices; weights, sums and the residual stream are float32 in either.
    """

    type: Literal["training"] = "training"
    plan: PlanId
    base: Digest
    boundaries: Annotated[tuple[BlockIndex, ...], Field(min_length=2, max_length=64)]
    batch_size: Annotated[int, Field(ge=1, le=1_024)]
    length: Annotated[int, Field(ge=2, le=65_536)]
    num_microbatches: Annotated[int, Field(ge=1, le=1_024)]
    num_steps: Count
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)]
    final_fraction: Annotated[float, Field(ge=0, le=1)]
    weight_decay: Rate
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    wire_type: Literal["int8", "bfloat16", "float32"]
    compute_type: Literal["float32", "bfloat16"] = "float32"
    state: Literal["open", "over"]

    @model_validator(mode="after")
    def _has_stages(self) -> Self:
        if self.boundaries[0] != 0 or list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"stages bounded by {self.boundaries}")
        return self

    @property
    def num_stages(self) -> int:
        return len(self.boundaries) - 1

    @property
    def key(self) -> str:
        return uids.training_key(self.run_id)

    @property
    def ttl_seconds(self) -> float:
        return DAY_SECONDS


class LedgerRecord(Record):
    """Where the run's public ledger lies: rounds, verdicts, donors, curves, as a package.

    Believed only from the run's coordinator. For people to look at: nothing else depends on it.
    """

    type: Literal["ledger"] = "ledger"
    digest: Digest

    @property
    def key(self) -> str:
        return uids.ledger_key(self.run_id)

    @property
    def ttl_seconds(self) -> float:
        return DAY_SECONDS


class ProviderRecord(Record):
    """A peer gives out files of the package with this digest."""

    type: Literal["provider"] = "provider"
    digest: Digest

    @property
    def key(self) -> str:
        return uids.provider_key(self.run_id, self.digest)
