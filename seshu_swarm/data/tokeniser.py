"""Text to ids and back: bytes, in the numbering of ByT5 (arXiv:2105.13626).

A byte `b` is id `b + 3`; 0 pads, 1 ends a text, 2 is unknown; ids from 259 on are unused sentinels
(the table has 384 rows, as ByT5's). Knows no model. Everything else in `data` needs only the
Protocol.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Protocol

from seshu_swarm.errors import DataError

NUM_SPECIAL = 3
NUM_BYTES = 256


class Tokeniser(Protocol):
    @property
    def vocab_size(self) -> int: ...

    @property
    def pad_id(self) -> int: ...

    @property
    def eos_id(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without an end."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special ids are skipped."""
        ...


class ByteTokeniser:
    """ByT5's ids. `encode` takes any text that has UTF-8 bytes (DataError otherwise)."""

    vocab_size = 384
    pad_id = 0
    eos_id = 1
    unk_id = 2

    def encode(self, text: str) -> list[int]:
        """Ids of the UTF-8 bytes of `text`, without an end."""
        try:
            return [byte + NUM_SPECIAL for byte in text.encode("utf-8")]
        except UnicodeEncodeError as error:
            raise DataError(
                f"text cannot be encoded: {error.reason}", rule="text must have a UTF-8 form"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; ids that are no bytes are skipped, broken UTF-8 becomes U+FFFD."""
        return _bytes_of(ids).decode("utf-8", errors="replace")


def _bytes_of(ids: Iterable[int]) -> bytes:
    return bytes(i - NUM_SPECIAL for i in ids if NUM_SPECIAL <= i < NUM_SPECIAL + NUM_BYTES)


class StreamDecoder:
    """Text of byte ids as they are generated: a character comes out whole or not yet.

    All pushed text and the last `finish()` together equal `ByteTokeniser.decode` of all ids.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: Iterable[int]) -> str:
        """Text that `ids` complete; bytes of an unfinished character are kept."""
        return self._decoder.decode(_bytes_of(ids))

    def finish(self) -> str:
        """What is left: U+FFFD for an unfinished character, else nothing. Starts afresh."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
