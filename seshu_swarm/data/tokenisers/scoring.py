"""Scores that do not depend on the tokeniser: bits for each byte of the native text."""

from __future__ import annotations

import math
from collections.abc import Iterable

from seshu_swarm.data.text import nfc
from seshu_swarm.errors import DataError


def native_bytes(text: str) -> int:
    """UTF-8 bytes of `text` in NFC: the denominator, whatever it was cut into."""
    return len(nfc(text).encode("utf-8"))


def bits_per_byte(token_log_likelihoods: Iterable[float], text: str) -> float:
    """Bits per native byte of `text` from the log-likelihood (nats) of each of its tokens.

    The end token is none of its tokens. Raises DataError for an empty text and for a likelihood
    that is not finite or above 0.
    """
    num_bytes = native_bytes(text)
    if num_bytes == 0:
        raise DataError("bits per byte of an empty text", rule="at least one byte")
    values = list(token_log_likelihoods)
    for value in values:
        if not math.isfinite(value) or value > 0:
            raise DataError(f"a log-likelihood of {value}", rule="finite, and 0 or less")
    return -math.fsum(values) / (math.log(2) * num_bytes)
