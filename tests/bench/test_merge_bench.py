"""The bench of merges: tiny, in its real processes; its numbers from numbers on paper."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from seshu_swarm.bench import BENCHES, fresh
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.merge import alone, bench
from seshu_swarm.bench.merge.child import Measured, Task, measure_in_child
from seshu_swarm.bench.merge.sizes import Sizes
from seshu_swarm.errors import ResourceError, UsageError

TINY = Sizes(d_model=32, num_blocks=2, num_adapters=3, rank=2)


def test_sizes_by_hand() -> None:
    # in_proj 128 x 32, x_proj 34 x 64 (dt_rank 2, two times 16 states), out_proj 32 x 64.
    weights = 128 * 32 + 34 * 64 + 32 * 64
    assert TINY.weight_bytes == 2 * 4 * weights
    deltas = TINY.deltas()
    assert len(deltas) == 3 and len(deltas[0]) == 6
    assert 4 * sum(deltas[0][name].numel() for name in deltas[0]) == TINY.weight_bytes
    name = next(iter(deltas[0]))
    assert torch.linalg.matrix_rank(deltas[0][name]) == 2
    assert torch.equal(deltas[1][name], TINY.deltas()[1][name])
    assert not torch.equal(deltas[0][name], deltas[1][name])


@pytest.mark.parametrize("method", bench.METHODS)
def test_every_method_is_measured(method: str) -> None:
    threads = torch.get_num_threads()
    try:
        found = alone.measure(Task(method=method, sizes=TINY, threads=1))
    finally:
        torch.set_num_threads(threads)
    assert 0 < found.seconds < 10 and 0 < found.floor_seconds < 10


def test_memory_of_a_child_covers_the_matrices_and_not_all_of_them() -> None:
    """Sixteen blocks: a merge holds some matrices of 2 MB at a time, not the 53 MB of one ΔW."""
    sizes = Sizes(d_model=256, num_blocks=16, num_adapters=2, rank=2)
    found = measure_in_child(Task(method="linear", sizes=sizes, threads=1))
    if found.peak_bytes is not None:  # not every system lets a process reset its peak
        matrix_bytes = 8 * 1024 * 256
        assert matrix_bytes <= found.peak_bytes <= 16 * matrix_bytes < 2 * sizes.weight_bytes


def test_a_child_that_fails_is_told() -> None:
    with pytest.raises(ResourceError, match="no_such_method"):
        measure_in_child(Task(method="no_such_method", sizes=TINY, threads=1))


def test_a_child_ends_with_the_one_that_asked() -> None:
    # Work for minutes, were it not alone in the world.
    task = fresh.written(Task(method="ties", sizes=Sizes(num_adapters=64), threads=1))
    command = [sys.executable, "-m", "seshu_swarm.bench.merge.child", task]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1 and done.stdout == b"" and done.stderr == b""


def test_results_by_hand() -> None:
    def task(method: str, *, is_theirs: bool = False) -> Task:
        return Task(method=method, sizes=TINY, threads=1, is_theirs=is_theirs)

    found = bench.results_of(
        {
            task("ties"): Measured(seconds=3.0, floor_seconds=1.5, peak_bytes=100),
            task("fedit"): Measured(seconds=1.0, floor_seconds=2.0, peak_bytes=None),
            task("ties", is_theirs=True): Measured(seconds=12.0, floor_seconds=1.0, peak_bytes=400),
        }
    )
    assert found == {
        "ties_seconds": 3.0,
        "ties_time_vs_floor": 2.0,
        "ties_peak_bytes": 100.0,
        "fedit_seconds": 1.0,
        "fedit_time_vs_floor": 0.5,
        "ties_time_vs_mergekit": 0.25,
        "ties_memory_vs_mergekit": 0.25,
    }


def test_the_bench_is_listed_and_needs_no_links() -> None:
    assert BENCHES["merge"][0] == "seshu_swarm.bench.merge.bench:run_bench"
    with pytest.raises(UsageError, match="links"):
        bench.run_bench(BenchConfig(name="merge", links="home"))


def test_a_task_survives_its_way_to_the_child() -> None:
    task = Task(method="ties", sizes=TINY, threads=2, is_theirs=True)
    assert fresh.read(fresh.written(task), Task) == task


def test_the_table_says_what_is_missing() -> None:
    rows = [
        bench._row(task, Measured(seconds=3.0, floor_seconds=1.5, peak_bytes=peak), TINY)
        for task, peak in (
            (Task(method="ties", sizes=TINY, threads=1), TINY.weight_bytes),
            (Task(method="ties", sizes=TINY, threads=1, is_theirs=True), None),
        )
    ]
    table = bench.table_of(rows, TINY, mergekit_is_there=False)
    columns = [list(column.cells) for column in table.columns]
    assert columns[0] == ["ties", "ties (mergekit)"]
    assert columns[2] == ["2.00", "2.00"]
    assert columns[4] == ["1.00", ""] and columns[3][1] == "not told here"
    assert "mergekit cannot be imported" in str(table.caption)
