"""The merge methods, one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from seshu_swarm.adapters.merge.dare import dare_linear, dare_ties
from seshu_swarm.adapters.merge.linear import linear
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic
from seshu_swarm.adapters.merge.ties import ties
from seshu_swarm.errors import UsageError


@dataclass(frozen=True)
class MergeMethod:
    """`function(deltas, weights, **settings)`; `settings` are the names it takes beside them."""

    name: str
    function: Callable[..., dict[str, torch.Tensor]]
    paper: str
    settings: tuple[str, ...] = ()


MERGE_METHODS = (
    MergeMethod("linear", linear, "arXiv 2203.05482"),
    MergeMethod("task_arithmetic", task_arithmetic, "arXiv 2212.04089"),
    MergeMethod("ties", ties, "arXiv 2306.01708", ("density",)),
    MergeMethod("dare_linear", dare_linear, "arXiv 2311.03099", ("density", "seed")),
    MergeMethod("dare_ties", dare_ties, "arXiv 2311.03099", ("density", "seed")),
)


def method_of(name: str) -> MergeMethod:
    """Raises UsageError for a name that is not listed."""
    for method in MERGE_METHODS:
        if method.name == name:
            return method
    raise UsageError(
        f"no merge method {name!r}",
        rule="one of " + ", ".join(method.name for method in MERGE_METHODS),
    )
