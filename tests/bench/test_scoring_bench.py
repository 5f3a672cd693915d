"""The bench of scoring: tiny, in its real process; its numbers from numbers on paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from seshu_swarm import checkpoints
from seshu_swarm.bench import BENCHES, fresh
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.merge.sizes import Sizes
from seshu_swarm.bench.scoring import bench, work
from seshu_swarm.bench.scoring.child import Measured, Task, measure_in_child
from seshu_swarm.errors import UsageError

TINY = Sizes(d_model=32, num_blocks=2, num_adapters=3, rank=2)


def test_the_whole_bench_on_a_tiny_model() -> None:
    outcome = bench.run(TINY, num_windows=1, threads=1)
    results = outcome.results
    assert results["mixture_time_vs_base"] == pytest.approx(
        results["scoring_mixture_seconds"] / results["scoring_base_seconds"]
    )
    assert 0 < results["scoring_base_seconds"] < 10 and 0 < results["scoring_mixture_seconds"] < 10
    assert results["scoring_model_bytes"] == 4 * TINY.shape.num_parameters
    assert outcome.rows[0]["num_blocks"] == 2 and outcome.rows[0]["threads"] == 1


def test_scoring_holds_less_than_a_second_model(tmp_path: Path) -> None:
    """A model of 32 blocks and 60 MB, in which one matrix is small; copies would double it."""
    sizes = Sizes(d_model=256, num_blocks=32, num_adapters=2, rank=2)
    model_bytes = work.write_checkpoint(tmp_path / "model", sizes)
    assert model_bytes == 4 * sizes.shape.num_parameters > 50 << 20
    task = Task(folder=str(tmp_path / "model"), sizes=sizes, threads=1, num_windows=1)
    found = measure_in_child(task)
    if found.peak_bytes is not None:  # not every system lets a process reset its peak
        assert model_bytes < found.peak_bytes < 1.5 * model_bytes


def test_what_is_scored(tmp_path: Path) -> None:
    work.write_checkpoint(tmp_path / "model", TINY)
    assert checkpoints.load_whole(tmp_path / "model").shape == TINY.shape
    windows = work.held_out(3, seed=0).rows["hi"]
    assert len(windows) == 3 and all(len(window.ids) == 640 for window in windows)
    assert windows == work.held_out(3, seed=0).rows["hi"] != work.held_out(3, seed=1).rows["hi"]


def test_results_by_hand() -> None:
    found = Measured(base_seconds=2.0, mixture_seconds=3.0, peak_bytes=600)
    assert bench.results_of(found, 400) == {
        "scoring_base_seconds": 2.0,
        "scoring_mixture_seconds": 3.0,
        "mixture_time_vs_base": 1.5,
        "scoring_model_bytes": 400.0,
        "scoring_peak_bytes": 600.0,
        "scoring_peak_over_model": 1.5,
    }
    untold = Measured(base_seconds=2.0, mixture_seconds=3.0, peak_bytes=None)
    assert "scoring_peak_over_model" not in bench.results_of(untold, 400)


def test_the_table_says_what_is_missing() -> None:
    task = Task(folder="", sizes=TINY, threads=1, num_windows=4)
    for peak, caption in ((6 << 20, "1.50 x the model"), (None, "does not tell")):
        found = Measured(base_seconds=2.0, mixture_seconds=3.0, peak_bytes=peak)
        table = bench.table_of(found, 4 << 20, task)
        assert list(table.columns[2].cells) == ["1.00", "1.50"]
        assert caption in str(table.caption)


def test_the_bench_is_listed_and_refuses_what_it_has_not() -> None:
    assert BENCHES["scoring"][0] == "seshu_swarm.bench.scoring.bench:run_bench"
    with pytest.raises(UsageError, match="links"):
        bench.run_bench(BenchConfig(name="scoring", links="home"))
    with pytest.raises(UsageError, match="num-blocks"):
        BenchConfig(name="scoring", num_blocks=0)


def test_a_task_survives_its_way_to_the_child() -> None:
    task = Task(folder="/models/one", sizes=TINY, threads=2, num_windows=3, method="ties")
    assert fresh.read(fresh.written(task), Task) == task
