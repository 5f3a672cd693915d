"""What a fresh process measures for `child`: as the coordinator's scorer works, without its search.

A small model is scored first, so that libraries and threads are there before the peak is reset. The
base is loaded after that, and counts.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import torch

from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.bench.engine.measuring import peak_growth_bytes, timed
from seshu_swarm.bench.merge.sizes import Sizes
from seshu_swarm.bench.scoring.child import Measured, Task
from seshu_swarm.bench.scoring.work import held_out, write_checkpoint
from seshu_swarm.coordinator.blind.base import Base
from seshu_swarm.coordinator.blind.memory import return_large_blocks
from seshu_swarm.coordinator.blind.scoring import Scorer

RUNS = 2
WARM_UP = Sizes(d_model=64, num_blocks=1, num_adapters=2)


def measure(task: Task) -> Measured:
    torch.set_num_threads(task.threads)
    return_large_blocks()
    with tempfile.TemporaryDirectory() as scratch:
        write_checkpoint(Path(scratch) / "model", WARM_UP)
        small = dataclasses.replace(task, folder=f"{scratch}/model", sizes=WARM_UP, num_windows=1)
        _seconds(small)
    seconds: list[tuple[float, float]] = []
    _, peak_bytes = peak_growth_bytes(lambda: seconds.append(_seconds(task)))
    base_seconds, mixture_seconds = seconds[0]
    return Measured(
        base_seconds=base_seconds, mixture_seconds=mixture_seconds, peak_bytes=peak_bytes
    )


def _seconds(task: Task) -> tuple[float, float]:
    """The best of some runs, of the base and of the mixture, which take turns."""
    base, windows = Base(Path(task.folder)), held_out(task.num_windows, seed=task.sizes.seed)
    deltas = {f"{number:03d}": delta for number, delta in enumerate(task.sizes.deltas())}
    mixture = Mixture(tuple((name, 1 / len(deltas)) for name in deltas), 1.0, task.method)
    # A scorer remembers the scores of its base: each is timed on a new one.
    pairs = [_pair(Scorer(base, windows, deltas), mixture) for _ in range(RUNS)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def _pair(scorer: Scorer, mixture: Mixture) -> tuple[float, float]:
    return timed(lambda: scorer.base), timed(lambda: scorer.score_mixture(mixture))
