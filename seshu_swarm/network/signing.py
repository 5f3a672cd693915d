"""Who may write a record: a strict validator over hivemind's RSA signatures.

A stored value is the record, then the owner's public key, then the signature over (key, subkey,
record, expiration). It is valid iff the subkey is the peer id of that key, the signature holds,
the record parses, the record belongs under that key, it does not live longer than its type may,
and a run record names the key that signed it. Everything else, garbage included, is simply not valid: nothing raises.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

import msgpack
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord, RecordValidatorBase

from seshu_swarm.errors import WireVersionError
from seshu_swarm.network.identity import Identity, fingerprint_of, peer_id_of, verify
from seshu_swarm.records import encoding as record_bytes
from seshu_swarm.records import kinds as records

logger = logging.getLogger(__name__)

PUBLIC_KEY_BYTES = 294  # DER of an RSA-2048 public key
SIGNATURE_BYTES = 344  # base64 of 256 bytes
TRAILER_BYTES = PUBLIC_KEY_BYTES + SIGNATURE_BYTES
MAX_VALUE_BYTES = record_bytes.MAX_RECORD_BYTES + TRAILER_BYTES + 8
ALLOWED_SKEW_SECONDS = 3.0
MAX_REMEMBERED = 256  # run records kept as signed; a flood must not grow our memory


@dataclass(frozen=True)
class Signed:
    """A value as it lies in the DHT, taken apart."""

    payload: bytes  # msgpack of the record's bytes, as hivemind serialises it
    public_key: bytes
    signature: bytes

    @classmethod
    def split(cls, value: bytes) -> Signed | None:
        if not TRAILER_BYTES < len(value) <= MAX_VALUE_BYTES:
            return None
        body, key = value[:-TRAILER_BYTES], value[-TRAILER_BYTES:-SIGNATURE_BYTES]
        return cls(body, key, value[-SIGNATURE_BYTES:])


class SignedRecordValidator(RecordValidatorBase):
    """Signs what `identity` stores; refuses whatever anyone else could not have signed."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._subkey = msgpack.packb(identity.peer_id)
        self._seen: OrderedDict[tuple[bytes, bytes], tuple[bytes, bytes]] = OrderedDict()
        self.foreign_versions = 0

    def sign_value(self, record: DHTRecord) -> bytes:
        if record.subkey != self._subkey:
            # Another owner's record can be stored again only as that owner signed it.
            payload, value = self._seen.get((record.key, record.subkey), (b"", b""))
            return bytes(value if payload == record.value else record.value)
        signature = self._identity.sign(_signed_bytes(record, record.value))
        return bytes(record.value) + self._identity.public_key + signature

    def validate(self, record: DHTRecord) -> bool:
        try:
            return self._validate(record)
        except WireVersionError:
            self.foreign_versions += 1
            return False
        except Exception as error:
            # Hostile bytes pass through foreign parsers here; hivemind must never see them raise.
            logger.debug("refused a record: %r", error)
            return False

    def _validate(self, record: DHTRecord) -> bool:
        signed = Signed.split(record.value)
        if signed is None:
            return False
        if msgpack.unpackb(record.subkey) != peer_id_of(signed.public_key):
            return False
        if not verify(signed.public_key, _signed_bytes(record, signed.payload), signed.signature):
            return False
        parsed = record_bytes.from_bytes(msgpack.unpackb(signed.payload))
        if DHTID.generate(source=parsed.key).to_bytes() != record.key:
            return False
        # Written so that NaN, which no clock ever passes, is refused too.
        latest = time.time() + parsed.ttl_seconds + ALLOWED_SKEW_SECONDS
        if not record.expiration_time <= latest:
            return False
        if isinstance(parsed, records.RunRecord):
            if parsed.coordinator != fingerprint_of(signed.public_key):
                return False
            self._remember(record, signed.payload)
        return True

    def _remember(self, record: DHTRecord, payload: bytes) -> None:
        """Keep an owner's newest run record as it was signed; the longest unseen one gives way."""
        self._seen[record.key, record.subkey] = payload, record.value
        self._seen.move_to_end((record.key, record.subkey))
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)

    def strip_value(self, record: DHTRecord) -> bytes:
        return bytes(record.value[:-TRAILER_BYTES])


def _signed_bytes(record: DHTRecord, payload: bytes) -> bytes:
    data: bytes = msgpack.packb([record.key, record.subkey, payload, record.expiration_time])
    return data
