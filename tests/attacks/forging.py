"""Adapters made from a good one, as attackers make them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch

from seshu_swarm.adapters.reader import Adapter, Pair
from seshu_swarm.adapters.rules import TENSOR_FILE
from tests.attacks.sieges import Tensors, tensors_of


def times(adapter: Adapter, factor: float) -> Adapter:
    """ΔW multiplied where the configuration does not show it."""
    return dataclasses.replace(
        adapter, pairs={n: (A, factor * B) for n, (A, B) in adapter.pairs.items()}
    )


def blurred(adapter: Adapter, share: float, seed: int) -> Adapter:
    """Noise of this share of its size on every factor: a copy that no digest knows."""
    generator = torch.Generator().manual_seed(seed)

    def blur(factor: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(factor.shape, generator=generator) * factor.std()
        return factor + share * noise

    pairs = {name: (blur(A), blur(B)) for name, (A, B) in adapter.pairs.items()}
    return dataclasses.replace(adapter, pairs=pairs)


def mean_of(*adapters: Adapter) -> Adapter:
    """What a merge of equal shares is, as one adapter: factors side by side."""
    share = 1 / len(adapters)
    pairs: dict[str, Pair] = {
        name: (
            torch.cat([adapter.pairs[name][0] for adapter in adapters]),
            torch.cat([share * adapter.pairs[name][1] for adapter in adapters], dim=1),
        )
        for name in adapters[0].pairs
    }
    rank = sum(adapter.rank for adapter in adapters)
    return dataclasses.replace(adapters[0], rank=rank, pairs=pairs)


def of_tensors(change: Callable[[Tensors], None], adapter: Adapter) -> Callable[[Path], None]:
    """Write other tensors before the package is sealed."""

    def write(folder: Path) -> None:
        tensors = tensors_of(adapter)
        change(tensors)
        (folder / TENSOR_FILE).write_bytes(safetensors.torch.save(tensors))

    return write


def of_bytes(data: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / TENSOR_FILE).write_bytes(data)

    return write


def poison(adapter: Adapter, value: float) -> Callable[[Path], None]:
    def change(tensors: Tensors) -> None:
        tensors[min(tensors)][0, 0] = value

    return of_tensors(change, adapter)


def extra(adapter: Adapter, name: str, *shape: int) -> Callable[[Path], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = torch.ones(shape)

    return of_tensors(change, adapter)
