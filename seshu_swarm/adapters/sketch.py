"""Copies among adapters: 256 random projections of ΔW, compared by their angle.

Projection k of a matrix is uᵀ·ΔW·v with signs u, v drawn from SHAKE-256 of the weight's name, so
that sketches agree between machines, releases and rounds, and depend on ΔW alone: a copy with
rescaled or rotated factors, another rank or another digest has the same sketch. Inner products of
sketches estimate those of the ΔW.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from seshu_swarm.adapters.delta import Delta
from seshu_swarm.adapters.reader import Adapter

SKETCH_SIZE = 256
DUPLICATE_COSINE = 0.95

Sketch = NDArray[np.float64]


def sketch_of(adapter: Adapter) -> Sketch:
    """The sketch of s·B·A from the factors; shape (256,)."""
    total = torch.zeros(SKETCH_SIZE, dtype=torch.float64)
    for module, (A, B) in adapter.pairs.items():
        left, right = _signs(f"{module}.weight", B.shape[0], A.shape[1])
        total += adapter.scale * ((left @ B.double()) * (A.double() @ right.T).T).sum(dim=1)
    return _as_sketch(total)


def sketch_of_delta(delta: Delta) -> Sketch:
    """The same sketch of a ΔW that has no factors, for example of an earlier round's merge."""
    total = torch.zeros(SKETCH_SIZE, dtype=torch.float64)
    for name in delta:
        matrix = delta[name].double()
        left, right = _signs(name, *matrix.shape)
        total += ((left @ matrix) * right).sum(dim=1)
    return _as_sketch(total)


def cosine(first: Sketch, second: Sketch) -> float:
    """Cosine of the angle between two sketches; 0 where one of them is zero."""
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms > 0 else 0.0


def find_duplicates(
    sketches: Mapping[str, Sketch], threshold: float = DUPLICATE_COSINE
) -> dict[str, str]:
    """Copy → original. The first in the mapping's order keeps its place."""
    originals: list[str] = []
    copies: dict[str, str] = {}
    for name, sketch in sketches.items():
        twin = next((o for o in originals if cosine(sketch, sketches[o]) > threshold), None)
        if twin is None:
            originals.append(name)
        else:
            copies[name] = twin
    return copies


def _as_sketch(total: torch.Tensor) -> Sketch:
    sketch: Sketch = (total / SKETCH_SIZE**0.5).numpy()
    return sketch


def _signs(name: str, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Signs of shapes (256, rows) and (256, columns) that belong to a weight's name."""
    num_signs = SKETCH_SIZE * (rows + columns)
    raw = hashlib.shake_256(f"seshu sketch {name}".encode()).digest(num_signs // 8)
    bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8)).reshape(SKETCH_SIZE, rows + columns)
    signs = torch.from_numpy(bits.astype(np.float64) * 2 - 1)
    return signs[:, :rows], signs[:, rows:]
