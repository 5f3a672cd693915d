"""The bench of evaluation: tiny; its numbers from numbers on paper."""

from __future__ import annotations

import pytest
import torch

from seshu_swarm.bench import BENCHES
from seshu_swarm.bench.config import BenchConfig
from seshu_swarm.bench.evaluation import bench, work
from seshu_swarm.errors import UsageError
from seshu_swarm.evaluate.proving.proving import Proof
from seshu_swarm.mamba.shape import MambaShape

TINY = MambaShape(d_model=32, num_blocks=1)


def test_the_whole_bench_on_a_tiny_model() -> None:
    threads = torch.get_num_threads()
    results = bench.run(TINY, documents=3, proven_documents=1, seconds=0.1).results
    torch.set_num_threads(threads)
    assert results["proof_is_equal"] is True
    assert abs(results["proof_relative_error"]) < 0.005
    ratio = results["scoring_tokens_per_second"] / results["forward_tokens_per_second"]
    assert results["scoring_share_of_forward"] == pytest.approx(ratio)
    assert BENCHES["evaluation"][0] == "seshu_swarm.bench.evaluation.bench:run_bench"


def test_results_by_hand() -> None:
    rates = work.Rates(scoring_seconds=2.0, forward_seconds=1.5, num_tokens=600, num_bytes=400)
    proof = Proof(
        file_bytes=1100, coded_bytes=1010, text_bits=7900.0, scored_bits=8000.0, num_bytes=4000
    )
    results = bench.results_of(rates, work.Proven(proof, 2.0, 4.0, True))
    assert results["scoring_share_of_forward"] == 0.75
    assert results["scoring_tokens_per_second"] == 300
    assert results["proof_relative_error"] == pytest.approx(0.01)
    assert results["proof_error_bytes"] == 10
    assert results["proof_file_relative_error"] == pytest.approx(0.1)
    assert results["proof_decode_bytes_per_second"] == 1000


def test_links_are_refused() -> None:
    with pytest.raises(UsageError, match="talks to nobody"):
        bench.run_bench(BenchConfig(name="evaluation", links="home"))
