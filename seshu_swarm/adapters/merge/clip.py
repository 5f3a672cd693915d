"""Median norm clip: no ΔW enters a merge with more than the median norm.

Stops a donor who multiplies an adapter to outvote the others; it does not change directions.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping


def median_norm_clip(norms: Mapping[str, float]) -> dict[str, float]:
    """Id → factor in (0, 1] for its ΔW: min(1, median / norm). `norms` are Frobenius norms."""
    median = statistics.median(norms.values()) if norms else 0.0
    return {name: min(1.0, median / norm) if norm > 0 else 1.0 for name, norm in norms.items()}
