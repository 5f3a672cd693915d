"""Measured rows to numbers by stable name. Pure.

Times `vs_floor`, and memory, are ours over theirs: smaller is better. Speed-ups are theirs over ours:
larger is better, and below 1 ours loses. What was not measured has no name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seshu_swarm.bench.engine import floors
from seshu_swarm.bench.engine.book import Book, GrowthRow, Kind, Row
from seshu_swarm.bench.engine.engines import OURS, SDPA
from seshu_swarm.bench.engine.rates import Rates
from seshu_swarm.bench.engine.sizes import FALLBACK, MAMBAPY, Workload

Named = Iterator[tuple[str, float]]
PREFIX = {Kind.TRAINING: "train", Kind.PREFILL: "prefill", Kind.DECODE: "decode"}
PLAIN = OURS + "torch"


def results_of(book: Book, *, chosen: str) -> dict[str, float]:
    """`chosen` is the engine of ours that people get."""
    results: dict[str, float] = {}
    for kind in Kind:
        for work in dict.fromkeys(row.work for row in book.rows if row.kind is kind):
            rows = {r.engine: r for r in book.rows if r.kind is kind and r.work == work}
            results |= _of_work(rows, rows[chosen], book.rates)
    for work in dict.fromkeys(work for work, _ in book.peak_bytes):
        results |= _of_memory(book, work, chosen)
    for length in dict.fromkeys(row.length_tokens for row in book.growth):
        results |= _of_length([row for row in book.growth if row.length_tokens == length], chosen)
    return results | _of_rates(book.rates)


def lost(results: dict[str, float]) -> list[str]:
    """Comparisons with the Transformer in which our Mamba is slower or larger."""
    return [
        name
        for name, value in results.items()
        if "_vs_sdpa_" in name and (value < 1 if "speedup" in name else value > 1)
    ]


def _of_work(rows: dict[str, Row], ours: Row, rates: Rates | None) -> dict[str, float]:
    prefix, suffix = PREFIX[ours.kind], ours.work.suffix
    results = {f"{prefix}_tokens_per_second{suffix}": ours.tokens_per_second}
    if rates:
        results[f"{prefix}_time_vs_floor{suffix}"] = ours.seconds / ours.floor_seconds(rates)
    if rates and ours.kind is Kind.PREFILL:
        floor = floors.prefill_floor_seconds(ours.work, rates, with_scan=True)
        results[f"prefill_time_vs_floor_with_scan{suffix}"] = ours.seconds / floor
    for other in (MAMBAPY, FALLBACK):
        if other in rows:
            name = f"{prefix}_speedup_vs_{other}{suffix}"
            results[name] = rows[other].seconds / ours.seconds
    if ours.kind is Kind.TRAINING and MAMBAPY in rows and PLAIN in rows:
        name = f"torch_train_speedup_vs_mambapy{suffix}"
        results[name] = rows[MAMBAPY].seconds / rows[PLAIN].seconds
    return results


def _of_memory(book: Book, work: Workload, chosen: str) -> dict[str, float]:
    ours = book.peak_bytes[work, chosen]
    if ours is None:
        return {}
    results = {f"train_memory_bytes{work.suffix}": float(ours)}
    for other in (MAMBAPY, FALLBACK):
        if theirs := book.peak_bytes.get((work, other)):
            results[f"train_memory_vs_{other}{work.suffix}"] = ours / theirs
    return results


def _of_length(rows: Sequence[GrowthRow], chosen: str) -> dict[str, float]:
    by_engine = {row.engine: row for row in rows}
    length = rows[0].length_tokens
    ours, theirs = by_engine[chosen], by_engine[SDPA]
    results = {
        f"train_tokens_per_second_{length}": ours.train_tokens_per_second,
        f"sdpa_train_tokens_per_second_{length}": theirs.train_tokens_per_second,
    }
    return results | {f"{name}_vs_sdpa_{length}": value for name, value in _ratios(ours, theirs)}


def _ratios(ours: GrowthRow, theirs: GrowthRow) -> Named:
    mine, other = ours.measured, theirs.measured
    yield "train_speedup", other.train_seconds / mine.train_seconds
    if mine.peak_bytes is not None and other.peak_bytes:
        yield "train_memory", mine.peak_bytes / other.peak_bytes
    if mine.prefill_seconds and other.prefill_seconds:
        yield "prefill_speedup", other.prefill_seconds / mine.prefill_seconds
    if mine.decode_seconds and other.decode_seconds:
        yield "decode_speedup", other.decode_seconds / mine.decode_seconds
    if mine.past_bytes and other.past_bytes:
        yield "session_memory", mine.past_bytes / other.past_bytes


def _of_rates(rates: Rates | None) -> dict[str, float]:
    if rates is None:
        return {}
    return {
        "gemm_flops_per_second": rates.gemm_flops_per_second,
        "exp_per_second": rates.exp_per_second,
        "read_bytes_per_second": rates.read_bytes_per_second,
    }
