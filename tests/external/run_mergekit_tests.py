"""Each merge method that mergekit has too gives the same weights: python run_mergekit_tests.py.

Needs `mergekit`, whose pins do not fit beside ours: install both in an environment of its own.
"""

from __future__ import annotations

import sys

import pytest
import torch

from seshu_swarm.adapters.merge.registry import method_of
from seshu_swarm.bench.merge import mergekit


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("linear", {}),
        ("task_arithmetic", {}),
        ("ties", {"density": 0.2}),
        ("ties", {"density": 0.7}),
        # Without drops: it draws other numbers, and restores the L1 norm.
        ("dare_linear", {"density": 1.0}),
        ("dare_ties", {"density": 1.0}),
    ],
)
def test_equal_to_mergekit(name: str, settings: dict[str, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    base, *changes = torch.randn(6, 64, 48, generator=generator, dtype=torch.float64)
    weights = [0.3, 0.2, 0.25, 0.15, 0.1]
    theirs = mergekit.merged(name, base, [base + c for c in changes], weights, **settings)
    ours = method_of(name).function([{"w": change} for change in changes], weights, **settings)
    torch.testing.assert_close(base + ours["w"], theirs, rtol=0, atol=1e-12)


def main() -> int:
    if not mergekit.is_there():
        print("mergekit cannot be imported: pip install mergekit", file=sys.stderr)
        return 2
    return int(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))


if __name__ == "__main__":
    sys.exit(main())
