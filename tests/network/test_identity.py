"""One key: its file, its peer id, its fingerprint, its signatures."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hivemind.p2p import PeerID
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.errors import DiskFullError, PackageError, ResourceError, from_os_error
from seshu_swarm.network import identity
from seshu_swarm.network.identity import Identity


@pytest.fixture(scope="module")
def me(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity.load_or_create(tmp_path_factory.mktemp("me"))


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    state_dir = tmp_path / "new" / "folder"
    first = identity.load_or_create(state_dir)
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    assert os.listdir(state_dir) == [identity.KEY_FILE]
    again = identity.load_or_create(state_dir)
    assert (again.peer_id, again.public_key) == (first.peer_id, first.public_key)


def test_a_key_that_others_may_read_is_closed_again(tmp_path: Path) -> None:
    path = identity.load_or_create(tmp_path).path
    path.chmod(0o644)
    identity.load_or_create(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_peer_id_is_the_one_libp2p_computes(me: Identity) -> None:
    assert me.peer_id == str(PeerID.from_identity(me.path.read_bytes()))
    assert identity.peer_id_of(me.public_key) == me.peer_id


def test_the_fingerprint_is_sha256_of_the_der_key(me: Identity) -> None:
    key = serialization.load_der_public_key(me.public_key)
    assert isinstance(key, rsa.RSAPublicKey) and key.key_size == 2048
    assert me.fingerprint == hashlib.sha256(me.public_key).hexdigest()
    assert "_private_key" not in repr(me)


def test_a_signature_holds_for_its_bytes_and_key_only(me: Identity, tmp_path: Path) -> None:
    other = identity.load_or_create(tmp_path)
    signature = me.sign(b"a record")
    assert identity.verify(me.public_key, b"a record", signature)
    assert not identity.verify(me.public_key, b"a recorD", signature)
    assert not identity.verify(other.public_key, b"a record", signature)


@given(key=st.binary(max_size=400), data=st.binary(max_size=40), signature=st.binary(max_size=400))
def test_verify_says_no_to_garbage_and_never_raises(
    key: bytes, data: bytes, signature: bytes
) -> None:
    assert identity.verify(key, data, signature) is False


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x08\x00\x12\x04abcd"])
def test_a_broken_key_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / identity.KEY_FILE).write_bytes(data)
    with pytest.raises(PackageError, match=r"is not a key.*restore it from a backup") as caught:
        identity.load_or_create(tmp_path)
    assert str(tmp_path / identity.KEY_FILE) in str(caught.value)


def test_a_state_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="check the path and its permissions"):
        identity.load_or_create(tmp_path / "file")


def test_a_full_disk_has_its_own_name() -> None:
    assert isinstance(from_os_error(OSError(28, "No space left on device"), "x"), DiskFullError)
    assert isinstance(from_os_error(OSError(27, "File too large"), "x"), DiskFullError)
    assert not isinstance(from_os_error(OSError(13, "Permission denied"), "x"), DiskFullError)
