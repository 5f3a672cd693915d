"""Tensors from a stranger: every claim about them is checked before they are used."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seshu_swarm.errors import ProtocolError
from seshu_swarm.streams import wire

DATA = struct.pack("<4f", 1.0, 2.0, 3.0, 4.0)
GOOD: dict[str, Any] = {"dtype": "float32", "shape": [1, 2, 2], "data": DATA}
EXPECTED = (1, None, 2)


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def test_the_tensor_that_the_attacks_vary_is_accepted() -> None:
    assert wire.unpack_tensor(GOOD, EXPECTED).tolist() == [[[1.0, 2.0], [3.0, 4.0]]]


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float64"},
        {"dtype": "bfloat16"},  # eight bytes too many
        {"dtype": "bfloat16", "data": b"\x80\x7f" * 4},
        {"dtype": "bfloat16", "data": b"\xc0\xff" * 4},
        {"dtype": "bfloat16", "data": b"\0" * 7},
        {"dtype": "object"},
        {"dtype": "|O8"},
        {"dtype": None},
        {"shape": [1, 2]},
        {"shape": [1, 2, 2, 1]},
        {"shape": [2, 1, 2]},
        {"shape": [1, 2, 4]},
        {"shape": [1, 0, 2], "data": b""},
        {"shape": [1, -2, 2]},
        {"shape": [1, 2.0, 2]},
        {"shape": [1, True, 2]},
        {"shape": [1, "2", 2]},
        {"shape": [1, 1 << 62, 2]},
        {"shape": [1, 3, 2]},
        {"shape": (1, 2, 2)},
        {"shape": None},
        {"data": DATA[:-1]},
        {"data": DATA + b"\0"},
        {"data": b""},
        {"data": "text"},
        {"data": [0] * 16},
        {"data": struct.pack("<4f", 1.0, float("nan"), 3.0, 4.0)},
        {"data": struct.pack("<4f", 1.0, float("inf"), 3.0, 4.0)},
        {"data": struct.pack("<4f", 1.0, float("-inf"), 3.0, 4.0)},
        {"requires_grad": True},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_false_claim_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.unpack_tensor({**GOOD, **change}, EXPECTED)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["dtype", "shape", "data"])
def test_nesting_is_refused_and_not_even_shown(name: str) -> None:
    # Deep enough that repr() of it would overflow the interpreter's stack.
    with pytest.raises(ProtocolError, match="tensor of"):
        wire.unpack_tensor({**GOOD, name: nested(5_000)}, EXPECTED)


@pytest.mark.parametrize("packed", [None, 1, "x", [], {}, {"data": DATA}])
def test_what_is_no_tensor_at_all_is_refused(packed: Any) -> None:
    with pytest.raises(ProtocolError, match="a tensor is"):
        wire.unpack_tensor(packed, EXPECTED)


@given(
    dtype=st.sampled_from(["float32", "int8", "float32 "]) | st.none() | st.integers(),
    shape=st.lists(st.integers(-2, 5) | st.none() | st.floats(), max_size=4),
    data=st.binary(max_size=80),
)
def test_whatever_passes_is_finite_and_of_the_expected_shape(
    dtype: Any, shape: list[Any], data: bytes
) -> None:
    try:
        tensor = wire.unpack_tensor({"dtype": dtype, "shape": shape, "data": data}, (1, None, 2))
    except ProtocolError:
        return
    assert tensor.dtype is torch.float32 and torch.isfinite(tensor).all()
    assert tensor.shape[0] == 1 and tensor.shape[2] == 2 and tensor.numel() * 4 == len(data)
