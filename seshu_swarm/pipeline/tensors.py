"""Tensors of a stage on the wire, in the plan's type: 8 bits, bfloat16 or float32.

What arrives is read with the shape that is expected, and refused unless it is finite, and small enough
that sums of what is computed from it stay finite too. Knows no messages; packed tensors are what
`eight_bit` and `wire` make.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seshu_swarm.errors import ProtocolError, shown
from seshu_swarm.pipeline import eight_bit
from seshu_swarm.streams import wire

Packed = dict[str, Any]

# Of one stranger's numbers near the end of float32 the next stage, or a sum over the step, makes infinity,
# and the blame falls on who added them up.
GREATEST = 1e15


def pack(tensor: Tensor, wire_type: str) -> Packed:
    """`wire_type`: int8, bfloat16 or float32. Raises ProtocolError where 8 bits cannot hold it."""
    if wire_type == "int8":
        return eight_bit.pack_tensor(tensor)
    return wire.pack_tensor(tensor, wire_type)


def unpack(packed: Any, shape: Sequence[int], wire_type: str) -> Tensor:
    """As float32. Raises ProtocolError for another type or shape, for NaN and beyond GREATEST."""
    if wire_type == "int8":
        return _check(eight_bit.unpack_tensor(packed, shape))
    found = packed.get("dtype") if isinstance(packed, dict) else None
    if found != wire_type:
        raise ProtocolError(f"tensor of dtype {shown(found)}", rule=f"the plan says {wire_type}")
    return _check(wire.unpack_tensor(packed, tuple(shape)))


def _check(tensor: Tensor) -> Tensor:
    least, greatest = torch.aminmax(tensor.detach())
    if not (-GREATEST <= float(least) and float(greatest) <= GREATEST):  # also for NaN
        raise ProtocolError(
            f"a tensor with numbers from {float(least):.3g} to {float(greatest):.3g}",
            rule=f"activations and gradients are finite, and at most {GREATEST:g}",
            way_out="use a smaller learning rate, and check the data for broken rows",
        )
    return tensor


def bytes_of(num_numbers: int, wire_type: str) -> int:
    """What a tensor of so many numbers takes."""
    sizes = {"float32": 4 * num_numbers, "bfloat16": 2 * num_numbers}
    return sizes.get(wire_type, num_numbers + 4 * -(-num_numbers // eight_bit.BLOCK_SIZE))
