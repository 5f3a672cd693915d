"""PPMd and xz: bytes that the scored text adds to a packed file that begins with the training text.

Nothing stands between the texts of a file. Sizes are of whole files, so small texts pay for headers
unless there is training text before them.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Sequence

from seshu_swarm.errors import UsageError

PPMD_ORDER = 16
PPMD_MEMORY_BYTES = 256 << 20

Packer = Callable[[bytes], int]


def packed_bits(name: str, train: Sequence[bytes], texts: Sequence[bytes]) -> float:
    """Bits that `texts` cost after `train`, by "ppmd" or "xz". Raises UsageError."""
    if name not in PACKERS:
        raise UsageError(f"no compressor {name!r}", way_out=f"one of {', '.join(PACKERS)}")
    size, before = PACKERS[name], b"".join(train)
    after = size(before + b"".join(texts))
    return 8.0 * (after - size(before) if before else after)


def ppmd_bytes(data: bytes) -> int:
    """PPMd variant H, as 7-Zip's: the order and memory of its strongest setting for text."""
    import pyppmd

    packed = pyppmd.compress(data, max_order=PPMD_ORDER, mem_size=PPMD_MEMORY_BYTES, variant="H")
    return len(packed)


def xz_bytes(data: bytes) -> int:
    """As `xz -9e`."""
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


PACKERS: dict[str, Packer] = {"ppmd": ppmd_bytes, "xz": xz_bytes}
