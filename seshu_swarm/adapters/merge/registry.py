"""The merge methods, and the steps from round to round, one line each.

Names are stable: recipes of published checkpoints hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from seshu_swarm.adapters.merge.centred_clip import centred_clip, centred_clip_shares
from seshu_swarm.adapters.merge.dare import dare_linear, dare_ties
from seshu_swarm.adapters.merge.fedit import fedit
from seshu_swarm.adapters.merge.greedy_soup import greedy_soup
from seshu_swarm.adapters.merge.linear import linear
from seshu_swarm.adapters.merge.lorahub import lorahub
from seshu_swarm.adapters.merge.norm_clipped_mean import norm_clipped_mean, norm_clipped_shares
from seshu_swarm.adapters.merge.outer_nesterov import OuterStep, outer_nesterov
from seshu_swarm.adapters.merge.task_arithmetic import task_arithmetic
from seshu_swarm.adapters.merge.ties import ties
from seshu_swarm.adapters.merge.uniform_soup import uniform_soup
from seshu_swarm.errors import UsageError

Method = TypeVar("Method")


@dataclass(frozen=True)
class MergeMethod:
    """`function(deltas, weights, **settings)`; `settings` are the names it takes beside them.

    `shares(deltas, weights, **settings)`, where whole ΔW's decide, gives the weights of the sum that
    the result is; the other methods treat each weight of the model by itself. `needs_factors`: its
    ΔW's are LowRankDeltas; `needs_score`: it takes `score` too.
    """

    name: str
    function: Callable[..., dict[str, torch.Tensor]]
    paper: str
    settings: tuple[str, ...] = ()
    shares: Callable[..., list[float]] | None = None
    needs_factors: bool = False
    needs_score: bool = False


@dataclass(frozen=True)
class OuterMethod:
    """`function(merged, velocity, **settings)`: what becomes of a round's merge."""

    name: str
    function: Callable[..., OuterStep]
    paper: str
    settings: tuple[str, ...] = ()


MERGE_METHODS = (
    MergeMethod("linear", linear, "arXiv 1602.05629"),
    MergeMethod("uniform_soup", uniform_soup, "arXiv 2203.05482"),
    MergeMethod("greedy_soup", greedy_soup, "arXiv 2203.05482", needs_score=True),
    MergeMethod("lorahub", lorahub, "arXiv 2307.13269", ("budget", "seed"), needs_score=True),
    MergeMethod("task_arithmetic", task_arithmetic, "arXiv 2212.04089"),
    MergeMethod(
        "norm_clipped_mean",
        norm_clipped_mean,
        "arXiv 1911.07963",
        ("max_norm",),
        shares=norm_clipped_shares,
    ),
    MergeMethod(
        "centred_clip",
        centred_clip,
        "arXiv 2012.10333",
        ("radius", "num_iterations"),
        shares=centred_clip_shares,
    ),
    MergeMethod("ties", ties, "arXiv 2306.01708", ("density",)),
    MergeMethod("dare_linear", dare_linear, "arXiv 2311.03099", ("density", "seed")),
    MergeMethod("dare_ties", dare_ties, "arXiv 2311.03099", ("density", "seed")),
    MergeMethod("fedit", fedit, "arXiv 2305.05644", needs_factors=True),
)
OUTER_METHODS = (
    OuterMethod(
        "outer_nesterov", outer_nesterov, "arXiv 2311.08105", ("momentum", "learning_rate")
    ),
)


def method_of(name: str) -> MergeMethod:
    """Raises UsageError for a name that is not listed."""
    return _found(name, {method.name: method for method in MERGE_METHODS}, "merge method")


def outer_method_of(name: str) -> OuterMethod:
    """Raises UsageError for a name that is not listed."""
    return _found(name, {method.name: method for method in OUTER_METHODS}, "outer method")


def _found(name: str, methods: Mapping[str, Method], what: str) -> Method:
    if name not in methods:
        raise UsageError(f"no {what} {name!r}", rule="one of " + ", ".join(methods))
    return methods[name]
