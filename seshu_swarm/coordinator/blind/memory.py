"""What the C library does with memory that was freed, in a process that scores.

By default glibc keeps freed blocks of up to 32 MiB, so that activations and the matrices of a ΔW,
which are never there together, would each have their own.
"""

from __future__ import annotations

import ctypes

M_MMAP_THRESHOLD = -3  # mallopt(3)
LARGE_BYTES = 1 << 20


def return_large_blocks() -> None:
    """From now on every freed block of a mebibyte or more goes back to the system at once.

    For the whole process; without glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
