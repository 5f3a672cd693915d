"""How many threads to train with: measured, not guessed.

Small models do worse with two threads than with one where cores are shared with other work or with
another virtual machine: every operation waits for the slower thread. So a few steps are timed with
one thread and with all, and the faster number is kept.
"""

from __future__ import annotations

import logging
import os
import time

import torch
from torch.nn import functional

from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.mamba.whole import WholeModel

logger = logging.getLogger(__name__)

REPEATS = 3


def set_threads(max_threads: int | None, shape: MambaShape, *, batch_size: int, length: int) -> int:
    """Set torch's threads for training: `max_threads`, or the faster of one and all cores."""
    cores = len(os.sched_getaffinity(0))
    if max_threads or cores == 1:
        chosen, reason = max_threads or 1, "as told" if max_threads else "there is one core"
    else:
        seconds = {n: _seconds_of_step(n, shape, batch_size, length) for n in (1, cores)}
        chosen = min(seconds, key=lambda n: seconds[n])
        reason = ", ".join(f"{n}: {s * 1e3:.0f} ms a step" for n, s in seconds.items())
    torch.set_num_threads(chosen)
    logger.info("training with %d thread(s) (%s)", chosen, reason)
    return chosen


def _seconds_of_step(threads: int, shape: MambaShape, batch_size: int, length: int) -> float:
    """Best of a few forward and backward passes on noise."""
    torch.set_num_threads(threads)
    model = WholeModel(shape)
    ids_BL = torch.randint(shape.vocab_size, (batch_size, length))
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        functional.cross_entropy(model.logits(ids_BL).flatten(0, 1), ids_BL.flatten()).backward()
        best = min(best, time.perf_counter() - started)
    return best
