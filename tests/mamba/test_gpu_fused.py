"""What completes mamba_ssm and causal_conv1d to our interface, against the float64 loops.

Neither library runs without a CUDA device. In their place stand functions of their signatures that
do what theirs do and no more: no state in, no gradient of the last state.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from seshu_swarm.errors import ResourceError
from seshu_swarm.mamba.kernels.gpu import available, fused, selfcheck
from seshu_swarm.mamba.kernels.gpu.selfcheck import PLAIN
from seshu_swarm.mamba.kernels.inputs import ConvInputs, ScanInputs
from seshu_swarm.mamba.reference import causal_conv1d_loop, selective_scan_loop
from seshu_swarm.mamba.scan import selective_scan

torch.set_num_threads(1)
Tensors = dict[str, Tensor]
TIMED = ("u", "delta", "B", "C", "z")


def without_state(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """As much as mamba_ssm's scan does."""
    assert inputs.state is None
    assert inputs.lengths is None
    y, last = PLAIN.scan(inputs)
    return y, last.detach()


def never(inputs: object) -> tuple[Tensor, Tensor]:
    raise AssertionError("this one must not be asked")


combined = partial(fused.scan, fused=without_state, own=PLAIN.scan)


def scan_tensors(batch: int, length: int, d_inner: int, d_state: int) -> Tensors:
    random = torch.Generator().manual_seed(length)
    rows, states = (batch, length, d_inner), (batch, length, d_state)
    sizes: dict[str, tuple[int, ...]] = {
        "u": rows, "delta": rows, "A": (d_inner, d_state), "B": states, "C": states,
        "D": (d_inner,), "z": rows, "delta_bias": (d_inner,), "state": (batch, d_inner, d_state),
    }  # fmt: skip
    tensors = {name: torch.randn(size, generator=random) for name, size in sizes.items()}
    tensors["delta"] = tensors["delta"] * 2 - 3
    tensors["A"] = -tensors["A"].exp()
    return {name: x.requires_grad_() for name, x in tensors.items()}


def loop(tensors: Tensors) -> list[Tensor]:
    wide = {name: x.double() for name, x in tensors.items()}
    delta = functional.softplus(wide["delta"] + wide["delta_bias"])
    y, last = selective_scan_loop(wide["u"], delta, wide["A"], wide["B"], wide["C"], wide["state"])
    return [(y + wide["u"] * wide["D"]) * functional.silu(wide["z"]), last]


def relative(found: Tensor, expected: Tensor) -> float:
    exact = expected.detach().double()
    difference = torch.linalg.vector_norm(found.detach().double() - exact)
    return float(difference / torch.linalg.vector_norm(exact).clamp_min(1e-12))


def gradients(outputs: list[Tensor], tensors: Tensors) -> Tensors:
    random = torch.Generator().manual_seed(1)
    drawn = [torch.randn(y.shape, generator=random).to(y) for y in outputs]
    loss = torch.stack([(y * w).sum().double() for y, w in zip(outputs, drawn, strict=True)]).sum()
    found = torch.autograd.grad(loss, list(tensors.values()))
    return dict(zip(tensors, found, strict=True))


def agree(found: list[Tensor], expected: list[Tensor], tensors: Tensors) -> None:
    for y, exact in zip(found, expected, strict=True):
        assert relative(y, exact) < 3e-6
    exact_gradients = gradients(expected, tensors)
    for name, gradient in gradients(found, tensors).items():
        assert relative(gradient, exact_gradients[name]) < 1e-5, name


@pytest.mark.parametrize("size", [(2, 2, 3, 1), (2, 37, 5, 3), (1, 150, 6, 16)])
@pytest.mark.parametrize("chunk_tokens", [1, 10, 1000])
def test_a_state_put_on_top_equals_the_loop(
    size: tuple[int, int, int, int], chunk_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, _, d_inner, d_state = size
    monkeypatch.setattr(fused, "CHUNK_ELEMENTS", chunk_tokens * batch * d_inner * d_state)
    tensors = scan_tensors(*size)
    found = list(combined(ScanInputs(**tensors, delta_softplus=True)))
    agree(found, loop(tensors), tensors)


def test_without_options_the_formula_still_holds() -> None:
    tensors = scan_tensors(2, 9, 4, 3)
    bare = {name: tensors[name] for name in ("u", "delta", "A", "B", "C", "state")}
    bare["delta"] = functional.softplus(bare["delta"].detach()).requires_grad_()
    agree(
        list(combined(ScanInputs(**bare, delta_softplus=False))),
        list(selective_scan_loop(*bare.values())),
        bare,
    )


@pytest.mark.parametrize("split", [1, 2, 13, 19])
def test_two_scans_in_turn_equal_one(split: int) -> None:
    tensors = scan_tensors(2, 20, 4, 3)
    head = tensors | {n: tensors[n][:, :split] for n in TIMED}
    y_head, middle = combined(ScanInputs(**head, delta_softplus=True))
    tail = tensors | {n: tensors[n][:, split:] for n in TIMED} | {"state": middle}
    y_tail, last = combined(ScanInputs(**tail, delta_softplus=True))
    agree([torch.cat((y_head, y_tail), 1), last], loop(tensors), tensors)


def test_strong_decay_over_a_long_sequence_stays_finite() -> None:
    """Sums of steps reach 10^4 here: only exponents of at most zero survive that."""
    tensors = scan_tensors(1, 1200, 2, 4)
    tensors["delta"].data.fill_(9.0)
    tensors["A"].data.fill_(-16.0)
    found = list(combined(ScanInputs(**tensors, delta_softplus=True)))
    agree(found, loop(tensors), tensors)


def test_our_own_scan_runs_only_for_the_gradient_of_the_last_state() -> None:
    asked: list[ScanInputs] = []

    def own(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
        asked.append(inputs)
        return PLAIN.scan(inputs)

    tensors = scan_tensors(1, 6, 3, 2)
    y, last = fused.scan(ScanInputs(**tensors, delta_softplus=True), fused=without_state, own=own)
    torch.autograd.grad(y.sum(), tensors["u"], retain_graph=True)
    assert not asked
    torch.autograd.grad(last.sum(), tensors["u"])
    assert len(asked) == 1


def test_what_the_fused_scan_cannot_do_goes_to_our_own() -> None:
    tensors = scan_tensors(2, 6, 3, 2)
    inputs = ScanInputs(**tensors, delta_softplus=True)
    padded = replace(inputs, lengths=torch.tensor([6, 2]))
    one_token = ScanInputs(**tensors | {n: tensors[n][:, :1] for n in TIMED}, delta_softplus=True)
    for case in (padded, one_token):
        y, last = fused.scan(case, fused=never, own=PLAIN.scan)
        assert torch.equal(y, PLAIN.scan(case)[0])
        assert torch.equal(last, PLAIN.scan(case)[1])


def test_mamba_ssm_is_called_in_its_own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our public function has the signature of theirs; parameters must arrive as float32."""

    def selective_scan_fn(*arguments: Tensor | bool | None) -> object:
        u, delta, A, B, C, D, z, delta_bias = (x for x in arguments[:8] if isinstance(x, Tensor))
        assert {x.dtype for x in (u, delta, B, C, z)} == {torch.float16}
        assert {x.dtype for x in (A, D, delta_bias)} == {torch.float32}
        return selective_scan(*(x.float() if isinstance(x, Tensor) else x for x in arguments))  # type: ignore[arg-type]

    name = "mamba_ssm.ops.selective_scan_interface"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(selective_scan_fn=selective_scan_fn))
    tensors = scan_tensors(2, 7, 8, 3)
    tensors["u"] = tensors["u"].detach().half()
    tensors["C"] = tensors["C"].detach().half()
    state = tensors.pop("state")
    y, last = fused.mamba_ssm_scan(ScanInputs(**tensors, delta_softplus=True))
    expected = loop(tensors | {"state": torch.zeros_like(state)})
    assert relative(y, expected[0]) < 2e-3
    assert relative(last, expected[1]) < 2e-3


def conv_tensors(length: int, d_inner: int, d_conv: int) -> Tensors:
    random = torch.Generator().manual_seed(length)
    sizes = {
        "x": (2, length, d_inner),
        "weight": (d_inner, d_conv),
        "bias": (d_inner,),
        "state": (2, d_inner, d_conv - 1),
    }
    drawn = {name: torch.randn(size, generator=random) for name, size in sizes.items()}
    return {name: x.requires_grad_() for name, x in drawn.items()}


def causal_conv1d_fn(
    x_BDL: Tensor,
    weight: Tensor,
    bias: Tensor,
    seq_idx: None = None,
    initial_states: Tensor | None = None,
    *,
    activation: str,
) -> Tensor:
    """As the library does it, with the layouts it insists on."""
    assert activation == "silu"
    assert x_BDL.stride(1) == 1
    assert initial_states is not None
    assert initial_states.stride(1) == 1
    padded_BDT = torch.cat((initial_states, x_BDL), dim=-1)
    convolved = functional.conv1d(padded_BDT, weight[:, None], bias, groups=weight.shape[0])
    return functional.silu(convolved)


@pytest.mark.parametrize("length", [2, 3, 30])
def test_the_fused_convolution_with_both_states_equals_the_loop(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = SimpleNamespace(causal_conv1d_fn=causal_conv1d_fn)
    monkeypatch.setitem(sys.modules, "causal_conv1d", library)
    tensors = conv_tensors(length, 16, 4)
    found = fused.conv(ConvInputs(**tensors), fused=fused.causal_conv1d_silu, own=never)
    agree(list(found), list(causal_conv1d_loop(**loop_names(tensors))), tensors)


def loop_names(tensors: Tensors) -> Tensors:
    names = {"x": "x_BLD", "weight": "weight_DK", "bias": "bias_D", "state": "state_BDP"}
    return {names[name]: x for name, x in tensors.items()}


def refuse(inputs: ConvInputs) -> Tensor:
    raise AssertionError("causal_conv1d does not take these inputs")


@pytest.mark.parametrize(
    "change",
    [
        lambda inputs: replace(inputs, lengths=torch.tensor([4, 9])),
        lambda inputs: replace(inputs, x=inputs.x[:, :1]),
        lambda inputs: replace(inputs, x=inputs.x.double()),
        lambda inputs: replace(inputs, x=inputs.x.transpose(1, 2).contiguous().transpose(1, 2)),
        lambda inputs: ConvInputs(**conv_tensors(9, 12, 4)),
        lambda inputs: ConvInputs(**conv_tensors(9, 16, 5)),
    ],
    ids=["lengths", "one token", "float64", "channels apart", "d_inner 12", "five taps"],
)
def test_what_the_fused_convolution_cannot_do_goes_to_our_own(
    change: Callable[[ConvInputs], ConvInputs],
) -> None:
    inputs = change(ConvInputs(**conv_tensors(9, 16, 4)))
    y, _ = fused.conv(inputs, fused=refuse, own=PLAIN.conv)
    assert torch.equal(y, PLAIN.conv(inputs)[0])


def test_the_check_before_use_holds_in_inference_mode_and_under_autocast() -> None:
    def forgetful(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
        y, last = PLAIN.scan(inputs)
        return y, last.detach()

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        selfcheck.check(PLAIN, torch.device("cpu"))
        with pytest.raises(ResourceError, match="scan: result 2 is off by"):
            selfcheck.check(PLAIN._replace(scan=forgetful), torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what a machine without CUDA says")
def test_without_a_device_each_option_says_why_and_triton_is_not_imported() -> None:
    assert available.kernels() == {}
    assert available.triton_kernels().reason == "torch sees no CUDA device"
    assert available.mamba_ssm_kernels(PLAIN).kernels is None
    code = (
        "import sys, seshu_swarm.mamba.kernels.gpu.available as available\n"
        "available.kernels()\n"
        "sys.exit('triton.language' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_real_libraries_pass_the_check_on_the_device() -> None:
    pytest.importorskip("mamba_ssm")
    pytest.importorskip("causal_conv1d")
    option = available.mamba_ssm_kernels(available.TRITON)
    assert option.kernels is not None, option.reason
    selfcheck.check(option.kernels, torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_our_kernels_are_an_option_on_the_device() -> None:
    pytest.importorskip("triton")
    option = available.triton_kernels()
    assert option.kernels is not None, option.reason
