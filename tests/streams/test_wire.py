"""Tensors on the wire against struct, and every claim about them checked."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.errors import ProtocolError
from seshu_swarm.streams import wire


def test_bytes_are_little_endian_float32_in_row_major_order() -> None:
    tensor = torch.tensor([[1.0, -2.5, 3.0], [0.5, 1e-20, 7.0]]).t()
    packed = wire.pack_tensor(tensor)
    assert packed["dtype"] == "float32" and packed["shape"] == [3, 2]
    assert packed["data"] == struct.pack("<6f", 1.0, 0.5, -2.5, 1e-20, 3.0, 7.0)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_round_trip_keeps_every_bit(values: list[float]) -> None:
    tensor = torch.tensor(values).reshape(1, -1, 1)
    read = wire.unpack_tensor(wire.pack_tensor(tensor), (1, None, 1))
    assert torch.equal(read.view(torch.int32), tensor.view(torch.int32))


def test_what_arrives_may_be_written_to_and_belongs_to_nobody_else() -> None:
    packed = wire.pack_tensor(torch.ones(1, 2, 2))
    wire.unpack_tensor(packed, (1, None, 2)).zero_()
    assert torch.equal(wire.unpack_tensor(packed, (1, None, 2)), torch.ones(1, 2, 2))


def test_gradients_and_other_types_go_as_plain_float32() -> None:
    weight = torch.nn.Parameter(torch.ones(1, 1, 2, dtype=torch.float64))
    assert wire.pack_tensor(weight)["data"] == struct.pack("<2f", 1.0, 1.0)


def test_another_shape_than_the_expected_one_is_said() -> None:
    packed = wire.pack_tensor(torch.ones(1, 2, 4))
    with pytest.raises(ProtocolError, match=r"shape \[1, 2, 4\]; expected \[1, None, 3\]"):
        wire.unpack_tensor(packed, (1, None, 3))


def test_bfloat16_is_the_upper_half_of_float32_rounded_to_even() -> None:
    # 1 + 2^-8 lies between two neighbours and goes to the even one, 1; 1 + 3·2^-8 to 1 + 2^-6.
    values = [1.0, -2.5, 1 + 2**-8, 1 + 3 * 2**-8, 3e38]
    packed = wire.pack_tensor(torch.tensor(values)[None, None], "bfloat16")
    assert packed["dtype"] == "bfloat16" and packed["shape"] == [1, 1, 5]
    halves = (0x3F80, 0xC020, 0x3F80, 0x3F82, 0x7F62)
    assert packed["data"] == struct.pack("<5H", *halves)
    read = wire.unpack_tensor(packed, (1, None, 5))
    assert read.dtype is torch.float32
    upper = struct.unpack("<5f", b"".join(struct.pack("<HH", 0, half) for half in halves))
    assert read.flatten().tolist() == list(upper)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1))
def test_bfloat16_takes_half_the_bytes_and_is_close(values: list[float]) -> None:
    tensor = torch.tensor(values).reshape(1, -1, 1)
    packed = wire.pack_tensor(tensor, "bfloat16")
    assert 2 * len(packed["data"]) == len(wire.pack_tensor(tensor)["data"])
    read = wire.unpack_tensor(packed, (1, None, 1))
    # Half a unit in the last of 8 bits; below the smallest normal number, of that.
    assert bool(((read - tensor).abs() <= tensor.abs() * 2**-8 + 2**-133).all())


def test_what_was_rounded_once_is_rounded_no_further() -> None:
    read = wire.unpack_tensor(wire.pack_tensor(torch.randn(1, 9, 4), "bfloat16"), (1, None, 4))
    again = wire.unpack_tensor(wire.pack_tensor(read, "bfloat16"), (1, None, 4))
    assert torch.equal(read, again)
