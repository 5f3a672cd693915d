"""The least time that work can take at measured rates. Pure.

Matrix products run at the rate of a large one; the scan is arithmetic in registers, without memory:
1 exponential and 3 multiply-adds an element forward, and with its recomputation and all gradients
2 exponentials and 14 multiply-adds. Convolution, norms, gates, loss and optimiser count as nothing,
so no implementation reaches these floors.

Elements are batch x length x d_inner x d_state x blocks.
"""

from __future__ import annotations

from seshu_swarm.bench.engine.rates import Rates
from seshu_swarm.bench.engine.sizes import Workload
from seshu_swarm.mamba.shape import MambaShape

FLOAT_BYTES = 4
MATRICES = ("in_proj", "x_proj", "dt_proj", "out_proj")


def forward_gemm_flops(shape: MambaShape, num_tokens: int, *, num_head_rows: int) -> int:
    """Two operations for each weight of a matrix and token; the head only for some rows."""
    sizes = shape.block_tensors()
    block = sum(rows * columns for rows, columns in (sizes[f"mixer.{m}.weight"] for m in MATRICES))
    head = shape.vocab_size * shape.d_model
    return 2 * (num_tokens * shape.num_blocks * block + num_head_rows * head)


def scan_elements(shape: MambaShape, num_tokens: int) -> int:
    return num_tokens * shape.d_inner * shape.d_state * shape.num_blocks


def train_floor_seconds(work: Workload, rates: Rates) -> float:
    """Forward, and twice as many products backward: of the inputs' gradients and the weights'."""
    flops = 3 * forward_gemm_flops(work.shape, work.num_tokens, num_head_rows=work.num_tokens)
    scan = _scan_seconds(work, rates, num_exp=2, num_fma=14)
    return flops / rates.gemm_flops_per_second + scan


def prefill_floor_seconds(work: Workload, rates: Rates, *, with_scan: bool = False) -> float:
    """The products alone, or the scan's arithmetic too; the head for the last position only."""
    flops = forward_gemm_flops(work.shape, work.num_tokens, num_head_rows=work.batch)
    scan = _scan_seconds(work, rates, num_exp=1, num_fma=3) if with_scan else 0.0
    return flops / rates.gemm_flops_per_second + scan


def decode_floor_seconds(shape: MambaShape, rates: Rates) -> float:
    """Every weight is read once for a token, but of untied embeddings only a row."""
    unread = 0 if shape.tie_embeddings else shape.vocab_size * shape.d_model
    return FLOAT_BYTES * (shape.num_parameters - unread) / rates.read_bytes_per_second


def _scan_seconds(work: Workload, rates: Rates, *, num_exp: int, num_fma: int) -> float:
    per_element = num_exp / rates.exp_per_second + num_fma / rates.fma_per_second
    return scan_elements(work.shape, work.num_tokens) * per_element
