"""Tensors on the wire against struct, and every claim about them checked."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm import wire
from seshu_swarm.errors import ProtocolError


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
