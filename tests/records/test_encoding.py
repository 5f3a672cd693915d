"""Records: what is written is read back; whatever else comes is refused by name."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm import WIRE_VERSION
from seshu_swarm.errors import ProtocolError, WireVersionError
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records import kinds as records
from seshu_swarm.records import uids
from seshu_swarm.records.kinds import (
    AdapterRecord,
    CheckpointRecord,
    ProviderRecord,
    Record,
    RoundRecord,
    RunRecord,
    SpanRecord,
)

DIGEST, OTHER = "ab" * 32, "cd" * 32
RUN = RunRecord(
    run_id="run",
    coordinator="c" * 64,
    revision=DIGEST,
    num_blocks=4,
    d_model=32,
    num_parameters=10_000,
    languages=("hi", "ta"),
    lora_max_rank=64,
    catalogue=None,
    round_index=1,
    round_state="open",
    round_closes_at=1.5e9,
    licence="CC-BY-4.0",
)
SPAN = SpanRecord(
    run_id="run",
    start=1,
    end=3,
    revisions=(DIGEST, OTHER),
    step_seconds=0.25,
    num_sessions=2,
    is_draining=False,
)
ADAPTER = AdapterRecord(
    run_id="run",
    reference=f"swarm://sha256/{DIGEST}",
    digest=DIGEST,
    base_revision=OTHER,
    rank=16,
    language="bn",
    num_rows=900,
    licence="CC0-1.0",
    round_index=1,
)
TASK = ADAPTER.model_copy(update={"purpose": "task", "task": "summaries"})
CHECKPOINT = CheckpointRecord(
    run_id="run", revision=DIGEST, parent=OTHER, round_index=1, size_bytes=9, reference="x"
)
ROUND = RoundRecord(
    run_id="run",
    round_index=1,
    parent=OTHER,
    revision=None,
    state="aborted",
    num_accepted=0,
    num_rejected=3,
    reason="nothing helped",
)
PROVIDER = ProviderRecord(run_id="run", digest=DIGEST)
ALL: list[Record] = [RUN, SPAN, ADAPTER, TASK, CHECKPOINT, ROUND, PROVIDER]


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.type)
def test_round_trip(record: Record) -> None:
    data = record_bytes.to_bytes(record)
    assert len(data) <= record_bytes.MAX_RECORD_BYTES
    assert record_bytes.from_bytes(data) == record
    assert msgpack.unpackb(data)["wire_version"] == WIRE_VERSION


def test_each_record_belongs_under_one_key_for_a_time() -> None:
    assert [record.key for record in ALL] == [
        uids.run_key("run"),
        uids.span_key("run", 1),
        uids.adapter_key("run", DIGEST),
        uids.adapter_key("run", DIGEST),
        uids.checkpoint_key("run", DIGEST),
        uids.round_key("run", 1),
        uids.provider_key("run", DIGEST),
    ]
    # Leases are three times the announcing period; what outlives its owner lives a day.
    assert [record.ttl_seconds for record in ALL] == [86400, 30, 86400, 86400, 86400, 86400, 30]
    assert records.LEASE_SECONDS == 3 * records.ANNOUNCE_SECONDS


def changed(record: Record, **fields: Any) -> bytes:
    data: bytes = msgpack.packb({**record.model_dump(mode="json"), **fields})
    return data


@pytest.mark.parametrize(
    ("record", "fields", "said"),
    [
        (RUN, {"revision": DIGEST.upper()}, "revision"),
        (RUN, {"revision": DIGEST + "\n"}, "revision"),
        (RUN, {"run_id": "Run"}, "run_id"),
        (RUN, {"num_blocks": 0}, "num_blocks"),
        (RUN, {"num_blocks": "4"}, "num_blocks"),
        (RUN, {"languages": []}, "languages"),
        (RUN, {"languages": ["hindi"]}, "languages"),
        (RUN, {"lora_max_rank": 65}, "lora_max_rank"),
        (RUN, {"tokeniser": "words"}, "tokeniser"),
        (RUN, {"round_closes_at": float("inf")}, "round_closes_at"),
        (RUN, {"sequence": -1}, "sequence"),
        (SPAN, {"step_seconds": float("nan")}, "step_seconds"),
        (SPAN, {"step_seconds": -0.1}, "step_seconds"),
        (SPAN, {"start": 3, "end": 3}, "half-open"),
        (SPAN, {"start": 5, "end": 3}, "half-open"),
        (SPAN, {"end": 1_001}, "end"),
        (SPAN, {"revisions": [DIGEST] * 5}, "revisions"),
        (SPAN, {"is_draining": 0}, "is_draining"),
        (ADAPTER, {"rank": 0}, "rank"),
        (ADAPTER, {"num_rows": 1 << 54}, "num_rows"),
        (ADAPTER, {"reference": "x" * 501}, "reference"),
        (ADAPTER, {"purpose": "sell"}, "purpose"),
        (ADAPTER, {"purpose": "task"}, "purpose task with task ''"),
        (ADAPTER, {"task": "summaries"}, "purpose merge with task"),
        (TASK, {"task": "My Task!"}, "task"),
        (ROUND, {"state": "won"}, "state"),
        (PROVIDER, {"extra": 1}, "extra"),
        (PROVIDER, {"type": "miner"}, "miner"),
        (PROVIDER, {"type": None}, "type"),
    ],
)
def test_a_field_out_of_its_rule_refuses_the_record_whole(
    record: Record, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(ProtocolError, match=said):
        record_bytes.from_bytes(changed(record, **fields))


@pytest.mark.parametrize(
    "version", [0, 1, WIRE_VERSION + 1, None, str(WIRE_VERSION), [WIRE_VERSION]]
)
def test_another_wire_version_is_named_with_the_way_out(version: object) -> None:
    with pytest.raises(WireVersionError, match=r"WIRE_VERSION_MISMATCH.*pip install --upgrade"):
        record_bytes.from_bytes(changed(PROVIDER, wire_version=version))


@pytest.mark.parametrize("version", [float(WIRE_VERSION)])
def test_a_version_that_merely_equals_ours_is_malformed(version: object) -> None:
    with pytest.raises(ProtocolError, match="wire_version"):
        record_bytes.from_bytes(changed(PROVIDER, wire_version=version))


def test_records_are_small() -> None:
    with pytest.raises(ProtocolError, match="at most 2048"):
        record_bytes.from_bytes(changed(PROVIDER, extra="x" * 2_048))
    wordy = RUN.model_copy(update={"licence": "l" * 2_048})
    with pytest.raises(ProtocolError, match="at most 2048"):
        record_bytes.to_bytes(wordy)


NESTED = {"wire_version": WIRE_VERSION, "type": "run"}


@pytest.mark.parametrize("depth", [100, 500, 1_000, 1_020, 1_500])
def test_deep_nesting_is_refused_and_not_followed(depth: int) -> None:
    packed = msgpack.packb({**NESTED, "licence": 0})
    assert packed[-1:] == b"\x00"
    with pytest.raises(ProtocolError):
        record_bytes.from_bytes(packed[:-1] + b"\x91" * depth + b"\x00")


@given(st.binary(max_size=300))
def test_garbage_is_refused_by_name(data: bytes) -> None:
    with pytest.raises((ProtocolError, WireVersionError)):
        record_bytes.from_bytes(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    record=st.sampled_from(ALL),
    name=st.sampled_from(["run_id", "digest", "start", "languages", "type", "reason", "x"]),
    value=JSON,
)
def test_any_value_in_any_field_is_read_back_or_refused(
    record: Record, name: str, value: object
) -> None:
    try:
        read = record_bytes.from_bytes(changed(record, **{name: value}))
    except (ProtocolError, WireVersionError):
        return
    assert record_bytes.from_bytes(record_bytes.to_bytes(read)) == read
