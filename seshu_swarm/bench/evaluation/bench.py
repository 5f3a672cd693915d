"""`python -m seshu_swarm bench evaluation`: what a score costs beside the engine, and a proof."""

from __future__ import annotations

import os

import torch
from rich.console import Console
from rich.table import Table

from seshu_swarm.bench.config import LOOPBACK, BenchConfig
from seshu_swarm.bench.evaluation.work import (
    Proven,
    Rates,
    built_in_texts,
    measure_proof,
    measure_rates,
    random_model,
)
from seshu_swarm.bench.outcome import Outcome
from seshu_swarm.errors import UsageError
from seshu_swarm.mamba.shape import MambaShape
from seshu_swarm.program import log

D_MODEL, NUM_BLOCKS = 256, 4
DOCUMENTS, PROVEN_DOCUMENTS = 4, 8
SECONDS = 20.0


def run_bench(settings: BenchConfig) -> Outcome:
    """Raises UsageError where links were asked for: a score has none."""
    if settings.links != LOOPBACK:
        raise UsageError(f"--links {settings.links} for evaluation", rule="it talks to nobody")
    shape = MambaShape(
        d_model=settings.d_model or D_MODEL, num_blocks=settings.num_blocks or NUM_BLOCKS
    )
    return run(shape, seed=settings.seed, threads=len(os.sched_getaffinity(0)))


def run(
    shape: MambaShape,
    *,
    seed: int = 0,
    threads: int = 1,
    documents: int = DOCUMENTS,
    proven_documents: int = PROVEN_DOCUMENTS,
    seconds: float = SECONDS,
) -> Outcome:
    """Documents are counted by language."""
    torch.set_num_threads(threads)
    model = random_model(shape, seed=seed)
    rates = measure_rates(model, built_in_texts(documents, seed=seed), seconds=seconds)
    proven = measure_proof(model, built_in_texts(proven_documents, seed=seed))
    results = results_of(rates, proven)
    if log.is_text():
        Console().print(table_of(rates, proven, shape))
    row = {"d_model": shape.d_model, "num_blocks": shape.num_blocks, "threads": threads}
    return Outcome(results, [row | {"documents": documents, "proven_documents": proven_documents}])


def results_of(rates: Rates, proven: Proven) -> dict[str, float | bool]:
    """Numbers by stable name. Pure."""
    proof = proven.proof
    return {
        "scoring_share_of_forward": rates.share_of_forward,
        "scoring_tokens_per_second": rates.num_tokens / rates.scoring_seconds,
        "forward_tokens_per_second": rates.num_tokens / rates.forward_seconds,
        "scoring_bytes_per_second": rates.num_bytes / rates.scoring_seconds,
        "proof_is_equal": proven.is_equal,
        "proof_relative_error": proof.relative_error,
        "proof_error_bytes": proof.coded_bytes - proof.scored_bits / 8,
        "proof_file_relative_error": proof.file_error,
        "proof_encode_bytes_per_second": proof.num_bytes / proven.encode_seconds,
        "proof_decode_bytes_per_second": proof.num_bytes / proven.decode_seconds,
    }


def table_of(rates: Rates, proven: Proven, shape: MambaShape) -> Table:
    proof = proven.proof
    table = Table(
        *("what", "seconds", "per second"),
        title=f"{shape.d_model} x {shape.num_blocks}, {rates.num_bytes:,} bytes of built-in text",
        caption=f"scoring at {rates.share_of_forward:.0%} of the forward rate; a proof of "
        f"{proof.num_bytes:,} bytes is {proof.relative_error:+.3%} off its score",
    )
    for name, seconds in (("forward", rates.forward_seconds), ("scoring", rates.scoring_seconds)):
        table.add_row(name, f"{seconds:.2f}", f"{rates.num_tokens / seconds:,.0f} tokens")
    steps = (("coding", proven.encode_seconds), ("decoding", proven.decode_seconds))
    for name, seconds in steps:
        table.add_row(name, f"{seconds:.2f}", f"{proof.num_bytes / seconds:,.0f} bytes")
    return table
