"""Activations and gradients as 8 bits a number: blockwise, by the greatest of each block.

A tensor is cut into blocks of `block_size` numbers that follow one another (row-major, so channels of
one token); each becomes a scale, greatest / 127 as float32, and signed bytes. An error is at most half
a scale: 1 / 254 of the greatest number of its own block. Small blocks need no outlier channels.

    bytes of a number    1 + 4 / block_size, so with 64: 2.125 × d_model for forward and backward

Numbers that are not finite are refused on both sides. The same tensor gives the same bytes each time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from seshu_swarm.errors import ProtocolError, shown
from seshu_swarm.streams import wire

BLOCK_SIZE = 64
STEPS = 127
# Below, a scale would lose bits as a denormal number: such blocks are 0. Above, 127 scales overflow.
LEAST, GREATEST = 1e-34, 1e38


def pack_tensor(tensor: torch.Tensor, block_size: int = BLOCK_SIZE) -> dict[str, Any]:
    """`{"dtype": "int8", "shape", "data", "scales"}`. Raises ProtocolError for NaN, infinity and
    numbers of 1e38 and more."""
    values = tensor.detach().float().flatten()
    blocks = torch.nn.functional.pad(values, (0, -values.numel() % block_size))
    blocks = blocks.view(-1, block_size)
    greatest = blocks.abs().amax(dim=1)
    if not bool((greatest < GREATEST).all()):  # also False for NaN
        raise ProtocolError(
            f"a tensor of {values.numel()} numbers holds NaN, infinity or more than {GREATEST}",
            rule="activations and gradients are finite",
            way_out="use a smaller learning rate, and check the data for broken rows",
        )
    scales = torch.where(greatest < LEAST, 0.0, greatest / STEPS)
    divisors = torch.where(scales > 0, scales, torch.inf)
    quantised = (blocks / divisors[:, None]).round_().clamp_(-STEPS, STEPS).to(torch.int8)
    return {
        "dtype": "int8",
        "shape": list(tensor.shape),
        "data": quantised.flatten()[: values.numel()].numpy().tobytes(),
        "scales": wire.pack_tensor(scales),
    }


def unpack_tensor(packed: Any, shape: Sequence[int], block_size: int = BLOCK_SIZE) -> torch.Tensor:
    """Read a tensor of exactly this shape as float32. Raises ProtocolError for anything else."""
    if not isinstance(packed, Mapping) or set(packed) != {"dtype", "shape", "data", "scales"}:
        raise ProtocolError("a tensor of 8 bits is {dtype, shape, data, scales}")
    if packed["dtype"] != "int8" or packed["shape"] != list(shape):
        raise ProtocolError(
            f"tensor {shown(packed['dtype'])} {shown(packed['shape'])}",
            rule=f"expected int8 {list(shape)}",
        )
    count, data = math.prod(shape), packed["data"]
    if not isinstance(data, bytes) or len(data) != count:
        raise ProtocolError(f"tensor of {shown(data)}", rule=f"its shape needs {count} bytes")
    scales = _read_scales(packed["scales"], -(-count // block_size))
    quantised = torch.from_numpy(np.frombuffer(data, np.int8).copy())
    if bool((quantised == -STEPS - 1).any()):
        raise ProtocolError(f"a tensor holds {-STEPS - 1}", rule=f"numbers are at most {STEPS}")
    values = torch.nn.functional.pad(quantised.float(), (0, -count % block_size))
    values = values.view(-1, block_size) * scales[:, None]
    return values.flatten()[:count].reshape(tuple(shape))


def _read_scales(packed: Any, count: int) -> torch.Tensor:
    if not isinstance(packed, Mapping) or packed.get("dtype") != "float32":
        raise ProtocolError("scales of another type", rule="scales are float32")
    scales = wire.unpack_tensor(packed, (count,))
    if not bool(((scales >= 0) & (scales < GREATEST / STEPS)).all()):
        raise ProtocolError(
            f"a scale of {scales.abs().max().item():.3g}",
            rule=f"scales are between 0 and {GREATEST / STEPS:.3g}",
        )
    return scales
