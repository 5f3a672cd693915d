"""What is kept in the DHT: frozen, strict, versioned, small.

Each record knows the one key it may be stored under and how long it may live; `signing` enforces
both. Pure: no network, no clock. A record that does not parse is refused whole.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import msgpack
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from seshu_swarm import WIRE_VERSION, uids
from seshu_swarm.errors import ProtocolError, WireVersionError, shown

MAX_RECORD_BYTES = 2_048
LEASE_SECONDS = 30.0
ANNOUNCE_SECONDS = 10.0
DAY_SECONDS = 86_400.0

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RunId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
TaskName = Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9-]{0,39})?$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
ShortText = Annotated[str, StringConstraints(max_length=300)]
BlockIndex = Annotated[int, Field(ge=0, le=1_000)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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
    reference: Annotated[str, StringConstraints(max_length=500)]
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
    reference: Annotated[str, StringConstraints(max_length=500)]

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
    plan: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
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


AnyRecord = Annotated[
    RunRecord
    | SpanRecord
    | AdapterRecord
    | CheckpointRecord
    | RoundRecord
    | TrainingRecord
    | LedgerRecord
    | ProviderRecord,
    Field(discriminator="type"),
]
_ANY: TypeAdapter[AnyRecord] = TypeAdapter(AnyRecord)


def to_bytes(record: Record) -> bytes:
    """msgpack of the record's fields. Raises ProtocolError when it is too large for the DHT."""
    data: bytes = msgpack.packb(record.model_dump(mode="json"))
    if len(data) > MAX_RECORD_BYTES:
        raise ProtocolError(f"record of {len(data)} bytes", rule=f"at most {MAX_RECORD_BYTES}")
    return data


def from_bytes(data: bytes) -> AnyRecord:
    """Read a record that may come from anyone. Raises ProtocolError or WireVersionError."""
    if len(data) > MAX_RECORD_BYTES:
        raise ProtocolError(f"record of {len(data)} bytes", rule=f"at most {MAX_RECORD_BYTES}")
    try:
        table = msgpack.unpackb(data, raw=False, strict_map_key=True)
    except Exception as error:
        raise ProtocolError(f"record is not msgpack: {error!r}") from None
    check_wire_version(table)
    try:
        return _ANY.validate_python({name: _flat(item) for name, item in table.items()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ProtocolError(f"record is malformed at {where}: {first['msg']}") from None


def _flat(item: Any) -> Any:
    """Lists become tuples: strict models hold tuples, msgpack knows only arrays.

    Nesting is refused before pydantic sees it: it would follow it to describe it.
    """
    if not isinstance(item, list | dict):
        return item
    if isinstance(item, dict) or any(isinstance(inner, list | dict) for inner in item):
        raise ProtocolError("record holds nested values", rule="records are flat")
    return tuple(item)


def check_wire_version(table: Any) -> None:
    """Refuse another wire version by name. Raises WireVersionError."""
    version = table.get("wire_version") if isinstance(table, dict) else None
    if version != WIRE_VERSION:
        raise WireVersionError(
            f"WIRE_VERSION_MISMATCH: the other side speaks wire version {shown(version)}",
            rule=f"this program speaks version {WIRE_VERSION}",
            way_out="upgrade the older side: pip install --upgrade seshu-swarm",
        )
