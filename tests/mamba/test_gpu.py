"""The Triton kernels against the float64 loops.

In Triton's interpreter where there is no CUDA device, compiled where there is one; skipped where
Triton cannot be imported. The interpreter walks through every token of every program in Python, so
sizes are small: odd ones, more than one block of channels, more than one chunk.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from seshu_swarm.mamba.kernels.gpu import available, conv, norm, scan, selfcheck
from seshu_swarm.mamba.kernels.inputs import ConvInputs, ScanInputs
from seshu_swarm.mamba.reference import causal_conv1d_loop, selective_scan_loop

torch.set_num_threads(1)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def import_triton() -> None:
    """As interpreter where there is no device: Triton reads the setting when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE == "cpu":
            patch.setenv("TRITON_INTERPRET", "1")
        pytest.importorskip("triton", reason="no Triton: only torch's CUDA wheel brings it")
        language = importlib.import_module("triton.language")
    if DEVICE == "cpu" and type(language.sum).__name__ != "InterpretedFunction":
        reason = "Triton was imported before as a compiler: run this file with TRITON_INTERPRET=1"
        pytest.skip(reason, allow_module_level=True)


import_triton()
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "state")
WITHOUT_OPTIONS = frozenset({"D", "z", "delta_bias", "state"})
Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True, scope="module")
def interpreter() -> Iterator[None]:
    """Our own kernels read the setting at the first launch, which imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
        if DEVICE == "cpu":
            patch.setenv("TRITON_INTERPRET", "1")
        yield


def scan_tensors(batch: int, length: int, d_inner: int, d_state: int) -> Tensors:
    """Inputs of the scan with time steps from 1e-3 to 1, as in a trained model."""
    random = torch.Generator().manual_seed(1000 * length + d_inner)
    rows, states = (batch, length, d_inner), (batch, length, d_state)
    sizes: list[tuple[int, ...]] = [
        rows, rows, (d_inner, d_state), states, states, (d_inner,), rows, (d_inner,),
        (batch, d_inner, d_state),
    ]  # fmt: skip
    drawn = [torch.randn(size, generator=random) for size in sizes]
    tensors = dict(zip(NAMES, drawn, strict=True))
    tensors["delta"] = tensors["delta"] * 2 - 3
    tensors["A"] = -torch.rand(d_inner, d_state, generator=random) * 4 - 0.05
    return {name: x.to(DEVICE).requires_grad_() for name, x in tensors.items()}


def ours(tensors: Tensors, lengths: Tensor | None = None) -> list[Tensor]:
    softplus = "delta_bias" in tensors
    return list(scan.scan(ScanInputs(**tensors, delta_softplus=softplus, lengths=lengths)))


def loop(tensors: Tensors) -> list[Tensor]:
    """The same by the float64 loop and the formulas of bias, softplus, skip and gate."""
    wide = {name: x.double() for name, x in tensors.items()}
    u, delta = wide["u"], wide["delta"]
    if "delta_bias" in wide:
        delta = functional.softplus(delta + wide["delta_bias"])
    state = wide.get("state", u.new_zeros(u.shape[0], *wide["A"].shape))
    y, last = selective_scan_loop(u, delta, wide["A"], wide["B"], wide["C"], state)
    y = y + u * wide["D"] if "D" in wide else y
    return [y * functional.silu(wide["z"]) if "z" in wide else y, last]


def relative(found: Tensor, expected: Tensor) -> float:
    exact = expected.detach().double()
    difference = torch.linalg.vector_norm(found.detach().double() - exact)
    return float(difference / torch.linalg.vector_norm(exact).clamp_min(1e-12))


def gradients(outputs: list[Tensor], tensors: Tensors) -> Tensors:
    """Gradients of a fixed random projection of all outputs."""
    random = torch.Generator().manual_seed(1)
    drawn = [torch.randn(y.shape, generator=random).to(y) for y in outputs]
    loss = torch.stack([(y * w).sum().double() for y, w in zip(outputs, drawn, strict=True)]).sum()
    found = torch.autograd.grad(loss, list(tensors.values()))
    return dict(zip(tensors, found, strict=True))


def agree(found: list[Tensor], expected: list[Tensor], tensors: Tensors) -> None:
    """Outputs and every gradient, to float32."""
    for y, exact in zip(found, expected, strict=True):
        assert relative(y, exact) < 2e-6
    exact_gradients = gradients(expected, tensors)
    for name, gradient in gradients(found, tensors).items():
        assert relative(gradient, exact_gradients[name]) < 5e-6, name


@pytest.mark.parametrize(
    "size", [(1, 1, 5, 1), (2, 18, 33, 3), (1, scan.CHUNK_TOKENS, 32, 16), (1, 9, 10, 70)]
)
def test_outputs_and_every_gradient_equal_the_loop(size: tuple[int, int, int, int]) -> None:
    """The last size has so many states that a program takes fewer channels."""
    tensors = scan_tensors(*size)
    agree(ours(tensors), loop(tensors), tensors)


def test_the_bare_recurrence_equals_the_loop() -> None:
    tensors = {n: x for n, x in scan_tensors(1, 17, 6, 4).items() if n not in WITHOUT_OPTIONS}
    tensors["delta"] = functional.softplus(tensors["delta"].detach()).requires_grad_()
    agree(ours(tensors), loop(tensors), tensors)


def test_strided_rows_and_a_loss_of_the_last_state_alone() -> None:
    """The gate and the inputs of a mixer are slices of wider rows."""
    tensors = scan_tensors(2, 4, 6, 3)
    wide = torch.zeros(2, 4, 20, device=DEVICE)
    for name, start in (("z", 0), ("u", 6), ("B", 12), ("C", 16)):
        width = tensors[name].shape[-1]
        wide[..., start : start + width] = tensors[name].detach()
        tensors[name] = wide[..., start : start + width].detach().requires_grad_()
    agree(ours(tensors), loop(tensors), tensors)
    reached = {n: x for n, x in tensors.items() if n not in {"C", "D", "z"}}
    expected = gradients(loop(tensors)[1:], reached)
    for name, gradient in gradients(ours(tensors)[1:], reached).items():
        assert relative(gradient, expected[name]) < 5e-6, name


@pytest.mark.parametrize("split", [1, 7, 16, 19])
def test_two_scans_in_turn_equal_one(split: int) -> None:
    tensors = scan_tensors(1, 20, 5, 3)
    timed = {"u", "delta", "B", "C", "z"}
    head = {n: x[:, :split] if n in timed else x for n, x in tensors.items()}
    y_head, middle = ours(head)
    tail = {n: x[:, split:] if n in timed else x for n, x in tensors.items()} | {"state": middle}
    y_tail, last = ours(tail)
    # The gradient runs back through the state between the two.
    agree([torch.cat((y_head, y_tail), 1), last], loop(tensors), tensors)


def test_padding_reaches_neither_state_nor_gradient() -> None:
    tensors = scan_tensors(3, 18, 5, 3)
    lengths = [17, 0, 4]
    for name in ("u", "delta", "B", "C", "z"):
        for row, length in enumerate(lengths):
            tensors[name].data[row, length:] = float("nan")
    found = ours(tensors, torch.tensor(lengths, device=DEVICE))
    rows = []
    for row, length in enumerate(lengths):
        one = {n: x[row : row + 1] if x.dim() == 3 else x for n, x in tensors.items()}
        one |= {n: one[n][:, :length] for n in ("u", "delta", "B", "C", "z")}
        y, last = loop(one) if length else [one["u"].double(), one["state"].double()]
        rows.append((functional.pad(y, (0, 0, 0, 18 - length)), last))
    agree(found, [torch.cat(parts) for parts in zip(*rows, strict=True)], tensors)


def test_strong_decay_and_long_steps_stay_finite() -> None:
    tensors = scan_tensors(1, 6, 4, 16)
    tensors["A"].data.fill_(-16.0)
    tensors["delta"].data[:, ::2], tensors["delta"].data[:, 1::2] = 90.0, -90.0
    tensors["z"].data[:, :3], tensors["z"].data[:, 3:] = 90.0, -90.0
    found, expected = ours(tensors), loop(tensors)
    found_gradients, exact = gradients(found, tensors), gradients(expected, tensors)
    for y, name in [*zip(found, ("y", "last"), strict=True)]:
        assert bool(torch.isfinite(y).all()), name
    for name, gradient in found_gradients.items():
        assert bool(torch.isfinite(gradient).all()), name
        assert relative(gradient, exact[name]) < 5e-6, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_lose_only_what_their_type_loses(dtype: torch.dtype) -> None:
    """Parameters stay float32, as in mixed training: their gradients lose almost nothing."""
    tensors = scan_tensors(1, 18, 5, 3)
    for name in ("u", "delta", "B", "C", "z"):
        tensors[name] = tensors[name].detach().to(dtype).requires_grad_()
    found, expected = ours(tensors), loop(tensors)
    assert found[0].dtype == dtype
    assert found[1].dtype == torch.float32
    epsilon = torch.finfo(dtype).eps
    assert relative(found[0], expected[0]) < epsilon
    assert relative(found[1], expected[1]) < 2e-6
    # The same gradient of y on both sides: the one that fits the narrow type.
    random = torch.Generator().manual_seed(2)
    dy = torch.randn(found[0].shape, generator=random).to(found[0])
    inputs = list(tensors.values())
    narrow = torch.autograd.grad(found[0], inputs, dy)
    exact = torch.autograd.grad(expected[0], inputs, dy.double())
    for name, ours_now, theirs in zip(tensors, narrow, exact, strict=True):
        assert ours_now.dtype == tensors[name].dtype
        assert relative(ours_now, theirs) < (epsilon if ours_now.dtype == dtype else 5e-6), name


def test_only_boundaries_are_kept_and_none_without_a_gradient() -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    tensors = scan_tensors(1, 2 * scan.CHUNK_TOKENS + 1, 4, 16)
    inputs = sum(x.numel() for name, x in tensors.items() if name != "state")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ours(tensors)
    assert sum(kept) == inputs + 3 * 4 * 16
    kept.clear()
    with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ours(tensors)
    assert not kept


def test_the_same_inputs_give_the_same_bits() -> None:
    tensors = scan_tensors(2, 5, 40, 3)
    first, second = (gradients(ours(tensors), tensors) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in tensors)


def conv_tensors(batch: int, length: int, d_inner: int, d_conv: int) -> Tensors:
    random = torch.Generator().manual_seed(length)
    sizes = {
        "x": (batch, length, d_inner),
        "weight": (d_inner, d_conv),
        "bias": (d_inner,),
        "state": (batch, d_inner, d_conv - 1),
    }
    drawn = {name: torch.randn(size, generator=random) for name, size in sizes.items()}
    return {name: x.to(DEVICE).requires_grad_() for name, x in drawn.items()}


@pytest.mark.parametrize("size", [(1, 1, 5, 4), (2, 2, 5, 4), (2, 70, 65, 4), (1, 33, 8, 2)])
def test_convolution_and_its_gradients_equal_the_loop(size: tuple[int, int, int, int]) -> None:
    tensors = conv_tensors(*size)
    found = list(conv.conv(ConvInputs(**tensors)))
    agree(found, list(causal_conv1d_loop(*tensors.values())), tensors)


@pytest.mark.parametrize("split", [1, 2, 3, 30, 39])
def test_two_convolutions_in_turn_equal_one(split: int) -> None:
    tensors = conv_tensors(2, 40, 5, 4)
    x = tensors["x"]
    head, middle = conv.conv(ConvInputs(**tensors | {"x": x[:, :split]}))
    tail, end = conv.conv(ConvInputs(**tensors | {"x": x[:, split:], "state": middle}))
    expected = list(causal_conv1d_loop(*tensors.values()))
    agree([torch.cat((head, tail), 1), end], expected, tensors)


def test_convolution_without_a_state_starts_from_zeros() -> None:
    tensors = conv_tensors(2, 5, 3, 4)
    zeros = torch.zeros_like(tensors.pop("state"))
    x, weight, bias = tensors.values()
    expected = list(causal_conv1d_loop(x, weight, bias, zeros))
    agree(list(conv.conv(ConvInputs(**tensors))), expected, tensors)


def test_padding_of_a_convolution_reaches_neither_state_nor_gradient() -> None:
    tensors, lengths = conv_tensors(4, 40, 5, 4), [40, 0, 2, 35]
    for row, length in enumerate(lengths):
        tensors["x"].data[row, length:] = float("nan")
    found = conv.conv(ConvInputs(**tensors, lengths=torch.tensor(lengths, device=DEVICE)))
    x, weight, bias, state = tensors.values()
    rows = []
    for row, length in enumerate(lengths):
        y, last = x[row : row + 1, :0].double(), state[row : row + 1].double()
        if length:
            one = slice(row, row + 1)
            y, last = causal_conv1d_loop(x[one, :length], weight, bias, state[one])
        rows.append((functional.pad(y, (0, 0, 0, 40 - length)), last))
    agree(list(found), [torch.cat(parts) for parts in zip(*rows, strict=True)], tensors)


def test_half_convolution_sums_in_float32() -> None:
    tensors = conv_tensors(2, 9, 5, 4)
    tensors["x"] = tensors["x"].detach().half().requires_grad_()
    y, last = conv.conv(ConvInputs(**tensors))
    expected = causal_conv1d_loop(*tensors.values())
    assert y.dtype == last.dtype == torch.float16
    assert relative(y, expected[0]) < torch.finfo(torch.float16).eps
    dy = torch.ones_like(y)
    found = torch.autograd.grad(y, tensors["weight"], dy)
    exact = torch.autograd.grad(expected[0], tensors["weight"], dy.double())
    assert relative(found[0], exact[0]) < 5e-6


@pytest.mark.parametrize("size", [(1, 7), (2, 3, 65), (norm.MAX_PROGRAMS + 3, 4)])
def test_norm_and_its_gradients_equal_the_formula(size: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(3)
    drawn = {"x": torch.randn(size, generator=random), "weight": torch.randn(size[-1:])}
    tensors = {name: x.to(DEVICE).requires_grad_() for name, x in drawn.items()}
    x, weight = (tensor.double() for tensor in tensors.values())
    exact = weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-5)
    agree([norm.norm(tensors["x"], tensors["weight"], 1e-5)], [exact], tensors)


def test_norm_of_half_inputs_has_the_type_of_a_product() -> None:
    x = torch.randn(3, 6, device=DEVICE).half()
    weight = torch.randn(6, device=DEVICE)
    y = norm.norm(x, weight, 1e-5)
    exact = weight.double() * functional.rms_norm(x.double(), (6,), eps=1e-5)
    assert y.dtype == torch.float32
    assert relative(y, exact) < torch.finfo(torch.float16).eps


def test_our_kernels_pass_the_check_before_use() -> None:
    selfcheck.check(available.TRITON, torch.device(DEVICE))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_real_size_on_the_device_equals_plain_torch(dtype: torch.dtype) -> None:
    """What the interpreter cannot show: compiled code, many programs at once, long sequences."""
    tensors = scan_tensors(4, 1000, 520, 16)
    narrow = {n: x.detach().to(dtype) for n, x in tensors.items() if x.dim() == 3 and n != "state"}
    tensors |= {name: x.requires_grad_() for name, x in narrow.items()}
    wide = {name: x.detach().double().requires_grad_() for name, x in tensors.items()}
    found = ours(tensors)
    expected = list(selfcheck.PLAIN.scan(ScanInputs(**wide, delta_softplus=True)))
    bound = 1e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    for y, exact in zip(found, expected, strict=True):
        assert relative(y, exact) < bound
    exact_gradients = gradients(expected, wide)
    for name, gradient in gradients(found, tensors).items():
        assert relative(gradient, exact_gradients[name]) < 2 * bound, name
