"""The selective scan as Triton kernels, which `scan` launches; imported only where Triton is.

Never run on a GPU so far: proven in Triton's interpreter, and compiled for compute capabilities
7.5 and 8.0. A program owns one row of the batch and one block of channels, holds its states in
registers as float32 whatever the type of the inputs, and walks through time. States at chunk
boundaries are kept; backward computes a chunk's states again into a scratch of its own and walks
back through them. Nothing is added atomically: what several programs contribute to goes into
partial buffers that the caller sums in a fixed order.

Kernels take all that a launch needs, hence more arguments than functions elsewhere. u, delta, y
and their gradients are contiguous (B, L, D), B and C (B, L, N), A (N, D), states (B, N, D) and
boundaries (B, chunks, N, D); the rows of z may be strided. With channels last in every tile there
is one layout of registers in the whole kernel. A pointer may be None: Triton compiles such branches
away.

Shapes: B batch, L length, D a block of channels, N d_state rounded up to a power of two.
"""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def softplus(x: tl.tensor) -> tl.tensor:
    """max(x, 0) + log1p(e) with e = exp(-|x|); log1p(e) = 2 artanh(e / (2 + e)) as a series.

    log(1 + e) would lose the small time steps of a trained model: of 1e-4 three digits remain.
    """
    e = tl.exp2(-tl.abs(x) * LOG2_E)
    s = e / (2.0 + e)
    q = s * s
    series = 1.0 / 9 + q * (1.0 / 11 + q * (1.0 / 13 + q * (1.0 / 15)))
    series = 1.0 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * series)))
    return tl.maximum(x, 0.0) + 2.0 * s * series


@triton.jit
def sigmoid(x: tl.tensor) -> tl.tensor:
    """1 / (1 + exp(-x)), which overflows on neither side."""
    e = tl.exp2(-tl.abs(x) * LOG2_E)
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def load(values: tl.tensor, mask: tl.tensor) -> tl.tensor:
    return tl.load(values, mask, other=0.0).to(tl.float32)


@triton.jit
def row_end(lengths: tl.tensor, row: tl.tensor, length: tl.tensor) -> tl.tensor:
    """How many tokens of the row count: never more than there are."""
    end = length
    if lengths is not None:
        end = tl.maximum(tl.minimum(tl.load(lengths + row), length), 0).to(tl.int32)
    return end


@triton.jit
def time_step(delta_D: tl.tensor, bias_D: tl.tensor, SOFTPLUS: tl.constexpr) -> tl.tensor:
    step_D = delta_D + bias_D
    if SOFTPLUS:
        step_D = softplus(step_D)
    return step_D


@triton.jit
def next_state(
    state_ND: tl.tensor, exponent_ND: tl.tensor, step_D: tl.tensor, u_D: tl.tensor, B_N: tl.tensor
) -> tl.tensor:
    decay_ND = tl.exp2(exponent_ND * step_D[None, :])
    return decay_ND * state_ND + (step_D * u_D)[None, :] * B_N[:, None]


@triton.jit(do_not_specialize=["length", "chunks"])
def forward(
    u: tl.tensor,
    delta: tl.tensor,
    A: tl.tensor,
    B: tl.tensor,
    C: tl.tensor,
    D: tl.tensor,
    z: tl.tensor,
    bias: tl.tensor,
    state: tl.tensor,
    lengths: tl.tensor,
    y: tl.tensor,
    last: tl.tensor,
    boundaries: tl.tensor,
    length: tl.tensor,
    d_inner: tl.tensor,
    d_state: tl.tensor,
    chunks: tl.tensor,
    z_row: tl.tensor,
    z_token: tl.tensor,
    SOFTPLUS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Fill y and last, and the boundaries where they are given."""
    row = tl.program_id(0).to(tl.int64)
    d, n = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    in_D, in_N = d < d_inner, n < d_state
    in_ND, at_ND = in_N[:, None] & in_D[None, :], n[:, None] * d_inner + d[None, :]
    exponent_ND = load(A + at_ND, in_ND) * LOG2_E
    state_ND = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    D_D, bias_D = tl.zeros((BLOCK_D,), tl.float32), tl.zeros((BLOCK_D,), tl.float32)
    if D is not None:
        D_D = load(D + d, in_D)
    if bias is not None:
        bias_D = load(bias + d, in_D)
    if state is not None:
        state_ND = load(state + row * d_inner * d_state + at_ND, in_ND)
    u += row * length * d_inner + d
    delta += row * length * d_inner + d
    y += row * length * d_inner + d
    B += row * length * d_state + n
    C += row * length * d_state + n
    if z is not None:
        z += row * z_row + d
    if boundaries is not None:
        boundaries += row * chunks * d_inner * d_state + at_ND
    end = row_end(lengths, row, length)
    # What the next token needs is on its way while this one is computed.
    u_D, delta_D, B_N, C_N = load(u, in_D), load(delta, in_D), load(B, in_N), load(C, in_N)
    for t in range(end):
        if boundaries is not None:  # noqa: SIM102, decided when compiling; the inner one is not
            if t % CHUNK == 0:
                tl.store(boundaries, state_ND, in_ND)
                boundaries += d_inner * d_state
        step_D, now_u_D, now_B_N, now_C_N = time_step(delta_D, bias_D, SOFTPLUS), u_D, B_N, C_N
        ahead = tl.cast(tl.minimum(t + 1, end - 1), tl.int64)
        u_D, delta_D = load(u + ahead * d_inner, in_D), load(delta + ahead * d_inner, in_D)
        B_N, C_N = load(B + ahead * d_state, in_N), load(C + ahead * d_state, in_N)
        if z is not None:
            z_D = load(z, in_D)
            z += z_token
        state_ND = next_state(state_ND, exponent_ND, step_D, now_u_D, now_B_N)
        y_D = tl.sum(state_ND * now_C_N[:, None], 0) + D_D * now_u_D
        if z is not None:
            y_D *= z_D * sigmoid(z_D)
        tl.store(y, y_D, in_D)
        y += d_inner
    tl.store(last + row * d_inner * d_state + at_ND, state_ND, in_ND)


@triton.jit
def chunk_states(
    u: tl.tensor,
    delta: tl.tensor,
    B: tl.tensor,
    states: tl.tensor,
    first: tl.tensor,
    stop: tl.tensor,
    d_inner: tl.tensor,
    d_state: tl.tensor,
    in_D: tl.tensor,
    in_N: tl.tensor,
    state_ND: tl.tensor,
    exponent_ND: tl.tensor,
    bias_D: tl.tensor,
    SOFTPLUS: tl.constexpr,
    TILE: tl.constexpr,
) -> tl.tensor:
    """Keep the state before each token of [first, stop) in the scratch; return the last one."""
    for t in range(first, stop):
        tl.store(states + (t - first) * TILE, state_ND)
        at = tl.cast(t, tl.int64)
        step_D = time_step(load(delta + at * d_inner, in_D), bias_D, SOFTPLUS)
        u_D, B_N = load(u + at * d_inner, in_D), load(B + at * d_state, in_N)
        state_ND = next_state(state_ND, exponent_ND, step_D, u_D, B_N)
    return state_ND


@triton.jit(do_not_specialize=["length", "chunks"])
def backward(
    u: tl.tensor,
    delta: tl.tensor,
    A: tl.tensor,
    B: tl.tensor,
    C: tl.tensor,
    D: tl.tensor,
    z: tl.tensor,
    bias: tl.tensor,
    lengths: tl.tensor,
    boundaries: tl.tensor,
    scratch: tl.tensor,
    dy: tl.tensor,
    dlast: tl.tensor,
    du: tl.tensor,
    ddelta: tl.tensor,
    dz: tl.tensor,
    dA: tl.tensor,
    dB: tl.tensor,
    dC: tl.tensor,
    dD: tl.tensor,
    dbias: tl.tensor,
    dstate: tl.tensor,
    length: tl.tensor,
    d_inner: tl.tensor,
    d_state: tl.tensor,
    chunks: tl.tensor,
    z_row: tl.tensor,
    z_token: tl.tensor,
    SOFTPLUS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Fill du, ddelta, dz, dstate and this program's parts of the others.

    Parts: dA (B, N, D); dB, dC (blocks, B, L, N); dD, dbias (B, D); all float32. The scratch has
    room for CHUNK states of every program.
    """
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    batch, tile = tl.num_programs(0), BLOCK_N * BLOCK_D
    d, n = block * BLOCK_D + tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    in_D, in_N = d < d_inner, n < d_state
    in_ND, at_ND = in_N[:, None] & in_D[None, :], n[:, None] * d_inner + d[None, :]
    exponent_ND = load(A + at_ND, in_ND) * LOG2_E
    D_D, bias_D = tl.zeros((BLOCK_D,), tl.float32), tl.zeros((BLOCK_D,), tl.float32)
    if D is not None:
        D_D = load(D + d, in_D)
    if bias is not None:
        bias_D = load(bias + d, in_D)
    dA_ND = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    dstate_ND = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    dD_D, dbias_D = tl.zeros((BLOCK_D,), tl.float32), tl.zeros((BLOCK_D,), tl.float32)
    if dlast is not None:
        dstate_ND = load(dlast + row * d_inner * d_state + at_ND, in_ND)
    at_D, at_N = row * length * d_inner + d, row * length * d_state + n
    part_N = (block * batch + row) * length * d_state + n
    boundaries += row * chunks * d_inner * d_state + at_ND
    program = row * tl.num_programs(1) + block
    states = scratch + program * CHUNK * tile
    states += n[:, None] * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
    end = row_end(lengths, row, length)
    used = (end + CHUNK - 1) // CHUNK
    for back in range(used):
        chunk = used - 1 - back
        first = chunk * CHUNK
        stop = tl.minimum(first + CHUNK, end)
        begin_ND = load(boundaries + tl.cast(chunk, tl.int64) * d_inner * d_state, in_ND)
        state_ND = chunk_states(
            u + at_D, delta + at_D, B + at_N, states, first, stop, d_inner, d_state,
            in_D, in_N, begin_ND, exponent_ND, bias_D, SOFTPLUS, tile,
        )  # fmt: skip
        # The scratch is written and read in layouts that may give an element to another thread.
        tl.debug_barrier()
        for j in range(first, stop):
            t = first + stop - 1 - j
            before_ND = tl.load(states + (t - first) * tile)
            token_D, token_N = at_D + tl.cast(t, tl.int64) * d_inner, tl.cast(t, tl.int64) * d_state
            u_D, raw_D = load(u + token_D, in_D), load(delta + token_D, in_D)
            B_N, C_N = load(B + at_N + token_N, in_N), load(C + at_N + token_N, in_N)
            step_D, dy_D = time_step(raw_D, bias_D, SOFTPLUS), load(dy + token_D, in_D)
            if z is not None:
                z_D = load(z + row * z_row + tl.cast(t, tl.int64) * z_token + d, in_D)
                open_D = sigmoid(z_D)
                y_D = tl.sum(state_ND * C_N[:, None], 0) + D_D * u_D
                dz_D = dy_D * y_D * open_D * (1.0 + z_D * (1.0 - open_D))
                tl.store(dz + token_D, dz_D, in_D)
                dy_D *= z_D * open_D
            dstate_ND += C_N[:, None] * dy_D[None, :]
            drive_D = step_D * u_D
            tl.store(dC + part_N + token_N, tl.sum(state_ND * dy_D[None, :], 1), in_N)
            tl.store(dB + part_N + token_N, tl.sum(dstate_ND * drive_D[None, :], 1), in_N)
            ddrive_D = tl.sum(dstate_ND * B_N[:, None], 0)
            dstate_ND *= tl.exp2(exponent_ND * step_D[None, :])
            # Gradient of the exponent delta * A.
            dexponent_ND = dstate_ND * before_ND
            dA_ND += dexponent_ND * step_D[None, :]
            dstep_D = tl.sum(dexponent_ND * exponent_ND, 0) * LN_2 + ddrive_D * u_D
            if SOFTPLUS:
                dstep_D *= sigmoid(raw_D + bias_D)
            tl.store(du + token_D, ddrive_D * step_D + D_D * dy_D, in_D)
            tl.store(ddelta + token_D, dstep_D, in_D)
            dD_D += dy_D * u_D
            dbias_D += dstep_D
            state_ND = before_ND
        tl.debug_barrier()
    tl.store(dA + row * d_inner * d_state + at_ND, dA_ND, in_ND)
    tl.store(dstate + row * d_inner * d_state + at_ND, dstate_ND, in_ND)
    tl.store(dD + row * d_inner + d, dD_D, in_D)
    tl.store(dbias + row * d_inner + d, dbias_D, in_D)
