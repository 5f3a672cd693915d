"""The bench's floors and numbers by name, against figures computed by hand."""

from __future__ import annotations

import pytest

from seshu_swarm.bench.engine import floors
from seshu_swarm.bench.engine.book import Book, GrowthRow, Kind, Row
from seshu_swarm.bench.engine.child import Measured
from seshu_swarm.bench.engine.rates import Rates
from seshu_swarm.bench.engine.results import lost, results_of
from seshu_swarm.bench.engine.sizes import Workload
from seshu_swarm.mamba.shape import MambaShape

SMALL = MambaShape(d_model=256, num_blocks=4)
# mamba-130m, whose published checkpoint has 129,135,360 parameters.
LARGE = MambaShape(d_model=768, num_blocks=24, vocab_size=50_280)
RATES = Rates(gemm_flops_per_second=2e9, exp_per_second=1e9, read_bytes_per_second=4e9)
# in_proj 1024 x 256, x_proj 48 x 512, dt_proj 512 x 16, out_proj 256 x 512; the head 384 x 256.
BLOCK_WEIGHTS = 262_144 + 24_576 + 8_192 + 131_072
HEAD_WEIGHTS = 98_304


def test_a_training_step_is_three_products_and_the_scan_recomputed() -> None:
    work = Workload(shape=SMALL, batch=4, length_tokens=256)
    forward_flops = 2 * 1024 * (4 * BLOCK_WEIGHTS + HEAD_WEIGHTS)
    elements = 1024 * 512 * 16 * 4
    # 2e9 operations are 1e9 multiply-adds: 14 of them and 2 exponentials are 16 ns an element.
    by_hand = 3 * forward_flops / 2e9 + elements * 16e-9
    assert floors.train_floor_seconds(work, RATES) == pytest.approx(by_hand, rel=1e-12)


def test_a_prefill_needs_the_head_once() -> None:
    work = Workload(shape=SMALL, length_tokens=1024)
    products = 2 * (1024 * 4 * BLOCK_WEIGHTS + HEAD_WEIGHTS) / 2e9
    scan = 1024 * 512 * 16 * 4 * 4e-9
    assert floors.prefill_floor_seconds(work, RATES) == pytest.approx(products, rel=1e-12)
    with_scan = floors.prefill_floor_seconds(work, RATES, with_scan=True)
    assert with_scan == pytest.approx(products + scan, rel=1e-12)


def test_decoding_reads_every_weight_but_untied_embeddings() -> None:
    tied = floors.decode_floor_seconds(LARGE, RATES)
    assert tied == pytest.approx(129_135_360 * 4 / 4e9, rel=1e-12)
    untied = MambaShape(d_model=768, num_blocks=24, vocab_size=50_280, tie_embeddings=False)
    assert floors.decode_floor_seconds(untied, RATES) == pytest.approx(tied, rel=1e-12)


def test_the_best_of_two_measurements_is_taken_rate_by_rate() -> None:
    other = Rates(gemm_flops_per_second=1e9, exp_per_second=3e9, read_bytes_per_second=4e9)
    best = Rates(gemm_flops_per_second=2e9, exp_per_second=3e9, read_bytes_per_second=4e9)
    assert RATES.best(other) == other.best(RATES) == best
    assert best.fma_per_second == 1e9


def filled_book() -> Book:
    """Ours native takes 1 s, ours torch 4, mambapy 12, transformers 300; half the memory, and so on."""
    book = Book(rates=RATES)
    work = Workload(shape=SMALL, batch=4, length_tokens=256)
    wide = Workload(shape=SMALL, length_tokens=512, suffix="_wide")
    seconds = {"ours native": 1.0, "ours torch": 4.0, "mambapy": 12.0, "transformers": 300.0}
    for engine, value in seconds.items():
        book.rows.append(
            Row(kind=Kind.TRAINING, work=work, engine=engine, seconds=value, repeats=1)
        )
    book.rows.append(Row(kind=Kind.DECODE, work=wide, engine="ours native", seconds=0.5, repeats=1))
    book.peak_bytes |= {(work, "ours native"): 100, (work, "transformers"): 800}
    for engine, train, peak, decode in (("ours native", 2.0, 50, 0.2), ("sdpa", 1.0, 100, 0.1)):
        measured = Measured(
            train_seconds=train, train_repeats=1, peak_bytes=peak, decode_seconds=decode
        )
        name = "SDPA Transformer" if engine == "sdpa" else engine
        book.growth.append(GrowthRow(engine=name, length_tokens=1024, measured=measured))
    return book


def test_numbers_by_name() -> None:
    results = results_of(filled_book(), chosen="ours native")
    assert results["train_tokens_per_second"] == 1024
    assert results["train_speedup_vs_mambapy"] == 12
    assert results["train_speedup_vs_transformers"] == 300
    assert results["torch_train_speedup_vs_mambapy"] == 3
    assert results["train_memory_vs_transformers"] == 0.125
    # The step's floor at these rates, see above: 11.08 G operations and 33.6 M elements.
    assert results["train_time_vs_floor"] == pytest.approx(1 / (5.537 + 0.5369), rel=1e-3)
    assert results["decode_time_vs_floor_wide"] == pytest.approx(0.5 / (1_850_624 / 1e9))
    assert results["exp_per_second"] == 1e9
    assert results["train_speedup_vs_sdpa_1024"] == 0.5
    assert results["train_memory_vs_sdpa_1024"] == 0.5
    assert results["sdpa_train_tokens_per_second_1024"] == 1024
    assert "prefill_time_vs_floor" not in results and "prefill_speedup_vs_sdpa_1024" not in results


def test_what_is_lost_is_said() -> None:
    results = results_of(filled_book(), chosen="ours native")
    assert lost(results) == ["train_speedup_vs_sdpa_1024", "decode_speedup_vs_sdpa_1024"]
    assert lost({"train_memory_vs_sdpa_1": 1.5, "train_memory_vs_transformers": 1.5}) == [
        "train_memory_vs_sdpa_1"
    ]


def test_memory_that_the_system_does_not_tell_has_no_number() -> None:
    book = filled_book()
    book.peak_bytes = dict.fromkeys(book.peak_bytes)
    assert not [n for n in results_of(book, chosen="ours native") if "train_memory_vs_trans" in n]
