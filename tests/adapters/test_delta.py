"""ΔW, its norms, its sketch and the control candidates."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from seshu_swarm.adapters.controls import duplicate_control, noise_control, null_control
from seshu_swarm.adapters.delta import (
    LowRankDelta,
    adapter_norm,
    delta_of,
    module_norms,
)
from seshu_swarm.adapters.reader import Adapter
from seshu_swarm.adapters.sketch import cosine, find_duplicates, sketch_of, sketch_of_delta
from tests.adapters.samples import made


def by_numpy(adapter: Adapter) -> dict[str, np.ndarray]:
    return {
        f"{module}.weight": adapter.scale
        * (B.numpy().astype(np.float64) @ A.numpy().astype(np.float64))
        for module, (A, B) in adapter.pairs.items()
    }


def test_delta_equals_numpy(tmp_path: Path) -> None:
    adapter = made(tmp_path, rank=3, lora_alpha=7)
    delta, expected = delta_of(adapter), by_numpy(adapter)
    assert adapter.scale == pytest.approx(7 / 3)
    assert set(delta) == set(expected)
    for name, matrix in expected.items():
        np.testing.assert_allclose(delta[name].numpy(), matrix, rtol=1e-12, atol=1e-12)


def test_low_rank_delta_is_a_mapping(tmp_path: Path) -> None:
    adapter = made(tmp_path)
    delta = LowRankDelta(adapter)
    assert list(delta) == list(delta_of(adapter)) and len(delta) == 6
    assert "backbone.layers.0.mixer.in_proj" not in delta
    with pytest.raises(KeyError):
        delta["backbone.layers.0.mixer.in_proj"]


def test_norms_equal_numpy(tmp_path: Path) -> None:
    adapter = made(tmp_path)
    expected = by_numpy(adapter)
    for module, norm in module_norms(adapter).items():
        assert norm == pytest.approx(np.linalg.norm(expected[f"{module}.weight"]), rel=1e-10)
    whole = np.sqrt(sum((matrix**2).sum() for matrix in expected.values()))
    assert adapter_norm(adapter) == pytest.approx(whole, rel=1e-10)


def rotated(adapter: Adapter) -> Adapter:
    """The same ΔW in other factors, of twice the rank: half of it in each half."""
    generator = torch.Generator().manual_seed(5)
    pairs = {}
    for name, (A, B) in adapter.pairs.items():
        turn, _ = torch.linalg.qr(torch.randn(len(A), len(A), generator=generator))
        A, B = turn @ A, B @ turn.T
        pairs[name] = (torch.cat([A, A]), torch.cat([B, B], dim=1) / 2)
    return dataclasses.replace(adapter, rank=2 * adapter.rank, pairs=pairs)


def test_sketch_depends_on_delta_alone(tmp_path: Path) -> None:
    adapter = made(tmp_path)
    sketch = sketch_of(adapter)
    assert sketch.shape == (256,)
    np.testing.assert_allclose(sketch_of_delta(delta_of(adapter)), sketch, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(sketch_of(duplicate_control(adapter)), sketch, rtol=1e-12)
    np.testing.assert_allclose(sketch_of(rotated(adapter)), sketch, rtol=1e-4, atol=1e-4)


def test_sketches_estimate_angles_and_norms(tmp_path: Path) -> None:
    adapters = [made(tmp_path, seed=seed) for seed in range(12)]
    sketches = [sketch_of(adapter) for adapter in adapters]
    flat = [np.concatenate([m.ravel() for m in by_numpy(a).values()]) for a in adapters]
    errors = [
        cosine(sketches[i], sketches[j])
        - flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j])
        for i in range(12)
        for j in range(i)
    ]
    # 256 projections of a low-rank matrix: a standard error of about one in sixteen, or two.
    assert np.std(errors) < 2 / 16 and abs(np.mean(errors)) < 0.05
    ratios = [np.linalg.norm(s) / np.linalg.norm(f) for s, f in zip(sketches, flat, strict=True)]
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_duplicates_are_found_and_honest_ones_are_not(tmp_path: Path) -> None:
    first, second = made(tmp_path, seed=1), made(tmp_path, seed=2)
    nearly = dataclasses.replace(
        first,
        pairs={
            name: (A, B + 0.05 * torch.randn(B.shape, generator=torch.Generator().manual_seed(1)))
            for name, (A, B) in first.pairs.items()
        },
    )
    turned = dataclasses.replace(
        first, pairs={name: (-A, B) for name, (A, B) in first.pairs.items()}
    )
    sketches = {
        "a": sketch_of(first),
        "b": sketch_of(second),
        "c": sketch_of(rotated(first)),
        "d": sketch_of(dataclasses.replace(second, scale=0.1)),
        "e": sketch_of(nearly),
        "f": sketch_of(turned),
        "g": sketch_of(null_control(first)),
    }
    assert find_duplicates(sketches) == {"c": "a", "d": "b", "e": "a"}


def test_controls(tmp_path: Path) -> None:
    adapter = made(tmp_path)
    assert adapter_norm(null_control(adapter)) == 0.0
    noise = noise_control(adapter, seed=3)
    assert module_norms(noise) == pytest.approx(module_norms(adapter), rel=1e-9)
    assert abs(cosine(sketch_of(noise), sketch_of(adapter))) < 0.5
    again, other = noise_control(adapter, seed=3), noise_control(adapter, seed=4)
    name = "backbone.layers.0.mixer.in_proj.weight"
    assert torch.equal(delta_of(noise)[name], delta_of(again)[name])
    assert not torch.equal(delta_of(noise)[name], delta_of(other)[name])
    assert torch.equal(delta_of(duplicate_control(adapter))[name], delta_of(adapter)[name])
