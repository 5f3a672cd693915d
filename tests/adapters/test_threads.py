"""Norms, clips and merges have the same bits for every number of threads: another machine, or a
coordinator started again, must come to the same digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from seshu_swarm.adapters.clipping import clipped
from seshu_swarm.adapters.delta import Delta, LowRankDelta, adapter_norm
from seshu_swarm.adapters.merge.apply import apply
from seshu_swarm.adapters.merge.registry import MERGE_METHODS, MergeMethod
from seshu_swarm.adapters.reader import Adapter, squared_norm

THREADS = (1, 2, 4)
# What d_model = 768 has: in_proj, x_proj, out_proj.
SHAPES = {"in_proj": (3072, 768), "x_proj": (80, 1536), "out_proj": (768, 1536)}


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def adapter(*, rank: int, seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    pairs = {
        name: (
            torch.randn(rank, columns, generator=generator),
            torch.randn(rows, rank, generator=generator) * 0.01,
        )
        for name, (rows, columns) in SHAPES.items()
    }
    return Adapter(f"{seed:064x}", rank, 2.0, pairs)


def with_threads(work: Callable[[], object]) -> list[object]:
    found = []
    for num_threads in THREADS:
        torch.set_num_threads(num_threads)
        found.append(work())
    return found


def bits(delta: Delta) -> list[str]:
    return [hashlib.sha256(delta[name].numpy().tobytes()).hexdigest() for name in sorted(delta)]


def same(found: list[object]) -> bool:
    return all(one == found[0] for one in found[1:])


@pytest.mark.parametrize("rank", [1, 3, 16, 32, 64])
def test_norms_clips_and_products(rank: int) -> None:
    one = adapter(rank=rank, seed=rank)

    def work() -> object:
        squares = [squared_norm(A, B).hex() for A, B in one.pairs.values()]
        short = clipped(one, max_norm=0.5)
        return squares, adapter_norm(one).hex(), short.scale.hex(), bits(LowRankDelta(short))

    assert same(with_threads(work))


@pytest.mark.parametrize("rank", [1, 16])
def test_squared_norms_equal_numpy(rank: int) -> None:
    for A, B in adapter(rank=rank, seed=7).pairs.values():
        whole = B.numpy().astype(np.float64) @ A.numpy().astype(np.float64)
        assert squared_norm(A, B) == pytest.approx(float(np.square(whole).sum()), rel=1e-12)


@pytest.mark.parametrize(
    "method", [m for m in MERGE_METHODS if not m.needs_score], ids=lambda m: m.name
)
def test_merges_and_what_they_make_of_a_base(method: MergeMethod) -> None:
    deltas = [LowRankDelta(adapter(rank=8, seed=seed)) for seed in range(3)]
    generator = torch.Generator().manual_seed(9)
    base = {f"{n}.weight": torch.randn(shape, generator=generator) for n, shape in SHAPES.items()}

    def work() -> object:
        merged = method.function(deltas, [0.5, 0.3, 0.2])
        return bits(merged), bits(apply(base, merged, 0.7))

    assert same(with_threads(work))
