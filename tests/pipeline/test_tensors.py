"""Tensors in the plan's wire type: numpy reads the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seshu_swarm.errors import ProtocolError
from seshu_swarm.pipeline import eight_bit
from seshu_swarm.pipeline.tensors import Packed, bytes_of, pack, unpack
from seshu_swarm.streams import wire

SHAPE = (2, 3, 64)
# Relative to the greatest number: half a step of 8 bits, and of bfloat16's 8 bits of mantissa.
BOUNDS = {"int8": 1 / 254, "bfloat16": 1 / 256, "float32": 0.0}


def numbers() -> torch.Tensor:
    return torch.randn(*SHAPE, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("wire_type", BOUNDS)
def test_there_and_back_within_the_type_s_error(wire_type: str) -> None:
    given = numbers()
    found = unpack(pack(given, wire_type), SHAPE, wire_type)
    error = np.abs(found.numpy() - given.numpy()).max()
    assert error <= BOUNDS[wire_type] * np.abs(given.numpy()).max() * 1.001


@pytest.mark.parametrize("wire_type", BOUNDS)
def test_bytes_are_those_of_the_packed_tensor(wire_type: str) -> None:
    packed = pack(numbers(), wire_type)
    scales = packed["scales"]["data"] if "scales" in packed else b""
    assert len(packed["data"]) + len(scales) == bytes_of(numbers().numel(), wire_type)


@pytest.mark.parametrize("wire_type", BOUNDS)
def test_another_type_or_shape_is_refused(wire_type: str) -> None:
    other = next(name for name in BOUNDS if name != wire_type)
    with pytest.raises(ProtocolError):
        unpack(pack(numbers(), other), SHAPE, wire_type)
    with pytest.raises(ProtocolError):
        unpack(pack(numbers(), wire_type), (3, 2, 64), wire_type)
    with pytest.raises(ProtocolError):
        unpack(None, SHAPE, wire_type)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -3e38, 2e15])
@pytest.mark.parametrize("wire_type", BOUNDS)
def test_what_is_not_finite_or_would_not_stay_so_is_refused(wire_type: str, number: float) -> None:
    broken = numbers()
    broken[0, 0, 0] = number
    sent = _by_a_stranger(broken, wire_type)
    with pytest.raises(ProtocolError):
        unpack(sent, SHAPE, wire_type)


def _by_a_stranger(tensor: torch.Tensor, wire_type: str) -> Packed:
    if wire_type != "int8":
        return wire.pack_tensor(tensor, wire_type)
    packed = eight_bit.pack_tensor(torch.ones(SHAPE))
    scales = torch.full((tensor.numel() // eight_bit.BLOCK_SIZE,), float(tensor[0, 0, 0].abs()))
    return packed | {"scales": wire.pack_tensor(scales / eight_bit.STEPS)}


@pytest.mark.parametrize("wire_type", BOUNDS)
def test_great_numbers_are_taken(wire_type: str) -> None:
    great = 1e14 * numbers()
    found = unpack(pack(great, wire_type), SHAPE, wire_type)
    torch.testing.assert_close(found, great, rtol=0.0, atol=1e14 / 20)
