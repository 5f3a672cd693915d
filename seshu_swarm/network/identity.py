"""One RSA key per peer: its libp2p identity and the owner of its records.

The key file is what the p2p daemon reads (a protobuf around the DER key), mode 0600. A peer id
is a digest of the public key, so whoever shows the key shows the id. Heavy: imports hivemind.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from hivemind.p2p import P2P, PeerID
from hivemind.proto import crypto_pb2
from hivemind.utils.crypto import RSAPrivateKey, RSAPublicKey

from seshu_swarm.errors import PackageError, from_os_error

KEY_FILE = "identity.key"


@dataclass(frozen=True)
class Identity:
    """`public_key` is DER (SubjectPublicKeyInfo); `peer_id` its libp2p id in base58."""

    path: Path
    public_key: bytes
    peer_id: str
    _private_key: Any = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.public_key)

    def sign(self, data: bytes) -> bytes:
        """RSA-PSS over SHA-256 (hivemind's scheme), base64."""
        signature: bytes = self._private_key.sign(data)
        return signature


def load_or_create(state_dir: Path) -> Identity:
    """The identity kept in `state_dir`; made on first use. Raises SeshuError."""
    path = state_dir / KEY_FILE
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _create(path)
        path.chmod(0o600)
        data = path.read_bytes()
    except OSError as error:
        raise from_os_error(error, str(path)) from error
    try:
        return _parse(path, data)
    except ValueError as error:
        raise PackageError(
            f"{path} is not a key: {error}",
            rule="the file holds one RSA key",
            way_out="restore it from a backup, or move it away to become a new peer",
        ) from None


def _create(path: Path) -> None:
    # Written beside and linked into place, so that two starting peers cannot share half a key.
    fresh = path.with_name(f"{KEY_FILE}.{os.getpid()}")
    P2P.generate_identity(str(fresh))
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _parse(path: Path, data: bytes) -> Identity:
    try:
        der = crypto_pb2.PrivateKey.FromString(data).data
        private = serialization.load_der_private_key(der, password=None)
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from None
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signer = RSAPrivateKey.__new__(RSAPrivateKey)
    signer.__setstate__({"_private_key": der})
    return Identity(path, public, peer_id_of(public), signer)


def fingerprint_of(public_key: bytes) -> str:
    """SHA-256 of the DER public key, lower-case hex: what a join link names."""
    return hashlib.sha256(public_key).hexdigest()


def peer_id_of(public_key: bytes) -> str:
    """The libp2p id of a key: a sha2-256 multihash of its protobuf (libp2p specs, peer-ids)."""
    message = crypto_pb2.PublicKey(key_type=crypto_pb2.RSA, data=public_key).SerializeToString()
    return str(PeerID(b"\x12\x20" + hashlib.sha256(message).digest()).to_base58())


def verify(public_key: bytes, data: bytes, signature: bytes) -> bool:
    """Whether `signature` over `data` was made with the key. Never raises on hostile input."""
    try:
        # Base64 has bits that decode to nothing: one signature has one form.
        if base64.b64encode(base64.b64decode(signature)) != signature:
            return False
        key = serialization.load_der_public_key(public_key)
        return bool(RSAPublicKey(key).verify(data, signature))
    except Exception:
        # Any malformed key or signature is simply not a valid one.
        return False
