"""The bench of recipes: small, in its real processes; its numbers from numbers on paper."""

from __future__ import annotations

import pytest

from seshu_swarm.bench import BENCHES
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.data import bench, making
from seshu_swarm.bench.data.building import Measured
from seshu_swarm.bench.data.making import Planted
from seshu_swarm.errors import UsageError


@pytest.mark.swarm
def test_the_whole_bench_finds_what_was_planted() -> None:
    results = bench.run(making.pool_of(None, 0), 1, num_planted=400, num_workers=1).results
    assert results["duplicates_recall"] >= 0.99 and results["duplicates_precision"] >= 0.95
    assert results["contamination_recall"] >= 0.99 and results["contamination_precision"] >= 0.95
    assert results["data_mb_per_second"] > 0 and results["data_peak_bytes_near"] > 10e6


def test_numbers_by_hand() -> None:
    rows = [("hi", f"text {k}") for k in range(10)]
    made = Planted(rows, copies={6, 7}, contaminated={8, 9})
    kept = {k: [f"text {k}"] for k in (0, 1, 2, 4, 5, 7)} | {9: ["cut"], 1: ["cut", "too"]}
    found = {False: Measured(2.0, 4.0, 30), True: Measured(8.0, 10.0, 40)}
    assert bench.results_of(16_000_000, found, made, kept) == {
        "data_mb_per_second": 8.0,
        "data_mb_per_second_near": 2.0,
        "data_mb_per_cpu_second": 4.0,
        "data_mb_per_cpu_second_near": 1.6,
        "data_peak_bytes": 30.0,
        "data_peak_bytes_near": 40.0,
        "duplicates_recall": 1 / 2,  # 6 is gone, 7 is not
        "duplicates_precision": 1 / 2,  # 3 is gone too
        "contamination_recall": 1.0,
        "contamination_precision": 2 / 3,  # 1 was cut
    }


def test_settings_that_make_no_sense() -> None:
    assert BENCHES["data"][0] == "seshu_swarm.bench.data.bench:run_bench"
    with pytest.raises(UsageError, match="talks to nobody"):
        bench.run_bench(BenchConfig(name="data", links="home"))
    with pytest.raises(UsageError, match="--megabytes 0"):
        BenchConfig(name="data", megabytes=0)
