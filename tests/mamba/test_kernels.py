"""What every implementation of the operators must keep: padding, layouts, types, extremes, threads.

Single calls against the float64 loops are in test_scan.py. Here the loops run row by row, so that
a row's padding cannot reach the reference.

Shapes: B batch, L length, D d_inner, N d_state, K d_conv, P d_conv - 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from seshu_swarm.mamba.kernels.choose import PLAIN, kernels_for, using
from seshu_swarm.mamba.kernels.inputs import ConvInputs, ScanInputs
from seshu_swarm.mamba.kernels.native import library
from seshu_swarm.mamba.reference import causal_conv1d_loop, selective_scan_loop
from tests.mamba import implementations

torch.set_num_threads(1)

# Below, at and above the tokens of a native chunk and of a plain one; nothing; everything.
LENGTHS = (0, 1, 15, 16, 17, 33, 40)
TOKEN_WISE = ("u", "delta", "B", "C", "z", "x")
Tensors = dict[str, Tensor]


@pytest.fixture(params=implementations.names(), autouse=True)
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here is of every implementation that this machine can run."""
    torch.manual_seed(0)
    with using(implementations.named(request.param)):
        yield request.param


@dataclass(frozen=True)
class Operator:
    """One of the two with states: how it is called, and the loop that says what is right."""

    name: str
    options: tuple[str, ...]  # inputs that may be left out

    def tensors(self, batch: int, length: int, width: int, dtype: torch.dtype) -> Tensors:
        made = _scan_tensors if self.name == "scan" else _conv_tensors
        return {k: x.to(dtype) for k, x in made(batch, length, width).items()}

    def __call__(
        self, tensors: Tensors, lengths: Tensor | None = None, *, softplus: bool = True
    ) -> list[Tensor]:
        """The output and the last state, of the implementation under test."""
        if self.name == "conv":
            conv = ConvInputs(**tensors, lengths=lengths)
            return list(kernels_for(conv.x).conv(conv))
        scan = ScanInputs(**tensors, delta_softplus=softplus, lengths=lengths)
        return list(kernels_for(scan.u).scan(scan))

    def right(
        self, tensors: Tensors, lengths: Sequence[int] | None = None, *, softplus: bool = True
    ) -> list[Tensor]:
        """The same in float64, each row alone and without its padding."""
        batch, length = next(iter(tensors.values())).shape[:2]
        rows = []
        for row, count in enumerate([length] * batch if lengths is None else lengths):
            own = {k: _of_row(k, x.double(), row, count) for k, x in tensors.items()}
            y, last = _scan_loop(own, softplus) if self.name == "scan" else _conv_loop(own)
            rows.append((functional.pad(y, (0, 0, 0, length - count)), last))
        return [torch.cat(parts) for parts in zip(*rows, strict=True)]


SCAN = Operator("scan", options=("D", "z", "delta_bias", "state"))
CONV = Operator("conv", options=("state",))
BOTH = pytest.mark.parametrize("operator", [SCAN, CONV], ids=lambda operator: operator.name)


def _scan_tensors(batch: int, length: int, d_inner: int, d_state: int = 5) -> Tensors:
    return {
        "u": torch.randn(batch, length, d_inner),
        "delta": torch.randn(batch, length, d_inner) - 2,
        "A": -torch.rand(d_inner, d_state) * 4 - 0.05,
        "B": torch.randn(batch, length, d_state),
        "C": torch.randn(batch, length, d_state),
        "D": torch.randn(d_inner),
        "z": torch.randn(batch, length, d_inner),
        "delta_bias": torch.randn(d_inner) / 2,
        "state": torch.randn(batch, d_inner, d_state),
    }


def _conv_tensors(batch: int, length: int, d_inner: int, d_conv: int = 4) -> Tensors:
    return {
        "x": torch.randn(batch, length, d_inner),
        "weight": torch.randn(d_inner, d_conv),
        "bias": torch.randn(d_inner),
        "state": torch.randn(batch, d_inner, d_conv - 1),
    }


def _of_row(name: str, x: Tensor, row: int, count: int) -> Tensor:
    if name in TOKEN_WISE:
        return x[row : row + 1, :count]
    return x[row : row + 1] if name == "state" else x


def _scan_loop(own: Tensors, softplus: bool) -> tuple[Tensor, Tensor]:
    u, delta, A = own["u"], own["delta"], own["A"]
    state = own.get("state", u.new_zeros(1, *A.shape))
    if u.shape[1] == 0:
        return u, state
    delta = delta + own.get("delta_bias", 0.0)
    delta = functional.softplus(delta) if softplus else delta
    y, last = selective_scan_loop(u, delta, A, own["B"], own["C"], state)
    y = y + own["D"] * u if "D" in own else y
    return (y * functional.silu(own["z"]) if "z" in own else y), last


def _conv_loop(own: Tensors) -> tuple[Tensor, Tensor]:
    x, weight = own["x"], own["weight"]
    state = own.get("state", x.new_zeros(1, weight.shape[0], weight.shape[1] - 1))
    return (x, state) if x.shape[1] == 0 else causal_conv1d_loop(x, weight, own["bias"], state)


def relative(found: Tensor, expected: Tensor) -> float:
    """Not below any bound where `found` holds a NaN."""
    exact = expected.detach().double()
    difference = torch.linalg.norm(found.detach().double() - exact)
    return float(difference / torch.linalg.norm(exact).clamp_min(1e-12))


def leaves(tensors: Tensors) -> Tensors:
    return {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}


def gradients(outputs: Sequence[Tensor], inputs: Tensors) -> Tensors:
    """Of one random projection of the outputs, the same at each call with these sizes."""
    generator = torch.Generator().manual_seed(1)
    weights = (torch.randn(y.shape, generator=generator).to(y.dtype) for y in outputs)
    loss = sum((y * w).sum() for y, w in zip(outputs, weights, strict=True))
    assert isinstance(loss, Tensor)
    return dict(zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True))


def assert_near(
    found: Tensors | list[Tensor], expected: Tensors | list[Tensor], bound: float
) -> None:
    names = list(expected) if isinstance(expected, dict) else list(range(len(expected)))
    errors = {name: relative(found[name], expected[name]) for name in names}  # type: ignore[index]
    assert all(error < bound for error in errors.values()), errors


@BOTH
@pytest.mark.parametrize("with_options", [True, False], ids=["options", "bare"])
def test_padding_of_unequal_rows_reaches_nothing(operator: Operator, with_options: bool) -> None:
    tensors = operator.tensors(len(LENGTHS), max(LENGTHS), 19, torch.float32)
    if not with_options:
        tensors = {k: x for k, x in tensors.items() if k not in operator.options}
    for name in set(tensors) & set(TOKEN_WISE):
        for row, count in enumerate(LENGTHS):
            tensors[name][row, count:] = torch.nan
    ours, exact = leaves(tensors), leaves(tensors)
    found, expected = operator(ours, torch.tensor(LENGTHS)), operator.right(exact, LENGTHS)
    assert_near(found, expected, 2e-6)
    found_gradients = gradients(found, ours)
    assert_near(found_gradients, gradients(expected, exact), 5e-6)
    for row, count in enumerate(LENGTHS):
        assert not found[0][row, count:].any()
        for name in set(tensors) & set(TOKEN_WISE):
            assert not found_gradients[name][row, count:].any(), name
    if with_options:
        assert torch.equal(found[1][0], tensors["state"][0])


@BOTH
def test_lengths_may_be_a_strided_view(operator: Operator) -> None:
    tensors = operator.tensors(3, 8, 5, torch.float32)
    strided = torch.tensor([2, 8, 0, 8, 5, 8])[::2]
    assert_near(operator(tensors, strided), operator.right(tensors, [2, 0, 5]), 2e-6)


def _laid_out_otherwise(name: str, x: Tensor) -> Tensor:
    """Equal, as a view of something larger or transposed."""
    if x.dim() == 1:
        return torch.stack((x, torch.full_like(x, torch.nan)), dim=1)[:, 0]
    if name in ("delta", "A", "weight", "state"):
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    wide = torch.cat((torch.full_like(x, torch.nan), x, x + 1), dim=-1)
    return wide.narrow(-1, x.shape[-1], x.shape[-1])


@BOTH
def test_strided_inputs_equal_contiguous_ones(operator: Operator) -> None:
    tensors = operator.tensors(3, 21, 19, torch.float32)
    strided = {k: _laid_out_otherwise(k, x).requires_grad_() for k, x in tensors.items()}
    assert not any(x.is_contiguous() for x in strided.values())
    exact = leaves(tensors)
    found, expected = operator(strided), operator.right(exact)
    assert_near(found, expected, 2e-6)
    # Transposed gradients of the outputs, as a caller with channels first hands back.
    found, expected = ([x.transpose(1, 2) for x in outputs] for outputs in (found, expected))
    assert_near(gradients(found, strided), gradients(expected, exact), 5e-6)


@BOTH
def test_expanded_inputs_and_expanded_gradients(operator: Operator) -> None:
    tensors = {k: x[:1].expand_as(x) for k, x in operator.tensors(3, 9, 6, torch.float32).items()}
    ours, exact = ({k: x.detach().requires_grad_() for k, x in tensors.items()} for _ in range(2))
    found, expected = operator(ours), operator.right(exact)
    assert_near(found, expected, 2e-6)
    found_gradients, expected_gradients = (
        torch.autograd.grad(y.sum() + last.sum(), list(x.values()))
        for (y, last), x in ((found, ours), (expected, exact))
    )
    assert_near(list(found_gradients), list(expected_gradients), 5e-6)


@BOTH
@pytest.mark.parametrize(("batch", "length"), [(0, 4), (2, 0)])
def test_nothing_in_gives_the_state_out(operator: Operator, batch: int, length: int) -> None:
    ours = leaves(operator.tensors(batch, length, 5, torch.float32))
    y, last = operator(ours)
    assert y.shape == (batch, length, 5)
    assert torch.equal(last, ours["state"])
    weights = torch.randn(last.shape)
    (y.sum() + (last * weights).sum()).backward()
    state_gradient = ours.pop("state").grad
    assert state_gradient is not None and torch.equal(state_gradient, weights)
    assert not any(x.grad.any() for x in ours.values() if x.grad is not None)


# Anywhere inside a chunk of either implementation, and now and then over many chunks.
CUT_LENGTHS = st.one_of(st.integers(1, 80), st.integers(81, 4096))


@BOTH
@given(length=CUT_LENGTHS, data=st.data())
@settings(
    max_examples=12,
    derandomize=True,
    # The implementation under test is the same for all examples, as it should be.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_parts_equal_the_whole(operator: Operator, length: int, data: st.DataObject) -> None:
    inner = st.lists(st.integers(0, length), min_size=1, max_size=3)
    cuts = [0, *data.draw(inner, label="cuts"), length]
    torch.manual_seed(length)
    whole, cut = (leaves(operator.tensors(1, length, 4, torch.float32)) for _ in range(2))
    cut = leaves(whole)
    state, outputs = cut["state"], []
    for start, end in itertools.pairwise(sorted(set(cuts))):
        part = {k: x[:, start:end] if k in TOKEN_WISE else x for k, x in cut.items()}
        y, state = operator(part | {"state": state})
        outputs.append(y)
    expected, found = operator(whole), [torch.cat(outputs, dim=1), state]
    assert_near(found, expected, 1e-5)
    assert_near(gradients(found, cut), gradients(expected, whole), 1e-5)


@BOTH
def test_gradcheck_of_unequal_rows_across_chunks(operator: Operator) -> None:
    tensors = leaves(operator.tensors(2, 18, 2, torch.float64))
    names, lengths = list(tensors), torch.tensor([18, 3])

    def call(*given: Tensor) -> tuple[Tensor, ...]:
        return tuple(operator(dict(zip(names, given, strict=True)), lengths))

    assert torch.autograd.gradcheck(call, tuple(tensors.values()))


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_lose_no_more_than_the_rounding_of_what_is_returned(
    operator: Operator, dtype: torch.dtype
) -> None:
    """As autocast hands them over: what projections make is half, parameters and states are not."""
    tensors = operator.tensors(2, 70, 19, torch.float32)
    tensors = {k: x.to(dtype) if k in TOKEN_WISE else x for k, x in tensors.items()}
    ours, exact = leaves(tensors), leaves(tensors)
    found, expected = operator(ours), operator.right(exact)
    assert [x.dtype for x in found] == [dtype, torch.float32]
    rounding = torch.finfo(dtype).eps / 2
    error = (found[0].double() - expected[0]).abs()
    smallest = 1e-5 * expected[0].abs().max()
    assert bool((error <= 1.01 * rounding * expected[0].abs() + smallest).all())
    assert relative(found[1], expected[1]) < 2e-6
    # The gradient of y is rounded on its way in, the gradients of half inputs on their way out.
    found_gradients, expected_gradients = gradients(found, ours), gradients(expected, exact)
    assert all(found_gradients[name].dtype == x.dtype for name, x in tensors.items())
    assert_near(found_gradients, expected_gradients, 2 * rounding)


def test_softplus_gate_and_decay_are_right_at_every_size() -> None:
    """One value through each function alone, so that small results are not lost in a sum.

    An exponent x is rounded before exp sees it: |x| * 2^-24 of the result, 5e-6 at the ends.
    """
    raw = torch.linspace(-80, 100, 1801)[None, None]
    ones, none = torch.ones_like(raw), torch.zeros(1, 1, 1)
    one = {"A": torch.zeros(raw.shape[-1], 1), "B": none + 1, "C": none + 1}
    softplus, _ = SCAN(one | {"u": ones, "delta": raw})
    assert torch.allclose(softplus.double(), functional.softplus(raw.double()), rtol=1e-5, atol=0)
    skip = one | {"u": ones, "delta": raw, "B": none, "D": ones[0, 0], "z": raw}
    gated, _ = SCAN(skip)
    assert torch.allclose(gated.double(), functional.silu(raw.double()), rtol=1e-5, atol=0)
    rates = -torch.linspace(0, 80, 801)
    held = one | {"u": ones[..., :801] * 0, "delta": ones[..., :801], "A": rates[:, None]}
    _, last = SCAN(held | {"state": torch.ones(1, 801, 1)}, softplus=False)
    assert torch.allclose(last[0, :, 0].double(), rates.double().exp(), rtol=1e-5, atol=0)


def test_convolution_is_right_at_every_size_of_its_sum() -> None:
    x = torch.linspace(-80, 100, 1801)[None, None]
    weight = functional.pad(torch.ones(x.shape[-1], 1), (3, 0))
    y, _ = CONV({"x": x, "weight": weight, "bias": torch.zeros(x.shape[-1])})
    assert torch.allclose(y.double(), functional.silu(x.double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize("case", ["long steps", "softplus", "gates", "fast decay", "overflow"])
def test_extremes_stay_finite_and_right(case: str) -> None:
    tensors = SCAN.tensors(2, 37, 19, torch.float32)
    signs = torch.randn(2, 37, 19).sign()
    del tensors["delta_bias"]  # would make steps negative, and decays growth
    match case:
        case "long steps":
            tensors["delta"] = torch.rand(2, 37, 19) * 100
        case "softplus":
            tensors["delta"] = signs * 50
        case "gates":
            tensors["z"] = signs * 100
        case "fast decay":
            tensors["A"], tensors["delta"] = tensors["A"] * 1e4, tensors["delta"].exp()
        case "overflow":  # delta * A is beyond the range of float32
            tensors["A"], tensors["delta"] = tensors["A"] * 2e37, tensors["delta"].exp() * 100
    softplus = case in ("softplus", "gates")
    ours, exact = leaves(tensors), leaves(tensors)
    found, expected = SCAN(ours, softplus=softplus), SCAN.right(exact, softplus=softplus)
    assert_near(found, expected, 1e-5)
    assert_near(gradients(found, ours), gradients(expected, exact), 1e-5)


# The usual one, one with a payload, and one of all ones: what bytes from a peer may hold.
NANS = torch.tensor([0x7FC00000, 0x7FC00001, 0x7FFFFFFF], dtype=torch.int32).view(torch.float32)


@BOTH
@pytest.mark.parametrize("nan", NANS, ids=["plain", "payload", "ones"])
def test_a_nan_reaches_its_own_row_and_is_not_lost(operator: Operator, nan: Tensor) -> None:
    tensors = operator.tensors(3, 20, 19, torch.float32)
    clean = operator(tensors)
    for name in set(tensors) & set(TOKEN_WISE):
        dirty = tensors[name].clone()
        dirty[1, 3, 2] = nan
        y, last = operator(tensors | {name: dirty})
        assert bool(y[1, 3].isnan().any()), name
        for found, expected in ((y, clean[0]), (last, clean[1])):
            assert torch.equal(found[[0, 2]], expected[[0, 2]]), name
        assert torch.equal(y[1, :3], clean[0][1, :3]), name
    for name in set(tensors) - set(TOKEN_WISE) - {"state"}:
        dirty = tensors[name].clone()
        dirty[2] = nan
        y, _ = operator(tensors | {name: dirty})
        others = torch.arange(19) != 2
        assert bool(y[:, :, 2].isnan().all()), name
        assert torch.equal(y[:, :, others], clean[0][:, :, others]), name


@BOTH
def test_neither_threads_nor_repetition_change_a_bit(
    operator: Operator, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if implementation == PLAIN.name:
        pytest.skip("the sums of torch itself depend on its threads")
    monkeypatch.setattr(library, "ELEMENTS_OF_A_THREAD", 1)
    tensors = operator.tensors(3, 37, 150, torch.float32)

    def run(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        try:
            ours = leaves(tensors)
            outputs = operator(ours, torch.tensor([37, 0, 20]))
            return [*outputs, *gradients(outputs, ours).values()]
        finally:
            torch.set_num_threads(1)

    expected = run(1)
    for threads in (1, 2, 3, 2):
        assert all(map(torch.equal, run(threads), expected))


@BOTH
def test_small_numbers_of_the_process_survive_a_call(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a native task they are zero, for speed; elsewhere they must not become so."""
    monkeypatch.setattr(library, "ELEMENTS_OF_A_THREAD", 1)
    torch.set_num_threads(2)
    try:
        ours = leaves(operator.tensors(3, 20, 150, torch.float32))
        gradients(operator(ours), ours)
        denormal = torch.full((1 << 18,), 1e-40)  # enough that both threads take part
        assert bool(((denormal + denormal) > 0).all())
    finally:
        torch.set_num_threads(1)


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return kernels_for(x).norm(x, weight, 1e-5)


def _norm_right(x: Tensor, weight: Tensor) -> Tensor:
    x, weight = x.double(), weight.double()
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)


@pytest.mark.parametrize("size", [(5, 3), (2, 7, 16), (40, 33), (3, 2, 100)])
def test_norm_and_its_gradients_equal_the_formula(size: tuple[int, ...]) -> None:
    tensors = {"x": torch.randn(size), "weight": torch.randn(size[-1])}
    ours, exact = leaves(tensors), leaves(tensors)
    found, expected = _norm(**ours), _norm_right(**exact)
    assert_near([found], [expected], 1e-6)
    assert_near(gradients([found], ours), gradients([expected], exact), 2e-6)


@pytest.mark.parametrize("width", [1, 5])
def test_norm_of_strided_rows_and_gradcheck(width: int) -> None:
    x = torch.randn(4, 3, 7, dtype=torch.float64)[:, ::2, 1 : 1 + width].transpose(0, 1)
    x = x.requires_grad_()
    weight = torch.randn(2 * width, dtype=torch.float64)[::2].requires_grad_()
    assert relative(_norm(x, weight), _norm_right(x, weight)) < 1e-13
    assert torch.autograd.gradcheck(_norm, (x, weight))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norm_of_half_types_is_like_its_input(dtype: torch.dtype) -> None:
    x, weight = torch.randn(6, 33).to(dtype), torch.randn(33)
    found, expected = _norm(x, weight), _norm_right(x, weight)
    assert found.dtype == dtype
    # One rounding of x / rms, one of the product.
    assert bool(
        ((found - expected).abs() <= 2.02 * torch.finfo(dtype).eps / 2 * expected.abs()).all()
    )


def test_norm_does_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "ELEMENTS_OF_A_THREAD", 1)
    x, weight = torch.randn(37, 33), torch.randn(33)
    results = []
    for threads in (1, 1, 2, 3):
        torch.set_num_threads(threads)
        ours = leaves({"x": x, "weight": weight})
        y = _norm(**ours)
        results.append([y, *gradients([y], ours).values()])
    torch.set_num_threads(1)
    assert all(all(map(torch.equal, result, results[0])) for result in results)
