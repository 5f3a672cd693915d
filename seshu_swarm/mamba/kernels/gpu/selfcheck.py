"""One small problem with every option on, against plain torch on the CPU in float64.

The kernels for GPUs were written without one, and drivers, compilers and libraries differ from
machine to machine: an option that is wrong here is not used here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from seshu_swarm.errors import ResourceError
from seshu_swarm.mamba.kernels.inputs import ConvInputs, ScanInputs
from seshu_swarm.mamba.kernels.plain import conv as plain_conv
from seshu_swarm.mamba.kernels.plain import norm as plain_norm
from seshu_swarm.mamba.kernels.plain import scan as plain_scan

# Relative, by norm: right is 1e-6 in float32, wrong is near one.
TOLERANCE = 1e-3
# Two blocks of channels, the second in part; two chunks of the scan; eights for causal_conv1d.
BATCH, LENGTH, D_INNER, D_STATE, D_CONV = 2, 20, 40, 16, 4

Operator = Callable[..., tuple[Tensor, ...]]


class Triple(NamedTuple):
    """The three operators, as `choose.Kernels` has them."""

    scan: Callable[[ScanInputs], tuple[Tensor, Tensor]]
    conv: Callable[[ConvInputs], tuple[Tensor, Tensor]]
    norm: Callable[[Tensor, Tensor, float], Tensor]


PLAIN = Triple(plain_scan.scan, plain_conv.conv, plain_norm.norm)


def check(kernels: Triple, device: torch.device) -> None:
    """Outputs and every gradient against plain torch. Raises ResourceError."""
    # Whoever needs kernels first may be in inference mode or under autocast.
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        _check(kernels, device)


def _check(kernels: Triple, device: torch.device) -> None:
    random = torch.Generator().manual_seed(20)
    for name, sizes in _SIZES.items():
        inputs = [torch.randn(size, generator=random) for size in sizes]
        found = _run(_call(name, kernels), [x.to(device) for x in inputs])
        expected = _run(_call(name, PLAIN), [x.double() for x in inputs])
        for index, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            difference = float(torch.linalg.vector_norm(ours.cpu() - theirs))
            limit = TOLERANCE * float(torch.linalg.vector_norm(theirs))
            if not difference <= limit:  # also when it is not a number
                raise ResourceError(
                    f"{name}: result {index} is off by {difference:.2g} on {device}",
                    rule=f"at most {limit:.2g} from plain torch",
                    way_out="another option is used",
                )


_SIZES: dict[str, list[tuple[int, ...]]] = {
    # u, delta, A, B, C, D, z, delta_bias, state
    "scan": [
        (BATCH, LENGTH, D_INNER),
        (BATCH, LENGTH, D_INNER),
        (D_INNER, D_STATE),
        (BATCH, LENGTH, D_STATE),
        (BATCH, LENGTH, D_STATE),
        (D_INNER,),
        (BATCH, LENGTH, D_INNER),
        (D_INNER,),
        (BATCH, D_INNER, D_STATE),
    ],
    # x, weight, bias, state
    "conv": [
        (BATCH, LENGTH, D_INNER),
        (D_INNER, D_CONV),
        (D_INNER,),
        (BATCH, D_INNER, D_CONV - 1),
    ],
    # x, weight
    "norm": [(BATCH, LENGTH, D_INNER), (D_INNER,)],
}


def _call(name: str, kernels: Triple) -> Operator:
    def scan(*tensors: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, D, z, bias, state = tensors
        inputs = ScanInputs(
            u=u, delta=delta - 2, A=-A.exp(), B=B, C=C, D=D, z=z, delta_bias=bias, state=state,
            delta_softplus=True,
        )  # fmt: skip
        return kernels.scan(inputs)

    def conv(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        return kernels.conv(ConvInputs(x=x, weight=weight, bias=bias, state=state))

    def norm(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return (kernels.norm(x, weight, 1e-5),)

    calls: dict[str, Operator] = {"scan": scan, "conv": conv, "norm": norm}
    return calls[name]


def _run(call: Operator, inputs: list[Tensor]) -> list[Tensor]:
    """Outputs, then the gradients of the sum of their cubes."""
    with torch.enable_grad():
        leaves = [x.clone().requires_grad_() for x in inputs]
        outputs = call(*leaves)
        loss = torch.stack([y.pow(3).sum() for y in outputs]).sum()
        return [y.detach() for y in outputs] + list(torch.autograd.grad(loss, leaves))
