"""MinHash signatures (Broder 1997) of texts, over runs of five words, and how alike two are.

A signature has 96 values in 16 bands of 6: two texts with similarity s share a band with
probability 1 - (1 - s^6)^16, 0.99 at s = 0.8. Of each value one byte is kept (Li and König 2010):
two equal bytes mean equal values but for one time in 256. A text of fewer than 13 words has no
signature: one other word in it already makes it another text.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seshu_swarm.data.building.signals import RUN_WORDS
from seshu_swarm.data.rolling import BASE, mixed

NUM_BANDS, BAND_VALUES = 16, 6
NUM_VALUES = NUM_BANDS * BAND_VALUES
MINIMUM_WORDS = 13
SEED = 1
# Fixed: the library's own choice may change, and with it every digest.
SCHEME = "affine32"

SIGNATURE = np.dtype([("bands", np.uint64, (NUM_BANDS,)), ("bytes", np.uint8, (NUM_VALUES,))])
POWERS = np.asarray([pow(BASE, k, 1 << 64) for k in range(1, 9)], dtype=np.uint64)

Signature = NDArray[np.void]


@lru_cache(maxsize=1)
def _empty() -> Any:
    # It brings scipy along, which builds without this step do well without.
    from datasketch import MinHash  # type: ignore[import-untyped]

    return MinHash(num_perm=NUM_VALUES, seed=SEED, scheme=SCHEME, hashfunc=int)


def signature_of(words: Sequence[str]) -> Signature:
    """The signature of a text's words (13 or more), as one value of `SIGNATURE`."""
    minhash = _empty().copy()
    minhash.update_batch(run_hashes(words).tolist())
    values = np.asarray(minhash.hashvalues, dtype=np.uint64)
    found = np.zeros((), dtype=SIGNATURE)
    found["bytes"] = values.astype(np.uint8)
    found["bands"] = mixed(values.reshape(NUM_BANDS, BAND_VALUES) @ POWERS[:BAND_VALUES])
    return found


def run_hashes(words: Sequence[str]) -> NDArray[np.uint64]:
    """A 32-bit hash of each run of five words."""
    hashes = np.asarray([zlib.crc32(word.encode("utf-8")) for word in words], dtype=np.uint64)
    num_runs = len(words) - RUN_WORDS + 1
    runs = np.zeros(num_runs, dtype=np.uint64)
    for k in range(RUN_WORDS):
        runs += hashes[k : k + num_runs] * POWERS[k]
    return mixed(runs) >> np.uint64(32)


def least_estimate(wanted: float) -> float:
    """From where on an estimate may be that of two texts with similarity `wanted` or more: one
    standard error of 96 draws below it, so that few of them are missed."""
    return wanted - math.sqrt(wanted * (1 - wanted) / NUM_VALUES)


def similarity(first: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of a signature's bytes (96,) with others' (n, 96): (n,)."""
    equal = np.mean(others == first, axis=1)
    found: NDArray[np.float64] = np.maximum(0.0, (equal - 1 / 256) / (1 - 1 / 256))
    return found
