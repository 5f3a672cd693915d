"""How fast this machine multiplies matrices, exponentiates and reads memory: measured, all threads."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from seshu_swarm.bench.engine.measuring import best_of, timed
from seshu_swarm.mamba.kernels.native import loading
from seshu_swarm.mamba.kernels.native.build import BuildError
from seshu_swarm.mamba.kernels.native.limits import exponentials_per_second

# 64 KiB: in the second level of cache with the result, enough to hide the cost of the call.
EXP_NUMBERS = 16_384
EXP_LOOPS = 50
EXP_REPEATS = 300


@dataclass(frozen=True, kw_only=True)
class Rates:
    """float32; one multiply-add is two operations of the matrix product."""

    gemm_flops_per_second: float
    exp_per_second: float
    read_bytes_per_second: float

    @property
    def fma_per_second(self) -> float:
        """A large matrix product does nothing else."""
        return self.gemm_flops_per_second / 2

    def best(self, other: Rates) -> Rates:
        """The faster of two measurements, rate by rate."""
        return Rates(
            gemm_flops_per_second=max(self.gemm_flops_per_second, other.gemm_flops_per_second),
            exp_per_second=max(self.exp_per_second, other.exp_per_second),
            read_bytes_per_second=max(self.read_bytes_per_second, other.read_bytes_per_second),
        )


def measure_rates(*, gemm_size: int, read_bytes: int, seconds: float) -> Rates:
    """`seconds` for each of three probes; reading is the faster of a matrix-vector product and a sum."""
    a, b = torch.rand(gemm_size, gemm_size), torch.rand(gemm_size, gemm_size)
    product = torch.empty_like(a)
    columns = 4096
    matrix = torch.rand(max(1, read_bytes // (4 * columns)), columns)
    vector = torch.rand(columns)
    best = best_of(
        {
            "gemm": lambda: torch.mm(a, b, out=product),
            "mv": lambda: torch.mv(matrix, vector),
            "sum": lambda: matrix.sum(),
        },
        seconds=seconds,
    )
    return Rates(
        gemm_flops_per_second=2 * gemm_size**3 / best["gemm"].seconds,
        exp_per_second=exp_rate(),
        read_bytes_per_second=matrix.nbytes / min(best["mv"].seconds, best["sum"].seconds),
    )


def exp_rate() -> float:
    """Exponentials per second in registers, all threads; of `torch.exp` without native kernels."""
    try:
        return exponentials_per_second(loading.load())
    except BuildError:
        return _torch_exp_rate()


def _torch_exp_rate() -> float:
    """On numbers in the cache, of one core times all threads: one operation shared by all would
    measure how fast threads wake."""
    numbers = torch.full((EXP_NUMBERS,), -0.5)
    result = torch.empty_like(numbers)

    def loop() -> None:
        for _ in range(EXP_LOOPS):
            torch.exp(numbers, out=result)

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = min(timed(loop) for _ in range(EXP_REPEATS))
    finally:
        torch.set_num_threads(num_threads)
    return num_threads * EXP_LOOPS * EXP_NUMBERS / seconds
