"""Memory that was freed, back to the machine: the C library keeps it otherwise, and the owner's limit
counts what it keeps."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """After weights were dropped. Without glibc only what is in reference cycles is freed."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
