"""Who averages which part of a flat vector, and how: sums in the order of names. Pure.

Shapes: N numbers of the vector, S of one shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seshu_swarm.errors import ProtocolError

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Shards:
    """`members`: of a Commit, each with the number of its ids. Shards differ by one number at most; some
    are empty where there are more members than numbers."""

    members: tuple[tuple[str, int], ...]
    num_values: int

    @property
    def names(self) -> list[str]:
        return sorted(dict(self.members))

    @property
    def num_ids(self) -> int:
        return sum(weight for _, weight in self.members)

    def of(self, name: str) -> slice:
        """The place of this member's shard in the vector."""
        index, count = self.names.index(name), len(self.members)
        return slice(index * self.num_values // count, (index + 1) * self.num_values // count)

    def num_bytes(self, name: str) -> int:
        place = self.of(name)
        num_bytes: int = FLOAT_BYTES * (place.stop - place.start)
        return num_bytes

    def num_bytes_exchanged(self, name: str) -> int:
        """All that this member sends and receives."""
        others = (len(self.members) - 1) * self.num_bytes(name)
        return 2 * (others + FLOAT_BYTES * self.num_values - self.num_bytes(name))


def mean(sums: Mapping[str, Tensor], num_ids: int) -> Tensor:
    """Sums (S) of each member → the average over `num_ids` ids, float32. Raises ProtocolError where it
    leaves float32's range."""
    names = sorted(sums)
    total_S = sums[names[0]].double()
    for name in names[1:]:
        total_S += sums[name]
    average_S = (total_S / num_ids).float()
    if not bool(torch.isfinite(average_S).all()):
        raise ProtocolError("the average of a shard overflows", rule="it is finite in float32")
    return average_S


def to_bytes(values_S: Tensor) -> bytes:
    data: bytes = values_S.numpy().astype("<f4", copy=False).tobytes()
    return data


def from_bytes(data: bytes, what: str) -> Tensor:
    """Numbers (S), float32. Raises ProtocolError for what is not finite."""
    values_S = torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32))
    if not bool(torch.isfinite(values_S).all()):
        raise ProtocolError(f"{what} holds NaN or infinity", rule="gradients are finite")
    return values_S
