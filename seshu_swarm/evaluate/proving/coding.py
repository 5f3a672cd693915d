"""Symbols to bits and back by their probabilities: the range coder of `constriction`.

Probabilities become whole numbers of 24 bits, none of them zero, inside the library and by the same
rule on both sides. Against their logarithms a symbol costs at most V/2^24 of its probability more.

Shapes: A symbols of one step, V vocab_size.
"""

from __future__ import annotations

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from seshu_swarm.errors import DataError, UsageError

MAX_VOCAB_SIZE = 1 << 16
WORD = np.dtype("<u4")


class Coder:
    """Encodes a step at a time; `finish` gives the bytes."""

    def __init__(self, vocab_size: int) -> None:
        check_vocabulary(vocab_size)
        self._encoder = stream.queue.RangeEncoder()
        self._family = stream.model.Categorical(perfect=False)

    def push(self, symbols_A: NDArray[np.int64], probabilities_AV: NDArray[np.float64]) -> None:
        self._encoder.encode(symbols_A.astype(np.int32), self._family, probabilities_AV)

    def finish(self) -> bytes:
        return bytes(self._encoder.get_compressed().astype(WORD).tobytes())


class Decoder:
    """Gives the symbols back, in the order in which they were pushed."""

    def __init__(self, data: bytes, vocab_size: int) -> None:
        check_vocabulary(vocab_size)
        if len(data) % WORD.itemsize:
            raise DataError(f"coded text of {len(data)} bytes", rule="whole words of four bytes")
        self._decoder = stream.queue.RangeDecoder(np.frombuffer(data, dtype=WORD).astype(np.uint32))
        self._family = stream.model.Categorical(perfect=False)

    def pull(self, probabilities_AV: NDArray[np.float64]) -> NDArray[np.int64]:
        """Raises DataError where the bytes cannot have come from these probabilities."""
        try:
            symbols = self._decoder.decode(self._family, probabilities_AV)
        except (AssertionError, ValueError) as error:
            raise DataError(
                f"the coded text cannot be decoded: {error}",
                rule="it was coded with these weights on such a machine",
                way_out="decode with the model, the libraries and the processor that coded it",
            ) from None
        return np.asarray(symbols, dtype=np.int64)


def check_vocabulary(vocab_size: int) -> None:
    """Raises UsageError where 24 bits would not do."""
    if vocab_size > MAX_VOCAB_SIZE:
        raise UsageError(
            f"a proof over {vocab_size} ids", rule=f"at most {MAX_VOCAB_SIZE}, for 24-bit numbers"
        )
