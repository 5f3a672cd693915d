"""The scan and the convolution against the float64 loops, forward, backward and continued."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from seshu_swarm.mamba.conv import causal_conv1d
from seshu_swarm.mamba.kernels.choose import using
from seshu_swarm.mamba.kernels.inputs import ScanInputs
from seshu_swarm.mamba.kernels.plain import scan as plain_scan
from seshu_swarm.mamba.kernels.plain.scan import MAX_CHUNK_TOKENS
from seshu_swarm.mamba.reference import causal_conv1d_loop, selective_scan_loop
from seshu_swarm.mamba.scan import scan_time_major, selective_scan, selective_state_step
from tests.mamba import implementations

torch.set_num_threads(1)


@pytest.fixture(params=implementations.names(), autouse=True)
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here is of every implementation that this machine can run."""
    with using(implementations.named(request.param)):
        yield request.param


# (batch, length, d_inner, d_state): one token, inside a chunk, whole chunks, a rest, odd sizes.
SIZES = [
    (1, 1, 8, 4),
    (2, 7, 5, 3),
    (3, 2 * MAX_CHUNK_TOKENS, 16, 16),
    (2, 3 * MAX_CHUNK_TOKENS + 1, 6, 1),
    (1, 150, 33, 16),
    (2, 20, 150, 20),
]


def scan_inputs(
    batch: int, length: int, d_inner: int, d_state: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """u, delta, A, B, C and the state, with a leaf gradient each; time-major."""
    torch.manual_seed(batch * 1000 + length)
    inputs = [
        torch.randn(batch, length, d_inner),
        functional.softplus(torch.randn(batch, length, d_inner) - 2),
        -torch.rand(d_inner, d_state) * 4 - 0.05,
        torch.randn(batch, length, d_state),
        torch.randn(batch, length, d_state),
        torch.randn(batch, d_inner, d_state),
    ]
    return [x.to(dtype).requires_grad_() for x in inputs]


def ours(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> list[Tensor]:
    return list(scan_time_major(ScanInputs(u=u, delta=delta, A=A, B=B, C=C, state=state)))


def relative(found: Tensor, expected: Tensor) -> float:
    exact = expected.detach().double()
    difference = torch.linalg.norm(found.detach().double() - exact)
    return float(difference / torch.linalg.norm(exact).clamp_min(1e-12))


def gradients(
    call: Callable[..., list[Tensor] | tuple[Tensor, Tensor]], inputs: list[Tensor]
) -> tuple[Tensor, ...]:
    """Gradients of a fixed random projection of the outputs and of the last state."""
    torch.manual_seed(1)
    loss = sum((y * torch.randn(y.shape).to(y.dtype)).sum() for y in call(*inputs))
    assert isinstance(loss, Tensor)
    return torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("size", SIZES)
def test_outputs_and_every_gradient_equal_the_loop(size: tuple[int, int, int, int]) -> None:
    inputs = scan_inputs(*size)
    for found, expected in zip(ours(*inputs), selective_scan_loop(*inputs), strict=True):
        assert relative(found, expected) < 2e-6
    found_gradients = gradients(ours, inputs)
    expected_gradients = gradients(selective_scan_loop, inputs)
    for found, expected in zip(found_gradients, expected_gradients, strict=True):
        assert relative(found, expected) < 5e-6


def test_gradcheck_with_states_skip_gate_and_softplus() -> None:
    u, delta, A, B, C, state = scan_inputs(2, 5, 3, 2, torch.float64)
    D, bias = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    z = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)

    def call(*tensors: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        u, delta, A, B, C, D, z, bias, state = tensors
        return selective_scan(
            u.transpose(1, 2),
            delta.transpose(1, 2),
            A,
            B.transpose(1, 2),
            C.transpose(1, 2),
            D,
            z,
            bias,
            True,
            True,
            initial_state=state,
        )

    assert torch.autograd.gradcheck(call, (u, delta, A, B, C, D, z, bias, state))


def test_gradcheck_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_scan, "MAX_CHUNK_TOKENS", 2)
    monkeypatch.setattr(plain_scan, "MIN_CHUNK_TOKENS", 2)
    inputs = scan_inputs(1, 5, 2, 2, torch.float64)
    assert torch.autograd.gradcheck(lambda *x: tuple(ours(*x)), inputs)


@pytest.mark.parametrize("length", [2, 33, 100, 4096])
def test_two_scans_in_turn_equal_one(length: int) -> None:
    u, delta, A, B, C, state = (x.detach() for x in scan_inputs(1, length, 8, 16))
    whole, last = ours(u, delta, A, B, C, state)
    for split in {1, int(torch.randint(1, length, (1,))), length - 1}:
        head, middle = ours(u[:, :split], delta[:, :split], A, B[:, :split], C[:, :split], state)
        tail, end = ours(u[:, split:], delta[:, split:], A, B[:, split:], C[:, split:], middle)
        assert relative(torch.cat((head, tail), 1), whole) < 1e-5
        assert relative(end, last) < 1e-5


def test_gradient_flows_through_a_split() -> None:
    inputs = scan_inputs(2, 9, 4, 3)

    def split(*tensors: Tensor) -> list[Tensor]:
        u, delta, A, B, C, state = tensors
        head, middle = ours(u[:, :4], delta[:, :4], A, B[:, :4], C[:, :4], state)
        tail, end = ours(u[:, 4:], delta[:, 4:], A, B[:, 4:], C[:, 4:], middle)
        return [torch.cat((head, tail), 1), end]

    for found, expected in zip(gradients(split, inputs), gradients(ours, inputs), strict=True):
        assert relative(found, expected) < 5e-6


def test_options_equal_their_formulas_in_both_layouts() -> None:
    u, delta, A, B, C, state = (x.detach() for x in scan_inputs(2, 40, 6, 4))
    D, bias, z = torch.randn(6), torch.randn(6), torch.randn(2, 40, 6)
    y, last = selective_scan_loop(
        u, functional.softplus(delta.double() + bias), A, B, C, torch.zeros_like(state)
    )
    expected = (y + u * D) * functional.silu(z.double())
    u_BDL, delta_BDL, B_BNL, C_BNL, z_BDL = (x.transpose(1, 2) for x in (u, delta, B, C, z))
    found = selective_scan(u_BDL, delta_BDL, A, B_BNL, C_BNL, D, z_BDL, bias, True, True)
    assert relative(found[0].transpose(1, 2), expected) < 2e-6
    assert relative(found[1], last) < 2e-6


def test_one_token_step_equals_the_loop_and_keeps_its_state() -> None:
    inputs = [x.detach() for x in scan_inputs(3, 1, 8, 16)]
    u, delta, A, B, C, state = inputs
    kept = state.clone()
    y, after = selective_state_step(u[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], state)
    expected_y, expected_after = selective_scan_loop(*inputs)
    assert relative(y, expected_y[:, 0]) < 2e-6
    assert relative(after, expected_after) < 2e-6
    assert torch.equal(state, kept)


def test_strong_decay_stays_finite() -> None:
    """exp(delta A) underflows here; forms with cumulative sums overflow (cpu_scan, correctness)."""
    u, _, _, B, C, state = scan_inputs(1, 64, 4, 16)
    delta, A = torch.full((1, 64, 4), 8.0), torch.full((4, 16), -16.0)
    inputs = [u, delta.requires_grad_(), A.requires_grad_(), B, C, state]
    found, expected = gradients(ours, inputs), gradients(selective_scan_loop, inputs)
    for ours_now, loop in zip(found, expected, strict=True):
        assert bool(torch.isfinite(ours_now).all())
        assert relative(ours_now, loop) < 5e-6


def conv_inputs(length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(length)
    inputs = [
        torch.randn(2, length, 5),
        torch.randn(5, 4),
        torch.randn(5),
        torch.randn(2, 5, 3),
    ]
    return [x.to(dtype).requires_grad_() for x in inputs]


def conv(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> list[Tensor]:
    return list(causal_conv1d(x, weight, bias, initial_state=state, return_last_state=True))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 50])
def test_convolution_and_its_gradients_equal_the_loop(length: int) -> None:
    inputs = conv_inputs(length)
    for found, expected in zip(conv(*inputs), causal_conv1d_loop(*inputs), strict=True):
        assert relative(found, expected) < 2e-6
    found_gradients = gradients(conv, inputs)
    expected_gradients = gradients(causal_conv1d_loop, inputs)
    for found, expected in zip(found_gradients, expected_gradients, strict=True):
        assert relative(found, expected) < 5e-6


def test_convolution_gradcheck() -> None:
    assert torch.autograd.gradcheck(lambda *x: tuple(conv(*x)), conv_inputs(4, torch.float64))


@pytest.mark.parametrize("split", [1, 2, 3, 17, 29])
def test_two_convolutions_in_turn_equal_one(split: int) -> None:
    x, weight, bias, state = (tensor.detach() for tensor in conv_inputs(30))
    whole, last = conv(x, weight, bias, state)
    head, middle = conv(x[:, :split], weight, bias, state)
    tail, end = conv(x[:, split:], weight, bias, middle)
    assert torch.allclose(torch.cat((head, tail), 1), whole, atol=1e-6)
    assert torch.equal(end, last)


def test_convolution_without_a_state_starts_from_zeros() -> None:
    x, weight, bias, state = (tensor.detach() for tensor in conv_inputs(6))
    expected, _ = conv(x, weight, bias, torch.zeros_like(state))
    assert torch.equal(causal_conv1d(x, weight, bias), expected)  # type: ignore[arg-type]
