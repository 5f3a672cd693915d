"""The selective scan: one recurrence per channel and state, continued from any state.

    state[t] = exp(delta[t] A) * state[t - 1] + delta[t] B[t] u[t]
    y[t]     = C[t] . state[t] + D u[t], then times silu(z[t])

The public functions; what computes them is chosen by device (`kernels`). Differentiable in every
tensor, states in and out included. Two calls, the second from the first's last state, equal one
over the whole.

Shapes: B batch, L length, D d_inner, N d_state.
"""

from __future__ import annotations

from torch import Tensor

from seshu_swarm.mamba.kernels.choose import kernels_for
from seshu_swarm.mamba.kernels.inputs import ScanInputs


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial_state: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`selective_scan_fn` of mamba_ssm, with a state in and rows of unequal lengths.

    u, delta, z (batch, d_inner, length); A (d_inner, d_state); B, C (batch, d_state, length);
    D, delta_bias (d_inner,); states (batch, d_inner, d_state); lengths int64 (batch,): tokens from
    lengths[b] on are padding, which reaches neither state nor gradient. Returns y like u, and the
    last state where asked for. Raises UsageError for sizes, types or devices that do not fit.
    """
    y_BLD, state = scan_time_major(
        ScanInputs(
            u=u.transpose(1, 2),
            delta=delta.transpose(1, 2),
            A=A,
            B=B.transpose(1, 2),
            C=C.transpose(1, 2),
            D=D,
            z=None if z is None else z.transpose(1, 2),
            delta_bias=delta_bias,
            delta_softplus=delta_softplus,
            state=initial_state,
            lengths=lengths,
        )
    )
    y = y_BLD.transpose(1, 2)
    return (y, state) if return_last_state else y


def scan_time_major(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """The same with time before channels, as the mixer has them: no transposes.

    Returns y (batch, length, d_inner) and the last state (batch, d_inner, d_state).
    """
    return kernels_for(inputs.u).scan(inputs)


def selective_state_step(
    u_BD: Tensor,
    delta_BD: Tensor,
    A_DN: Tensor,
    B_BN: Tensor,
    C_BN: Tensor,
    state_BDN: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """One token: y (batch, d_inner) and the next state. The state given is not modified."""
    y_BLD, next_BDN = scan_time_major(
        ScanInputs(
            u=u_BD[:, None],
            delta=delta_BD[:, None],
            A=A_DN,
            B=B_BN[:, None],
            C=C_BN[:, None],
            D=D,
            z=None if z is None else z[:, None],
            delta_softplus=delta_softplus,
            state=state_BDN,
        )
    )
    return y_BLD[:, 0], next_BDN
