"""The file of a proof: facts, lengths of the texts, coded text; read strictly.

    seshu-proof-2\\n | size, facts (msgpack) | size, lengths (zlib of varints) | size, coded text

Sizes are 32 bits, little-endian. Facts are kept small, since they count in the file's size.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Annotated

import msgpack
from pydantic import Field, TypeAdapter, ValidationError

from seshu_swarm.errors import DataError

MAGIC = b"seshu-proof-2\n"
SIZE_BYTES = 4
MAX_TOKENS = 1 << 32
DIGEST_BYTES = 16

Digest = Annotated[bytes, Field(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
Count = Annotated[int, Field(ge=1, le=1 << 20)]
Languages = tuple[tuple[Annotated[str, Field(max_length=16)], Annotated[int, Field(ge=0)]], ...]
_FACTS = TypeAdapter(
    tuple[
        Digest, Digest, Annotated[int, Field(ge=0, le=MAX_TOKENS)], Count, Count, Count, Languages
    ]
)


@dataclass(frozen=True)
class Facts:
    """`weights` and `text` are the first bytes of SHA-256; `num_tokens` with the ends of texts;
    `languages` with their number of texts."""

    weights: bytes
    text: bytes
    num_tokens: int
    window_tokens: int
    context_tokens: int
    threads: int
    languages: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ProofFile:
    """All texts in the order of the languages, each with its end."""

    facts: Facts
    coded: bytes

    def to_bytes(self) -> bytes:
        facts: bytes = msgpack.packb(astuple(self.facts))
        sized = (len(part).to_bytes(SIZE_BYTES, "little") + part for part in (facts, self.coded))
        return MAGIC + b"".join(sized)

    @classmethod
    def from_bytes(cls, data: bytes) -> ProofFile:
        """Raises DataError for anything `to_bytes` cannot have written."""
        if not data.startswith(MAGIC):
            raise _broken("it begins otherwise")
        facts_bytes, rest = _section(data[len(MAGIC) :])
        coded, rest = _section(rest)
        if rest:
            raise _broken(f"{len(rest)} bytes follow its end")
        return cls(_facts(facts_bytes), coded)


def _section(data: bytes) -> tuple[bytes, bytes]:
    """The first section and what follows it."""
    size = int.from_bytes(data[:SIZE_BYTES], "little")
    if len(data) < SIZE_BYTES + size:
        raise _broken("it ends early")
    return data[SIZE_BYTES : SIZE_BYTES + size], data[SIZE_BYTES + size :]


def _facts(data: bytes) -> Facts:
    try:
        table = msgpack.unpackb(data, use_list=False)
        return Facts(*_FACTS.validate_python(table))
    except (ValueError, ValidationError, msgpack.UnpackException) as error:
        raise _broken(f"its facts are unreadable ({error})"[:200]) from None


def _broken(what: str) -> DataError:
    return DataError(
        f"this is no proof: {what}",
        rule="a proof is a file that evaluate --prove has written, unchanged",
        way_out="give --decode the path of such a file",
    )
