"""The validator: what an owner signed is valid; everything else is not, and nothing raises."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm import WIRE_VERSION
from seshu_swarm.network import identity, signing
from seshu_swarm.network.identity import Identity
from seshu_swarm.network.signing import SignedRecordValidator
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records.kinds import ProviderRecord, Record, RunRecord

DIGEST = "ab" * 32
PROVIDER = ProviderRecord(run_id="run", digest=DIGEST)


@pytest.fixture(scope="module")
def me(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity.load_or_create(tmp_path_factory.mktemp("me"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity.load_or_create(tmp_path_factory.mktemp("other"))


def run_record(coordinator: Identity, **fields: Any) -> RunRecord:
    facts: dict[str, Any] = {
        "run_id": "run",
        "coordinator": coordinator.fingerprint,
        "revision": DIGEST,
        "num_blocks": 4,
        "d_model": 32,
        "num_parameters": 1,
        "languages": ("hi",),
        "lora_max_rank": 8,
        "catalogue": None,
        "round_index": 0,
        "round_state": "open",
        "round_closes_at": 0.0,
        "licence": "CC0-1.0",
    }
    return RunRecord(**(facts | fields))


def stored(me: Identity, record: Record, *, seconds: float = 20.0) -> DHTRecord:
    """A record as hivemind hands it to the validator after its owner signed it."""
    unsigned = DHTRecord(
        DHTID.generate(source=record.key).to_bytes(),
        msgpack.packb(me.peer_id),
        msgpack.packb(record_bytes.to_bytes(record)),
        time.time() + seconds,
    )
    value = SignedRecordValidator(me).sign_value(unsigned)
    return dataclasses.replace(unsigned, value=value)


def test_what_the_owner_signed_is_valid_for_everybody(me: Identity, other: Identity) -> None:
    record = stored(me, PROVIDER)
    for reader in (me, other):
        validator = SignedRecordValidator(reader)
        assert validator.validate(record)
        assert record_bytes.from_bytes(msgpack.unpackb(validator.strip_value(record))) == PROVIDER


Change = Callable[[DHTRecord, Identity], DHTRecord]


def with_(**fields: Any) -> Change:
    return lambda record, other: dataclasses.replace(record, **fields)


CHANGES: dict[str, Change] = {
    "another subkey": lambda r, other: dataclasses.replace(r, subkey=msgpack.packb(other.peer_id)),
    "subkey as bytes": lambda r, other: dataclasses.replace(
        r, subkey=msgpack.packb(msgpack.unpackb(r.subkey).encode())
    ),
    "no subkey": with_(subkey=b""),
    "another key": with_(key=DHTID.generate(source="run.run").to_bytes()),
    "a later expiration": lambda r, other: dataclasses.replace(
        r, expiration_time=r.expiration_time + 0.001
    ),
    "no expiration": with_(expiration_time=math.inf),
    "an expiration no clock passes": with_(expiration_time=math.nan),
    "another's public key": lambda r, other: dataclasses.replace(
        r,
        value=r.value[: -signing.TRAILER_BYTES]
        + other.public_key
        + r.value[-signing.SIGNATURE_BYTES :],
    ),
    "no signature": lambda r, other: dataclasses.replace(
        r, value=r.value[: -signing.TRAILER_BYTES]
    ),
    "cut short": lambda r, other: dataclasses.replace(r, value=r.value[:-1]),
    "too long": with_(value=b"\0" * (signing.MAX_VALUE_BYTES + 1)),
    "empty": with_(value=b""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_makes_it_invalid(change: Change, me: Identity, other: Identity) -> None:
    assert not SignedRecordValidator(other).validate(change(stored(me, PROVIDER), other))


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_of_the_value_may_flip(
    me: Identity, other: Identity, position: int, bit: int
) -> None:
    record = stored(me, PROVIDER)
    value = bytearray(record.value)
    value[position % len(value)] ^= 1 << bit
    flipped = dataclasses.replace(record, value=bytes(value))
    assert not SignedRecordValidator(other).validate(flipped)


@pytest.mark.parametrize("bit", range(4))
def test_bits_of_base64_that_mean_nothing_may_not_flip(
    me: Identity, other: Identity, bit: int
) -> None:
    """The last letter before the padding of 256 bytes carries two bits of six."""
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    record = stored(me, PROVIDER)
    value = bytearray(record.value)
    assert value[-2:] == b"=="
    value[-3] = letters[letters.index(value[-3]) ^ 1 << bit]
    flipped = dataclasses.replace(record, value=bytes(value))
    assert not SignedRecordValidator(other).validate(flipped)


@given(
    key=st.binary(max_size=30),
    subkey=st.binary(max_size=60),
    value=st.binary(max_size=1_000),
    expires=st.floats(),
)
def test_garbage_is_invalid_and_never_raises(
    me: Identity, key: bytes, subkey: bytes, value: bytes, expires: float
) -> None:
    assert SignedRecordValidator(me).validate(DHTRecord(key, subkey, value, expires)) is False


@pytest.mark.parametrize(
    ("record", "seconds", "is_valid"),
    [(PROVIDER, 32.0, True), (PROVIDER, 34.0, False), (PROVIDER, 86_400.0, False)],
)
def test_a_lease_is_not_longer_than_its_type_allows(
    me: Identity, record: Record, seconds: float, is_valid: bool
) -> None:
    assert SignedRecordValidator(me).validate(stored(me, record, seconds=seconds)) is is_valid


@pytest.mark.parametrize(("seconds", "is_valid"), [(86_402.0, True), (86_404.0, False)])
def test_a_run_record_lives_a_day(me: Identity, seconds: float, is_valid: bool) -> None:
    record = stored(me, run_record(me), seconds=seconds)
    assert SignedRecordValidator(me).validate(record) is is_valid


def signed_payload(me: Identity, payload: Any, key: str) -> DHTRecord:
    """The owner itself signs something that is no record."""
    packed, key_bytes = msgpack.packb(payload), DHTID.generate(source=key).to_bytes()
    unsigned = DHTRecord(key_bytes, msgpack.packb(me.peer_id), packed, time.time() + 20)
    return dataclasses.replace(unsigned, value=SignedRecordValidator(me).sign_value(unsigned))


NESTED = b"\x82\xacwire_version" + bytes([WIRE_VERSION]) + b"\xa4type"


@pytest.mark.parametrize(
    "payload",
    [b"", b"garbage", "text", 7, None, [b"x"], {}, NESTED + b"\x91" * 1_000 + b"\x00"],
    ids=["empty", "garbage", "text", "number", "nothing", "list", "table", "nested"],
)
def test_a_signature_makes_no_record_of_garbage(me: Identity, payload: Any) -> None:
    assert not SignedRecordValidator(me).validate(signed_payload(me, payload, PROVIDER.key))


def test_records_of_another_wire_version_are_counted(me: Identity, other: Identity) -> None:
    foreign = msgpack.packb({**PROVIDER.model_dump(), "wire_version": WIRE_VERSION + 1})
    validator = SignedRecordValidator(other)
    assert not validator.validate(signed_payload(me, foreign, PROVIDER.key))
    assert validator.foreign_versions == 1


def test_a_run_record_names_the_key_that_signed_it(me: Identity, other: Identity) -> None:
    assert SignedRecordValidator(other).validate(stored(me, run_record(me)))
    assert not SignedRecordValidator(other).validate(stored(me, run_record(other)))


def test_anothers_run_record_is_stored_again_as_it_was_signed(
    me: Identity, other: Identity
) -> None:
    validator = SignedRecordValidator(other)
    # More announcements than the validator remembers: the newest one must not be crowded out.
    for sequence in range(signing.MAX_REMEMBERED + 2):
        newest = stored(me, run_record(me, sequence=sequence), seconds=20 + sequence)
        assert validator.validate(newest)
    bare = dataclasses.replace(newest, value=validator.strip_value(newest))
    assert validator.sign_value(bare) == newest.value


def test_another_record_cannot_be_signed_in_anothers_name(me: Identity, other: Identity) -> None:
    validator = SignedRecordValidator(other)
    record = stored(me, PROVIDER)
    assert validator.validate(record)
    bare = dataclasses.replace(record, value=validator.strip_value(record))
    assert validator.sign_value(bare) == bare.value
    assert not validator.validate(bare)


def test_a_flood_of_run_records_does_not_grow_our_memory(me: Identity) -> None:
    validator = SignedRecordValidator(me)
    for number in range(signing.MAX_REMEMBERED + 10):
        record = run_record(me, run_id=f"run-{number}")
        assert validator.validate(stored(me, record))
    assert len(validator._seen) == signing.MAX_REMEMBERED
