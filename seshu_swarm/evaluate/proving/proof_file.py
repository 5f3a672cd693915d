"""The file of a proof: facts, lengths of the texts, coded text; read strictly.

    seshu-proof-1\\n | size, facts (msgpack) | size, lengths (zlib of varints) | size, coded text

Sizes are 32 bits, little-endian. Facts are kept small, since they count in the file's size.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Annotated

import msgpack
from pydantic import Field, TypeAdapter, ValidationError

from seshu_swarm.errors import DataError

MAGIC = b"seshu-proof-1\n"
SIZE_BYTES = 4
MAX_LENGTHS_BYTES = 1 << 28
MAX_TOKENS = 1 << 32
DIGEST_BYTES = 16

Digest = Annotated[bytes, Field(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
Count = Annotated[int, Field(ge=1, le=1 << 20)]
Languages = tuple[tuple[Annotated[str, Field(max_length=16)], Annotated[int, Field(ge=0)]], ...]
_FACTS = TypeAdapter(
    tuple[Digest, Digest, Annotated[int, Field(ge=0)], Count, Count, Count, Languages]
)


@dataclass(frozen=True)
class Facts:
    """`weights` and `text` are the first bytes of SHA-256; `languages` with their number of texts."""

    weights: bytes
    text: bytes
    start_id: int
    window_tokens: int
    context_tokens: int
    threads: int
    languages: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ProofFile:
    """`lengths` in tokens, of all texts in the order of the languages."""

    facts: Facts
    lengths: tuple[int, ...]
    coded: bytes

    def to_bytes(self) -> bytes:
        facts: bytes = msgpack.packb(astuple(self.facts))
        sections = (facts, zlib.compress(_varints(self.lengths), 9), self.coded)
        sized = (len(part).to_bytes(SIZE_BYTES, "little") + part for part in sections)
        return MAGIC + b"".join(sized)

    @classmethod
    def from_bytes(cls, data: bytes) -> ProofFile:
        """Raises DataError for anything `to_bytes` cannot have written."""
        if not data.startswith(MAGIC):
            raise _broken("it begins otherwise")
        facts_bytes, rest = _section(data[len(MAGIC) :])
        lengths_bytes, rest = _section(rest)
        coded, rest = _section(rest)
        if rest:
            raise _broken(f"{len(rest)} bytes follow its end")
        facts = _facts(facts_bytes)
        lengths = _lengths(lengths_bytes)
        if len(lengths) != sum(count for _, count in facts.languages) or sum(lengths) > MAX_TOKENS:
            raise _broken(f"{len(lengths)} lengths do not fit its languages")
        return cls(facts, lengths, coded)


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


def _lengths(data: bytes) -> tuple[int, ...]:
    reader = zlib.decompressobj()
    try:
        packed = reader.decompress(data, MAX_LENGTHS_BYTES)
    except zlib.error as error:
        raise _broken(f"its lengths are unreadable ({error})") from None
    if not reader.eof or reader.unused_data:
        raise _broken("its lengths do not end where they should")
    return _from_varints(packed)


def _varints(numbers: Sequence[int]) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth bit."""
    data = bytearray()
    for number in numbers:
        while number > 0x7F:
            data.append(number & 0x7F | 0x80)
            number >>= 7
        data.append(number)
    return bytes(data)


def _from_varints(data: bytes) -> tuple[int, ...]:
    numbers, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number, shift = 0, 0
        elif shift > 35:
            raise _broken("one of its lengths is too long")
    if shift:
        raise _broken("its last length ends early")
    return tuple(numbers)


def _broken(what: str) -> DataError:
    return DataError(
        f"this is no proof: {what}",
        rule="a proof is a file that evaluate --prove has written, unchanged",
        way_out="give --decode the path of such a file",
    )
