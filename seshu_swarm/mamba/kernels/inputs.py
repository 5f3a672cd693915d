"""What every implementation of the operators is given, checked once. Knows no implementation.

Shapes: B batch, L length, D d_inner, N d_state, K d_conv, P = K - 1 past inputs. Time comes before
channels; a row may be strided, its channels are next to one another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seshu_swarm.errors import UsageError

# Of the native kernels' arrays (kernels.c).
MAX_STATES, MAX_TAPS = 256, 16


@dataclass(frozen=True, eq=False, kw_only=True)
class ScanInputs:
    """Of the selective scan. Raises UsageError where names, sizes, types or devices disagree.

    u, delta, z (B, L, D); A (D, N); B, C (B, L, N); D, delta_bias (D,); state (B, D, N), the one
    before the first token, none for zeros. Of row b only the first lengths[b] tokens count, none
    for all of them: what follows reaches no state and no gradient, and its y is zero.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None = None
    z: Tensor | None = None
    delta_bias: Tensor | None = None
    delta_softplus: bool = False
    state: Tensor | None = None
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        if self.u.dim() != 3 or self.A.dim() != 2:
            raise UsageError(
                f"u {_size(self.u)} and A {_size(self.A)}",
                rule="u is (batch, length, d_inner), A is (d_inner, d_state)",
            )
        (batch, length, d_inner), d_state = self.u.shape, self.A.shape[1]
        if d_state > MAX_STATES:
            raise UsageError(f"d_state {d_state}", rule=f"at most {MAX_STATES}")
        expected = {
            "delta": (batch, length, d_inner),
            "A": (d_inner, d_state),
            "B": (batch, length, d_state),
            "C": (batch, length, d_state),
            "D": (d_inner,),
            "z": (batch, length, d_inner),
            "delta_bias": (d_inner,),
            "state": (batch, d_inner, d_state),
        }
        _check("u", self.u, {name: getattr(self, name) for name in expected}, expected)
        _check_lengths(self.lengths, self.u)


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvInputs:
    """Of the causal convolution. Raises UsageError as above.

    x (B, L, D); weight (D, K); bias (D,); state (B, D, P), the last inputs, oldest first, none for
    zeros; lengths as above.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor
    state: Tensor | None = None
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x.dim() != 3 or self.weight.dim() != 2:
            raise UsageError(
                f"x {_size(self.x)} and weight {_size(self.weight)}",
                rule="x is (batch, length, d_inner), weight is (d_inner, d_conv)",
            )
        (batch, _, d_inner), d_conv = self.x.shape, self.weight.shape[1]
        if d_conv > MAX_TAPS:
            raise UsageError(f"d_conv {d_conv}", rule=f"at most {MAX_TAPS}")
        expected = {
            "weight": (d_inner, d_conv),
            "bias": (d_inner,),
            "state": (batch, d_inner, d_conv - 1),
        }
        _check("x", self.x, {name: getattr(self, name) for name in expected}, expected)
        _check_lengths(self.lengths, self.x)


def _size(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _check(
    first_name: str,
    first: Tensor,
    others: dict[str, Tensor | None],
    expected: dict[str, tuple[int, ...]],
) -> None:
    """Sizes as expected, floating types, one device."""
    if not first.is_floating_point():
        raise UsageError(f"{first_name} of {first.dtype}", rule="a floating type")
    for name, tensor in others.items():
        if tensor is None:
            continue
        if tensor.shape != expected[name]:
            raise UsageError(
                f"{name} {_size(tensor)}",
                rule=f"{expected[name]} with {first_name} {_size(first)}",
            )
        if tensor.device != first.device:
            raise UsageError(
                f"{name} on {tensor.device}", rule=f"{first.device}, where {first_name} is"
            )
        if not tensor.is_floating_point():
            raise UsageError(
                f"{name} of {tensor.dtype}", rule=f"floating, as {first_name} of {first.dtype}"
            )


def _check_lengths(lengths: Tensor | None, first: Tensor) -> None:
    if lengths is None:
        return
    if not isinstance(lengths, Tensor):
        raise UsageError(f"lengths of {type(lengths).__name__}", rule="a tensor of int64")
    if lengths.shape != first.shape[:1] or lengths.dtype != torch.int64:
        raise UsageError(
            f"lengths {_size(lengths)} of {lengths.dtype}",
            rule=f"({first.shape[0]},) of int64, one for each row",
        )
    if lengths.device != first.device:
        raise UsageError(f"lengths on {lengths.device}", rule=f"{first.device}, where the rows are")
    # Only where reading them does not wait for a device.
    if lengths.device.type == "cpu":
        _check_range(lengths.tolist(), first.shape[1])


def _check_range(lengths: list[int], most: int) -> None:
    for row, length in enumerate(lengths):
        if not 0 <= length <= most:
            raise UsageError(f"length {length} of row {row}", rule=f"0 to {most} tokens")


def token_mask(lengths: Tensor, length: int) -> Tensor:
    """(B, L, 1), true for the tokens that count."""
    return (torch.arange(length, device=lengths.device) < lengths[:, None])[..., None]
