"""Tensors to bytes and back, with every claim about them checked.

A tensor on the wire is `{"dtype", "shape", "data"}`; little endian, contiguous. What arrives is
refused unless dtype, shape and length agree with what the receiver expects, and it is finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from seshu_swarm.errors import ProtocolError, shown

# bfloat16 travels as its 16 bits: half the bytes, a relative error of 2^-9.
DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "bfloat16": np.dtype("<i2")}
_NOT_FINITE, _FINITE = "tensor holds NaN or infinity", "activations are finite"


def pack_tensor(tensor: torch.Tensor, dtype: str = "float32") -> dict[str, Any]:
    """In one of DTYPES, whatever type the tensor has."""
    tensor = tensor.detach().to(getattr(torch, dtype)).contiguous()
    array = tensor.view(torch.int16).numpy() if dtype == "bfloat16" else tensor.numpy()
    return {"dtype": dtype, "shape": list(array.shape), "data": array.tobytes()}


def unpack_tensor(packed: Any, shape: Sequence[int | None]) -> torch.Tensor:
    """Read a tensor of the expected `shape` (None: any length there) as float32. Raises ProtocolError."""
    tensor = _read(packed, shape)
    if not _is_finite(tensor):
        raise ProtocolError(_NOT_FINITE, rule=_FINITE)
    return tensor


def unpack_rows(packed: Any, shape: Sequence[int | None]) -> list[torch.Tensor | ProtocolError]:
    """The same for a tensor whose rows are of different sessions: (1, …) of each, or what is wrong
    with it alone. Raises ProtocolError where the whole cannot be read."""
    tensor = _read(packed, shape)
    # Copies: one row that is kept must not keep all others.
    rows = [row.clone() for row in tensor.split(1)]
    if _is_finite(tensor):
        return list(rows)
    return [row if _is_finite(row) else ProtocolError(_NOT_FINITE, rule=_FINITE) for row in rows]


def _is_finite(tensor: torch.Tensor) -> bool:
    # numpy: for one token it takes a quarter of what torch takes.
    return bool(np.isfinite(tensor.numpy()).all())


def _read(packed: Any, shape: Sequence[int | None]) -> torch.Tensor:
    if not isinstance(packed, Mapping) or set(packed) != {"dtype", "shape", "data"}:
        raise ProtocolError("a tensor is {dtype, shape, data}")
    found, data = packed["shape"], packed["data"]
    dtype = DTYPES.get(packed["dtype"]) if isinstance(packed["dtype"], str) else None
    if dtype is None or not isinstance(data, bytes) or not isinstance(found, list):
        raise ProtocolError(
            f"tensor of dtype {shown(packed['dtype'])}", rule=f"one of {sorted(DTYPES)}"
        )
    fits = len(found) == len(shape) and all(
        type(have) is int and have > 0 and want in (None, have)
        for have, want in zip(found, shape, strict=True)
    )
    if not fits:
        sizes = ", ".join(map(shown, found[:8]))
        raise ProtocolError(f"tensor of shape [{sizes}]", rule=f"expected {list(shape)}")
    size = dtype.itemsize
    for have in found:
        size *= have
    if size != len(data):
        raise ProtocolError(f"tensor of {len(data)} bytes", rule=f"its shape needs {size}")
    tensor = torch.from_numpy(np.frombuffer(data, dtype).reshape(found).copy())
    if packed["dtype"] == "bfloat16":
        tensor = tensor.view(torch.bfloat16).float()
    return tensor
