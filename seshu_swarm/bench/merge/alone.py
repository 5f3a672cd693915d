"""What a fresh process measures for `child`: one merge, matrix by matrix, and the floor under it.

A merged matrix is dropped before the next one is made, as when a model is changed in place. The
merge runs first: memory that the floor's run gave back would hide some of its growth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.merge.mixture import Mixture
from seshu_swarm.adapters.merge.one_weight import OneWeight
from seshu_swarm.adapters.merge.registry import OUTER_METHODS, outer_method_of
from seshu_swarm.bench.engine.measuring import peak_growth_bytes, timed
from seshu_swarm.bench.merge import mergekit
from seshu_swarm.bench.merge.child import Measured, Task
from seshu_swarm.bench.merge.sizes import Sizes

FLOOR_RUNS = 2
WARM_UP = Sizes(d_model=64, num_blocks=1)


def measure(task: Task) -> Measured:
    torch.set_num_threads(task.threads)
    # Libraries and threads are there before the peak is reset.
    _merge_of(task, WARM_UP.deltas())()
    deltas = task.sizes.deltas()
    merge = _merge_of(task, deltas)
    seconds, peak_bytes = peak_growth_bytes(merge)
    return Measured(
        # What mergekit reads is made beside it, and is not its time.
        seconds=merge.seconds if isinstance(merge, mergekit.Theirs) else seconds,
        floor_seconds=min(timed(lambda: _make_all(deltas)) for _ in range(FLOOR_RUNS)),
        peak_bytes=peak_bytes,
    )


def _merge_of(task: Task, deltas: Sequence[Delta]) -> Callable[[], None]:
    if task.is_theirs:
        return mergekit.Theirs(task.method, deltas)
    if task.method in {method.name for method in OUTER_METHODS}:
        return lambda: _step(task.method, deltas)
    return lambda: _run_through(_mixed(task.method, deltas))


def _mixed(method: str, deltas: Sequence[Delta]) -> Delta:
    names = [f"{number:03d}" for number in range(len(deltas))]
    shares = tuple((name, 1 / len(names)) for name in names)
    return Mixture(shares, 1.0, method).delta(dict(zip(names, deltas, strict=True)))


def _run_through(delta: Delta) -> None:
    for name in delta:
        delta[name]


def _step(method: str, deltas: Sequence[Delta]) -> None:
    """After a linear merge; the first adapter stands for the velocity."""
    merged, function = _mixed("linear", deltas), outer_method_of(method).function
    for name in merged:
        function(OneWeight(merged, name), OneWeight(deltas[0], name))


def _make_all(deltas: Sequence[Delta]) -> None:
    for delta in deltas:
        _run_through(delta)
