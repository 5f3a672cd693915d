"""How fast this processor exponentiates in registers: what no scan can beat."""

from __future__ import annotations

import time

import torch

from seshu_swarm.mamba.kernels.native.library import Library, LimitsCall

VECTORS, REPEATS = 400_000, 40


def exponentials_per_second(library: Library) -> float:
    """The best of several runs with all threads."""
    best = 0.0
    for _ in range(REPEATS):
        call = LimitsCall(count=VECTORS, threads=torch.get_num_threads())
        started = time.perf_counter()
        library.call("exponentials", torch.float32, call)
        best = max(best, call.numbers / (time.perf_counter() - started))
    return best
