"""Adapters that are no honest work, made from one that is: the package rewritten and sealed again.

They go through the intake like any other, under the name of a peer that nobody else has.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch

from seshu_swarm import packages
from seshu_swarm.adapters.controls import duplicate_control, noise_control
from seshu_swarm.adapters.reader import Adapter, Pair
from seshu_swarm.adapters.rules import CONFIG_FILE, KEY_PREFIX, KIND, TENSOR_FILE
from seshu_swarm.coordinator.research.recording.crowd import Kind

TIMES = 50.0
NEXT_TO_NOTHING = 1e-4


def forge(
    source: Path, adapter: Adapter, kind: Kind, into: Path, *, base_revision: str, seed: int
) -> str:
    """Write the package made from the one in `source`, which `adapter` is; its digest."""
    forged = _FORGES[kind](adapter, seed)
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    shutil.copyfile(source / CONFIG_FILE, into / CONFIG_FILE)
    tensors = {}
    for module, (A, B) in forged.pairs.items():
        tensors[f"{KEY_PREFIX}{module}.lora_A.weight"] = A.float().contiguous()
        tensors[f"{KEY_PREFIX}{module}.lora_B.weight"] = B.float().contiguous()
    packages.write_whole(into / TENSOR_FILE, safetensors.torch.save(tensors))
    about: dict[str, Any] = {**adapter.about, "base_revision": base_revision}
    return packages.seal(into, KIND, [CONFIG_FILE, TENSOR_FILE], about)


def _with(adapter: Adapter, change: Callable[[Pair], Pair]) -> Adapter:
    pairs = {module: change(pair) for module, pair in adapter.pairs.items()}
    return dataclasses.replace(adapter, pairs=pairs)


def _times(factor: float) -> Callable[[Adapter, int], Adapter]:
    return lambda adapter, seed: _with(adapter, lambda pair: (pair[0], pair[1] * factor))


_FORGES: dict[Kind, Callable[[Adapter, int], Adapter]] = {
    Kind.SIGN_FLIPPED: _times(-1.0),
    Kind.SCALED: _times(TIMES),
    Kind.FREE_RIDER: _times(NEXT_TO_NOTHING),
    Kind.OLD: _times(1.0),
    Kind.DUPLICATE: lambda adapter, seed: duplicate_control(adapter),
    Kind.NOISE: lambda adapter, seed: noise_control(adapter, seed=seed),
}
