"""The scan of mamba_ssm and the convolution of causal_conv1d, completed to our interface.

Never run on a GPU so far: the completion is proven with plain torch in the place of the two libraries.
Of their functions it is known (mamba_ssm 2, causal_conv1d 1.5) that the scan takes no state in, no
lengths, and gives its last state no gradient, and that the convolution wants channels and rows in
multiples of eight, two to four taps, and more than one token to see that channels come last.

The scan is linear in its state, so that what a state in adds is put on top:

    y[t] += C[t] . exp(A (delta[1] + … + delta[t])) state,    times silu(z[t])

Exponents are sums of steps times negative A: at most zero, whatever the length.

Shapes: B batch, L length, T tokens of one chunk, D d_inner, N d_state, P past inputs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from seshu_swarm.mamba.kernels.gpu.conv import last_inputs
from seshu_swarm.mamba.kernels.inputs import ConvInputs, ScanInputs

Scan = Callable[[ScanInputs], tuple[Tensor, Tensor]]
Conv = Callable[[ConvInputs], tuple[Tensor, Tensor]]
# Of one chunk's decays (B, T, D, N): 64 MiB of float32.
CHUNK_ELEMENTS = 1 << 24


def mamba_ssm_scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """`selective_scan_fn` in our layout. Takes neither state nor lengths."""
    module = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    u_BLD, z_BLD = inputs.u, inputs.z
    y_BDL, last_BDN = module.selective_scan_fn(
        u_BLD.transpose(1, 2),
        inputs.delta.to(u_BLD.dtype).transpose(1, 2),
        inputs.A.float().contiguous(),
        inputs.B.to(u_BLD.dtype).transpose(1, 2),
        inputs.C.to(u_BLD.dtype).transpose(1, 2),
        None if inputs.D is None else inputs.D.float(),
        None if z_BLD is None else z_BLD.to(u_BLD.dtype).transpose(1, 2),
        None if inputs.delta_bias is None else inputs.delta_bias.float(),
        inputs.delta_softplus,
        True,
    )
    return y_BDL.transpose(1, 2), last_BDN


def causal_conv1d_silu(inputs: ConvInputs) -> Tensor:
    """`causal_conv1d_fn` in our layout: y (B, L, D)."""
    module = importlib.import_module("causal_conv1d")
    state = inputs.state
    if state is not None:
        state = state.to(inputs.x.dtype).transpose(1, 2).contiguous().transpose(1, 2)
    y_BDL: Tensor = module.causal_conv1d_fn(
        inputs.x.transpose(1, 2),
        inputs.weight.contiguous(),
        inputs.bias.to(inputs.weight.dtype).contiguous(),
        initial_states=state,
        activation="silu",
    )
    return y_BDL.transpose(1, 2)


def scan(inputs: ScanInputs, *, fused: Scan, own: Scan) -> tuple[Tensor, Tensor]:
    """The fused scan with a state in and a last state that carries gradient.

    `own` does everything: it takes what the fused scan cannot, and finds the gradient of the last
    state where a loss uses it. y in the type of u, the last state float32.
    """
    length, dtype = inputs.u.shape[1], inputs.u.dtype
    if inputs.lengths is not None or length <= 1 or dtype == torch.float64:
        return own(inputs)
    y_BLD, last_BDN = fused(_changed(inputs, state=None))
    last_BDN = last_BDN.detach()
    if inputs.state is not None:
        elapsed_BLD = _steps(inputs).cumsum(1)
        y_BLD = (y_BLD + _from_state(inputs, elapsed_BLD)).to(inputs.u.dtype)
        with torch.no_grad():
            decay_BDN = torch.exp(elapsed_BLD[:, -1, :, None] * inputs.A)
            last_BDN = last_BDN + decay_BDN * inputs.state
    return y_BLD, _with_gradient(last_BDN, inputs, own)


def conv(
    inputs: ConvInputs, *, fused: Callable[[ConvInputs], Tensor], own: Conv
) -> tuple[Tensor, Tensor]:
    """The fused convolution where it takes the inputs, with our own last state."""
    x_BLD, d_conv = inputs.x, inputs.weight.shape[1]
    in_eights = all(number % 8 == 0 for number in (x_BLD.shape[2], *x_BLD.stride()[:2]))
    fits = in_eights and x_BLD.stride(2) == 1 and 2 <= d_conv <= 4 and x_BLD.shape[1] > 1
    if inputs.lengths is not None or not fits or x_BLD.dtype == torch.float64:
        return own(inputs)
    return fused(inputs), last_inputs(inputs)


def _changed(inputs: ScanInputs, **changes: Tensor | None) -> ScanInputs:
    fields: dict[str, Any] = {**vars(inputs), **changes}
    return ScanInputs(**fields)


def _steps(inputs: ScanInputs) -> Tensor:
    """delta (B, L, D) with its bias and softplus, at least float32."""
    step_BLD = inputs.delta.to(torch.promote_types(inputs.delta.dtype, torch.float32))
    if inputs.delta_bias is not None:
        step_BLD = step_BLD + inputs.delta_bias
    return functional.softplus(step_BLD) if inputs.delta_softplus else step_BLD


def _from_state(inputs: ScanInputs, elapsed_BLD: Tensor) -> Tensor:
    """What the state in adds to y (B, L, D); decays of one chunk at a time, also in backward."""
    assert inputs.state is not None
    batch, length, d_inner = elapsed_BLD.shape
    tokens = max(1, CHUNK_ELEMENTS // (batch * d_inner * inputs.A.shape[1]))
    parts = [slice(start, start + tokens) for start in range(0, length, tokens)]
    wide = elapsed_BLD.dtype
    A_DN, state_BDN = inputs.A.to(wide), inputs.state.to(wide)
    added = [
        checkpoint(
            _read_decayed,
            elapsed_BLD[:, part],
            inputs.C[:, part].to(wide),
            A_DN,
            state_BDN,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for part in parts
    ]
    added_BLD = torch.cat(added, dim=1)
    return added_BLD if inputs.z is None else added_BLD * functional.silu(inputs.z.to(wide))


def _read_decayed(elapsed_BTD: Tensor, C_BTN: Tensor, A_DN: Tensor, state_BDN: Tensor) -> Tensor:
    decayed_BTDN = torch.exp(elapsed_BTD[..., None] * A_DN) * state_BDN[:, None]
    return torch.matmul(decayed_BTDN, C_BTN[..., None]).squeeze(-1)


def _with_gradient(last_BDN: Tensor, inputs: ScanInputs, own: Scan) -> Tensor:
    """The last state's value, and its gradient by our own scan, run only if a loss asks for it."""
    tensors = (inputs.u, inputs.delta, inputs.A, inputs.B, inputs.delta_bias, inputs.state)
    last: Tensor = _LastState.apply(own, inputs.delta_softplus, last_BDN, *tensors)
    return last


class _LastState(torch.autograd.Function):
    """(own, softplus, value, u, delta, A, B, bias, state) → value."""

    @staticmethod
    def forward(
        ctx: Any, own: Scan, softplus: bool, value: Tensor, *tensors: Tensor | None
    ) -> Tensor:
        ctx.own, ctx.softplus = own, softplus
        ctx.save_for_backward(*tensors)
        # A copy: the fused scan's last state is a view of all its boundaries.
        return value.clone(memory_format=torch.contiguous_format)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dlast: Tensor) -> tuple[Tensor | None, ...]:
        saved: tuple[Tensor | None, ...] = ctx.saved_tensors
        leaves = [None if x is None else x.detach().requires_grad_() for x in saved]
        u, delta, A, B, bias, state = leaves
        assert u is not None and delta is not None and A is not None and B is not None
        with torch.enable_grad():
            # y is not used, so any C does.
            _, last = ctx.own(
                ScanInputs(
                    u=u,
                    delta=delta,
                    A=A,
                    B=B,
                    C=B.detach(),
                    delta_bias=bias,
                    delta_softplus=ctx.softplus,
                    state=state,
                )
            )
        asked = [leaf for leaf in leaves if leaf is not None]
        found = iter(torch.autograd.grad(last, asked, dlast.to(last.dtype)))
        return None, None, None, *(None if leaf is None else next(found) for leaf in leaves)
