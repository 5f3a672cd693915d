"""Who may ask: API keys from a TOML file, known here only by their digests.

    [[key]]
    name = "asha"                    # what logs and metrics call it
    sha256 = "9f86d0…"               # of the key; or `key = "…"` itself
    requests_per_minute = 60         # unset: no limit
    tokens_per_day = 200000          # prompt and answer, by UTC days; unset: no limit

Knows no HTTP besides the value of the Authorization header.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from seshu_swarm.client.gateway.refusals import No, RefusedError
from seshu_swarm.errors import UsageError
from seshu_swarm.program.config import read_toml

MINIMUM_CHARACTERS = 16
WAY_OUT = 'a table a key: [[key]] name = "…" and key = "…" or sha256 = "…"'


@dataclass(frozen=True)
class Key:
    """One key: its name, its SHA-256 and its owner's limits (None: no limit)."""

    name: str
    digest: bytes
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None


NOBODY = Key("", b"")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    key: Annotated[str, StringConstraints(min_length=MINIMUM_CHARACTERS)] | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_day: Annotated[int, Field(ge=1)] | None = None


class KeyRing:
    """All keys of a gateway. Without any, everybody is NOBODY in particular."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._keys = tuple(keys)

    @property
    def are_asked_for(self) -> bool:
        return bool(self._keys)

    @classmethod
    def read(cls, path: Path) -> KeyRing:
        """The keys of a file. Raises UsageError; no message shows a key."""
        table = read_toml(path, what="the keys", way_out=WAY_OUT)
        entries = table.get("key")
        if not isinstance(entries, list) or not entries or len(table) != 1:
            raise UsageError(f"{path} holds no list of keys", way_out=WAY_OUT)
        keys = [_key_of(entry, f"{path}: key {i}") for i, entry in enumerate(entries, start=1)]
        if len({key.name for key in keys}) < len(keys) or len({k.digest for k in keys}) < len(keys):
            raise UsageError(f"{path} names a key twice", rule="names and keys are unique")
        return cls(keys)

    def identify(self, authorization: str | None) -> Key:
        """The key of an Authorization header. Raises RefusedError.

        All digests are compared, each in constant time: neither a key's beginning nor its place in
        the file can be found by measuring.
        """
        if not self._keys:
            return NOBODY
        scheme, _, presented = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not presented.strip():
            raise RefusedError(No.KEY_MISSING, "Authorization: Bearer KEY")
        digest = _digest_of(presented.strip())
        found = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise RefusedError(No.KEY_UNKNOWN, way_out="ask the gateway's owner for a key")
        return found[0]


def _key_of(entry: Any, where: str) -> Key:
    try:
        found = _Entry.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where}: {place}: {first['msg']}", way_out=WAY_OUT) from None
    if (found.key is None) == (found.sha256 is None):
        raise UsageError(f"{where}: {found.name!r} has both or neither of key and sha256")
    digest = _digest_of(found.key) if found.key else bytes.fromhex(found.sha256 or "")
    return Key(found.name, digest, found.requests_per_minute, found.tokens_per_day)


def _digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).digest()
