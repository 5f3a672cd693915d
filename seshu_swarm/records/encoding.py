"""Records to bytes and back: small, flat, of this wire version, or refused by name. Pure."""

from __future__ import annotations

from typing import Annotated, Any

import msgpack
from pydantic import Field, TypeAdapter, ValidationError

from seshu_swarm import WIRE_VERSION
from seshu_swarm.errors import ProtocolError, WireVersionError, shown
from seshu_swarm.records.kinds import (
    AdapterRecord,
    CheckpointRecord,
    LedgerRecord,
    ProviderRecord,
    Record,
    RoundRecord,
    RunRecord,
    SpanRecord,
    TrainingRecord,
)

MAX_RECORD_BYTES = 2_048

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
