"""A plain node with its own key floods the DHT: nothing false is stored, nothing false is returned."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest

from seshu_swarm import WIRE_VERSION
from seshu_swarm.network.dht import Swarm
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records import kinds as records
from seshu_swarm.records.kinds import ProviderRecord, SpanRecord
from seshu_swarm.records.uids import provider_key, run_key, span_key
from tests.loopback import RUN_ID, Attacker, Loopback, signed_value, soon
from tests.samples import DIGEST, provider_record, run_record, span_record


@dataclass(frozen=True)
class Swarms:
    victim: Swarm
    reader: Swarm
    mallory: Attacker


@pytest.fixture(scope="module")
def swarms(loopback: Loopback) -> Swarms:
    victim, reader = loopback.join("victim"), loopback.join("reader")
    return Swarms(victim, reader, loopback.attacker("mallory"))


@dataclass(frozen=True)
class Lie:
    """What the attacker stores: raw bytes under a key and an owner's subkey."""

    key: str
    value: bytes
    owner: str
    expires: float


def lie(swarms: Swarms, record: records.Record, *, seconds: float = 20.0, **other: Any) -> Lie:
    """A record that mallory signed with its own key, with something false in it."""
    me, expires = swarms.mallory.me, time.time() + seconds
    value = signed_value(me, record, expires=expires, **other)
    return Lie(other.get("key", record.key), value, other.get("owner", me.peer_id), expires)


def packed(record: records.Record, **fields: Any) -> bytes:
    data: bytes = msgpack.packb({**record.model_dump(mode="json"), **fields})
    return data


def unsigned(swarms: Swarms) -> Lie:
    value = msgpack.packb(record_bytes.to_bytes(provider_record()))
    return Lie(provider_key(RUN_ID, DIGEST), value, swarms.mallory.me.peer_id, soon())


def garbage(swarms: Swarms) -> Lie:
    return Lie(provider_key(RUN_ID, DIGEST), b"\xff" * 900, swarms.mallory.me.peer_id, soon())


def never_expires(swarms: Swarms) -> Lie:
    me = swarms.mallory.me
    value = signed_value(me, provider_record(), expires=math.nan)
    return Lie(provider_record().key, value, me.peer_id, math.nan)


LIES: dict[str, Callable[[Swarms], Lie]] = {
    "under another's subkey": lambda s: lie(s, provider_record(), owner=s.victim.peer_id),
    "under another's subkey, signed for one's own": lambda s: Lie(
        provider_record().key,
        lie(s, provider_record()).value,
        s.victim.peer_id,
        soon(),
    ),
    "unsigned": unsigned,
    "garbage": garbage,
    "lives too long": lambda s: lie(s, provider_record(), seconds=60.0),
    "never expires": never_expires,
    "under the wrong key": lambda s: lie(s, provider_record(), key=run_key(RUN_ID)),
    "a type nobody knows": lambda s: lie(
        s, provider_record(), payload=packed(provider_record(), type="miner")
    ),
    "a type that belongs elsewhere": lambda s: lie(s, span_record(0, 1), key=provider_record().key),
    "another wire version": lambda s: lie(
        s, provider_record(), payload=packed(provider_record(), wire_version=WIRE_VERSION + 1)
    ),
    "an extra field": lambda s: lie(s, provider_record(), payload=packed(provider_record(), x=1)),
    "an empty span": lambda s: lie(s, span_record(1, 2), payload=packed(span_record(1, 2), end=1)),
    "a record too large": lambda s: lie(s, provider_record(), payload=b"\xc4" * 2_100),
    "the coordinator's name, another's signature": lambda s: lie(
        s, run_record(s.mallory.me, coordinator="c" * 64)
    ),
}


@pytest.mark.parametrize("make", LIES.values(), ids=LIES)
def test_a_lie_is_not_stored(
    loopback: Loopback, swarms: Swarms, make: Callable[[Swarms], Lie]
) -> None:
    told = make(swarms)
    storing = swarms.mallory.store(
        swarms.victim.peer_id, told.key, told.value, told.expires, told.owner
    )
    assert loopback.run(storing) is False


@pytest.mark.parametrize("make", LIES.values(), ids=LIES)
def test_a_lie_that_the_attacker_keeps_itself_is_not_returned(
    loopback: Loopback, swarms: Swarms, make: Callable[[Swarms], Lie]
) -> None:
    told = make(swarms)
    swarms.mallory.keep(told.key, told.value, told.expires, told.owner)
    found = loopback.run(swarms.reader.lookup([told.key], records.Record))
    assert found == []


def test_the_attackers_own_true_record_is_stored(loopback: Loopback, swarms: Swarms) -> None:
    """The attacks above fail for what is false in them, not because the attacker is unknown."""
    true = lie(swarms, span_record(0, 1))
    storing = swarms.mallory.store(
        swarms.victim.peer_id, true.key, true.value, true.expires, true.owner
    )
    assert loopback.run(storing) is True
    found = loopback.run(swarms.reader.lookup([true.key], SpanRecord))
    assert [f.owner for f in found] == [swarms.mallory.me.peer_id]


def test_a_lie_does_not_hide_the_truth_of_others(loopback: Loopback, swarms: Swarms) -> None:
    digest = "12" * 32
    told = lie(swarms, provider_record(digest), owner=swarms.reader.peer_id)
    swarms.mallory.keep(told.key, told.value, told.expires, told.owner)
    assert loopback.run(swarms.victim.announce(provider_record(digest)))
    found = loopback.run(swarms.reader.lookup([told.key], ProviderRecord))
    assert [f.owner for f in found] == [swarms.victim.peer_id]


def test_an_old_true_record_cannot_be_given_a_longer_life(
    loopback: Loopback, swarms: Swarms
) -> None:
    assert loopback.run(swarms.victim.announce(span_record(3, 4)))
    victim, key = swarms.victim.peer_id, span_key(RUN_ID, 3)
    value, expires = loopback.run(swarms.mallory.ask(victim, key))[victim]
    longer = swarms.mallory.store(victim, key, value, expires + 1.0, victim)
    assert loopback.run(longer) is False
