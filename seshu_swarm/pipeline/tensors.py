"""Tensors of a stage on the wire, in the plan's type: 8 bits, bfloat16 or float32.

What arrives is read with the shape that is expected, and refused unless it is finite. Knows no
messages; packed tensors are what `eight_bit` and `wire` make.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from seshu_swarm import wire
from seshu_swarm.errors import ProtocolError, shown
from seshu_swarm.pipeline import eight_bit

Packed = dict[str, Any]


def pack(tensor: Tensor, wire_type: str) -> Packed:
    """`wire_type`: int8, bfloat16 or float32. Raises ProtocolError where 8 bits cannot hold it."""
    if wire_type == "int8":
        return eight_bit.pack_tensor(tensor)
    return wire.pack_tensor(tensor, wire_type)


def unpack(packed: Any, shape: Sequence[int], wire_type: str) -> Tensor:
    """As float32. Raises ProtocolError for another type or shape, and for NaN and infinity."""
    if wire_type == "int8":
        return eight_bit.unpack_tensor(packed, shape)
    found = packed.get("dtype") if isinstance(packed, dict) else None
    if found != wire_type:
        raise ProtocolError(f"tensor of dtype {shown(found)}", rule=f"the plan says {wire_type}")
    return wire.unpack_tensor(packed, tuple(shape))


def bytes_of(num_numbers: int, wire_type: str) -> int:
    """What a tensor of so many numbers takes."""
    sizes = {"float32": 4 * num_numbers, "bfloat16": 2 * num_numbers}
    return sizes.get(wire_type, num_numbers + 4 * -(-num_numbers // eight_bit.BLOCK_SIZE))
