"""One weight of a ΔW as a ΔW of its own, computed on access: merges run a matrix at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from seshu_swarm.adapters.delta import Delta


class OneWeight(Delta):
    """`whole` cut down to `name`; empty where it lacks that weight."""

    def __init__(self, whole: Delta, name: str) -> None:
        self.whole, self._name = whole, name
        self._is_there = name in whole

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self:
            raise KeyError(name)
        return self.whole[name]

    def __contains__(self, name: object) -> bool:
        return self._is_there and name == self._name

    def __iter__(self) -> Iterator[str]:
        return iter([self._name] if self._is_there else [])

    def __len__(self) -> int:
        return int(self._is_there)
